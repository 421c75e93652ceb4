"""A file that grows: hashed and brought to the disk while it is fetched."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from . import hashes

SYNCED = 2**27
"""Bytes after which what has come is brought to the disk, so that little is left for the end."""

PAUSE = 0.1
"""Seconds between looks at the file."""


class Follower:
    """Follows a file from a thread of its own, while a client writes it.

    Args:
        find: where the client writes it now, or None.
        hashing: whether to hash it too. A file that is not written from front to back has another
            hash in the end than it seems; whoever compares it must then hash it anew.
    """

    def __init__(self, find: Callable[[], Path | None], hashing: bool) -> None:
        self._find, self._hash = find, hashes.Growing() if hashing else None
        self._synced, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def finish(self, path: Path) -> str:
        """Bring the whole file to the disk; its SHA-256 as it seems, or empty."""
        to_disk(path)
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
            to_disk(path)
            self._synced = size


def to_disk(path: Path) -> None:
    """Wait until a file would survive a power loss."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
