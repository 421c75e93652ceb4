"""A grid as the file of a sweep, which runs the same videos headless, in parallel and again."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..planning.fields import FIELDS
from ..results.output import slug
from .grid_axis import PROMPT, WORDS, GridAxis, apply_axes
from .grid_loras import LORA, LORA_WEIGHT, weight_column
from .grid_plan import cells

MOST_NAME = 50
"""Characters of the sweep's name."""


def sweep_text(axes: Sequence[GridAxis], values: dict[str, object]) -> str:
    """The YAML of a sweep of the same videos as a grid.

    Args:
        axes: across, down, pages.
        values: of the request that it varies; see ``grid_plan.plan_grid``.
    """
    prompts = _prompts(axes, values)
    varied = {
        _column(axis, values): axis.values for axis in axes if axis.name not in ("", PROMPT, WORDS)
    }
    fixed = {
        name: values[name]
        for name, field in FIELDS.items()
        if name in values and name not in varied and values[name] != field.default
    }
    name = f"grid-{slug(str(values.get(PROMPT) or prompts[0]))}".encode("ascii", "ignore").decode()
    lines = [f"name: {_scalar(name[:MOST_NAME].rstrip('-'))}", "notebook: 03_generate"]
    if prompts:
        fixed.pop(PROMPT, None)
        lines += ["prompts:", *(f"  - {_scalar(prompt)}" for prompt in prompts)]
    if fixed:
        lines += ["parameters:", *(f"  {key}: {_scalar(value)}" for key, value in fixed.items())]
    if varied:
        lines.append("grid:")
    for key, listed in varied.items():
        name = key if key in FIELDS else _scalar(key)
        lines.append(f"  {name}: [{', '.join(map(_scalar, listed))}]")
    return "\n".join(lines) + "\n"


def _column(axis: GridAxis, values: dict[str, object]) -> str:
    if axis.name != LORA_WEIGHT:
        return axis.name
    return weight_column(str(values.get(LORA, "")), axis.replaces)


def _prompts(axes: Sequence[GridAxis], values: dict[str, object]) -> list[str]:
    """The prompts of the cells, each once; empty where no side varies them."""
    if not any(axis.name in (PROMPT, WORDS) for axis in axes):
        return []
    return list(dict.fromkeys(str(apply_axes(axes, cell, values)[PROMPT]) for cell in cells(axes)))


def _scalar(value: object) -> str:
    """A value as YAML: a text in double quotes, so that none is read as something else."""
    if isinstance(value, str):
        return "".join(map(_escaped, json.dumps(value, ensure_ascii=False)))
    if isinstance(value, float) and "e" in repr(value) and "." not in repr(value):
        return repr(value).replace("e", ".0e")  # YAML 1.1 has no number without its point
    return json.dumps(value)


def _escaped(letter: str) -> str:
    """A letter as YAML may hold it: those that aren't printable by their number."""
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 2**16 else f"\\U{ord(letter):08x}"
