"""Files on disk: written whole or not at all, hashed on all cores, watched while they grow."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .errors import DiskFull, OutputError

BLOCK = 4 * 2**20
"""Bytes read at once; with 4 MiB two threads hash at the speed of two cores."""

OnBytes = Callable[[Path, int], None]
"""Called with a file and how many more of its bytes were hashed, from several threads."""


def sha256(path: Path, on_bytes: OnBytes | None = None) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return _hash_file(hashlib.sha256(), path, on_bytes)


class IncrementalHash:
    """SHA-256 of a file that grows, from what has come so far."""

    def __init__(self) -> None:
        self._digest, self._count = hashlib.sha256(), 0

    def advance(self, path: Path) -> None:
        """Take in what has come since the last time."""
        with path.open("rb", buffering=0) as file:
            file.seek(self._count)
            self._count += _feed(self._digest, file, lambda count: None)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def git_blob_hash(path: Path) -> str:
    """The id that git gives a file's content: SHA-1 of a header and the content."""
    return _hash_file(hashlib.sha1(b"blob %d\0" % path.stat().st_size), path, None)


def sha256_all(paths: Iterable[Path], on_bytes: OnBytes | None = None) -> dict[Path, str]:
    """SHA-256 of many files at once, the largest first so that no core idles at the end."""
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
    """Feed the rest of a file to a digest; how many bytes that were."""
    block, total = memoryview(bytearray(BLOCK)), 0
    while count := file.readinto(block):
        digest.update(block[:count])
        on_bytes(count)
        total += count
    return total


SYNCED = 2**27
"""Bytes after which what has come is brought to the disk, so that little is left for the end."""

PAUSE = 0.1
"""Seconds between looks at the file."""


class DownloadWatcher:
    """Follows a file from a thread of its own, while a client writes it.

    Args:
        find: where the client writes it now, or None.
        hashing: whether to hash it too. A file that is not written from front to back has another
            hash in the end than it seems; whoever compares it must then hash it anew.
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
        """Bring the whole file to the disk; its SHA-256 as it seems, or empty."""
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


def fsync(path: Path) -> None:
    """Wait until a file would survive a power loss."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


HASHED_SUFFIXES = (".mp4", ".json")
"""Endings of results, whose content is compared; of other files it is the size."""

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
"""What a write fails with where there is no room."""


@contextlib.contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong on a disk into one line for a person."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            raise DiskFull(f"the disk of {path} is full: make room, and start again") from error
        raise OutputError(f"{path} can't be written: {error.strerror}") from error


def fingerprint(path: Path) -> list:
    """What tells whether a file is as it was: [bytes], and for a result [bytes, SHA-256]."""
    size = path.stat().st_size
    return [size, sha256(path)] if path.suffix in HASHED_SUFFIXES else [size]


def is_unchanged(path: Path, kept: list) -> bool:
    """Whether ``fingerprint`` still gives the same for a file."""
    return path.stat().st_size == kept[0] and fingerprint(path) == kept


def rename_in_notebook(notebook: Path, old: Path, new: Path) -> None:
    """Let an executed notebook name the folder that it will be found in."""
    names = [json.dumps(str(path), ensure_ascii=False)[1:-1].encode() for path in (old, new)]
    content = notebook.read_bytes()
    if names[0] in content:
        write_whole(notebook, content.replace(*names))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        fsync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    """Wait until new names in a folder would survive a power loss."""
    with contextlib.suppress(OSError):  # not every system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
