"""A sweep's file: read, and expanded into rows of parameters."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import SpecError


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """Values of some parameters, and where they stand.

    Attributes:
        values: by parameter; of text from a CSV file, and otherwise as YAML reads them.
        origin: such as ``line 3 of prompts.csv``; empty where there is nothing to say.
        texts: whether all values are text, yet to be read as what the notebook declares.
    """

    values: dict[str, object]
    origin: str = ""
    texts: bool = False


def parse_yaml(text: str) -> object:
    """What YAML's safe subset says, in which no key may stand twice.

    Raises:
        ValueError: with the line.
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
                raise ValueError(f"line {line}: {name!r} stands twice in one mapping")
            seen.add(name)
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"line {line} is no YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, LookupError, AttributeError) as error:
        # The last two are what PyYAML lets out for a wrong value under a tag, such as !!bool maybe.
        raise ValueError(f"it is no YAML: {' '.join(str(error).split())[:100]}") from error


def read_prompts(content: str | list, folder: Path) -> tuple[ParameterRow, ...]:
    """Prompts in a list, a text file with one a line, or a CSV file with a column of them."""
    if isinstance(content, list):
        values = check_values("prompts", "prompt", content)
        return tuple(
            ParameterRow({"prompt": v}, f"row {n} of prompts") for n, v in enumerate(values, 1)
        )
    path = folder / Path(content).expanduser()
    try:
        if path.suffix.lower() == ".csv":
            found = _csv(path)
        else:
            lines = enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1)
            found = [
                ParameterRow({"prompt": line.strip()}, f"line {number} of {path.name}")
                for number, line in lines
                if line.strip()
            ]
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or f"no UTF-8 text or CSV: {error}"
        raise SpecError(f"prompts = {content!r}: {path} can't be read: {reason}") from error
    if not found:
        raise SpecError(f"prompts = {content!r}: there is none in {path}")
    return tuple(found)


def _csv(path: Path) -> list[ParameterRow]:
    """Rows of a CSV file whose head names parameters; an empty cell gives none."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        head = [name.strip() for name in next(lines, [])]
        if "prompt" not in head or len(set(head)) < len(head) or not all(head):
            raise SpecError(
                f"{path.name}: its first line must name the columns, each once, and one of them "
                f"'prompt'; it is {','.join(head)[:80]!r}"
            )
        found = []
        for cells in lines:
            origin = f"line {lines.line_num} of {path.name}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(head):
                raise SpecError(f"{origin} has {len(cells)} cells of {len(head)}: mend its commas")
            named = zip(head, cells, strict=True)
            given = {name: cell for name, cell in named if cell.strip()}
            if "prompt" not in given:
                raise SpecError(f"{origin} has no prompt: give it one, or delete the line")
            found.append(ParameterRow(given, origin, texts=True))
    return found


def check_values(where: str, name: str, values: object) -> list:
    if not isinstance(values, list) or not values:
        raise SpecError(f"{where}: {name} = {shorten(values)}: must be a list with a value or more")
    return values


def shorten(value: object) -> str:
    try:
        shown = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # a date for a name
        shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


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
class SweepSpec:
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
    factors: tuple[tuple[ParameterRow, ...], ...] = ()
    seeds: int = 0
    retries: int = 0
    timeout: float | None = None
    folder: Path = field(default_factory=Path)


def read_spec(path: str | Path) -> SweepSpec:
    """Read a sweep's YAML file; its name is the sweep's, unless the file gives one.

    Raises:
        SpecError: with the file, what is wrong and the remedy.
    """
    path = Path(path).expanduser().absolute()
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
    """A sweep from what its file holds.

    Args:
        folder: that relative paths start from.
        name: if the content gives none.
        source: what errors call it.

    Raises:
        SpecError: see ``read_spec``.
    """
    try:
        return _build_spec(_checked(content), folder, name)
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
    if count > MOST_RUNS:
        raise SpecError(f"{count:,} runs are more than {MOST_RUNS:,}: split the sweep")
    retries, timeout = content.get("retries", 0), content.get("timeout")
    if retries < 0:
        raise SpecError(f"retries = {retries}: at least 0")
    if timeout is not None and not 0 < timeout < math.inf:
        raise SpecError(f"timeout = {timeout}: seconds for a run; more than 0, or leave it out")
    notebook = content.get("notebook", "03_generate")
    return SweepSpec(name, notebook, fixed, tuple(factors), seeds, retries, timeout, folder)


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
            raise SpecError(f"{key} = {shorten(value)}: must be {wanted}")
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
        told = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise SpecError(f"zip needs lists of one length: {told or 'it has none'}")
    together = zip(*columns.values(), strict=True)
    return tuple(
        ParameterRow(dict(zip(columns, values, strict=True)), f"row {number} of zip")
        for number, values in enumerate(together, 1)
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
