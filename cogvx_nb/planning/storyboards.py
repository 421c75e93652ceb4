"""Storyboards: rows of a prompt, other fields of a request, and how each piece follows the last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import CogvxError, RequestError, SpecError, did_you_mean
from ..loras.entries import join_loras
from ..loras.given import placed_text
from ..paths import user_path
from .cells import read_cell
from .extension import FIELD as EXTEND
from .fields import ALIASES, FIELDS, INPUTS
from .inputs import absolute_name
from .prompt_files import read_prompt_file
from .rows import ParameterRow, field_name
from .transitions import CONTINUE, CUT, TRANSITIONS

TRANSITION, PROMPT = "transition", "prompt"

MOST_ROWS = 200
"""Of a storyboard: all frames are in memory when it is joined."""

READ_CELLS = {int: "int", float: "float", bool: "bool"}


@dataclass(frozen=True, slots=True)
class Shot:
    """A row of a storyboard, each value acceptable by itself."""

    # By field of a request. ``prompt`` is among them, blank where it is that of what the piece goes
    # on from: the row before, or the result that ``extend`` names.
    values: dict[str, object]
    transition: str  # of ``TRANSITIONS``
    origin: str  # for messages, such as ``line 3 of board.csv``


def read_storyboard(file: str | Path) -> tuple[Shot, ...]:
    """The rows of a file: YAML, JSON, JSONL, CSV or TSV, see ``prompt_files.read_prompt_file``.

    Files that it names are looked for in its folder.

    Raises:
        PathError: if there can be no file of that name.
        SpecError: with the line or item that can't be used, and the remedy.
    """
    path = user_path(file, "storyboard")
    try:
        rows = read_prompt_file(path, needed=False)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SpecError(f"storyboard {path}: {reason}") from error
    return shots_of(rows, path.parent)


def shots_of(
    rows: Iterable[ParameterRow | Mapping[str, object]], folder: Path | None = None
) -> tuple[Shot, ...]:
    """The same of rows in memory, such as those of a table on a page.

    Args:
        rows: mappings of fields of a request, and ``transition``, to values.
        folder: where relative paths start; by default the current one.

    Raises:
        SpecError: with the number of the row that can't be used, and the remedy.
    """
    shots = []
    for number, row in enumerate(rows, 1):
        try:
            if not isinstance(row, ParameterRow):
                row = ParameterRow(_named(row, number), f"row {number}")
            shots.append(_shot(row, folder, first=number == 1))
        except SpecError:
            raise
        except CogvxError as error:
            raise SpecError(f"{row.origin}: {error}", error.exit_code) from error
    if not shots:
        raise SpecError("a storyboard needs rows, each with a prompt")
    if len(shots) > MOST_ROWS:
        raise SpecError(f"a storyboard has at most {MOST_ROWS} rows; this one has {len(shots):,}")
    return tuple(shots)


def _named(row: object, number: int) -> dict[str, object]:
    """A row's values by name; a text is a prompt, as in files."""
    row = {"prompt": row} if isinstance(row, str) else row
    if not isinstance(row, Mapping):
        kind = type(row).__name__
        raise SpecError(f"row {number} is of type {kind}: give a text, or fields with a prompt")
    return {field_name(str(name)): value for name, value in row.items()}


def _shot(row: ParameterRow, folder: Path | None, first: bool) -> Shot:
    values = {
        TRANSITION if name.strip().casefold() == TRANSITION else name: value
        for name, value in row.values.items()
    }
    transition = str(values.pop(TRANSITION, None) or CUT).strip().casefold()
    if transition not in TRANSITIONS:
        names = ", ".join(TRANSITIONS)
        hint = did_you_mean(transition, TRANSITIONS)
        raise RequestError(TRANSITION, transition, f"use one of {names}{hint}")
    if first and transition != CUT:
        raise RequestError(TRANSITION, transition, f"has nothing before it: use {CUT}")
    checked = {}
    for key, value in values.items():
        name = ALIASES.get(key, key)
        if name in checked:
            raise RequestError(key, value, f"is given twice, as {name} too")
        if name not in FIELDS:
            raise RequestError(
                name, value, f"is no field of a request{did_you_mean(name, [*FIELDS, TRANSITION])}"
            )
        value = _typed(row, name, value)
        if FIELDS[name].many and isinstance(value, list | tuple):
            value = join_loras(value, folder)
        blank = name == PROMPT and isinstance(value, str) and not value.strip()
        if value is not None and not blank:
            checked[name] = FIELDS[name].check(value)
    if folder is not None:
        checked |= _placed(checked, folder)
    if transition != CONTINUE and not checked.get(EXTEND):
        FIELDS[PROMPT].check(checked.get(PROMPT, ""))
    given = [name for name in INPUTS if checked.get(name)]
    if transition == CONTINUE and given:
        remedy = f"can't be given where a piece goes on: leave it out, or use {CUT}"
        raise RequestError(given[0], checked[given[0]], remedy)
    return Shot({PROMPT: ""} | checked, transition, row.origin)


def _typed(row: ParameterRow, name: str, value: object) -> object:
    """A value of the field's type where a table writes it as text; None for an empty cell."""
    kind = FIELDS[name].kind
    if row.delimiter and kind in READ_CELLS:
        try:
            return read_cell(str(value), READ_CELLS[kind], row.delimiter)
        except ValueError as error:
            raise RequestError(name, value, str(error)) from error
    whole = kind is int and isinstance(value, float) and value.is_integer()
    return int(value) if whole else value  # as JSON and tables of pages write 42


def _placed(values: dict[str, object], folder: Path) -> dict[str, str]:
    """The values that name files, with paths that are the same in any current folder."""
    placed = {name: absolute_name(name, values[name], folder) for name in INPUTS if name in values}
    return placed | ({"lora": placed_text(values["lora"], folder)} if "lora" in values else {})
