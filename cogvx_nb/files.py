"""Files on disk: written whole or not at all, and errors of writing in one line."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import CogvxError, DiskFull, OutputError, OutputExists
from .leftovers import listed

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
    still exists, and by the next start (``leftovers.begin``) if this process is killed.

    Args:
        suffix: end of the name, for writers that choose the format by it.
    """
    partial = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.partial{suffix}")
    with listed(partial):
        try:
            yield partial
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder in the system's temporary folder; deleted afterwards, and by the next start if
    this process is killed.

    Raises:
        OSError: if it can't be made.
    """
    folder = Path(tempfile.gettempdir()) / f".cogvx.{uuid.uuid4().hex}.partial"
    with listed(folder):
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


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
