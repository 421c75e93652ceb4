"""Grids at work: their jobs in the queue, and their files, which follow the jobs."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import settings
from ..errors import CogvxError, RequestError
from ..planning.fields import FIELDS, INPUTS, SEEDS
from ..results.marks import change_marks
from ..results.result import Result, read_result
from .grid_file import GridCell, KeptGrid, list_grids, new_grid, read_grid, write_grid
from .grid_plan import GridPlan, drawn_seed, request_of
from .jobs import DONE, WAITING, Job
from .session import Session

log = logging.getLogger(__name__)

UNFINISHED, GONE, LOST = "unfinished", "gone", "lost"
"""States of a cell besides those of its job: waits in a queue that a kernel left, its video was
deleted or moved, nothing is known of it."""

MOST_SEARCHED = 200
"""Results of a cell's seed and frames that are compared with it."""


@dataclass(frozen=True, slots=True)
class CellState:
    """A cell as it is now."""

    state: str  # of its job, or ``UNFINISHED``, ``GONE``, ``LOST``
    path: str = ""  # of its mp4, relative to the outputs folder
    stage: str = ""  # of the running job
    step: int = 0
    steps: int = 0
    error: str = ""


class Grids:
    """The grids of a session. Make it with the session: it listens to the jobs that end.

    Args:
        session: whose queue runs the jobs.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._writing = threading.RLock()  # jobs end in the worker's thread
        self.stop = session.listen(self._on_change)

    def make(self, plan: GridPlan, reuse: str = "") -> KeptGrid:
        """Queue the videos of a grid.

        Args:
            reuse: name of a grid: the videos of its cells with the same settings are taken over.

        Raises:
            CogvxError: if its file can't be written, or there is no grid to reuse.
        """
        known = self.finished_cells(plan, reuse)
        jobs = [Job(request) for request in plan.requests]
        cells = [known.get(number, GridCell(job.id)) for number, job in enumerate(jobs)]
        with self._writing:
            grid = new_grid(plan, cells)
        for job, cell in zip(jobs, cells, strict=True):
            if cell.job == job.id:
                self._session.queue.add(job)
        return grid

    @staticmethod
    def finished_cells(plan: GridPlan, reuse: str) -> dict[int, GridCell]:
        """The cells of another grid whose videos are there, by the number in a plan of the cell
        with the same settings; none where ``reuse`` is empty.

        Raises:
            ResultError: if there is no such grid.
        """
        known = dict(_finished_cells(read_grid(reuse))) if reuse else {}
        keys = map(_key, plan.requests)
        return {number: known[key] for number, key in enumerate(keys) if key in known}

    def cancel(self, name: str) -> None:
        """Take the jobs of a grid out of the queue, and stop the one that runs."""
        ids = {cell.job for cell in read_grid(name).cells}
        queue = self._session.queue
        for job in (*queue.waiting, *queue.active):
            if job.id in ids:
                queue.cancel(job)

    def again(self, name: str, number: int, seed: int | None = None) -> KeptGrid:
        """Make a cell again.

        Args:
            number: of the cell, from 0: page by page, and row by row.
            seed: another one; -1 for a random one, None for that of the cell.

        Raises:
            CogvxError: if there is no such cell, it is being made, or it can't be made here.
        """
        with self._writing:
            grid = read_grid(name)
            if not 0 <= number < len(grid.cells):
                raise RequestError("cell", number, f"the grid has {len(grid.cells)}")
            job = self._jobs().get(grid.cells[number].job)
            if job is not None and not job.over:
                raise RequestError("cell", number + 1, "is in the queue already")
            changed = dict(grid.cells[number].changed)
            if seed is not None:
                changed["seed"] = drawn_seed(FIELDS["seed"].check(seed))
            job = Job(request_of(grid.cell_values(number) | changed))
            cell = {"job": job.id, "path": "", "state": WAITING, "error": "", "changed": changed}
            grid = grid.with_cell(number, **cell)
            write_grid(grid)
        self._session.queue.add(job)
        return grid

    def states(self, grid: KeptGrid) -> list[CellState]:
        """Each cell as it is now."""
        jobs = self._jobs()
        unfinished = {kept.id for kept in self._session.unfinished.jobs}
        return [self._state(cell, jobs.get(cell.job), unfinished) for cell in grid.cells]

    def recover(self, name: str) -> KeptGrid:
        """A grid with the videos that were finished while nobody wrote them down: in a kernel that
        was killed just then.

        Raises:
            ResultError: if there is no such grid.
        """
        with self._writing:
            grid = found = read_grid(name)
            for number, state in enumerate(self.states(grid)):
                if state.state == LOST and (path := self._find_video(grid, number)):
                    found = found.with_cell(number, path=path, state=DONE)
            if found is not grid:
                write_grid(found)
        return found

    def _jobs(self) -> dict[str, Job]:
        """The jobs of the session by their ids, also those that are over."""
        queue = self._session.queue
        return {job.id: job for job in (*self._session.finished, *queue.waiting, *queue.active)}

    @staticmethod
    def _state(cell: GridCell, job: Job | None, unfinished: set[str]) -> CellState:
        if job is not None and not job.over:
            return CellState(job.state, "", job.stage, job.step, job.steps)
        if job is not None and not cell.path:  # over, and about to be written down
            path = relative_path(job.result.path) if job.result else ""
            return CellState(job.state, path, error=job.error)
        if cell.path:
            there = (settings.outputs_dir() / cell.path).is_file()
            return CellState(DONE if there else GONE, cell.path)
        if cell.job in unfinished:
            return CellState(UNFINISHED)
        return CellState(LOST if cell.state == WAITING else cell.state, error=cell.error)

    def _find_video(self, grid: KeptGrid, number: int) -> str:
        """Path of a video with a cell's settings that was made since the grid; empty if none."""
        with contextlib.suppress(CogvxError):
            request = request_of(grid.cell_values(number))
            key, catalogue = _key(request), self._session.catalogue
            catalogue.refresh()
            found = catalogue.find(seed=request.seed, frames=request.frames, limit=MOST_SEARCHED)
            for entry in found:
                if entry.made < grid.made or entry.finished:
                    continue
                result = read_result(entry.path)
                if not result.settings.derived and _recorded_key(result) == key:
                    _note_grid(result, grid.name)
                    return relative_path(entry.path)
        return ""

    def _on_change(self, job: Job, event: object) -> None:
        if event is not None or not job.over:
            return
        with self._writing:
            for grid in list_grids()[0]:
                for number, cell in enumerate(grid.cells):
                    if cell.job == job.id:
                        path = relative_path(job.result.path) if job.result else ""
                        outcome = {"path": path, "state": job.state, "error": job.error}
                        self._write(grid.with_cell(number, **outcome))
                        if job.result:
                            _note_grid(job.result, grid.name)
                        return

    @staticmethod
    def _write(grid: KeptGrid) -> None:
        try:
            write_grid(grid)
        except CogvxError:  # such as a full disk: ``recover`` finds the video later
            log.exception("a grid could not be written")


