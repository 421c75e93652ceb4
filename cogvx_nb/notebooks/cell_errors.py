"""What a cell shows where it is interrupted, or ends "run all" on purpose.

Errors of ``cogvx_nb.errors`` show themselves as one line.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import FrameType, TracebackType

from ..errors import error_line

PACKAGE = str(Path(__file__).resolve().parent.parent)


class CellEnded(Exception):
    """Ends "run all", which only an exception can; nothing of it is shown."""


def install() -> None:
    """Install the handler in this process's IPython shell, if it runs in one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython and hasattr(ipython, "get_ipython") else None
    if shell is not None:
        shell.set_custom_exc((CellEnded, KeyboardInterrupt), _show)


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(PACKAGE)


def _show(shell, kind, error, trace: TracebackType | None, tb_offset=None) -> list[str]:
    """IPython's handler of these exceptions; it shows what is to be shown itself."""
    if issubclass(kind, CellEnded):
        return []
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace  # for %tb
    if any(_is_ours(frame) for frame, _ in traceback.walk_tb(trace)):
        lines = [error_line(kind.__name__, "cancelled; nothing half-written was left")]
    else:
        lines = shell.InteractiveTB.structured_traceback(kind, error, trace, tb_offset=tb_offset)
    shell._showtraceback(kind, error, lines)
    return lines
