"""Execute one run of a sweep through papermill, in a kernel that is kept for the next."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from ..notebooks import notebook
from ..notebooks.failure import COLOURS, explain_early_end, explain_failure
from ..text import plain_line
from .workplace import has_room

MAX_ERROR = 500
"""Characters of an error's line; the traceback has all of it."""


@dataclass(frozen=True, slots=True)
class RunTask:
    """A notebook to execute."""

    notebook: Path
    output: Path  # the executed copy; its folder is the notebook's current directory
    parameters: dict[str, object] = field(repr=False)
    import_from: str = ""  # a further folder to import modules from
    preload: str = ""  # a module that a new kernel imports before its first notebook
    timeout: float | None = None  # seconds for the whole notebook; None for no limit
    disk_bytes: int = 0  # predicted; a run that fails where they don't fit has filled the disk
    inputs: tuple[str, ...] = ()  # its pictures and clips, see ``GivenFiles``


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a task ended."""

    seconds: float
    error: str = ""  # why it failed, in one line; empty where it succeeded
    traceback: str = ""
    kernel_died: bool = False  # also where its worker or node was lost
    disk_full: bool = False
    ended_early: str = ""  # where its notebook ended, if cells after that were not run
    no_place: bool = False  # the task was never started: its worker found no node to run on


class SweepWorker:
    """Executes tasks one after another in a kernel of this process.

    ``execute`` and ``close`` belong to one thread; ``stop`` can be called from any.

    Args:
        slot: distinguishes its kernel from those of other workers.
    """

    def __init__(self, slot: str = "1") -> None:
        self._slot = slot
        self.status = ""  # the line of progress that the running notebook shows; any thread's

    def execute(self, task: RunTask) -> RunOutcome:
        """Execute a task. Failures are returned, not raised."""
        start, self.status = time.perf_counter(), ""
        try:
            executed = self._execute_notebook(task)
        except Exception as error:  # the sweep must outlive whatever a run does
            failure = explain_failure(error, task.timeout)
            return RunOutcome(
                seconds=time.perf_counter() - start,
                error=_error_line(failure.message),
                traceback=failure.traceback,
                kernel_died=failure.kernel_died,
                disk_full=failure.disk_full or not has_room(task.output.parent, task.disk_bytes),
            )
        seconds = time.perf_counter() - start
        return RunOutcome(seconds, ended_early=explain_early_end(executed))

    def stop(self) -> None:
        """End the kernel now; a task that is running fails."""
        from ..notebooks import warm_engine

        warm_engine.kill_kernel(self._slot)

    def close(self) -> None:
        """End the kernel."""
        from ..notebooks import warm_engine

        warm_engine.close_kernels(self._slot)

    def _execute_notebook(self, task: RunTask):
        import papermill

        from ..notebooks import warm_engine

        warm_engine.register_engine()
        return papermill.execute_notebook(
            notebook.escape_path(task.notebook),
            notebook.escape_path(task.output),
            parameters=task.parameters,
            engine_name=warm_engine.NAME,
            progress_bar=False,
            slot=self._slot,
            folder=str(task.output.parent),
            import_from=task.import_from,
            preload=task.preload,
            run_timeout=task.timeout,
            on_status=self._show_status,
        )

    def _show_status(self, line: str) -> None:
        self.status = plain_line(" ".join(line.split()))


def _error_line(text: str) -> str:
    """Text as one line, without anything that a terminal would obey."""
    return plain_line(" ".join(COLOURS.sub("", text).split()))[:MAX_ERROR]
