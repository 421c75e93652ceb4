"""LoRAs along the sides of a grid: the weight of one of the form, or the whole field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..errors import RequestError, did_you_mean
from ..loras.entries import MOST_WEIGHT, LoraEntry, parse_loras, shown_loras, write_loras
from ..planning.fields import Field
from ..text import full_number

LORA, LORA_WEIGHT = "lora", "lora weight"
"""Sides that vary all LoRAs as a text, or the weight of one of them."""

WEIGHTS = Field(LORA_WEIGHT, float, 1.0, "weights of a LoRA", least=-MOST_WEIGHT, most=MOST_WEIGHT)


def find_name(text: str, wanted: str) -> str:
    """The name of the LoRA of a text that a side varies; the first one where none is wanted.

    Raises:
        RequestError: if the text has none of that name, or two.
    """
    return _find(parse_loras(text), wanted).name


def with_weights(text: str, weights: Mapping[str, float]) -> str:
    """A text with other weights of some LoRAs, by their names.

    Raises:
        RequestError: see ``find_name``.
    """
    entries = parse_loras(text)
    changed = {_find(entries, name): weight for name, weight in weights.items()}
    return write_loras(replace(one, weight=changed.get(one, one.weight)) for one in entries)


def effective_loras(text: str) -> str:
    """A text without the LoRAs that change nothing, since their weight is 0."""
    return write_loras(one for one in parse_loras(text) if one.weight)


def weight_label(name: str, value: float) -> str:
    return f"{name} {full_number(value)}"


def lora_label(text: str) -> str:
    return shown_loras(text) or "no LoRA"


def weight_column(text: str, name: str) -> str:
    """The column of a sweep with the weights of a LoRA of a text."""
    entry = replace(_find(parse_loras(text), name), weight=1.0, alpha=None)
    return f"lora:{str(entry).removesuffix(':1')}"


def _find(entries: tuple[LoraEntry, ...], wanted: str) -> LoraEntry:
    if not entries:
        raise RequestError(LORA_WEIGHT, wanted or None, "add a LoRA on the page Make first")
    names = [one.name for one in entries]
    found = [one for one in entries if not wanted or one.name.casefold() == wanted.casefold()]
    if not found:
        hint = did_you_mean(wanted, names) or f": it has {', '.join(names[:8])}"
        raise RequestError(LORA_WEIGHT, wanted, f"is no LoRA of the form{hint}")
    if wanted and len(found) > 1:
        raise RequestError(LORA_WEIGHT, wanted, "is the name of two LoRAs: rename a file")
    return found[0]
