"""Hashes of files, on all cores."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BLOCK = 4 * 2**20
"""Bytes per read; from 4 MiB on, hashing scales with the threads."""

OnBytes = Callable[[Path, int], None]
"""Called from several threads with a file and the number of bytes of it hashed since."""


def sha256(path: Path, on_bytes: OnBytes | None = None) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return _hash_file(hashlib.sha256(), path, on_bytes)


class IncrementalHash:
    """SHA-256 of a file that is still being written, computed as it grows."""

    def __init__(self) -> None:
        self._digest, self._count = hashlib.sha256(), 0

    def advance(self, path: Path) -> None:
        """Hash what was appended since the last call."""
        with path.open("rb", buffering=0) as file:
            file.seek(self._count)
            self._count += _feed(self._digest, file, lambda count: None)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def git_blob_hash(path: Path) -> str:
    """The id that git gives a file's content: SHA-1 of a header and the content."""
    return _hash_file(hashlib.sha1(b"blob %d\0" % path.stat().st_size), path, None)


def sha256_all(paths: Iterable[Path], on_bytes: OnBytes | None = None) -> dict[Path, str]:
    """SHA-256 of many files on all cores, the largest first so that no core idles at the end."""
    ordered = sorted(paths, key=lambda path: path.stat().st_size, reverse=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(
            zip(ordered, pool.map(lambda path: sha256(path, on_bytes), ordered), strict=True)
        )


def _hash_file(digest, path: Path, on_bytes: OnBytes | None) -> str:
    with path.open("rb", buffering=0) as file:
        _feed(digest, file, lambda count: on_bytes and on_bytes(path, count))
    return digest.hexdigest()


def _feed(digest, file, on_bytes: Callable[[int], object]) -> int:
    """Feed the rest of a file to a digest; returns the number of bytes."""
    block, total = memoryview(bytearray(BLOCK)), 0
    while count := file.readinto(block):
        digest.update(block[:count])
        on_bytes(count)
        total += count
    return total


HASHED_SUFFIXES = (".mp4", ".json")
"""Files whose content is compared by ``is_unchanged``; of others it is the size alone."""


def fingerprint(path: Path) -> list:
    """State of a file for ``is_unchanged``: [bytes], or [bytes, SHA-256] for a result."""
    size = path.stat().st_size
    return [size, sha256(path)] if path.suffix in HASHED_SUFFIXES else [size]


def is_unchanged(path: Path, recorded: list) -> bool:
    """Whether a file still has the fingerprint that was recorded."""
    return path.stat().st_size == recorded[0] and fingerprint(path) == recorded
