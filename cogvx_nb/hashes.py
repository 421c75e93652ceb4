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
    block = memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
            if on_bytes is not None:
                on_bytes(path, count)
    return digest.hexdigest()
