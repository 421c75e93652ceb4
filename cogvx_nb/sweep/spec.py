"""Read a sweep's file, and expand it into rows of parameters."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import SpecError
from ..paths import user_path


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """Values of some parameters."""

    values: dict[str, object]  # by parameter, as YAML reads them, or text from a CSV file
    origin: str = ""  # for messages, such as ``line 3 of prompts.csv``; may be empty
    texts: bool = False  # all values are text, to be converted to the types of the notebook


def parse_yaml(text: str) -> object:
    """Parse YAML's safe subset, in which no mapping may have a key twice.

    Raises:
        ValueError: with the line, where it is known.
    """
    import yaml

    class Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
        pass

    def mapping(loader, node):
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                line = key.start_mark.line + 1
                raise ValueError(f"line {line}: {name!r} is given twice in one mapping")
            seen.add(name)
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"line {line} is no YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, LookupError, AttributeError) as error:
        # PyYAML raises the last two for a wrong value under a tag, such as !!bool maybe.
        raise ValueError(f"it is no YAML: {' '.join(str(error).split())[:100]}") from error


def read_prompts(content: str | list, folder: Path) -> tuple[ParameterRow, ...]:
    """Prompts from a list, a text file (one per line), or a CSV file (column ``prompt``)."""
    if isinstance(content, list):
        values = check_values("prompts", "prompt", content)
        return tuple(
            ParameterRow({"prompt": v}, f"row {n} of prompts") for n, v in enumerate(values, 1)
        )
    path = user_path(content, "prompts", start=folder)
    try:
        if path.suffix.lower() == ".csv":
            rows = _read_csv(path)
        else:
            lines = enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1)
            rows = [
                ParameterRow({"prompt": line.strip()}, f"line {number} of {path.name}")
                for number, line in lines
                if line.strip()
            ]
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or f"no UTF-8 text or CSV: {error}"
        raise SpecError(f"prompts = {content!r}: {path} can't be read: {reason}") from error
    if not rows:
        raise SpecError(f"prompts = {content!r}: there is none in {path}")
    return tuple(rows)


def _read_csv(path: Path) -> list[ParameterRow]:
    """Rows of a CSV file whose first line names parameters; an empty cell sets none."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        head = [name.strip() for name in next(lines, [])]
        if "prompt" not in head or len(set(head)) < len(head) or not all(head):
            raise SpecError(
                f"{path.name}: its first line must name the columns, each once, and one of them "
                f"'prompt'; it is {','.join(head)[:80]!r}"
            )
        rows = []
        for cells in lines:
            origin = f"line {lines.line_num} of {path.name}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(head):
                raise SpecError(
                    f"{origin} has {len(cells)} cells of {len(head)}: correct its commas"
                )
            pairs = zip(head, cells, strict=True)
            values = {name: cell for name, cell in pairs if cell.strip()}
            if "prompt" not in values:
                raise SpecError(f"{origin} has no prompt: give it one, or delete the line")
            rows.append(ParameterRow(values, origin, texts=True))
    return rows


def check_values(where: str, name: str, values: object) -> list:
    if not isinstance(values, list) or not values:
        raise SpecError(f"{where}: {name} = {shorten(values)}: must be a list with a value or more")
    return values


def shorten(value: object) -> str:
    try:
        shown = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # such as a date as a key
        shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


MAX_RUNS = 100_000
"""A larger product of lists is more likely a slip than intended."""

NAME = re.compile(r"\w[\w.-]{0,59}")
"""Name of a sweep; its at most 240 bytes of UTF-8 fit the name of a folder."""

KEYS = {
    "name": (str, "text"),
    "notebook": (str, "text"),
    "parameters": (dict, "a mapping"),
    "grid": (dict, "a mapping"),
    "zip": (dict, "a mapping"),
    "runs": (list, "a list"),
    "prompts": (str | list, "text or a list"),
    "seeds": (int, "a whole number"),
    "retries": (int, "a whole number"),
    "timeout": (int | float, "a whole number or a number"),
}
"""Keys of a sweep's file, with the type of each value and what messages call it."""


@dataclass(frozen=True, slots=True)
class SweepSpec:
    """A sweep as its file describes it."""

    name: str  # of its folder
    notebook: str  # ``03_generate``, or the path of any notebook
    parameters: dict[str, object] = field(default_factory=dict)  # the same in every run
    # Lists of rows; the runs are all combinations of one row from each.
    factors: tuple[tuple[ParameterRow, ...], ...] = ()
    seeds: int = 0  # seeds that each combination is run with; 0 where seeds aren't counted
    retries: int = 0  # further attempts at a run that failed
    timeout: float | None = None  # seconds for a run; None for no limit
    folder: Path = field(default_factory=Path)  # relative paths start here


