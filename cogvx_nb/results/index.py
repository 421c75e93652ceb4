"""The SQLite index over results, brought up to date with the disk. It can be deleted any time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import records

NAME = ".catalogue.sqlite"

VERSION = 3
"""Of the schema: an index of another is made anew, also where only ``records.COLUMNS`` changed."""

SETTLED_SECONDS = 2
"""A folder that changed later than this before a look may change again within the same tick of its
file system's clock, so it is looked through again the next time."""

BATCH = 500
"""Changes written at once: other processes wait for no more than that."""

BUSY_SECONDS = 30
"""How long to wait for another process that writes."""

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""Failures of an index that is broken or not of this schema. After others, such as one that is
busy for too long or a full disk, the file stays."""

KEPT = ("folder", "name", "stamp", *records.FOR_SEARCH, *records.COLUMNS)
"""Columns of a result: its mp4's folder relative to the index's, with ``/``, and its name; size and
time of its sidecar; what that says."""

SCHEMA = f"""
CREATE TABLE folders (path TEXT PRIMARY KEY, parent TEXT, changed INTEGER);
CREATE INDEX folders_parent ON folders (parent);
CREATE TABLE results ({", ".join(KEPT)}, PRIMARY KEY (folder, name));
CREATE INDEX results_found ON results (at DESC, folder, name, model, frames, seed, folded);
CREATE INDEX results_pace ON results (model, device, frames, at DESC);
PRAGMA user_version = {VERSION};
"""
INSERT = f"REPLACE INTO results VALUES ({', '.join('?' * len(KEPT))})"


class Index:
    """The index of a folder, for any number of threads and processes at once.

    It is a file in the folder; where that can't be written, in memory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._prefix = folder, f"{folder}{os.sep}"
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._changes: list[tuple[str, tuple]] = []

    def refresh(self) -> None:
        """Take in what changed on disk. Only folders that changed are looked through."""
        with self._lock:
            try:
                self._take_in()
            except sqlite3.DatabaseError as error:
                self._recover(error)
                self._take_in()

    def ask(self, query: str, values: Iterable = ()) -> list[tuple]:
        """Rows of a query; an index that turns out damaged is made anew for it."""
        with self._lock:
            try:
                return self._rows(query, values)
            except sqlite3.DatabaseError as error:
                self._recover(error)
                self._take_in()
                return self._rows(query, values)

    def _take_in(self) -> None:
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
            waiting += self._look(folder, changed.get(folder), inside[folder])
        self._write_down()

    def _look(self, folder: str, known: int | None, before: list[str]) -> list[str]:
        """Bring a folder's rows up to date; returns the folders in it.

        Args:
            known: when it had changed last as it was looked through; None if it never was.
            before: the folders that were in it then.
        """
        try:
            # Not by Path, which takes five times as long: a sweep has a folder for each run.
            changed = os.stat(self._prefix + folder).st_mtime_ns  # noqa: PTH116
            if known == changed:
                return before
            settled = changed if time.time_ns() - changed > SETTLED_SECONDS * 1e9 else 0
            inside, stamps = records.scan_folder(self._folder, folder)
        except OSError:  # gone by now, or not for this user
            self._forget(folder)
            return []
        self._replace(folder, stamps)
        self._change("REPLACE INTO folders VALUES (?, ?, ?)", (folder, _parent(folder), settled))
        for gone in set(before).difference(inside):
            self._forget(gone)
        return inside

    def _replace(self, folder: str, stamps: dict[str, str]) -> None:
        """Make a folder's results those of its sidecars, by their stamps."""
        stored = dict(self._rows("SELECT name, stamp FROM results WHERE folder = ?", (folder,)))
        for name, stamp in stored.items():
            if stamps.get(name) != stamp:
                self._change("DELETE FROM results WHERE folder = ? AND name = ?", (folder, name))
        new = ((name, stamp) for name, stamp in stamps.items() if stored.get(name) != stamp)
        for row in self._described(folder, new):
            self._change(INSERT, row)

    def _change(self, statement: str, values: tuple) -> None:
        """Note a change of the index; many are written in one go, in their order."""
        self._changes.append((statement, values))
        if len(self._changes) >= BATCH:
            self._write_down()

    def _write_down(self) -> None:
        changes, self._changes = self._changes, []
        if changes:
            with self._writing() as db:
                for statement, values in changes:
                    db.execute(statement, values)

    def _described(self, folder: str, stamps: Iterable[tuple[str, str]]) -> Iterator[tuple]:
        """Rows of the sidecars that are ones; others are passed over."""
        for name, stamp in stamps:
            kept = records.read_record(self._folder / folder / f"{name[:-4]}.json")
            if kept is not None:
                yield folder, name, stamp, *kept

    def _forget(self, folder: str) -> None:
        """Drop the rows of a folder that is gone, and of those in it; all rows for the index's own.

        What is in a folder lies between ``folder/`` and ``folder0``, 0 being next after the slash:
        a range of the primary key, where a test of each row's beginning would read the table.
        """
        self._write_down()
        with self._writing() as db:
            for table, column in (("results", "folder"), ("folders", "path")):
                if folder:
                    within = f"{column} = ? OR ({column} > ? AND {column} < ?)"
                    values = (folder, f"{folder}/", f"{folder}0")
                    db.execute(f"DELETE FROM {table} WHERE {within}", values)
                else:
                    db.execute(f"DELETE FROM {table}")

    def _rows(self, query: str, values: Iterable) -> list[tuple]:
        return self._connected().execute(query, values).fetchall()

    def _recover(self, error: sqlite3.DatabaseError) -> None:
        """After a failure go on with a new index: on disk if that one was damaged, else in memory.

        Raises:
            sqlite3.DatabaseError: that one, if the index is in memory or isn't what failed.
        """
        if not (self._db and self._on_disk and hasattr(error, "sqlite_errorcode")):
            raise error
        self._db.close()
        self._db, self._changes = None, []
        if _is_damaged(error):
            _delete_index(self._folder / NAME)
        else:
            self._db, self._on_disk = _connect(":memory:"), False

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connected() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db

    def _connected(self) -> sqlite3.Connection:
        """The index, made anew if it was deleted meanwhile."""
        path = self._folder / NAME
        if self._db is None or (self._on_disk and not path.exists()):
            self._db, self._on_disk = _open_index(path)
        return self._db


