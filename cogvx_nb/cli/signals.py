"""Signals and errors that come where nobody can catch them: in finalizers, threads, and at exit."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from ..text import error_line, print_error

RESEND_SECONDS = 0.05
"""Delay before a lost signal is sent again: by then its exception has been handled."""

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that end the command as Ctrl-C does; SIGHUP comes when its terminal is closed."""


@contextlib.contextmanager
def handle_signals(debug: bool = False) -> Iterator[None]:
    """Raise SystemExit on SIGTERM and SIGHUP, and KeyboardInterrupt on Ctrl-C. Main thread only.

    Signals that the caller ignores, as ``nohup`` does, stay ignored. Python discards exceptions of
    finalizers, so a signal that arrives during one would have no effect (docs.python.org,
    object.__del__): it is sent again.

    Args:
        debug: show the traceback of an error in a finalizer or thread; else it is one line.
    """
    hooks = sys.unraisablehook, threading.excepthook

    def resend(dropped) -> None:
        lost = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}.get(dropped.exc_type)
        if lost is not None:
            threading.Timer(RESEND_SECONDS, os.kill, (os.getpid(), lost)).start()
        elif debug:
            hooks[0](dropped)

    def report(failed) -> None:
        if debug:
            hooks[1](failed)
        elif failed.exc_type is not SystemExit:
            print_error(f"cogvx: in a thread: {error_line(failed.exc_value)}")

    handlers = dict.fromkeys(ENDING, _exit_on_signal)
    handlers[signal.SIGINT] = signal.default_int_handler
    before = {number: signal.getsignal(number) for number in handlers}
    try:
        sys.unraisablehook, threading.excepthook = resend, report
        for number, handler in handlers.items():
            if before[number] not in (signal.SIG_IGN, None):
                signal.signal(number, handler)
        yield
    finally:
        sys.unraisablehook, threading.excepthook = hooks
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _exit_on_signal(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)
