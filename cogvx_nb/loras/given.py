"""The LoRAs that a request names, found and read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ..checkpoints.registry import Checkpoint
from ..text import full_number
from . import library
from .entries import LoraEntry, parse_loras, short_name, write_loras
from .layers import UsedLora
from .reader import read_lora
from .scales import NONE


def read_loras(text: str, checkpoint: Checkpoint) -> tuple[UsedLora, ...]:
    """Find and read the LoRAs that a text names.

    Raises:
        RequestError: for one that isn't there, or can't be used with the checkpoint.
    """
    return tuple(read_entry(entry, checkpoint) for entry in parse_loras(text))


def read_entry(entry: LoraEntry, checkpoint: Checkpoint) -> UsedLora:
    """Find and read one; see ``read_loras``."""
    path = library.find_lora(entry.file, entry.sha256)
    file = read_lora(path, checkpoint)
    layers, alpha = file.layers, entry.alpha
    if alpha is not None:
        layers = tuple(replace(layer, alpha=alpha, alpha_from="given") for layer in layers)
    # The name as it was given: files are renamed and copied.
    name = entry.name if entry.sha256 else short_name(path.name)
    return UsedLora(name, file.sha256, path, entry.weight, alpha, layers, file.format)


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
