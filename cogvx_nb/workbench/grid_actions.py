"""Actions of the page Grid: plan, make and watch one, make a cell again, open an earlier one."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from dataclasses import dataclass
from typing import Annotated
from weakref import WeakKeyDictionary

from .. import settings
from ..errors import CogvxError, RequestError
from ..loras.entries import parse_loras
from ..planning.fields import FIELDS, MAX_SEED, RANDOM_SEED
from ..planning.request import VideoRequest
from ..results.typed import Range
from .actions import Action, NoArguments, Reply
from .desk import Desk
from .grid_axis import GridAxis, axis_choices, parse_axis
from .grid_file import KeptGrid, list_grids, read_grid
from .grid_loras import LORA, LORA_WEIGHT, find_name
from .grid_plan import SIDES, GridPlan, describe_size, plan_grid
from .grid_sheet import save_sheet
from .grid_sweep import sweep_text
from .grid_values import MOST
from .grid_work import Grids
from .jobs import DONE, RUNNING, WAITING
from .prediction import Prediction
from .session import Session

_OF_SESSIONS: WeakKeyDictionary[Session, Grids] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Side:
    """A side of a grid as it is typed."""

    name: str = ""
    text: str = ""
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class Sides:
    """The sides of a grid: across, down, pages."""

    sides: tuple[Side, ...]
    reuse: str = ""  # name of a grid whose videos are taken over where they are the same


@dataclass(frozen=True, slots=True)
class Named:
    """A grid."""

    name: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a grid, and the seed with which it is made again."""

    name: str
    cell: Annotated[int, Range(0, MOST)]
    seed: Annotated[int, Range(RANDOM_SEED, MAX_SEED)] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a grid."""

    name: str
    page: Annotated[int, Range(0, MOST)] = 0


_TYPED: WeakKeyDictionary[Session, tuple[Side, ...]] = WeakKeyDictionary()
"""The sides as they were last typed: a page that is loaded again has them."""


def grids_of(session: Session) -> Grids:
    """The grids of a session; it listens to the jobs that end from the first call on."""
    if session not in _OF_SESSIONS:
        _OF_SESSIONS[session] = Grids(session)
    return _OF_SESSIONS[session]


def list_fields(desk: Desk, arguments: NoArguments) -> Reply:
    """What can vary along a side, and the sides as they were typed in this kernel."""
    checkpoint, models = desk.form.model.checkpoint, list(desk.form.models)
    typed = [dataclasses.asdict(side) for side in _TYPED.get(desk.session, ())]
    with contextlib.suppress(RequestError):  # the page Make says what is wrong
        loras = [entry.name for entry in parse_loras(str(desk.form.values[LORA]))]
        return Reply({"typed": typed, "fields": list(axis_choices(checkpoint, models, loras))})
    return Reply({"typed": typed, "fields": list(axis_choices(checkpoint, models))})


def show_plan(desk: Desk, arguments: Sides) -> object:
    """What a grid would be: its size and time in words, the labels of each side, notes."""
    _TYPED[desk.session] = arguments.sides
    plan, grids = _planner(desk, arguments), grids_of(desk.session)

    def show() -> Reply:
        planned = plan()
        text = planned.describe(grids.finished_cells(planned, arguments.reuse))
        sides = [describe_axis(axis) for axis in planned.axes]
        return Reply({"text": text, "sides": sides, "notes": planned.notes})

    return desk.in_background(show)


def make_grid(desk: Desk, arguments: Sides) -> object:
    """Put the videos of a grid into the queue; replies with its state."""
    plan, grids = _planner(desk, arguments), grids_of(desk.session)

    def make() -> Reply:
        return Reply(describe_grid(grids, grids.make(plan(), arguments.reuse)))

    return desk.in_background(make)


def cancel_grid(desk: Desk, arguments: Named) -> Reply:
    """Take what is left of a grid out of the queue."""
    grids = grids_of(desk.session)
    grids.cancel(arguments.name)
    return Reply(describe_grid(grids, read_grid(arguments.name)))


def show_state(desk: Desk, arguments: Named) -> Reply:
    """Each cell of a grid as it is now."""
    return Reply(describe_grid(grids_of(desk.session), read_grid(arguments.name)))


def open_grid(desk: Desk, arguments: Named) -> object:
    """A grid with all of its videos, also those that were finished while nobody watched."""
    grids = grids_of(desk.session)

    def recover() -> Reply:
        return Reply(describe_grid(grids, grids.recover(arguments.name)))

    return desk.in_background(recover)


def list_made(desk: Desk, arguments: NoArguments) -> object:
    """The grids on disk, newest first, and a line for each file that can't be read."""
    grids_of(desk.session)

    def look() -> Reply:
        grids, problems = list_grids()
        rows = [
            {
                "name": grid.name,
                "title": grid.title,
                "made": grid.made,
                "size": describe_size(grid.axes),
                "done": sum(bool(cell.path) for cell in grid.cells),
                "count": len(grid.cells),
            }
            for grid in grids
        ]
        return Reply({"grids": rows, "problems": problems})

    return desk.in_background(look)


