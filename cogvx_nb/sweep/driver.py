"""Execute the runs of a sweep: resumable, each run once, results whole or not at all."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path

from .. import leftovers, settings
from ..errors import Cancelled, DiskFull, NotebookError, OutputError, ResultError
from ..notebooks.template import NotebookTemplate, read_template
from ..text import cut_line, plain_line, print_error
from . import lock
from .crashes import CrashLog
from .folder import SweepFolder, timestamp
from .lock import Holder, Share
from .progress import Progress, View, predicted_seconds
from .runs import SweepRun, plan_runs
from .spec import SweepSpec, make_spec, read_spec
from .worker import RunOutcome, RunTask, SweepWorker
from .workplace import NOTEBOOK, find_harm

TICK = 0.25
"""Seconds between updates of the view, and between checks for a cancellation."""

PIPELINE_MODULE = "cogvx_nb.pipeline.loader"
"""Imports torch and diffusers; kernels that make videos import it before their first notebook."""

MAX_CRASHES_IN_A_ROW = 10
"""Runs that may crash one after another before the machine is blamed, not the runs."""

MOST_NOTES, NOTE_COLUMNS = 8, 300
"""Notes on requests that are printed, and columns of each."""


def run_sweep(
    spec: SweepSpec | dict | str | Path,
    *,
    again: bool = False,
    fail_fast: bool = False,
    part: Share | None = None,
    view: View | None = None,
    workers: Callable[[int], AbstractContextManager[Sequence[SweepWorker]]] | None = None,
) -> Progress:
    """Execute those runs of a sweep that aren't done yet.

    All runs are checked before the first one starts.

    Args:
        spec: a sweep, the content of its file, or the path of the file.
        again: execute all runs again; each keeps its result until the new one replaces it.
        fail_fast: stop at the first run that fails.
        part: execute only a share of the runs.
        view: called with the progress at each change, and each ``TICK``.
        workers: yields those for so many runs, if any is left; by default one in this process.

    Returns:
        The progress at the end; ``failed`` has the runs that failed.

    Raises:
        SpecError: if the sweep or one of its rows is wrong; nothing was run then.
        SweepBusy: if another driver is executing it.
        DiskFull, OutputError: if results can't be written.
        NotebookError: if one kernel after another crashes, or no worker is left.
        Cancelled: if another process cancelled it.
    """
    leftovers.begin(settings.outputs_dir())
    (spec, book, runs), part = prepare_sweep(spec), part or Share()
    folder = SweepFolder(spec.name)
    with lock.hold_lock(folder.root, part, timestamp()) as holder:
        path = folder.prepare(book, runs)
        folder.clean_up(part)
        shared = [run for run in runs if run.id in part]
        todo = [run for run in shared if again or not folder.is_done(run.id, run.expected)]
        # Runs that failed last time come last: if they end the sweep again, the others are done.
        todo.sort(key=lambda run: bool(folder.failure_line(run.id)))
        progress = Progress(spec.name, len(shared), len(shared) - len(todo), len(todo), 1)
        if not todo:
            return progress
        view = view or (lambda _: None)
        driver = _Driver(spec, book, path, folder, part, holder, progress, view)
        try:
            hire = workers or (lambda runs: contextlib.nullcontext([SweepWorker()]))
            with hire(len(todo)) as hands:
                progress.workers = len(hands)
                driver.execute_runs(deque(todo), list(hands), fail_fast)
            folder.restore()
        finally:
            folder.clean_up(part)
    return progress


def prepare_sweep(
    spec: SweepSpec | dict | str | Path,
) -> tuple[SweepSpec, NotebookTemplate, list[SweepRun]]:
    """Read and check a sweep: (spec, notebook, runs).

    Raises:
        SpecError: if something in it is wrong.
    """
    if not isinstance(spec, SweepSpec):
        spec = make_spec(spec, Path.cwd(), "sweep") if isinstance(spec, dict) else read_spec(spec)
    book = read_template(spec.notebook, spec.folder)
    runs = plan_runs(spec, book)
    book.print_notes({name for run in runs for name in run.parameters})
    _print_notes(spec, runs)
    return spec, book, runs


def _print_notes(spec: SweepSpec, runs: list[SweepRun]) -> None:
    """Print what the user should know of a sweep and of its runs' requests, each note once."""
    for note in spec.notes:
        print_error(f"cogvx: {plain_line(note)}")
    counts = Counter(note for run in runs for note in run.notes)
    for note, count in counts.most_common(MOST_NOTES):
        print_error(f"cogvx: {cut_line(note, NOTE_COLUMNS)} ({count} of {len(runs)} runs)")
    if len(counts) > MOST_NOTES:
        print_error(f"cogvx: {len(counts) - MOST_NOTES} more such notes; each is with its video")


