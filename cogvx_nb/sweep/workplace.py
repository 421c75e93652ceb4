"""The folder that a run works in, which the run itself may have harmed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from ..files import fsync, is_disk_full, write_whole
from ..hashing import fingerprint

NOTEBOOK, MARKER, TRACEBACK = "notebook.ipynb", "run.json", "traceback.txt"

MOST_SYNCED = 1000
"""Files of a run up to which each is synced to disk by itself."""

MOST_TRIED = 16 * 2**20
"""Bytes that are written at most to see whether there is room."""


def find_harm(work: Path) -> str:
    """What a run has done to its folder, so that it can't be a result; empty if nothing."""
    if not _is_real_folder(work):
        return "it removed, renamed or replaced the folder that it ran in"
    if not os.access(work, os.R_OK | os.W_OK | os.X_OK):
        return "it took away the permissions of the folder that it ran in"
    for name in (MARKER, TRACEBACK):
        if os.path.lexists(work / name):
            return f"it made {name}, a name that the sweep itself needs: use another"
    notebook = work / NOTEBOOK
    if os.path.lexists(notebook) and (notebook.is_symlink() or not notebook.is_file()):
        return f"it replaced {NOTEBOOK}, its own executed copy: use another name"
    return ""


def make_usable(work: Path) -> None:
    """Make a harmed folder one that can be kept: what is left of it, with the sweep's names free.

    Raises:
        OSError: if that isn't possible.
    """
    if not _is_real_folder(work):
        delete_tree(work)
        make_folder(work.parent)
        work.mkdir()
    _make_accessible(work)
    for name in (NOTEBOOK, MARKER, TRACEBACK):
        if (work / name).is_symlink() or not (work / name).is_file():
            delete_tree(work / name)


def record_files(work: Path) -> dict[str, list]:
    """Sync the files of a run to disk; returns their fingerprints, by their paths in the folder.

    Raises:
        OSError: if a file can't be read.
    """
    paths = sorted(path for path in work.rglob("*") if path.is_file())
    if len(paths) > MOST_SYNCED:
        os.sync()
    for path in paths if len(paths) <= MOST_SYNCED else ():
        with contextlib.suppress(PermissionError):  # a read-only file
            fsync(path)
    return {path.relative_to(work).as_posix(): fingerprint(path) for path in paths}


def write_if_changed(path: Path, content: bytes) -> None:
    """Write a file of the sweep's own, unless it is there with this content.

    Raises:
        OSError: if it can't be written.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            return
    make_folder(path.parent)
    if path.is_dir():
        delete_tree(path)
    write_whole(path, content)


def make_folder(path: Path) -> None:
    """Make a folder, in place of something else of its name.

    Raises:
        OSError: if that isn't possible.
    """
    if not path.is_dir():
        delete_tree(path)
    path.mkdir(parents=True, exist_ok=True)


def delete_tree(path: Path) -> None:
    """Delete a file, a link, or a folder with what is in it, also where it was made read-only.

    What can't be deleted stays.
    """
    if not _is_real_folder(path):
        with contextlib.suppress(OSError):
            path.unlink()
        return
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        _make_accessible(path)
        for folder, names, _ in os.walk(path):
            for name in names:
                _make_accessible(Path(folder, name))
        shutil.rmtree(path, ignore_errors=True)


def has_room(folder: Path, count: int) -> bool:
    """Whether so many bytes can be written into a folder now.

    They are written: the free space doesn't show a quota, and a message about it may be anything.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(min(count, MOST_TRIED)))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return not is_disk_full(error)
    return True


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _make_accessible(folder: Path) -> None:
    with contextlib.suppress(OSError):
        if not folder.is_symlink():
            folder.chmod(folder.stat().st_mode | 0o700)
