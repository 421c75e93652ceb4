"""Hundreds of runs of a notebook: resumed, never done twice, and nothing half-written."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path

from ..errors import Cancelled, DiskFull, NotebookError, ResultError
from ..notebooks import notebook
from ..notebooks.notebook import NotebookTemplate
from . import lock
from .folder import NOTEBOOK, SweepFolder, timestamp
from .lock import Holder, Share
from .progress import Progress, View
from .runs import SweepRun, plan_runs
from .spec import SweepSpec, make_spec, read_spec
from .worker import RunOutcome, RunTask, SweepWorker

MAX_CRASHES_HERE = 3
"""Runs that may die at a worker, and nowhere else, before it isn't the runs that are to blame."""


class CrashLog:
    """Where the kernels of runs died. Workers are numbers, runs are ids."""

    def __init__(self) -> None:
        self._places: dict[str, set[int]] = defaultdict(set)
        self._since: dict[int, set[str]] = defaultdict(set)
        self._in_a_row: set[str] = set()

    @property
    def in_a_row(self) -> int:
        """Runs that died one after another, wherever they were."""
        return len(self._in_a_row)

    def note(self, worker: int, run_id: str, died: bool) -> None:
        """A run ended at a worker. One that lives there clears it of what died before."""
        if not died:
            self._in_a_row.clear()
            self._since[worker].clear()
            return
        self._in_a_row.add(run_id)
        self._since[worker].add(run_id)
        self._places[run_id].add(worker)

    def working(self, workers: Set[int]) -> set[int]:
        """Those of the workers that do good, or all where none does: one that fails fast would
        take most of the runs."""
        return {one for one in workers if not self._blames(one)} or set(workers)

    def may_try(self, run_id: str, worker: int, working: Set[int]) -> bool:
        """Whether a run may go to a worker: not where it died, while it didn't die everywhere."""
        died_at = self._places.get(run_id, set())
        return worker not in died_at or working <= died_at

    def _blames(self, worker: int) -> bool:
        only_here = [run for run in self._since[worker] if self._places[run] == {worker}]
        return len(only_here) >= MAX_CRASHES_HERE


TICK = 0.25
"""Seconds between looks at the clock, and at whether somebody cancelled."""

PIPELINE_MODULE = "cogvx_nb.pipeline.loader"
"""What notebook 03 imports torch and diffusers with."""

MAX_CRASHES_IN_A_ROW = 10
"""Runs one after another whose kernels may die before it isn't the runs that are to blame."""


def run_sweep(
    spec: SweepSpec | dict | str | Path,
    *,
    again: bool = False,
    fail_fast: bool = False,
    part: Share | None = None,
    view: View | None = None,
    workers: AbstractContextManager[Sequence[SweepWorker]] | None = None,
) -> Progress:
    """Do what of a sweep isn't done yet.

    All runs are checked before the first begins. A run that is done is never done again.

    Args:
        spec: a sweep, what its file would hold, or the path of one.
        again: do all runs again; each keeps its result until the new one is there.
        fail_fast: end at the first run that failed.
        part: do only a share of the runs.
        view: shows how it stands.
        workers: hands out what runs are handed to, if there are any to do; by default one in this
            process.

    Returns:
        How it stood in the end; ``failed`` has the runs that failed, if there are any.

    Raises:
        SpecError: if the sweep or one of its rows is wrong; nothing was run then.
        SweepBusy: if another driver is at work on it.
        DiskFull, OutputError: if results can't be written.
        NotebookError: if one kernel after another dies.
        Cancelled: if somebody cancelled it from elsewhere.
    """
    spec, book, runs = prepare_sweep(spec)
    part = part or Share()
    folder = SweepFolder(spec.name)
    with lock.hold_lock(folder.root, part, timestamp()) as holder:
        path = folder.prepare(book, runs)
        folder.tidy(part)
        mine = [run for run in runs if run.id in part]
        todo = [run for run in mine if again or not folder.is_done(run.id, run.expected)]
        # Those that failed last time come last: were they to end it again, the others are done.
        todo.sort(key=lambda run: bool(folder.failure(run.id)))
        shown = Progress(spec.name, len(mine), len(mine) - len(todo), len(todo), 1)
        if not todo:
            return shown
        driver = _Driver(spec, book, path, folder, holder, shown, view or (lambda progress: None))
        try:
            with workers or contextlib.nullcontext([SweepWorker()]) as hands:
                shown.workers = len(hands)
                driver.drive(deque(todo), list(hands), fail_fast)
        finally:
            folder.tidy(part)
    return shown


def prepare_sweep(
    spec: SweepSpec | dict | str | Path,
) -> tuple[SweepSpec, NotebookTemplate, list[SweepRun]]:
    """A sweep, its notebook, and all of its runs, checked.

    Raises:
        SpecError: if something of it is wrong.
    """
    if isinstance(spec, dict):
        spec = make_spec(spec, Path.cwd(), "sweep")
    elif not isinstance(spec, SweepSpec):
        spec = read_spec(spec)
    book = notebook.read_template(spec.notebook, spec.folder)
    return spec, book, plan_runs(spec, book)