class _Driver:
    """Hands runs to workers, and publishes what they return."""

    def __init__(
        self,
        spec: SweepSpec,
        book: NotebookTemplate,
        notebook: Path,
        folder: SweepFolder,
        part: Share,
        holder: Holder,
        progress: Progress,
        view: View,
    ) -> None:
        self._spec, self._book, self._notebook = spec, book, notebook
        self._folder, self._part, self._holder = folder, part, holder
        self._progress, self._view = progress, view
        self._attempts: dict[str, int] = {}
        self._crashes = CrashLog()

    def execute_runs(
        self, todo: deque[SweepRun], workers: list[SweepWorker], fail_fast: bool
    ) -> None:
        """Execute runs until all are done or failed, or with ``fail_fast`` until one failed."""
        threads = [ThreadPoolExecutor(1, thread_name_prefix="cogvx sweep") for _ in workers]
        pending: dict[Future[RunOutcome], tuple[int, SweepRun, Path]] = {}
        available, stopping = set(range(len(workers))), False
        try:
            while pending or (todo and not stopping):
                busy = {number for number, _, _ in pending.values()}
                for number, run in [] if stopping else self._assign_runs(todo, available, busy):
                    task, work = self._make_task(run)
                    future = threads[number].submit(workers[number].execute, task)
                    pending[future] = number, run, work
                    self._progress.running[number] = (run, time.monotonic())
                for future in wait(pending, TICK, FIRST_COMPLETED).done:
                    number, run, work = pending.pop(future)
                    del self._progress.running[number]
                    outcome = future.result()
                    if outcome.no_place:
                        available.discard(number)
                        repeat = self._return_run(run, work, outcome, available)
                    else:
                        self._crashes.record_end(number, run.id, outcome.kernel_died)
                        repeat = self._store_outcome(run, work, outcome)
                    todo.extendleft([run] if repeat else [])
                    stopping |= fail_fast and bool(self._progress.failed)
                self._update_view(todo, workers, available)
                if lock.is_asked_to_stop(self._folder.root, self._holder):
                    raise Cancelled(f"sweep {self._spec.name} was cancelled; start it to go on")
        finally:
            _stop_workers(workers, threads, pending)

    def _assign_runs(
        self, todo: deque[SweepRun], available: set[int], busy: set[int]
    ) -> list[tuple[int, SweepRun]]:
        """(worker, run) for each idle worker that may take one; those runs leave ``todo``."""
        healthy, assigned = self._crashes.healthy(available), []
        for number in sorted(healthy - busy):
            allowed = (run for run in todo if self._crashes.may_run_on(run.id, number, healthy))
            run = next(allowed, None)
            if run is not None:
                todo.remove(run)
                assigned.append((number, run))
        return assigned

    def _update_view(
        self, todo: Collection[SweepRun], workers: list[SweepWorker], available: set[int]
    ) -> None:
        healthy = len(self._crashes.healthy(available))
        if healthy < self._progress.workers:
            self._progress.note += "; a worker gets no more runs"
        if self._progress.waiting != len(todo) or self._progress.waiting_seconds is None:
            self._progress.waiting_seconds = predicted_seconds(todo)
        self._progress.workers, self._progress.waiting = healthy, len(todo)
        self._progress.status = {
            number: workers[number].status for number in self._progress.running
        }
        self._view(self._progress)

    def _make_task(self, run: SweepRun) -> tuple[RunTask, Path]:
        """(an attempt at a run, the folder that it works in)."""
        self._folder.restore()
        lock.renew_lock(self._folder.root, self._part, self._holder)
        attempt = self._attempts[run.id] = self._attempts.get(run.id, 0) + 1
        work = self._folder.workspace(run.id, attempt)
        task = RunTask(
            self._notebook,
            work / NOTEBOOK,
            run.parameters,
            str(self._book.path.parent),
            PIPELINE_MODULE if self._book.makes_video else "",
            self._spec.timeout,
            run.disk_bytes,
            tuple(run.inputs.values()),
        )
        return task, work

    def _return_run(
        self, run: SweepRun, work: Path, outcome: RunOutcome, available: set[int]
    ) -> bool:
        """Undo the assignment of a run that its worker never started; it is to be repeated."""
        self._folder.discard(work)
        self._attempts[run.id] -= 1
        self._progress.note = outcome.error
        if not available:
            raise NotebookError(f"{outcome.error}: no worker is left; start again when there is")
        return True

    def _publish(self, run: SweepRun, work: Path, record: dict, outcome: RunOutcome) -> str:
        """Publish an attempt; returns why that can't be done, empty if it was.

        Raises:
            DiskFull: if there is no room for it.
        """
        early = outcome.ended_early
        if early and run.expected is None:
            return early
        try:
            self._folder.publish(run, work, record)
        except DiskFull:
            raise
        except (ResultError, OutputError) as error:  # of this run's files
            return f"{error} ({early})" if early else str(error)
        return ""

    def _store_outcome(self, run: SweepRun, work: Path, outcome: RunOutcome) -> bool:
        """Publish an attempt, or keep it as failed; returns whether to repeat the run instead."""
        if outcome.disk_full:
            raise DiskFull(f"the disk is full ({outcome.error}): make room, and start again")
        attempt = self._attempts[run.id]
        record = {
            "notebook": self._book.path.name,
            "code_sha256": self._book.code_hash,
            "attempts": attempt,
            "seconds": round(outcome.seconds, 3),
            "ended": timestamp(),
        }
        error = find_harm(work) or outcome.error or self._publish(run, work, record, outcome)
        if not error:
            self._progress.done += 1
            self._progress.seconds.append(outcome.seconds)
            if run.seconds:
                self._progress.slowdowns.append(outcome.seconds / run.seconds)
            self._progress.note = f"{run.id} done in {outcome.seconds:.1f} s"
            return False
        # A killed kernel is seldom the run's fault: it gets a second attempt in any case.
        allowed = 1 + max(self._spec.retries, int(outcome.kernel_died))
        if attempt < allowed:
            self._folder.discard(work)
            self._progress.note = f"{run.id} failed, trying again: {error}"
            return True
        home = self._folder.keep_failure(run, work, record | {"error": error}, outcome.traceback)
        self._progress.failed[run.id] = error
        self._progress.note = f"{run.id} failed: {error} (kept in {home})"
        if self._crashes.in_a_row >= MAX_CRASHES_IN_A_ROW:
            raise NotebookError(
                f"{MAX_CRASHES_IN_A_ROW} runs one after another had their kernel die: see whether "
                "memory ran out (dmesg), solve that, and start again"
            )
        return False


def _stop_workers(
    workers: list[SweepWorker], threads: list[ThreadPoolExecutor], pending: dict
) -> None:
    """Stop the workers; attempts in progress are dropped."""
    while pending:
        for number, _, _ in pending.values():
            workers[number].stop()
        for future in wait(pending, TICK).done:
            del pending[future]
    for worker, thread in zip(workers, threads, strict=True):
        with contextlib.suppress(Exception):
            thread.submit(worker.close).result()
        thread.shutdown()
