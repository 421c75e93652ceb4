"""What is being checked, while it is: a check takes many seconds on a busy machine."""

from __future__ import annotations

import time

from ..live_line import LiveLine


class CheckProgress:
    """Shows what is being checked, in a terminal or a notebook; a ``watch`` in a ``with``."""

    def __init__(self) -> None:
        self._line, self._what, self._begun = LiveLine(self._status), "", time.monotonic()

    def __enter__(self) -> CheckProgress:
        self._line.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._line.__exit__(*exception)

    def __call__(self, what: str) -> None:
        self._what = what
        self._line.redraw(now=True)

    def _status(self) -> str:
        return f"{time.monotonic() - self._begun:3.0f} s  checking {self._what or 'this machine'}"
