"""The index over results, kept up to date with the disk. Its file can be deleted any time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from .. import __version__
from ..errors import ResultError
from ..media import kept
from ..paths import TRASH
from . import columns
from .index_file import memory_database, read_database, write_database
from .marks import SUFFIX, Marks, read_marks
from .stored import find_settings

NAME = ".catalogue.sqlite"

SETTLED_SECONDS = 2
"""A folder that changed less than this before a scan is scanned again the next time: another change
may fall into the same tick of its file system's clock."""

EXCLUDED_FOLDERS = (TRASH, "benchmarks", "grids", "comparisons", kept.FOLDER)
"""Folders in the outputs folder that hold no results."""

RESULT_COLUMNS = ("folder", "name", "stamp", *columns.COMPUTED, *columns.COLUMNS)
"""Folder of the mp4 relative to the index's, with ``/``, and its name; sizes and times of it, its
sidecar and its marks; values of its settings and marks."""

SCHEMA = f"""
CREATE TABLE folders (path TEXT PRIMARY KEY, parent TEXT, changed INTEGER);
CREATE INDEX folders_parent ON folders (parent);
CREATE TABLE results ({", ".join(RESULT_COLUMNS)}, PRIMARY KEY (folder, name));
CREATE INDEX results_found ON results (at DESC, folder, name, model, frames, seed, folded);
CREATE INDEX results_pace ON results (model, device, frames, at DESC);
-- {__version__}
"""
"""An index of another schema, or of another version of this package, is built again."""

INSERT = f"REPLACE INTO results VALUES ({', '.join('?' * len(RESULT_COLUMNS))})"


class Index:
    """The index of a folder, for any number of threads and processes at once.

    It is in memory, and read from a file in the folder, which is written whenever results have
    changed. Where it can't be read it is built again; where it can't be written it is built each
    time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._prefix = folder, f"{folder}{os.sep}"
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._saved = True
        self.changes = 0  # how often rows have changed

    def refresh(self) -> None:
        """Take in what changed on disk. Only folders that changed are scanned."""
        with self._lock:
            with self._loaded() as database:  # all of it, or nothing where it is interrupted
                database.execute("BEGIN")
                self._update()
            if not self._saved:
                self._save()

    def query(self, statement: str, values: Iterable = ()) -> list[tuple]:
        """Rows of a query.

        Raises:
            sqlite3.DatabaseError: if the statement is wrong.
        """
        with self._lock:
            return self._rows(statement, values)

    def _update(self) -> None:
        if not self._folder.is_dir():
            self._forget("")
            return
        rows = self._rows("SELECT path, parent, changed FROM folders", ())
        changed = {path: stamp for path, _, stamp in rows}
        inside: dict[str | None, list[str]] = defaultdict(list)
        for path, parent, _ in rows:
            inside[parent].append(path)
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            waiting += self._update_folder(folder, changed.get(folder), inside[folder])

    def _update_folder(self, folder: str, known: int | None, before: list[str]) -> list[str]:
        """Bring a folder's rows up to date; returns its sub-folders.

        Args:
            known: its modification time at the last scan; None if it was never scanned.
            before: its sub-folders at that time.
        """
        try:
            # Not by Path, which takes five times as long: a sweep has a folder for each run.
            changed = os.stat(self._prefix + folder).st_mtime_ns  # noqa: PTH116
            if known == changed:
                return before
            settled = changed if time.time_ns() - changed > SETTLED_SECONDS * 1e9 else 0
            inside, stamps = scan_folder(self._folder, folder)
        except OSError:  # deleted, or not readable for this user
            self._forget(folder)
            return []
        self._replace_results(folder, stamps)
        if known != settled:
            parent = folder.rpartition("/")[0] if folder else None
            # Writing the index changes its own folder, which is therefore no reason to write it.
            write = self._write if folder else self._rows
            write("REPLACE INTO folders VALUES (?, ?, ?)", (folder, parent, settled))
        for gone in set(before).difference(inside):
            self._forget(gone)
        return inside

    def _replace_results(self, folder: str, stamps: dict[str, str]) -> None:
        """Make a folder's results those of its videos, by their stamps."""
        known = dict(self._rows("SELECT name, stamp FROM results WHERE folder = ?", (folder,)))
        for name, stamp in known.items():
            if stamps.get(name) != stamp:
                self._write("DELETE FROM results WHERE folder = ? AND name = ?", (folder, name))
        for name, stamp in stamps.items():
            if known.get(name) != stamp:
                settings = find_settings(self._folder / folder / name)
                if settings is not None:
                    marks, problem = _find_marks(self._folder / folder / name, settings.frame_hash)
                    values = columns.result_values(folder, settings, marks, problem)
                    self._write(INSERT, (folder, name, stamp, *values))

    def _forget(self, folder: str) -> None:
        """Delete the rows of a folder that is gone and of those in it; all rows for ``""``.

        Paths in a folder sort between ``folder/`` and ``folder0``, 0 being next after the slash:
        a range of the primary key, where a prefix test would read the whole table.
        """
        for table, column in (("results", "folder"), ("folders", "path")):
            within = f"{column} = ? OR ({column} > ? AND {column} < ?)" if folder else "true"
            values = (folder, f"{folder}/", f"{folder}0") if folder else ()
            self._write(f"DELETE FROM {table} WHERE {within}", values)

    def _write(self, statement: str, values: Iterable) -> None:
        """Execute a statement; if it changes anything, the file is to be written."""
        if self._loaded().execute(statement, values).rowcount:
            self._saved = False
            self.changes += 1

    def _rows(self, statement: str, values: Iterable) -> list[tuple]:
        return self._loaded().execute(statement, values).fetchall()

    def _loaded(self) -> sqlite3.Connection:
        """The database; from the file at first, or empty."""
        if self._database is None:
            database = read_database(self._folder / NAME, SCHEMA)
            if database is None:
                database = memory_database()
                database.executescript(SCHEMA)
            database.create_function("fold", 1, _folded, deterministic=True)
            database.create_function("lora_weight", 2, columns.lora_weight, deterministic=True)
            self._database = database
            self.changes += 1
        return self._database

    def _save(self) -> None:
        """Write the file; where that isn't possible, it is tried after the next change."""
        with contextlib.suppress(OSError, sqlite3.OperationalError):
            write_database(self._database, self._folder / NAME, SCHEMA)
        self._saved = True


