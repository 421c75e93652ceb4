"""What the index keeps of the results in a folder, read from their sidecars."""

from __future__ import annotations

import contextlib
import json
import math
import os
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .result import FORMAT

APART = ("trash", "benchmarks", "grids")
"""Folders in the outputs folder that hold no results."""

STAGES = ("load", "text", "compile", "denoise", "decode", "write")
ONCE = ("load", "compile")
"""Stages that the next video of a process doesn't have."""

LARGEST = 2**63 - 1
"""The largest whole number that SQLite holds."""


@dataclass(frozen=True, slots=True)
class Column:
    """Something that is kept of a sidecar.

    Attributes:
        kind: ``str``, ``int``, ``float``, ``bool`` or ``list``: texts, kept as one with commas.
        keys: where a sidecar has it.
        needed: a sidecar without it is none. Else it is None where that is missing or of another
            type: sidecars of before it was recorded are read as well.
    """

    kind: type
    keys: tuple[str, ...]
    needed: bool = False


def _request(kind: type, *names: str) -> dict[str, Column]:
    return {name: Column(kind, ("request", name), True) for name in names}


def _planned(kind: type, *names: str) -> dict[str, Column]:
    return {name: Column(kind, ("plan", name)) for name in names}


COLUMNS = {
    "made": Column(str, ("made",), True),
    "model": Column(str, ("checkpoint", "name"), True),
    **_request(str, "prompt", "negative_prompt"),
    "enriched_from": Column(str, ("enriched_from",)),
    **_request(int, "frames", "height", "width", "fps", "steps"),
    **_request(float, "guidance"),
    **_request(int, "seed"),
    **{
        f"{stage}_seconds": Column(float, ("seconds", stage), stage == "denoise")
        for stage in STAGES
    },
    "device": Column(str, ("plan", "device"), True),
    "gpus": Column(list, ("machine", "gpus")),
    **_planned(str, "dtype", "placement", "attention", "speed", "quantized"),
    **_planned(bool, "tiled", "compiled", "reuse"),
    "predicted_peak_bytes": Column(float, ("plan", "peak_bytes")),
    "predicted_ram_bytes": Column(float, ("plan", "ram_bytes")),
    "frame_hash": Column(str, ("frame_hash",), True),
}
"""What is kept of each result, by name."""

FOR_SEARCH = ("at", "folded", "other_seconds")
"""Made of the others, and kept before them: seconds since 1970; the prompt without the differences
that a search passes over; seconds of all stages but denoising and those of ``ONCE``."""


def scan_folder(root: Path, folder: str) -> tuple[list[str], dict[str, str]]:
    """(folders in a folder, stamp of each sidecar by its mp4's name).

    Args:
        folder: relative to ``root``, with ``/``; empty for ``root`` itself.

    Raises:
        OSError: if the folder can't be read.
    """
    inside, mp4s, sidecars = [], {}, {}
    with os.scandir(root / folder) as found:
        for one in found:
            if one.name.startswith("."):
                continue
            with contextlib.suppress(OSError, UnicodeError):  # gone by now, or a link to nowhere
                one.name.encode()  # the index holds no name that isn't text
                if one.is_dir():
                    apart = not folder and one.name in APART
                    if not apart and not (one.is_symlink() and _is_link_loop(Path(one.path), root)):
                        inside.append(f"{folder}/{one.name}" if folder else one.name)
                elif one.name.lower().endswith(".mp4") and one.is_file():
                    mp4s[one.name[:-4]] = one.name
                elif one.name.endswith(".json"):
                    kept = one.stat()
                    sidecars[one.name[:-5]] = f"{kept.st_size} {kept.st_mtime_ns}"
    return inside, {mp4s[stem]: stamp for stem, stamp in sidecars.items() if stem in mp4s}


def read_record(path: Path) -> tuple | None:
    """What is kept of a sidecar, in the order of ``FOR_SEARCH`` and ``COLUMNS``; None if the file
    is gone or something else."""
    wrong = (OSError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
    with contextlib.suppress(*wrong, RecursionError):
        return _values(json.loads(path.read_text(encoding="utf-8")))
    return None


def fold_text(text: str) -> str:
    """A text without the differences that a search passes over: case, full width, ligatures."""
    return unicodedata.normalize("NFKC", text).casefold()


def _values(kept: dict) -> tuple:
    """See ``read_record``.

    Raises:
        LookupError, TypeError, ValueError, ...: if it is not a sidecar of this format.
    """
    told = {}
    for name, column in COLUMNS.items():
        told[name] = _typed_value(_nested_value(kept, column.keys), column.kind)
        if told[name] is None and column.needed:
            raise ValueError(name)
    seconds = kept["seconds"]
    other = sum(value for name, value in seconds.items() if name not in ("denoise", *ONCE))
    if kept["format"] != FORMAT or told["steps"] < 1 or not math.isfinite(other):
        raise ValueError(told)
    at = datetime.fromisoformat(told["made"]).timestamp()
    return at, fold_text(told["prompt"]), float(other), *told.values()


def _nested_value(kept: dict, keys: tuple[str, ...]) -> object:
    """A value of a sidecar; None if there is none."""
    found = kept
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _typed_value(value: object, kind: type) -> str | float | None:
    """A value as the index holds it; None if it is of another type, or none that SQLite holds."""
    if kind is list and isinstance(value, list):
        texts = [_typed_value(one, str) for one in value]
        return None if None in texts else ", ".join(texts)
    if kind is str and isinstance(value, str):
        # JSON can spell half a character, which can't be stored.
        return value if value == value.encode(errors="ignore").decode() else None
    if kind is bool and isinstance(value, bool):
        return value
    if kind in (int, float) and isinstance(value, int if kind is int else int | float):
        return kind(value) if abs(value) <= LARGEST else None  # false also for NaN
    return None


def _is_link_loop(link: Path, root: Path) -> bool:
    """Whether a link leads to where results are found without it, or to a folder around it."""
    target, root = link.resolve(), root.resolve()
    around = any(inner.is_relative_to(target) for inner in (root, link.parent.resolve()))
    return around or target.is_relative_to(root)