def make_cell(desk: Desk, arguments: Cell) -> Reply:
    """Make a cell again, with the same seed or another one."""
    grids = grids_of(desk.session)
    grid = grids.again(arguments.name, arguments.cell, arguments.seed)
    return Reply(describe_grid(grids, grid))


def write_sheet(desk: Desk, arguments: Page) -> object:
    """Write the sheet of a page; replies with the paths of the PNG and the mp4."""
    grid = read_grid(arguments.name)

    def write() -> Reply:
        png, mp4 = save_sheet(grid, arguments.page)
        return Reply({"png": desk.name_of(png), "mp4": desk.name_of(mp4)})

    return desk.in_background(write)


def show_sweep(desk: Desk, arguments: Sides) -> object:
    """The file of a sweep that makes the same videos."""
    plan = _planner(desk, arguments)

    def show() -> Reply:
        planned = plan()
        return Reply({"text": sweep_text(planned.axes, planned.values)})

    return desk.in_background(show)


def _planner(desk: Desk, arguments: Sides) -> functools.partial[GridPlan]:
    """Plans the grid of some sides and the form as it is now; in any thread."""
    if len(arguments.sides) > len(SIDES):
        raise RequestError("grid", len(arguments.sides), f"has at most {len(SIDES)} sides")
    axes = [
        _named_axis(desk, parse_axis(side.name, side.text, side.replaces))
        for side in arguments.sides
    ]
    model = desk.form.model
    usual = model.folder in (None, settings.models_dir() / model.name)
    values = desk.form.named(desk.form.filled) | {
        "model": model.name if usual else str(model.folder)
    }
    values = {name: v for name, v in values.items() if name in FIELDS or name == "enriched_from"}
    return functools.partial(plan_grid, axes, values, functools.partial(_predict, desk.session))


def _named_axis(desk: Desk, axis: GridAxis) -> GridAxis:
    if axis.name == LORA_WEIGHT:
        name = find_name(str(desk.form.values[LORA]), axis.replaces)
        return dataclasses.replace(axis, replaces=name)
    values = tuple(desk.form.named({axis.name: value})[axis.name] for value in axis.values)
    return dataclasses.replace(axis, values=values)


def _predict(session: Session, request: VideoRequest) -> Prediction:
    """Time and memory of a video; unknown where it isn't known: the plan itself says why not."""
    try:
        return session.predict_request(request)
    except CogvxError:
        return Prediction(None, 0)


def describe_axis(axis: GridAxis) -> dict[str, object]:
    """A side as a page shows it."""
    named = {"name": axis.name, "title": axis.title, "labels": axis.labels}
    written = axis.written if axis.name else ()
    return named | {"written": written, "text": axis.text, "replaces": axis.replaces}


def describe_grid(grids: Grids, grid: KeptGrid) -> dict[str, object]:
    """A grid and its cells as a page shows them."""
    states = grids.states(grid)
    shown = [
        dataclasses.asdict(state) | {"job": cell.job, "changed": cell.changed, "number": number}
        for number, (state, cell) in enumerate(zip(states, grid.cells, strict=True))
    ]
    return {
        "name": grid.name,
        "title": grid.title,
        "made": grid.made,
        "prompt": grid.values.get("prompt", ""),
        "size": describe_size(grid.axes),
        "sides": [describe_axis(axis) for axis in grid.axes],
        "cells": shown,
        "done": sum(state.state == DONE for state in states),
        "over": not any(state.state in (WAITING, RUNNING) for state in states),
    }


ACTIONS = {
    "grid.fields": Action(NoArguments, list_fields),
    "grid.plan": Action(Sides, show_plan),
    "grid.make": Action(Sides, make_grid),
    "grid.cancel": Action(Named, cancel_grid),
    "grid.state": Action(Named, show_state),
    "grid.open": Action(Named, open_grid),
    "grid.list": Action(NoArguments, list_made),
    "grid.again": Action(Cell, make_cell),
    "grid.sheet": Action(Page, write_sheet),
    "grid.sweep": Action(Sides, show_sweep),
}
