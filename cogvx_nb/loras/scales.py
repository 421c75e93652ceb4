"""What a LoRA's trainer says of its scale: peft's configuration, in a header or beside the file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..paths import read_json
from .library import CONFIG, config_path
from .names import without_prefix

TENSOR, HEADER, FORMAT, NONE = "tensor", "header", "format", "none"
"""Where a file's alpha stands, besides ``CONFIG``. ``FORMAT``: its trainer has always the same;
``NONE``: nowhere, so it is taken for the rank, a scale of 1."""

METADATA = "lora_adapter_metadata"
"""Key of diffusers' metadata in a header: JSON of peft's configuration."""

MOST_PATTERNS = 5000
LITERAL = re.compile(r"\^?(?:[\w-]|\\?\.)+")


@dataclass(frozen=True, slots=True)
class Scaling:
    """peft's configuration, as far as it decides the scale."""

    alpha: float | None = None
    patterns: tuple[tuple[str, float], ...] = ()  # alpha of layers by the end of their names
    by_root: bool = False  # rank-stabilized: alpha over the root of the rank (arXiv 2312.03732)
    origin: str = NONE
    unread: str = ""  # a pattern that is no name

    def alpha_of(self, module: str) -> float | None:
        """Alpha of a layer; None if it isn't given.

        The first pattern that is its name, or an end of it from a dot on, goes, as in peft
        (``peft.utils.other.get_pattern_key``).
        """
        for name, alpha in self.patterns:
            if module == name.removeprefix("^") or module.endswith(f".{name}"):
                return alpha
        return self.alpha


def read_scaling(path: Path, metadata: Mapping[str, str], beside: bool = True) -> Scaling:
    """That of a file, by its header or by peft's configuration; empty where there is none.

    Args:
        beside: whether that of ``config_path`` counts.
    """
    if METADATA in metadata:
        try:
            content = json.loads(metadata[METADATA])
        except (ValueError, RecursionError):
            content = {}
        if isinstance(content, dict) and content:
            own = {key.removeprefix("transformer."): value for key, value in content.items()}
            return _scaling(own, HEADER)
    if not beside:
        return Scaling()
    try:
        content = read_json(config_path(path))
    except (OSError, ValueError):
        return Scaling()
    return _scaling(content, CONFIG) if isinstance(content, dict) else Scaling()


def _scaling(values: Mapping, origin: str) -> Scaling:
    alpha, listed = values.get("lora_alpha"), values.get("alpha_pattern")
    patterns, unread = [], ""
    for name, value in listed.items() if isinstance(listed, dict) else ():
        if not LITERAL.fullmatch(name) or not _is_number(value) or len(patterns) >= MOST_PATTERNS:
            unread = unread or name or "(empty)"  # a file's regular expressions aren't run
            continue
        start = "^" * name.startswith("^")  # of a pattern that is the whole name
        plain = without_prefix(name.removeprefix("^").replace("\\", ""))
        patterns.append((start + plain, float(value)))
    known = float(alpha) if _is_number(alpha) else None
    return Scaling(known, tuple(patterns), values.get("use_rslora") is True, origin, unread)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30
