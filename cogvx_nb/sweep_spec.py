"""A sweep's file: read, and expanded into rows of parameters."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from .errors import SpecError
from .sweep_rows import Row, parse, prompts, short, values_of

MOST_RUNS = 100_000
"""Beyond that a product of lists is more likely a slip than a wish."""

NAME = re.compile(r"\w[\w.-]{0,59}")
"""Of at most 240 bytes, which is what a folder's name has room for."""

KEYS = {
    "name": str,
    "notebook": str,
    "parameters": dict,
    "grid": dict,
    "zip": dict,
    "runs": list,
    "prompts": (str, list),
    "seeds": int,
    "retries": int,
    "timeout": (int, float),
}
"""What a sweep's file may say, and the kinds of the values."""

KINDS = {str: "text", dict: "a mapping", list: "a list", int: "a whole number", float: "a number"}


@dataclass(frozen=True, slots=True)
class Spec:
    """A sweep as its file describes it.

    Attributes:
        name: of its folder.
        notebook: ``03_generate``, or the path of any notebook.
        parameters: the same in every run.
        factors: lists of rows; the runs are all combinations with one row of each.
        seeds: how many seeds each combination is run with; 0 where seeds aren't counted.
        retries: further attempts at a run that failed.
        timeout: seconds that a run may take; None for any.
        folder: that relative paths start from.
    """

    name: str
    notebook: str
    parameters: dict[str, object] = field(default_factory=dict)
    factors: tuple[tuple[Row, ...], ...] = ()
    seeds: int = 0
    retries: int = 0
    timeout: float | None = None
    folder: Path = field(default_factory=Path)


def read(path: str | Path) -> Spec:
    """Read a sweep's YAML file; its name is the sweep's, unless the file gives one.

    Raises:
        SpecError: with the file, what is wrong and the remedy.
    """
    path = Path(path).expanduser().absolute()
    try:
        content = parse(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SpecError(f"{path} can't be read: {reason}") from error
    except ValueError as error:
        raise SpecError(f"{path.name}: {error}") from error
    return make(content, path.parent, path.stem, path.name)


def make(content: object, folder: Path, name: str = "", source: str = "the sweep") -> Spec:
    """A sweep from what its file holds.

    Args:
        folder: that relative paths start from.
        name: if the content gives none.
        source: what errors call it.

    Raises:
        SpecError: see ``read``.
    """
    try:
        return _make(_checked(content), folder, name)
    except SpecError as error:
        raise SpecError(f"{source}: {error}") from error.__cause__


def _make(content: dict, folder: Path, name: str) -> Spec:
    name = content.get("name", name)
    if not NAME.fullmatch(name):
        raise SpecError(f"name = {name!r}: use letters, digits, '-', '_' and '.', at most 60")
    fixed = content.get("parameters", {})
    factors = [_listed(content["runs"])] if "runs" in content else []
    if "prompts" in content:
        factors.append(prompts(content["prompts"], folder))
    if "zip" in content:
        factors.append(_zipped(content["zip"]))
    for key, values in content.get("grid", {}).items():
        factors.append(tuple(Row({key: value}) for value in values_of("grid", key, values)))
    seeds = content.get("seeds", 0)
    if "seeds" in content and seeds < 1:
        raise SpecError(f"seeds = {seeds}: how many seeds; at least 1")
    _refuse_twice(factors, fixed, set(content.get("grid", {})) | set(content.get("zip", {})))
    if seeds and any("seed" in row.values for factor in factors for row in factor):
        raise SpecError("seeds counts seeds, and the runs give a seed too: leave one of them out")
    count = math.prod(map(len, factors)) * max(seeds, 1)
    if count > MOST_RUNS:
        raise SpecError(f"{count:,} runs are more than {MOST_RUNS:,}: split the sweep")
    retries, timeout = content.get("retries", 0), content.get("timeout")
    if retries < 0:
        raise SpecError(f"retries = {retries}: at least 0")
    if timeout is not None and not 0 < timeout < math.inf:
        raise SpecError(f"timeout = {timeout}: seconds for a run; more than 0, or leave it out")
    notebook = content.get("notebook", "03_generate")
    return Spec(name, notebook, fixed, tuple(factors), seeds, retries, timeout, folder)


def _checked(content: object) -> dict:
    """The content, if its keys are known and their values of the right kind."""
    if not isinstance(content, dict):
        raise SpecError("it must hold a mapping such as 'grid: {steps: [10, 20]}'")
    for key, value in content.items():
        if key not in KEYS:
            raise SpecError(f"unknown key {key!r}; known: {', '.join(KEYS)}")
        kinds = KEYS[key] if isinstance(KEYS[key], tuple) else (KEYS[key],)
        if not isinstance(value, kinds) or isinstance(value, bool):
            wanted = " or ".join(KINDS[kind] for kind in kinds)
            raise SpecError(f"{key} = {short(value)}: must be {wanted}")
        if isinstance(value, dict) and not all(isinstance(name, str) for name in value):
            raise SpecError(f"{key}: the names of parameters must be text")
    return content


def _listed(content: list) -> tuple[Row, ...]:
    if not content:
        raise SpecError("runs = []: list at least one")
    for number, values in enumerate(content, 1):
        if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
            raise SpecError(f"row {number} of runs = {short(values)}: must be a mapping")
    return tuple(Row(values, f"row {n} of runs") for n, values in enumerate(content, 1))


def _zipped(content: dict) -> tuple[Row, ...]:
    columns = {name: values_of("zip", name, values) for name, values in content.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise SpecError(f"zip needs lists of one length: {told or 'it has none'}")
    together = zip(*columns.values(), strict=True)
    return tuple(
        Row(dict(zip(columns, values, strict=True)), f"row {number} of zip")
        for number, values in enumerate(together, 1)
    )


def _refuse_twice(factors: list[tuple[Row, ...]], fixed: dict, lists: set[str]) -> None:
    """Raise if a parameter is given twice. A row of a table may override a fixed value."""
    if both := sorted(lists & set(fixed)):
        raise SpecError(f"{both[0]!r} is fixed in parameters and listed: leave one of them out")
    seen: set[str] = set()
    for factor in factors:
        names = set().union(*(row.values for row in factor))
        if both := sorted(seen & names):
            raise SpecError(f"{both[0]!r} is varied in two places: leave one of them out")
        seen |= names
