"""Hashes of files, on all cores: hashlib lets go of Python's lock while it works."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BLOCK = 4 * 2**20
"""Bytes read at once; with 4 MiB two threads hash at the speed of two cores."""

OnBytes = Callable[[Path, int], None]
"""Called with a file and how many more of its bytes were hashed, from several threads."""


def sha256(path: Path, on_bytes: OnBytes | None = None) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return _hash(hashlib.sha256(), path, on_bytes)


class Growing:
    """SHA-256 of a file that grows, from what has come so far."""

    def __init__(self) -> None:
        self._digest, self._count = hashlib.sha256(), 0

    def advance(self, path: Path) -> None:
        """Take in what has come since the last time."""
        with path.open("rb", buffering=0) as file:
            file.seek(self._count)
            self._count += _take_in(self._digest, file, lambda count: None)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def git_blob(path: Path) -> str:
    """The id that git gives a file's content: SHA-1 of a header and the content."""
    return _hash(hashlib.sha1(b"blob %d\0" % path.stat().st_size), path, None)


def sha256_all(paths: Iterable[Path], on_bytes: OnBytes | None = None) -> dict[Path, str]:
    """SHA-256 of many files at once, the largest first so that no core idles at the end."""
    ordered = sorted(paths, key=lambda path: path.stat().st_size, reverse=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(
            zip(ordered, pool.map(lambda path: sha256(path, on_bytes), ordered), strict=True)
        )


def _hash(digest, path: Path, on_bytes: OnBytes | None) -> str:
    with path.open("rb", buffering=0) as file:
        _take_in(digest, file, lambda count: on_bytes and on_bytes(path, count))
    return digest.hexdigest()


def _take_in(digest, file, on_bytes: Callable[[int], object]) -> int:
    """Feed the rest of a file to a digest; how many bytes that were."""
    block, total = memoryview(bytearray(BLOCK)), 0
    while count := file.readinto(block):
        digest.update(block[:count])
        on_bytes(count)
        total += count
    return total
