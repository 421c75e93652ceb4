"""Files on disk: written whole or not at all, hashed on all cores, watched while they grow."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .errors import CogvxError, DiskFull, OutputError, OutputExists

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


HASHED_SUFFIXES = (".mp4", ".json")
"""Files whose content is compared by ``is_unchanged``; of others it is the size alone."""


def fingerprint(path: Path) -> list:
    """State of a file for ``is_unchanged``: [bytes], or [bytes, SHA-256] for a result."""
    size = path.stat().st_size
    return [size, sha256(path)] if path.suffix in HASHED_SUFFIXES else [size]


def is_unchanged(path: Path, recorded: list) -> bool:
    """Whether a file still has the fingerprint that was recorded."""
    return path.stat().st_size == recorded[0] and fingerprint(path) == recorded


DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a write that finds no room: a full disk, or a used-up quota."""


def is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS


def disk_error(
    error: OSError,
    path: Path | str,
    kind: type[CogvxError] = OutputError,
    remedy: str = "",
    full_remedy: str = "make room, and start again",
) -> CogvxError:
    """The one-line exception for an OSError.

    Args:
        path: what couldn't be written.
        kind: class of the exception, unless the disk is full.
        remedy: what to do, unless the disk is full.
        full_remedy: what to do if the disk is full.

    Returns:
        DiskFull, or an exception of ``kind``.
    """
    if is_disk_full(error):
        return DiskFull(f"the disk of {path} is full: {full_remedy}")
    reason = error.strerror or str(error)
    return kind(
        f"{path} can't be written ({reason}): {remedy}"
        if remedy
        else f"{path} can't be written: {reason}"
    )


@contextlib.contextmanager
def translate_errors(path: Path | str, **options) -> Iterator[None]:
    """Raise OSErrors as the one-line exception of ``disk_error``, which takes ``options``."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path, **options) from error


def nearest_existing_folder(path: Path) -> Path:
    """A folder, or the nearest one above it that exists (a file, if one is in the way)."""
    return next(parent for parent in (path, *path.parents) if parent.exists())


@contextlib.contextmanager
def partial_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """A hidden, unique name in the folder of ``path``, to write to first; deleted afterwards if it
    still exists.

    Args:
        suffix: end of the name, for writers that choose the format by it.
    """
    partial = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.partial{suffix}")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes, sync: bool = True) -> None:
    """Write a file whole or not at all, in place of one that is there.

    Args:
        sync: wait until it would survive a power loss; caches needn't.
    """
    with partial_file(path) as partial:
        partial.write_bytes(content)
        if sync:
            fsync(partial)
        partial.replace(path)


def publish(partial: Path, path: Path) -> None:
    """Give a finished file its name, unless the name is taken.

    Where the file system has hard links, two processes can't both take it; ``partial`` may remain
    as a second name.

    Raises:
        OutputExists: if there is something of that name.
    """
    try:
        os.link(partial, path)  # unlike a rename, fails if there is one
    except FileExistsError:
        raise OutputExists(f"{path} exists by now: choose another name") from None
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise OutputExists(f"{path} exists by now: choose another name") from None
        partial.replace(path)


def numbered_paths(path: Path) -> Iterator[Path]:
    """A path, and then the same with ``-2``, ``-3``, ... before its suffix, without end."""
    yield path
    for number in itertools.count(2):
        yield path.with_stem(f"{path.stem}-{number}")


def rename_in_notebook(notebook: Path, old: Path, new: Path) -> None:
    """Replace a folder's path in an executed notebook."""
    names = [json.dumps(str(path), ensure_ascii=False)[1:-1].encode() for path in (old, new)]
    content = notebook.read_bytes()
    if names[0] in content:
        write_whole(notebook, content.replace(*names))


def fsync(path: Path) -> None:
    """Wait until a file would survive a power loss."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Wait until new names in a folder would survive a power loss."""
    with contextlib.suppress(OSError):  # not every system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def exclusive_lock(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock file; another process that holds it is waited for.

    Args:
        on_wait: called with who holds it, before the wait.
    """
    from filelock import FileLock, Timeout  # late: ``cogvx check`` runs where no package is

    path.parent.mkdir(parents=True, exist_ok=True)
    holder, lock = path.with_suffix(".holder"), FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_wait(holder.read_text() if holder.is_file() else "another process")
        lock.acquire()
    try:
        now = time.strftime("%H:%M:%S")
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
