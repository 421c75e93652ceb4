"""LoRAs as the page lists them: what each file is, whether it fits, and what triggers it."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..checkpoints.registry import Checkpoint, Model
from ..errors import RequestError
from ..loras.entries import LoraEntry, parse_loras, short_name, write_loras
from ..loras.given import alpha_beside
from ..loras.library import CONFIG, ENDING, config_path, file_hash, find_lora, library
from ..loras.reader import PICKLES, LoraFile, fitting_checkpoints, read_lora
from ..loras.scales import FORMAT, HEADER, NONE, TENSOR
from ..text import full_number, plain_line
from .wording import explain_error

TRIGGERS = ("modelspec.trigger_phrase", "trigger_word", "trigger_words", "instance_prompt")
"""Keys of a header under which trainers write them: Stability's modelspec, which kohya and
diffusers' converters follow, and those of DreamBooth scripts."""

BASES = ("ss_base_model_version", "modelspec.architecture", "base_model")
"""The same of what a LoRA was trained on."""

MOST_TRIGGERS = 8
MOST_TRIGGER = 80

ALPHA_FROM = {
    TENSOR: "in the file",
    HEADER: "in its header",
    CONFIG: "in adapter_config.json",
    FORMAT: "always so in its format",
    NONE: "assumed: the file doesn't say it",
    "given": "as typed",
}
"""Where an alpha stands, for people."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A LoRA file."""

    fits: tuple[str, ...] = ()  # names of checkpoints
    rank: int = 0  # the largest of its layers
    alpha: str = ""
    alpha_from: str = ""
    base: str = ""  # as its header says
    triggers: tuple[str, ...] = ()
    problem: str = ""  # why it can be used with none


@dataclass(frozen=True, slots=True)
class LoraRow:
    """A LoRA of the form, or of the library."""

    name: str
    written: str  # what names it in the field's text, before the weight
    weight: float
    alpha: float | None  # instead of the file's own
    facts: FileFacts
    problem: str = ""  # why it can't be used with the chosen checkpoint


def rows_of(text: str, model: Model, others: Iterable[Model]) -> list[LoraRow]:
    """The LoRAs that a text names.

    Args:
        others: checkpoints that could be chosen instead.

    Raises:
        RequestError: if the text names none.
    """
    others = [known.name for known in others]
    return [_row(entry, model.checkpoint, others) for entry in parse_loras(text)]


def library_rows(checkpoint: Checkpoint) -> list[LoraRow]:
    """The library: what fits a checkpoint first, then the rest, both by name."""
    rows = []
    for path in library():
        facts = _facts(path)
        problem = "" if checkpoint.name in facts.fits else facts.problem or _for_others(facts)
        entry = LoraEntry(path.name)
        rows.append(LoraRow(short_name(path.name), _written(entry), 1.0, None, facts, problem))
    return sorted(rows, key=lambda row: bool(row.problem))


def kept_entry(entry: LoraEntry) -> LoraEntry:
    """An entry that names its file by content: found again wherever it is.

    Raises:
        RequestError: if the file isn't there, or ``alpha_beside`` refuses it.
    """
    if entry.sha256 and entry.file == entry.name:
        return entry
    path = find_lora(entry.file, entry.sha256)
    own = entry.alpha is not None or entry.sha256
    alpha = entry.alpha if own else alpha_beside(path)
    return replace(entry, file=short_name(path.name), sha256=file_hash(path), alpha=alpha)


def kept_loras(text: str) -> str:
    """A text with each LoRA by content; see ``kept_entry``."""
    return write_loras(map(kept_entry, parse_loras(text)))


def add_file(text: str, path: Path | str) -> str:
    """A text with one more LoRA, at weight 1.

    Raises:
        RequestError: if there is no such file, it is no LoRA of the family, or is there already.
    """
    path = find_lora(str(path))
    check_lora(path, path.name)
    entries = list(map(kept_entry, parse_loras(text)))
    new = kept_entry(LoraEntry(str(path)))
    if any(entry.sha256 == new.sha256 for entry in entries):
        raise RequestError("lora", new.name, "is there already: change its weight")
    return write_loras([*entries, new])


def written_names(text: str) -> list[str]:
    """What names each LoRA in a text, before the weight."""
    return [_written(entry) for entry in parse_loras(text)]


