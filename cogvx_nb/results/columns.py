"""What the index keeps of each result: values of its settings and marks, in columns."""

from __future__ import annotations

import operator
import types
import typing
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ..loras.entries import parse_loras, shown_loras
from ..planning.plan import RECORDED
from ..planning.rows import LORA_WEIGHTS
from .marks import Marks
from .records import ONE_TIME_STAGES, REQUEST_NAMES, STAGES, Sidecar, used_inputs


@dataclass(frozen=True, slots=True)
class Column:
    """A value that the index keeps of each result."""

    kind: type  # str, int, float or bool; numbers that can be missing are float, for pandas
    read: Callable[[object], object]  # of a Sidecar or Marks; None where that doesn't say


def _column(path: str) -> Column:
    """The column of a field, such as ``"plan.device"``; texts of a tuple joined by commas."""
    kind: object = Sidecar
    for name in path.split("."):
        kind = typing.get_type_hints(kind)[name]
    read = operator.attrgetter(path)
    optional = typing.get_origin(kind) in (types.UnionType, typing.Union)
    kind = typing.get_args(kind)[0] if optional else kind
    if typing.get_origin(kind) is tuple:
        return Column(str, lambda sidecar: _joined(read(sidecar)))
    return Column(float if optional and kind is int else kind, read)


def _joined(texts: tuple[str, ...] | None) -> str | None:
    return None if texts is None else ", ".join(texts)


def _input_names(sidecar: Sidecar) -> tuple[str, ...]:
    """Names of the files that it was made from; of a storyboard, those of its pieces."""
    pieces = tuple(piece.name for piece in sidecar.pieces)
    return pieces or tuple(used.name for used in used_inputs(sidecar))


def _shown_loras(sidecar: Sidecar) -> str | None:
    """LoRAs with their weights, without hashes."""
    return shown_loras(sidecar.request.lora) or None


def _lora_words(sidecar: Sidecar) -> list[str]:
    """What a search finds LoRAs by, such as ``lora:outline``."""
    return [f"{LORA_WEIGHTS}{one.name}" for one in parse_loras(sidecar.request.lora)]


def lora_weight(loras: str | None, name: str) -> float | None:
    """Weight of the first LoRA of a name in a request's text; None without it.

    Args:
        name: as ``fold_text`` returns it.
    """
    found = (one.weight for one in parse_loras(loras or "") if fold_text(one.name) == name)
    return next(found, None)


def _stage_column(stage: str) -> Column:
    return Column(float, lambda sidecar: sidecar.seconds.get(stage))


SHOWN = ("frames", "height", "width", "fps")
"""Columns that are the mp4's own where it is finished: see ``Sidecar.shown``."""

SETTINGS = {
    "made": _column("made"),
    "model": _column("checkpoint.name"),
    **{name: _column(f"request.{name}") for name in REQUEST_NAMES},
    **{name: Column(int, operator.attrgetter(f"shown.{name}")) for name in SHOWN},
    "finished": Column(str, lambda sidecar: str(sidecar.finished) if sidecar.finished else None),
    "inputs": Column(str, lambda sidecar: _joined(_input_names(sidecar)) or None),
    "loras": Column(str, _shown_loras),
    "enriched_from": Column(str, lambda sidecar: sidecar.enriched_from or None),
    "template": Column(str, lambda sidecar: sidecar.templates.get("prompt")),
    "negative_template": Column(str, lambda sidecar: sidecar.templates.get("negative_prompt")),
    **{f"{stage}_seconds": _stage_column(stage) for stage in STAGES},
    "device": _column("plan.device"),
    "gpus": _column("machine.gpus"),
    **{name: _column(f"plan.{name}") for name in RECORDED},
    "predicted_peak_bytes": _column("plan.peak_bytes"),
    "predicted_ram_bytes": _column("plan.ram_bytes"),
    "frame_hash": _column("frame_hash"),
}
"""Columns of what a sidecar says."""

MARKS = {
    "stars": Column(int, lambda marks: marks.stars),
    "tags": Column(str, lambda marks: _joined(marks.tags)),
    "note": Column(str, lambda marks: marks.note),
    "grid": Column(str, lambda marks: marks.grid),
}
"""Columns of what people noted; ``grid`` is the name of the grid that a video was made for."""

COLUMNS = SETTINGS | MARKS
"""What tables of results have, by name."""

COMPUTED = {
    "at": float,
    "folded": str,
    "tagged": str,
    "other_seconds": float,
    "seconds": float,
    "sweep": str,
    "marks_problem": str,
}
"""Types of what is computed, and stored before ``COLUMNS``: seconds since 1970; prompt, template,
note, tags, names of files and LoRAs as ``fold_text`` returns them; tags as ``tag_text`` does;
seconds of all stages but encoding of inputs, denoising and ``ONE_TIME_STAGES``; seconds of all
stages; name of the sweep; why the marks can't be read."""


def result_values(folder: str, sidecar: Sidecar, marks: Marks, problem: str = "") -> tuple:
    """The values of ``COMPUTED`` and ``COLUMNS`` of a result.

    Args:
        folder: of the mp4, relative to the outputs folder, with ``/``.
        problem: why the marks can't be read.
    """
    at = datetime.fromisoformat(sidecar.made).timestamp()
    ignored = ("encode", "denoise", *ONE_TIME_STAGES)
    other = sum(value for stage, value in sidecar.seconds.items() if stage not in ignored)
    texts = [sidecar.request.prompt, sidecar.templates.get("prompt", ""), marks.note, *marks.tags]
    texts += [*_input_names(sidecar), *_lora_words(sidecar)]
    words = fold_text("\n".join(texts))
    top, _, below = folder.partition("/")
    sweep = below.partition("/")[0] if top == "sweeps" else ""
    seconds = float(sum(sidecar.seconds.values()))
    computed = (at, words, tag_text(*marks.tags), float(other), seconds, sweep, problem)
    settings = (column.read(sidecar) for column in SETTINGS.values())
    return *computed, *settings, *(column.read(marks) for column in MARKS.values())


def fold_text(text: str) -> str:
    """A text without the differences that a search ignores: case, full width, ligatures."""
    return unicodedata.normalize("NFKC", text).casefold()


def tag_text(*tags: str) -> str:
    """Tags such that one of them can be found as a whole, ignoring case."""
    return "".join(f",{fold_text(tag)}," for tag in tags)
