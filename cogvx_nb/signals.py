"""Ctrl-C and SIGTERM as exceptions, none of which is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

SECONDS = 0.05
"""Until a signal that was lost comes again: by then its exception is done with."""


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Within this, SIGTERM is a SystemExit of 143, as Ctrl-C is a KeyboardInterrupt.

    Python drops an exception that a finalizer ends with, so a signal that came during one would
    have no effect (docs.python.org, object.__del__): it is sent again. For the main thread.
    """
    term, hook = signal.signal(signal.SIGTERM, _end), sys.unraisablehook

    def again(dropped) -> None:
        lost = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}.get(dropped.exc_type)
        if lost is None:
            hook(dropped)
        else:
            threading.Timer(SECONDS, os.kill, (os.getpid(), lost)).start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, term)


def _end(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)