def is_lora_name(name: str) -> bool:
    """Whether a file is a LoRA, or a pickle of one, by its name."""
    return Path(name).suffix.lower() in (ENDING, *PICKLES)


def check_lora(path: Path, name: str) -> None:
    """Raise RequestError if a file is no LoRA of the family.

    Args:
        name: what people call it.
    """
    if problem := _facts(path).problem:
        raise RequestError("lora", name, problem)


def able_models(text: str, models: Mapping[str, Model]) -> list[str]:
    """Names of the checkpoints that all LoRAs of a text fit."""
    try:
        files = [_facts(find_lora(entry.file, entry.sha256)) for entry in parse_loras(text)]
    except RequestError:
        return []
    return [
        name
        for name, model in models.items()
        if files and all(model.checkpoint.name in facts.fits for facts in files)
    ]


def _row(entry: LoraEntry, checkpoint: Checkpoint, others: list[str]) -> LoraRow:
    written = _written(entry)
    try:
        path = find_lora(entry.file, entry.sha256)
        facts = _facts(path, beside=not entry.sha256)
    except RequestError as error:
        told = explain_error(error).text
        return LoraRow(entry.name, written, entry.weight, entry.alpha, FileFacts(), told)
    problem = facts.problem
    if not problem and checkpoint.name not in facts.fits:
        here = [name for name in others if name in facts.fits]
        remedy = f"choose {here[0]}" if here else "download one of those, or remove it"
        problem = f"It doesn't fit {checkpoint.name}: {_for_others(facts)}; {remedy}."
    if entry.alpha is not None:
        shown = full_number(entry.alpha)
        facts = replace(facts, alpha=shown, alpha_from=ALPHA_FROM["given"])
    return LoraRow(entry.name, written, entry.weight, entry.alpha, facts, problem)


def _written(entry: LoraEntry) -> str:
    return str(replace(entry, weight=1.0, alpha=None)).removesuffix(":1")


def _for_others(facts: FileFacts) -> str:
    return f"it is for {', '.join(facts.fits[:3])}"


def _facts(path: Path, beside: bool = True) -> FileFacts:
    """What a file is.

    Args:
        beside: see ``read_lora``.
    """
    try:
        state = _state(path)
    except OSError:
        return FileFacts(problem="can't be read: check its name")
    config = None
    with contextlib.suppress(OSError):
        config = _state(config_path(path)) if beside else None
    return _read_facts(path, beside, state, config)


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=500)
def _read_facts(
    path: Path, beside: bool, state: tuple[int, int], config: tuple[int, int] | None
) -> FileFacts:
    """What a file is; read again where its size or time changed, or those of peft's configuration
    beside it."""
    try:
        fits = fitting_checkpoints(path)
        file = read_lora(path, fits[0], beside)
    except RequestError as error:
        return FileFacts(problem=plain_line(error.remedy))
    layers, metadata = file.layers, file.metadata
    alphas = dict.fromkeys(full_number(layer.alpha_over_rank) for layer in layers)
    base = next((metadata[key] for key in BASES if metadata.get(key)), "")
    return FileFacts(
        tuple(checkpoint.name for checkpoint in fits),
        max(layer.rank for layer in layers),
        ", ".join(list(alphas)[:3]) + ("…" if len(alphas) > 3 else ""),
        _alpha_source(file),
        plain_line(base)[:MOST_TRIGGER],
        _triggers(metadata),
    )


def _alpha_source(file: LoraFile) -> str:
    """Where its alphas stand, for people; assumed where one of them is."""
    layer = next((one for one in file.layers if one.alpha_from == NONE), file.layers[0])
    by_root = f"{full_number(layer.alpha)} over the root of the rank " if layer.by_root else ""
    return f"{by_root}{ALPHA_FROM[layer.alpha_from]}"


def _triggers(metadata: Mapping[str, str]) -> tuple[str, ...]:
    texts = [metadata[key] for key in TRIGGERS if metadata.get(key)]
    words = (word.strip() for text in texts for word in re.split(r"[,;\n]", text))
    found = dict.fromkeys(plain_line(word)[:MOST_TRIGGER] for word in words if word)
    return tuple(found)[:MOST_TRIGGERS]
