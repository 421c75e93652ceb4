"""One run, executed by papermill in a warm kernel. What a driver hands runs to."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from .. import errors
from ..notebooks import notebook

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

MOST_SHOWN = 500
"""Characters of an error in a line; the traceback has all of it."""


@dataclass(frozen=True, slots=True)
class RunTask:
    """A notebook to be executed.

    Attributes:
        notebook: its path.
        output: where the executed copy goes; its folder is the notebook's current one.
        parameters: by name.
        import_from: a further folder to import modules from.
        preload: a module that its kernel imports beforehand; none if empty.
        timeout: seconds for all of it; None for any.
    """

    notebook: Path
    output: Path
    parameters: dict[str, object] = field(repr=False)
    import_from: str = ""
    preload: str = ""
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a task ended.

    Attributes:
        seconds: that it took.
        error: why it failed, in a line; empty where it worked.
        traceback: of the failure.
        kernel_died: whether the kernel ended under it, or its worker or node failed it.
        disk_full: whether there was no room for what it wrote.
        no_place: whether it was never begun, its worker having no place to be at any more.
    """

    seconds: float
    error: str = ""
    traceback: str = ""
    kernel_died: bool = False
    disk_full: bool = False
    no_place: bool = False


class SweepWorker:
    """Executes tasks one after another in a kernel that it keeps; in this process.

    ``run`` and ``close`` are for one thread, ``stop`` is for any.

    Args:
        slot: tells its kernel from that of another worker.
    """

    def __init__(self, slot: str = "1") -> None:
        self._slot = slot

    def run(self, task: RunTask) -> RunOutcome:
        """Execute a task. Failures are told, not raised."""
        start = time.perf_counter()
        try:
            self._execute(task)
        except Exception as error:  # the sweep must outlive whatever a run does
            return _failed(error, time.perf_counter() - start, task)
        return RunOutcome(time.perf_counter() - start)

    def stop(self) -> None:
        """End the kernel now; a task that is running fails."""
        from ..notebooks import warm_engine

        warm_engine.kill_kernel(self._slot)

    def close(self) -> None:
        """End the kernel."""
        from ..notebooks import warm_engine

        warm_engine.close_kernels(self._slot)

    def _execute(self, task: RunTask) -> None:
        import papermill

        from ..notebooks import warm_engine

        warm_engine.register_engine()
        papermill.execute_notebook(
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
        )


def _failed(error: Exception, seconds: float, task: RunTask) -> RunOutcome:
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        kind = getattr(errors, error.ename, None)
        known = isinstance(kind, type) and issubclass(kind, errors.CogvxError)
        line = error.evalue if known else f"{error.ename}: {error.evalue}"
        full = error.ename == "DiskFull" or "No space left on device" in str(error.evalue)
        traceback = COLOURS.sub("", "\n".join(error.traceback))
        return RunOutcome(seconds, _line(line), traceback, disk_full=full)
    if isinstance(error, CellTimeoutError):
        return RunOutcome(seconds, f"no end after {task.timeout:g} s", str(error))
    if isinstance(error, DeadKernelError):
        return RunOutcome(seconds, "the kernel died", str(error), kernel_died=True)
    import errno
    import traceback as formatter

    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    text = "".join(formatter.format_exception(error))
    return RunOutcome(seconds, _line(f"{type(error).__name__}: {error}"), text, disk_full=full)


def _line(text: str) -> str:
    """Text in a line, without anything that a terminal would obey."""
    return " ".join(CONTROL.sub(" ", COLOURS.sub("", text)).split())[:MOST_SHOWN]
