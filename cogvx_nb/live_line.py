"""A line that replaces itself while work goes on, in a terminal or a notebook, and lines that stay.

Where neither can be seen, the line is printed now and then. Loads nothing but the standard library,
since ``cogvx check`` runs where no package is installed.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable

from .text import cut_line, format_duration, print_error

QUIET_SECONDS = 30
"""Seconds between lines about work, where no line can be replaced."""

REDRAW_SECONDS = 0.5
"""Seconds between looks in a terminal while nothing happens."""

LEAST_SECONDS = 0.15
"""Seconds between two replacements, so that they take no time from the work."""

BAR_COLUMNS = 24

CLEAR_LINE = "\r\x1b[K"


class LiveLine:
    """Shows work in a ``with`` statement.

    Args:
        status: makes the line that is replaced; called in any thread, one call at a time.
    """

    def __init__(self, status: Callable[[], str]) -> None:
        self._status = status
        self._kept: list[str] = []  # what stays, in a notebook
        self._drawn = 0.0  # time at which the line was shown
        self._lock, self._over = threading.RLock(), threading.Event()
        self._notebook = notebook_line() if in_notebook() else None
        self.live = self._notebook is None and sys.stderr.isatty()  # a terminal

    @property
    def in_notebook(self) -> bool:
        return self._notebook is not None

    def __enter__(self) -> LiveLine:
        if self._notebook is None:
            threading.Thread(target=self._look_again, name="cogvx progress", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        with self._lock:
            self._draw("")

    def redraw(self, now: bool = False) -> None:
        """Show the line as it is now, where it can be replaced.

        Args:
            now: even if it was replaced just before.
        """
        with self._lock:
            if now or time.monotonic() - self._drawn > LEAST_SECONDS:
                self._draw(self._status())

    def keep(self, line: str) -> None:
        """Show a line that stays."""
        with self._lock:
            self._kept.append(line)
            if self._notebook is None:
                print_error(f"{CLEAR_LINE if self.live else ''}{line}")
            self._draw(self._status())

    def _draw(self, status: str) -> None:
        self._drawn = time.monotonic()
        if self._over.is_set():
            status = ""
        if self._notebook is not None:
            lines = "\n".join([*self._kept, *filter(None, [status])])
            self._notebook.update({"text/plain": lines}, raw=True)
        elif self.live:
            line = cut_line(status, shutil.get_terminal_size().columns - 1)
            print(f"{CLEAR_LINE}{line}", end="", file=sys.stderr, flush=True)

    def _look_again(self) -> None:
        while not self._over.wait(REDRAW_SECONDS if self.live else QUIET_SECONDS):
            with self._lock:
                if self._over.is_set():
                    return
                if self.live:
                    self._draw(self._status())
                else:
                    print_error(self._status())


def bar_line(title: str, share: float, seconds_left: float | None) -> str:
    """A title, a bar of the share done, the share and the time left, in a line."""
    full = round(share * BAR_COLUMNS)
    bar = "█" * full + "░" * (BAR_COLUMNS - full)
    left = f", about {format_duration(seconds_left)} left" if seconds_left is not None else ""
    return f"{title:16} {bar} {share:4.0%}{left}"


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def notebook_line():
    """A display in a notebook's output that can be updated."""
    from IPython.display import display

    return display({"text/plain": "starting"}, raw=True, display_id=True)