def _folded(text: object) -> str | None:
    return None if text is None else columns.fold_text(str(text))


def _find_marks(path: Path, frame_hash: str) -> tuple[Marks, str]:
    """The marks of a video, none where they can't be read, and why."""
    try:
        return read_marks(path, frame_hash), ""
    except ResultError as error:
        return Marks(), str(error)


def scan_folder(root: Path, folder: str) -> tuple[list[str], dict[str, str]]:
    """The sub-folders of a folder, and by each mp4's name a stamp of it, its sidecar and its marks.

    Args:
        folder: relative to ``root``, with ``/``; empty for ``root`` itself.
    """
    inside, mp4s, beside = [], {}, {}
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and not _is_in_trash(entry.name, root, folder):
                continue
            with contextlib.suppress(OSError, UnicodeError):  # deleted, or a dangling link
                entry.name.encode()  # the index holds no name that isn't text
                if entry.is_dir():
                    if not _is_skipped(entry, root, folder):
                        inside.append(f"{folder}/{entry.name}" if folder else entry.name)
                elif entry.name.lower().endswith(".mp4") and entry.is_file():
                    mp4s[entry.name] = _stamp(entry)
                elif entry.name.endswith((".json", SUFFIX)) and entry.is_file():
                    beside[entry.name] = _stamp(entry)
    ends = (".json", SUFFIX)
    return inside, {
        name: " ".join([stamp, *(beside.get(name[:-4] + end, "-") for end in ends)])
        for name, stamp in mp4s.items()
    }


def _is_in_trash(name: str, root: Path, folder: str) -> bool:
    """Whether a hidden folder is one of those in which the trash keeps results whose path it has
    already."""
    return root.name == TRASH and not folder and name[1:].isdecimal()


def _stamp(entry: os.DirEntry) -> str:
    status = entry.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _is_skipped(entry: os.DirEntry, root: Path, folder: str) -> bool:
    """Whether a sub-folder holds no results, or is a link to results that are found without it."""
    if not folder and entry.name in EXCLUDED_FOLDERS:
        return True
    if not entry.is_symlink():
        return False
    link, root = Path(entry.path), root.resolve()
    target = link.resolve()
    around = any(inner.is_relative_to(target) for inner in (root, link.parent.resolve()))
    return around or target.is_relative_to(root)
