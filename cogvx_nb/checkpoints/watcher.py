"""Sync and hash a file while a hub's client writes it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from ..files import fsync
from ..hashing import IncrementalHash

SYNCED = 2**27
"""Bytes between syncs of a growing file, so that little is left to sync at its end."""

PAUSE = 0.1
"""Seconds between polls of the file."""


class DownloadWatcher:
    """Syncs and hashes a file in a thread while a client writes it.

    Args:
        find: returns the path that the client writes to now, or None.
        hashing: whether to hash it too. The hash is wrong if the file isn't written from front to
            back; callers that find it different must hash the finished file.
    """

    def __init__(self, find: Callable[[], Path | None], hashing: bool) -> None:
        self._find, self._hash = find, IncrementalHash() if hashing else None
        self._synced, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> DownloadWatcher:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def finish(self, path: Path) -> str:
        """Sync the finished file; returns the SHA-256 of what was read, empty without hashing."""
        fsync(path)
        if self._hash is None:
            return ""
        self._hash.advance(path)
        return self._hash.hexdigest()

    def _run(self) -> None:
        while not self._ended.wait(PAUSE):
            try:
                if path := self._find():
                    self._catch_up(path)
            except OSError:
                continue  # moved or deleted just now

    def _catch_up(self, path: Path) -> None:
        if self._hash is not None:
            self._hash.advance(path)
        size = path.stat().st_size
        if size - self._synced >= SYNCED:
            fsync(path)
            self._synced = size
