"""Temporary files are listed while they are written, so that those of a process that was killed can
be deleted by the next start, wherever they are.

``outputs/.partial/`` holds an entry for each: a small file that names it and that its writer keeps
locked. The system releases the lock however the writer ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TEMPORARY = re.compile(r"\..*\.[0-9a-f]{32}\.partial(\.\w+)?", re.DOTALL)
"""Names that ``files.partial_file`` and ``temporary_folder`` give; nothing else is ever deleted."""

YOUNG_SECONDS = 60
"""An entry that names no file may be this new: its writer is about to lock it and to name one."""

OLD_SECONDS = 24 * 3600
"""Where locks prove nothing, because another machine wrote the entry or the file system has none,
a temporary file is left over if it is this old."""

MAX_ENTRY_BYTES = 20_000


_folders: list[Path] = []
"""Where this process lists its temporary files: one folder, or none before ``begin``."""


def begin(outputs: Path) -> None:
    """Delete the temporary files that killed processes left, and from now on list those of this
    process, in ``outputs/.partial/``.

    Those that are still being written stay, and so does what can't be deleted.
    """
    _folders[:] = [outputs / ".partial"]
    with contextlib.suppress(OSError):
        for entry in os.scandir(_folders[0]):
            with contextlib.suppress(OSError, ValueError):  # a name that no file can have
                _remove_leftover(Path(entry.path))


@contextlib.contextmanager
def listed(partial: Path) -> Iterator[None]:
    """List a temporary file while it is written; where that isn't possible, go on without."""
    with contextlib.ExitStack() as stack:
        for folder in _folders:
            with contextlib.suppress(OSError):
                stack.enter_context(_entry(folder, partial))
        yield


@contextlib.contextmanager
def _entry(folder: Path, partial: Path) -> Iterator[None]:
    """A locked entry for a temporary file; its path is relative where it is in the outputs folder,
    which other machines may find elsewhere."""
    folder.mkdir(exist_ok=True)  # not its parents: a folder of results is made for results only
    inside = partial.is_relative_to(folder.parent)
    path = os.path.relpath(partial, folder) if inside else str(partial.absolute())
    entry = folder / uuid.uuid4().hex
    handle = os.open(entry, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        _try_lock(handle)
        os.write(handle, os.fsencode(f"{platform.node()}\n{path}"))
        yield
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):
            entry.unlink()


def _remove_leftover(entry: Path) -> None:
    handle = os.open(entry, os.O_RDWR | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    try:
        status, locked = os.fstat(handle), _try_lock(handle)
        if locked is False or not stat.S_ISREG(status.st_mode):
            return
        host, _, name = os.fsdecode(os.read(handle, MAX_ENTRY_BYTES)).partition("\n")
    finally:
        os.close(handle)
    age = time.time() - status.st_mtime
    path = Path(os.path.normpath(entry.parent / name))
    is_named = TEMPORARY.fullmatch(path.name) is not None
    if is_named and age < OLD_SECONDS and not (locked and host == platform.node()):
        return
    if is_named and path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif is_named:
        path.unlink(missing_ok=True)
    if is_named or age > YOUNG_SECONDS:
        entry.unlink(missing_ok=True)


def _try_lock(handle: int) -> bool | None:
    """Whether an entry could be locked; None on a system or file system without locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True
