"""Rows of parameters, as files and sweeps give them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import SpecError
from .fields import FIELDS

MAX_ROWS = 100_000
"""Of a file, and runs of a sweep; more are rather a slip than intended."""

MAX_NAMES = 20_000
"""Of a row, and columns of a table; spreadsheets have 16,384."""

PROMPT_NAMES = {
    "prompt": (),
    "prompt_en": ("dimension", "auxiliary_info"),  # VBench's, with names that only its scores need
    "caption": (),
    "text": (),
}
"""Names under which files give the prompt, the first one preferred; each with names that come with
it and say nothing about the video."""


LORA_WEIGHTS = "lora:"
"""Begins the name of a column that has weights of one LoRA, such as ``lora:outline``."""


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """Values of some parameters."""

    values: dict[str, object]  # by parameter, as YAML or JSON reads them, or cells of a table
    origin: str = ""  # for messages, such as ``line 3 of prompts.csv``; may be empty
    from_file: bool = False  # of prompts: 42.0 is a whole number too, since pandas writes them so
    # Between the table's columns, where the values are its cells; empty for typed values.
    delimiter: str = ""
    folder: Path | None = None  # where relative paths in it start; None: where those of a sweep do


def field_name(name: str) -> str:
    """The field of a request that a name stands for, such as ``Negative prompt``; else the name."""
    kind, colon, lora = name.partition(":")
    if colon and kind.strip().casefold() == LORA_WEIGHTS[:-1]:
        return f"{LORA_WEIGHTS}{lora.strip()}"
    folded = re.sub(r"[\s-]+", "_", name.strip()).casefold()
    return folded if folded in FIELDS or folded in PROMPT_NAMES else name.strip()


def unique_names(names: Iterable[str], where: str, needed: bool = True) -> dict[str, str]:
    """The parameter for each name of a row or heading, in their order.

    Args:
        needed: whether one must be the prompt.

    Raises:
        SpecError: if two are the same parameter, or none or several could be the prompt.
    """
    names = list(names)
    if len(names) > MAX_NAMES:
        raise SpecError(f"{where} has {len(names):,} names: at most {MAX_NAMES:,}")
    parameters = [field_name(name) for name in names]
    (frequent, count), *_ = [*Counter(parameters).most_common(1), ("", 0)]
    if count > 1:
        raise SpecError(f"{where}: {frequent[:60]!r} is there twice")
    candidates = [name for name in PROMPT_NAMES if name in parameters]
    if "prompt" in candidates or not (candidates or needed):
        return dict(zip(names, parameters, strict=True))
    if len(candidates) != 1:
        shown = ", ".join(candidates or names)[:80] or "nothing"
        wanted = "several could be the prompt" if candidates else "one must be named 'prompt'"
        raise SpecError(f"{where}: {wanted}; it has {shown}")
    (prompt,) = candidates
    return {
        name: "prompt" if parameter == prompt else parameter
        for name, parameter in zip(names, parameters, strict=True)
        if parameter not in PROMPT_NAMES[prompt]
    }