class _Driver:
    """Hands runs to workers, and puts away what comes back."""

    def __init__(
        self,
        spec: SweepSpec,
        book: NotebookTemplate,
        notebook: Path,
        folder: SweepFolder,
        holder: Holder,
        shown: Progress,
        view: View,
    ) -> None:
        self._spec, self._book, self._notebook = spec, book, notebook
        self._folder, self._holder = folder, holder
        self._shown, self._view = shown, view
        self._attempts: dict[str, int] = {}
        self._deaths = CrashLog()

    def drive(self, todo: deque[SweepRun], workers: list[SweepWorker], fail_fast: bool) -> None:
        """Until all runs are done or failed, or the first failed if that is enough."""
        threads = [ThreadPoolExecutor(1, thread_name_prefix="cogvx sweep") for _ in workers]
        pending: dict[Future[RunOutcome], tuple[int, SweepRun, Path]] = {}
        there, enough = set(range(len(workers))), False
        try:
            while pending or (todo and not enough):
                busy = {number for number, _, _ in pending.values()}
                for number, run in [] if enough else self._pairs(todo, there, busy):
                    task, work = self._task(run)
                    pending[threads[number].submit(workers[number].run, task)] = number, run, work
                    self._shown.running[number] = (run, time.monotonic())
                for future in wait(pending, TICK, FIRST_COMPLETED).done:
                    number, run, work = pending.pop(future)
                    del self._shown.running[number]
                    outcome = future.result()
                    if outcome.no_place:
                        there.discard(number)
                        again = self._give_back(run, work, outcome, there)
                    else:
                        self._deaths.note(number, run.id, outcome.kernel_died)
                        again = self._take_back(run, work, outcome)
                    todo.extendleft([run] if again else [])
                    enough |= fail_fast and bool(self._shown.failed)
                self._show(len(todo), there)
                if lock.is_asked_to_stop(self._folder.root, self._holder):
                    raise Cancelled(f"sweep {self._spec.name} was cancelled; start it to go on")
        finally:
            _stop_workers(workers, threads, pending)

    def _pairs(
        self, todo: deque[SweepRun], there: set[int], busy: set[int]
    ) -> list[tuple[int, SweepRun]]:
        """(worker, run) for each idle worker that there is a run for; those are no longer to do."""
        working, found = self._deaths.working(there), []
        for number in sorted(working - busy):
            may = (run for run in todo if self._deaths.may_try(run.id, number, working))
            run = next(may, None)
            if run is not None:
                todo.remove(run)
                found.append((number, run))
        return found

    def _show(self, waiting: int, there: set[int]) -> None:
        working = len(self._deaths.working(there))
        if working < self._shown.workers:
            self._shown.note += "; a worker gets no more runs"
        self._shown.waiting, self._shown.workers = waiting, working
        self._view(self._shown)

    def _task(self, run: SweepRun) -> tuple[RunTask, Path]:
        """(an attempt at a run, the folder that it works in)."""
        attempt = self._attempts[run.id] = self._attempts.get(run.id, 0) + 1
        work = self._folder.workspace(run.id, attempt)
        task = RunTask(
            self._notebook,
            work / NOTEBOOK,
            run.parameters,
            str(self._book.path.parent),
            PIPELINE_MODULE if self._book.makes_video else "",
            self._spec.timeout,
        )
        return task, work

    def _give_back(self, run: SweepRun, work: Path, outcome: RunOutcome, there: set[int]) -> bool:
        """Forget that a run was handed out, for its worker is gone; it should be again."""
        self._folder.drop(work)
        self._attempts[run.id] -= 1
        self._shown.note = outcome.error
        if not there:
            raise NotebookError(f"{outcome.error}: no worker is left; start again when there is")
        return True

    def _take_back(self, run: SweepRun, work: Path, outcome: RunOutcome) -> bool:
        """Put away what an attempt left; whether there should be another."""
        if outcome.disk_full:
            raise DiskFull(f"the disk is full ({outcome.error}): make room, and start again")
        attempt, error = self._attempts[run.id], outcome.error
        kept = {
            "notebook": self._book.path.name,
            "code_sha256": self._book.code_hash,
            "attempts": attempt,
            "seconds": round(outcome.seconds, 3),
            "ended": timestamp(),
        }
        if not error:
            try:
                self._folder.publish(run, work, kept)
            except ResultError as wrong:
                error = str(wrong)
        if not error:
            self._shown.done += 1
            self._shown.seconds.append(outcome.seconds)
            self._shown.note = f"{run.id} done in {outcome.seconds:.1f} s"
            return False
        # A kernel that was killed is seldom the run's fault: it gets another attempt in any case.
        allowed = 1 + max(self._spec.retries, int(outcome.kernel_died))
        if attempt < allowed:
            self._folder.drop(work)
            self._shown.note = f"{run.id} failed, trying again: {error}"
            return True
        home = self._folder.keep_failure(run, work, kept | {"error": error}, outcome.traceback)
        self._shown.failed[run.id] = error
        self._shown.note = f"{run.id} failed: {error} (kept in {home})"
        if self._deaths.in_a_row >= MAX_CRASHES_IN_A_ROW:
            raise NotebookError(
                f"{MAX_CRASHES_IN_A_ROW} runs one after another had their kernel die: see whether memory "
                "ran out (dmesg), mend it, and start again"
            )
        return False


def _stop_workers(
    workers: list[SweepWorker], threads: list[ThreadPoolExecutor], pending: dict
) -> None:
    """End the workers; runs that are still under way are dropped."""
    while pending:
        for number, _, _ in pending.values():
            workers[number].stop()
        for future in wait(pending, TICK).done:
            del pending[future]
    for worker, thread in zip(workers, threads, strict=True):
        with contextlib.suppress(Exception):
            thread.submit(worker.close).result()
        thread.shutdown()
