"""Read a sweep's file, and expand it into rows of parameters."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import PathError, SpecError, did_you_mean
from ..paths import user_path
from ..planning.prompt_files import read_prompt_file
from ..planning.rows import MAX_ROWS, ParameterRow
from ..planning.text_files import read_text_file
from ..planning.yaml_loading import explain_value, load_json, load_yaml
from .folder import NAME, SweepFolder
from .given_files import FILE_KEYS, list_files

MAX_TIMEOUT = 366 * 24 * 3600
"""Seconds for a run; the operating system's clocks take no number of any size."""

KEYS = {
    "name": (str, "text"),
    "notebook": (str, "text"),
    "parameters": (dict, "a mapping"),
    "grid": (dict, "a mapping"),
    "zip": (dict, "a mapping"),
    "runs": (list, "a list"),
    "prompts": (str | list, "text or a list"),
    **dict.fromkeys(FILE_KEYS, (str | list, "text or a list")),
    "seeds": (int, "a whole number"),
    "retries": (int, "a whole number"),
    "timeout": (int | float, "a number"),
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
    notes: tuple[str, ...] = ()  # lines that the user should see before the first run


def read_spec(path: str | Path) -> SweepSpec:
    """Read a sweep's file, YAML or JSON. Without the key ``name`` it is named after the file.

    Raises:
        SpecError: with the file, what is wrong and the remedy.
    """
    path = user_path(path, "sweep")
    try:
        text = read_text_file(path)
    except (OSError, ValueError) as error:
        raise SpecError(f"{path} can't be read: {_reason(error)}") from error
    try:
        content = (load_json if path.suffix.lower() == ".json" else load_yaml)(text)
    except ValueError as error:
        raise SpecError(f"{path.name}: {error}") from error
    return make_spec(content, path.parent, path.stem, path.name)


def read_prompts(content: str | list, folder: Path) -> tuple[ParameterRow, ...]:
    """Prompts from a list, or from a file; see ``read_prompt_file``."""
    if isinstance(content, list):
        values = check_values("prompts", "prompt", content)
        return tuple(
            ParameterRow({"prompt": v}, f"row {n} of prompts") for n, v in enumerate(values, 1)
        )
    try:
        path = user_path(content, "prompts", start=folder)
        rows = read_prompt_file(path)
    except PathError as error:
        raise SpecError(str(error), error.exit_code) from error
    except (OSError, ValueError) as error:
        reason = _reason(error)
        raise SpecError(f"prompts = {content!r}: {path} can't be read: {reason}") from error
    if not rows:
        raise SpecError(f"prompts = {content!r}: there is none in {path}")
    return tuple(replace(row, folder=path.parent) for row in rows)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


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
        raise SpecError(
            f"name = {repr(name)[:62]}: use letters, digits, '-', '_' and '.', at most 60"
        )
    fixed = content.get("parameters", {})
    factors = [_run_rows(content["runs"])] if "runs" in content else []
    if "prompts" in content:
        factors.append(read_prompts(content["prompts"], folder))
    notes: tuple[str, ...] = ()
    for key in filter(content.__contains__, FILE_KEYS):
        recorded = SweepFolder(name).recorded_inputs()
        rows, told = list_files(key, content[key], folder, recorded)
        factors.append(rows)
        notes += told
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
    if count > MAX_ROWS:
        raise SpecError(f"{count:,} runs are more than {MAX_ROWS:,}: split the sweep")
    retries, timeout = content.get("retries", 0), content.get("timeout")
    if retries < 0:
        raise SpecError(f"retries = {retries}: at least 0")
    if timeout is not None and not 0 < timeout <= MAX_TIMEOUT:
        raise SpecError(
            f"timeout = {timeout}: seconds for a run; more than 0, at most a year, or leave it out"
        )
    notebook = content.get("notebook", "03_generate")
    return SweepSpec(name, notebook, fixed, tuple(factors), seeds, retries, timeout, folder, notes)


def _check_keys(content: object) -> dict:
    """Return the content if all keys are known and their values are of the right types."""
    if not isinstance(content, dict):
        raise SpecError("it must hold a mapping such as 'grid: {steps: [10, 20]}'")
    for key, value in content.items():
        if key not in KEYS:
            near = did_you_mean(str(key), KEYS)
            raise SpecError(f"unknown key {repr(key)[:62]}; known: {', '.join(KEYS)}{near}")
        kind, description = KEYS[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = {"text": "str", "a whole number": "int"}.get(description, "float")
            hint = explain_value(value, wanted)
            quote = ": quote it" if wanted == "str" and not isinstance(value, list | dict) else ""
            must = f"must be {description}{quote}" + (f" ({hint})" if hint else "")
            raise SpecError(f"{key} = {shorten(value)}: {must}")
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
        raise SpecError(
            f"{both[0][:60]!r} is fixed in parameters and listed: leave one of them out"
        )
    seen: set[str] = set()
    for factor in factors:
        names = set().union(*(row.values for row in factor))
        if both := sorted(seen & names):
            raise SpecError(f"{both[0][:60]!r} is varied in two places: leave one of them out")
        seen |= names
