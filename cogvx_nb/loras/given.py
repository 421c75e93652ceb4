"""The LoRAs that a request names, found and read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ..checkpoints.registry import Checkpoint
from ..errors import RequestError
from ..paths import user_path
from ..text import full_number
from . import library
from .entries import LoraEntry, parse_loras, short_name, write_loras
from .layers import UsedLora
from .library import CONFIG, config_path
from .reader import LoraFile, fitting_checkpoints, read_lora
from .scales import METADATA, NONE


def read_loras(text: str, checkpoint: Checkpoint) -> tuple[UsedLora, ...]:
    """Find and read the LoRAs that a text names.

    Raises:
        RequestError: for one that isn't there, or can't be used with the checkpoint.
    """
    return tuple(read_entry(entry, checkpoint) for entry in parse_loras(text))


def read_entry(entry: LoraEntry, checkpoint: Checkpoint) -> UsedLora:
    """Find and read one; see ``read_loras``."""
    path = library.find_lora(entry.file, entry.sha256)
    file = read_lora(path, checkpoint, beside=not entry.sha256)
    layers, alpha = file.layers, entry.alpha
    if alpha is None:
        alpha = _config_alpha(file)
    if alpha is not None:
        given = {"alpha": alpha, "alpha_from": "given", "by_root": False}
        layers = tuple(replace(layer, **given) for layer in layers)
    # The name as it was given: files are renamed and copied.
    name = entry.name if entry.sha256 else short_name(path.name)
    return UsedLora(name, file.sha256, path, entry.weight, alpha, layers, file.format)


def placed_text(text: str, folder: Path) -> str:
    """A text that names LoRAs, with paths that are the same in any current folder.

    Args:
        folder: where relative paths start.

    Raises:
        RequestError: if it names none.
        PathError: for a path that no file can have.
    """
    return write_loras(placed_entry(entry, folder) for entry in parse_loras(text))


def placed_entry(entry: LoraEntry, folder: Path) -> LoraEntry:
    """An entry with an absolute path: of the folder, else of the library. A bare name that neither
    has stays, so that messages have it as it was given; see ``placed_text``."""
    if entry.sha256:
        return entry
    path = user_path(entry.file, "lora", start=folder)
    found = library.named_file(path) or library.named_file(library.loras_folder() / entry.file)
    if not found and Path(entry.file).name == entry.file:
        return entry
    return replace(entry, file=str(found or path))


def alpha_beside(path: Path) -> float | None:
    """Alpha of a LoRA as peft's configuration beside it has it; None where it has none.

    Whoever keeps a LoRA by its content keeps this too: the configuration is no part of that.

    Raises:
        RequestError: if its layers have several, or it is no LoRA of the family.
    """
    if not config_path(path).is_file():
        return None
    return _config_alpha(read_lora(path, fitting_checkpoints(path)[0]))


def _config_alpha(file: LoraFile) -> float | None:
    """The scale times the rank, if the scale is from the configuration beside the file."""
    if all(layer.alpha_from != CONFIG for layer in file.layers):
        return None
    alphas = {layer.alpha_over_rank for layer in file.layers}
    if len(alphas) > 1:
        remedy = (
            f"has several scales by {config_path(file.path).name} beside it, which no @alpha can "
            f"give: write that file's content into its header as {METADATA}, or merge it by peft"
        )
        raise RequestError("lora", str(file.path), remedy)
    return alphas.pop()


def kept_text(loras: Iterable[UsedLora]) -> str:
    """The text that names LoRAs by their content."""
    return write_loras(LoraEntry(one.name, one.sha256, one.weight, one.alpha) for one in loras)


def lora_notes(loras: Iterable[UsedLora]) -> Iterator[str]:
    """What the user should know of each."""
    for one in loras:
        if not one.weight:
            yield f"{one.name} has no effect at weight 0"
        elif any(layer.alpha_from == NONE for layer in one.layers):
            yield (
                f"{one.name} doesn't say its alpha, which is taken for its rank, {one.rank}; if "
                f"that is too strong, try {one.name}:{full_number(one.weight)}@alpha=1"
            )
