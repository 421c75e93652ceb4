"""Why a notebook failed, in one line: the same for ``cogvx run``, sweeps and the engine."""

from __future__ import annotations

import itertools
import re
import traceback
from dataclasses import dataclass, field

from .. import errors
from ..files import is_disk_full
from ..text import plain_line

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""ANSI colours, which IPython puts into tracebacks."""

NO_START = ("Kernel died before replying", "Kernel didn't respond")
"""Beginnings of the messages of jupyter_client about a kernel that doesn't start."""

INJECTED = "injected-parameters"
"""Tag of the cell that papermill inserts."""

SKIPPED = "skip-execution"
"""Tag of cells that nbclient doesn't run."""

EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class NotebookFailure:
    """Why papermill failed to execute a notebook."""

    message: str  # one of ours as it is, others with the name of their class
    exit_code: int = 1
    traceback: str = field(default="", repr=False)  # without colours
    kernel_died: bool = False
    disk_full: bool = False  # whether this process found it full; a cell can say anything


def explain_failure(error: Exception, timeout: float | None = None) -> NotebookFailure:
    """Explain an exception of ``papermill.execute_notebook``.

    An error of a cell comes as text: class, message and traceback. Where the class is one of
    ``cogvx_nb.errors``, message and exit code are those that the command would give.

    Args:
        timeout: seconds that the notebook was given, for the message.
    """
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        return _explain_cell_error(error)
    if isinstance(error, CellTimeoutError):
        limit = f" after {timeout:g} s" if timeout else " in time"
        return NotebookFailure(f"no end{limit}", traceback=str(error))
    if isinstance(error, DeadKernelError):
        text = _one_line(error)
        message = text if text.startswith("the kernel") else "the kernel died"
        return NotebookFailure(message, traceback=str(error), kernel_died=True)
    if isinstance(error, RuntimeError) and str(error).startswith(NO_START):
        message = f"the kernel didn't start ({_one_line(error)}): 'jupyter kernelspec list' has it"
        return NotebookFailure(message, traceback=str(error), kernel_died=True)
    own = isinstance(error, errors.CogvxError)
    return NotebookFailure(
        message=_one_line(error) if own else f"{type(error).__name__}: {_one_line(error)}",
        exit_code=error.exit_code if own else 1,
        traceback="".join(traceback.format_exception(error)),
        disk_full=is_disk_full(error),
    )


def _explain_cell_error(error) -> NotebookFailure:
    kind = getattr(errors, str(error.ename), None)
    # One of ours renders itself as a line; a class of the notebook's may have the same name.
    ours = isinstance(kind, type) and issubclass(kind, errors.CogvxError)
    known = ours and len(error.traceback) == 1
    text, exit_code = _one_line(error.evalue), kind.exit_code if known else 1
    message = text if known else f"{error.ename}: {text}" if text else str(error.ename)
    if error.ename == "KeyboardInterrupt":
        message, exit_code = "interrupted", EXIT_INTERRUPTED
    return NotebookFailure(
        message=message,
        exit_code=exit_code,
        traceback=COLOURS.sub("", "\n".join(error.traceback)),
    )


def end_at_exit(cell, cell_index: int, execute_reply: dict) -> None:
    """End a notebook at a cell that calls ``exit()``: a hook for nbclient's ``on_cell_executed``.

    The kernel ends a moment later; how many cells it would still run is chance.
    """
    import nbformat
    from nbclient.exceptions import CellExecutionError

    payload = execute_reply["content"].get("payload", ())
    if any(each.get("source") == "ask_exit" for each in payload):
        cell.outputs.append(nbformat.v4.new_output("error", ename="SystemExit", evalue="0"))
        raise CellExecutionError("", "SystemExit", "0")


def explain_early_end(notebook) -> str:
    """Where a run ended before its last cell, without an error; empty if it didn't.

    ``exit()`` and ``sys.exit(0)`` end a notebook so.

    Args:
        notebook: as papermill returns it.
    """
    own = [cell for cell in notebook.cells if not _has_tag(cell, INJECTED)]
    code = [
        (number, cell.get("execution_count"))
        for number, cell in enumerate(own, 1)
        if cell.cell_type == "code" and cell.source.strip() and not _has_tag(cell, SKIPPED)
    ]
    left = list(itertools.takewhile(lambda each: each[1] is None, reversed(code)))
    if not left or len(left) == len(code):
        return ""
    cells = "a cell after it was" if len(left) == 1 else f"{len(left)} cells after it were"
    return f"ended early in cell {code[-len(left) - 1][0]}: {cells} not run"


def _has_tag(cell, tag: str) -> bool:
    return tag in cell.metadata.get("tags", ())


def _one_line(error: object) -> str:
    return plain_line(" ".join(COLOURS.sub("", str(error)).split()))