def read_spec(path: str | Path) -> SweepSpec:
    """Read a sweep's YAML file. Without the key ``name`` the sweep is named after the file.

    Raises:
        SpecError: with the file, what is wrong and the remedy.
    """
    path = user_path(path, "sweep")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SpecError(f"{path} can't be read: {reason}") from error
    except ValueError as error:
        raise SpecError(f"{path.name}: {error}") from error
    return make_spec(content, path.parent, path.stem, path.name)


def make_spec(
    content: object, folder: Path, name: str = "", source: str = "the sweep"
) -> SweepSpec:
    """Make a sweep from the content of its file.

    Args:
        folder: where relative paths start.
        name: of the sweep, if the content gives none.
        source: what messages call the file.

    Raises:
        SpecError: see ``read_spec``.
    """
    try:
        return _build_spec(_check_keys(content), folder, name)
    except SpecError as error:
        raise SpecError(f"{source}: {error}") from error.__cause__


def _build_spec(content: dict, folder: Path, name: str) -> SweepSpec:
    name = content.get("name", name)
    if not NAME.fullmatch(name):
        raise SpecError(f"name = {name!r}: use letters, digits, '-', '_' and '.', at most 60")
    fixed = content.get("parameters", {})
    factors = [_run_rows(content["runs"])] if "runs" in content else []
    if "prompts" in content:
        factors.append(read_prompts(content["prompts"], folder))
    if "zip" in content:
        factors.append(_zip_rows(content["zip"]))
    for key, values in content.get("grid", {}).items():
        factors.append(
            tuple(ParameterRow({key: value}) for value in check_values("grid", key, values))
        )
    seeds = content.get("seeds", 0)
    if "seeds" in content and seeds < 1:
        raise SpecError(f"seeds = {seeds}: how many seeds; at least 1")
    _refuse_duplicates(factors, fixed, set(content.get("grid", {})) | set(content.get("zip", {})))
    if seeds and any("seed" in row.values for factor in factors for row in factor):
        raise SpecError("seeds counts seeds, and the runs give a seed too: leave one of them out")
    count = math.prod(map(len, factors)) * max(seeds, 1)
    if count > MAX_RUNS:
        raise SpecError(f"{count:,} runs are more than {MAX_RUNS:,}: split the sweep")
    retries, timeout = content.get("retries", 0), content.get("timeout")
    if retries < 0:
        raise SpecError(f"retries = {retries}: at least 0")
    if timeout is not None and not 0 < timeout < math.inf:
        raise SpecError(f"timeout = {timeout}: seconds for a run; more than 0, or leave it out")
    notebook = content.get("notebook", "03_generate")
    return SweepSpec(name, notebook, fixed, tuple(factors), seeds, retries, timeout, folder)


def _check_keys(content: object) -> dict:
    """Return the content if all keys are known and their values are of the right types."""
    if not isinstance(content, dict):
        raise SpecError("it must hold a mapping such as 'grid: {steps: [10, 20]}'")
    for key, value in content.items():
        if key not in KEYS:
            raise SpecError(f"unknown key {key!r}; known: {', '.join(KEYS)}")
        kind, description = KEYS[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise SpecError(f"{key} = {shorten(value)}: must be {description}")
        if isinstance(value, dict) and not all(isinstance(name, str) for name in value):
            raise SpecError(f"{key}: the names of parameters must be text")
    return content


def _run_rows(content: list) -> tuple[ParameterRow, ...]:
    if not content:
        raise SpecError("runs = []: list at least one")
    for number, values in enumerate(content, 1):
        if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
            raise SpecError(f"row {number} of runs = {shorten(values)}: must be a mapping")
    return tuple(ParameterRow(values, f"row {n} of runs") for n, values in enumerate(content, 1))


def _zip_rows(content: dict) -> tuple[ParameterRow, ...]:
    columns = {name: check_values("zip", name, values) for name, values in content.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        counts = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise SpecError(f"zip needs lists of one length: {counts or 'it has none'}")
    rows = zip(*columns.values(), strict=True)
    return tuple(
        ParameterRow(dict(zip(columns, values, strict=True)), f"row {number} of zip")
        for number, values in enumerate(rows, 1)
    )


def _refuse_duplicates(
    factors: list[tuple[ParameterRow, ...]], fixed: dict, lists: set[str]
) -> None:
    """Raise if a parameter is given twice. A row of a table may override a fixed value."""
    if both := sorted(lists & set(fixed)):
        raise SpecError(f"{both[0]!r} is fixed in parameters and listed: leave one of them out")
    seen: set[str] = set()
    for factor in factors:
        names = set().union(*(row.values for row in factor))
        if both := sorted(seen & names):
            raise SpecError(f"{both[0]!r} is varied in two places: leave one of them out")
        seen |= names
