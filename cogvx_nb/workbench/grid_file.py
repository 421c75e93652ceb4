"""Grids on disk: what varies, and which video or job is in each cell.

``outputs/grids/<name>.json`` is written whole whenever something of it changes, so a grid outlives
the kernel as its jobs do (``kept_queue``), and can be opened again.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated

from .. import settings
from ..errors import CogvxError, RequestError, ResultError
from ..files import translate_errors, write_whole
from ..paths import read_json
from ..results.output import slug
from ..results.typed import FieldError, Passes, Range, read_as
from ..text import first_line, plain_line
from .grid_axis import PROMPT, WORDS, GridAxis, apply_axes
from .grid_loras import LORA_WEIGHT, WEIGHTS
from .grid_plan import GridPlan, cells
from .grid_values import MOST
from .jobs import WAITING

FORMAT = 1

MOST_BYTES = 2**21
"""Of a grid's file: a hundred prompts of 2,000 characters take 1.2 MB where each is escaped."""

MOST_LISTED = 200
"""The newest grids that are listed."""

_NAME = re.compile(r"\d{4}-\d\d-\d\d-\d{6}-[\w-]{1,80}")


def _check_inside(path: str) -> None:
    parts = PurePosixPath(path)
    if path and (parts.is_absolute() or ".." in parts.parts or "\\" in path or "\0" in path):
        raise ValueError(path)


def _check_id(text: str) -> None:
    if text and not re.fullmatch("[0-9a-f]{32}", text):
        raise ValueError(text)


@dataclass(frozen=True, slots=True)
class GridCell:
    """A cell of a grid: the job that makes it, and its video."""

    job: Annotated[str, Passes(_check_id, "must be 32 hexadecimal digits")] = ""
    path: Annotated[str, Passes(_check_inside, "must lie in the outputs folder")] = ""
    state: str = WAITING  # of the job when it was last heard of
    error: str = ""
    changed: dict[str, object] = field(default_factory=dict)  # such as another seed


@dataclass(frozen=True, slots=True)
class KeptGrid:
    """A grid as its file has it."""

    format: Annotated[int, Range(1, FORMAT)]
    made: str  # ISO 8601
    axes: tuple[GridAxis, ...]  # across, down, pages
    values: dict[str, object]  # of the request that it varies
    cells: tuple[GridCell, ...]  # page by page, and row by row
    name: str = ""  # of the file, without its ending

    @property
    def title(self) -> str:
        """For a list: its prompt, and what varies."""
        varied = ", ".join(axis.title for axis in self.axes if axis.name)
        return plain_line(f"{str(self.values.get(PROMPT, ''))[:80]} · {varied}")

    def cell_values(self, number: int) -> dict[str, object]:
        """The values of the request of a cell."""
        chosen = cells(self.axes)[number]
        return apply_axes(self.axes, chosen, self.values) | self.cells[number].changed

    def with_cell(self, number: int, **changes: object) -> KeptGrid:
        changed = dataclasses.replace(self.cells[number], **changes)
        cells_now = (*self.cells[:number], changed, *self.cells[number + 1 :])
        return dataclasses.replace(self, cells=cells_now)


def grids_folder() -> Path:
    return settings.outputs_dir() / "grids"


def new_grid(plan: GridPlan, contents: list[GridCell]) -> KeptGrid:
    """The grid of a plan, written to a new file.

    Raises:
        OutputError: if it can't be written.
    """
    now = datetime.now().astimezone()
    stem = f"{now:%Y-%m-%d-%H%M%S}-{slug(plan.requests[0].prompt)}"
    names = [stem, *(f"{stem}-{number}" for number in range(2, MOST))]
    name = next(n for n in names if not _path(n).exists())
    made = now.isoformat(timespec="seconds")
    grid = KeptGrid(FORMAT, made, plan.axes, plan.values, tuple(contents), name)
    write_grid(grid)
    return grid


def write_grid(grid: KeptGrid) -> None:
    """Write a grid's file whole.

    Raises:
        OutputError, DiskFull: if it can't be written.
    """
    content = dataclasses.asdict(grid)
    del content["name"]
    path = _path(grid.name)
    with translate_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content).encode())


def read_grid(name: str) -> KeptGrid:
    """The grid of a name.

    Raises:
        ResultError: if there is none, or its file is damaged or of a later version.
    """
    if not _NAME.fullmatch(name):
        raise ResultError(f"{plain_line(name[:60])} is no grid's name")
    path = _path(name)
    try:
        stat = path.stat()
        return _read(path, stat.st_mtime_ns, stat.st_size)
    except FileNotFoundError:
        raise ResultError(f"there is no grid {name}") from None
    except (OSError, ValueError, TypeError, LookupError, RequestError) as error:
        reason = plain_line(first_line(error))[:150]
        raise ResultError(f"{path} is no grid that can be read ({reason})") from error


@functools.lru_cache(maxsize=2 * MOST_LISTED)
def _read(path: Path, changed: int, size: int) -> KeptGrid:
    """The grid in a file, which is read again where its time or size changed."""
    grid = read_as(KeptGrid, read_json(path, MOST_BYTES))
    if len(grid.axes) != 3 or not all(axis.values for axis in grid.axes):
        raise FieldError("must be three sides with their values", dataclasses.MISSING, "axes")
    count = math.prod(len(axis.values) for axis in grid.axes)
    if len(grid.cells) != count or count > MOST:
        remedy = f"must be the {count} of the sides, at most {MOST}"
        raise FieldError(remedy, len(grid.cells), "cells")
    grid = dataclasses.replace(grid, name=path.stem)
    for axis in grid.axes:
        texts = axis.name in (PROMPT, WORDS)
        if texts and not all(isinstance(value, str) for value in axis.values):
            raise FieldError("must be texts", dataclasses.MISSING, "values")
        if axis.name == LORA_WEIGHT:
            for value in axis.values:
                WEIGHTS.check(value)
    grid.cell_values(0)  # raises where its words don't stand in its prompt
    return grid


def list_grids() -> tuple[list[KeptGrid], list[str]]:
    """(the newest grids first, a line for each file that can't be read)."""
    try:
        names = [path.stem for path in grids_folder().glob("*.json")]
    except OSError as error:
        return [], [f"{grids_folder()} can't be read: {error.strerror}"]
    grids, problems = [], []
    for name in sorted(filter(_NAME.fullmatch, names), reverse=True)[:MOST_LISTED]:
        try:
            grids.append(read_grid(name))
        except CogvxError as error:
            problems.append(str(error))
    return grids, problems


def _path(name: str) -> Path:
    return grids_folder() / f"{name}.json"