def _note_grid(result: Result, name: str) -> None:
    """Record in the marks of a video which grid it was made for: galleries group by it."""
    try:
        change_marks(result.path, result.frame_hash, grid=name)
    except CogvxError:
        log.exception("the grid of a video could not be noted")


def relative_path(path: Path) -> str:
    """Path of a result relative to the outputs folder, with ``/``."""
    return path.relative_to(settings.outputs_dir()).as_posix()


def _finished_cells(grid: KeptGrid) -> Iterator[tuple[tuple, GridCell]]:
    for number, cell in enumerate(grid.cells):
        if cell.path and (settings.outputs_dir() / cell.path).is_file():
            with contextlib.suppress(CogvxError):
                yield _key(request_of(grid.cell_values(number))), cell


def _key(request) -> tuple:
    """What a video is recognised by: its pictures and clips by their content, wherever they lay."""
    asked = {name: v for name, v in request.asked.items() if v is not None}
    asked |= {name: getattr(request, name) for name in (*SEEDS, *INPUTS)}
    return (str(request.model.folder), request.enriched_from, *sorted(asked.items()))


def _recorded_key(result: Result) -> tuple:
    sidecar = result.settings
    asked = sidecar.asked | {n: getattr(sidecar.request, n) for n in (*SEEDS, *INPUTS)}
    return (sidecar.checkpoint.folder, sidecar.enriched_from, *sorted(asked.items()))