def _open_index(path: Path) -> tuple[sqlite3.Connection, bool]:
    """(the index, whether it is on disk): one that is damaged or of another version is replaced."""
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        return _connect(":memory:"), False
    for _ in range(2):
        try:
            return _connect(path), True
        except sqlite3.DatabaseError as error:
            if not _is_damaged(error):
                break
            _delete_index(path)
    return _connect(":memory:"), False


def _connect(path: Path | str) -> sqlite3.Connection:
    """A connection to an index of this version.

    Raises:
        sqlite3.DatabaseError: if there is something else.
    """
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
    try:
        with contextlib.suppress(sqlite3.OperationalError):  # not every file system can
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if _schema_version(db) == 0:
            db.execute("BEGIN IMMEDIATE")
            if _schema_version(db) == 0:  # else another process made it meanwhile
                for statement in SCHEMA.split(";"):
                    db.execute(statement)
            db.execute("COMMIT")
        if _schema_version(db) != VERSION:
            raise sqlite3.NotSupportedError(f"version {_schema_version(db)}")
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _schema_version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA user_version").fetchone()[0]


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    other_version = isinstance(error, sqlite3.NotSupportedError)
    return other_version or getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED


def _delete_index(index: Path) -> None:
    for name in (index.name, f"{index.name}-wal", f"{index.name}-shm"):
        with contextlib.suppress(OSError):
            index.with_name(name).unlink()


def _parent(folder: str) -> str | None:
    return folder.rpartition("/")[0] if folder else None
