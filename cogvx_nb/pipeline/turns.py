"""Turns of threads that launch work from one process."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator


class Turns:
    """A lock that threads get in the order in which they asked for it.

    Threads that launch work at once take Python's own lock from each other at each call of torch:
    four that launch a step of CogVideoX-5b then need more time than one after the other would.
    """

    def __init__(self) -> None:
        self._lock, self._taken = threading.Lock(), False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False

    @contextlib.contextmanager
    def given_up(self) -> Iterator[None]:
        """Within it others may have the lock that this thread has."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()
