"""The SQLite index over results, kept up to date with the disk. It can be deleted any time."""

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

VERSION = 5
"""Of the schema, ``records.COLUMNS`` included: an index of another version is rebuilt."""

SETTLED_SECONDS = 2
"""A folder that changed less than this before a scan is scanned again the next time: another change
may fall into the same tick of its file system's clock."""

BATCH = 500
"""Changes written in one transaction, for which other processes wait."""

BUSY_SECONDS = 30
"""How long to wait for another process that writes."""

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""Errors after which the file is replaced. SQLITE_ERROR is that of a statement that doesn't fit the
tables; where these are today's, the statement is wrong and the file stays, as it does after other
errors, such as a locked database or a full disk."""

EXCLUDED_FOLDERS = ("trash", "benchmarks", "grids")
"""Folders in the outputs folder that hold no results."""

RESULT_COLUMNS = ("folder", "name", "stamp", *records.SEARCH_COLUMNS, *records.COLUMNS)
"""Folder of the mp4 relative to the index's, with ``/``, and its name; size and time of its
sidecar; values of the sidecar."""

SCHEMA = f"""
CREATE TABLE folders (path TEXT PRIMARY KEY, parent TEXT, changed INTEGER);
CREATE INDEX folders_parent ON folders (parent);
CREATE TABLE results ({", ".join(RESULT_COLUMNS)}, PRIMARY KEY (folder, name));
CREATE INDEX results_found ON results (at DESC, folder, name, model, frames, seed, folded);
CREATE INDEX results_pace ON results (model, device, frames, at DESC);
PRAGMA user_version = {VERSION};
"""
INSERT = f"REPLACE INTO results VALUES ({', '.join('?' * len(RESULT_COLUMNS))})"


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
        """Take in what changed on disk. Only folders that changed are scanned."""
        with self._lock:
            try:
                self._update()
            except sqlite3.DatabaseError as error:
                self._recover(error)
                self._update()

    def query(self, statement: str, values: Iterable = ()) -> list[tuple]:
        """Rows of a query; an index that turns out damaged is rebuilt for it.

        Raises:
            sqlite3.DatabaseError: if the statement is wrong.
        """
        with self._lock:
            try:
                return self._rows(statement, values)
            except sqlite3.DatabaseError as error:
                self._recover(error)
                self._update()
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
        self._write_changes()

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
        parent = folder.rpartition("/")[0] if folder else None
        self._add_change("REPLACE INTO folders VALUES (?, ?, ?)", (folder, parent, settled))
        for gone in set(before).difference(inside):
            self._forget(gone)
        return inside

    def _replace_results(self, folder: str, stamps: dict[str, str]) -> None:
        """Make a folder's results those of its sidecars, by their stamps."""
        stored = dict(self._rows("SELECT name, stamp FROM results WHERE folder = ?", (folder,)))
        for name, stamp in stored.items():
            if stamps.get(name) != stamp:
                delete = "DELETE FROM results WHERE folder = ? AND name = ?"
                self._add_change(delete, (folder, name))
        for name, stamp in stamps.items():
            if stored.get(name) != stamp:
                record = records.read_record(self._folder / folder / f"{name[:-4]}.json")
                if record is not None:
                    self._add_change(INSERT, (folder, name, stamp, *record))

    def _add_change(self, statement: str, values: tuple) -> None:
        """Note a change; many are written in one transaction, in their order."""
        self._changes.append((statement, values))
        if len(self._changes) >= BATCH:
            self._write_changes()

    def _write_changes(self) -> None:
        changes, self._changes = self._changes, []
        if changes:
            with self._transaction() as db:
                for statement, values in changes:
                    db.execute(statement, values)

    def _forget(self, folder: str) -> None:
        """Delete the rows of a folder that is gone and of those in it; all rows for ``""``.

        Paths in a folder sort between ``folder/`` and ``folder0``, 0 being next after the slash:
        a range of the primary key, where a prefix test would read the whole table.
        """
        self._write_changes()
        with self._transaction() as db:
            for table, column in (("results", "folder"), ("folders", "path")):
                if folder:
                    within = f"{column} = ? OR ({column} > ? AND {column} < ?)"
                    values = (folder, f"{folder}/", f"{folder}0")
                    db.execute(f"DELETE FROM {table} WHERE {within}", values)
                else:
                    db.execute(f"DELETE FROM {table}")

    def _rows(self, statement: str, values: Iterable) -> list[tuple]:
        return self._connected().execute(statement, values).fetchall()

    def _recover(self, error: sqlite3.DatabaseError) -> None:
        """After a failure continue with a new index: on disk if that one was damaged, else in
        memory.

        Raises:
            sqlite3.DatabaseError: that one, if the index is in memory or a query is at fault.
        """
        if not (self._db and self._on_disk and hasattr(error, "sqlite_errorcode")):
            raise error
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR and _has_todays_tables(self._db):
            raise error
        self._db.close()
        self._db, self._changes = None, []
        if _is_damaged(error):
            _delete_index(self._folder / NAME)
        else:
            self._db, self._on_disk = _connect(":memory:"), False

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connected() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db

    def _connected(self) -> sqlite3.Connection:
        """The connection; a new index if the file was deleted meanwhile."""
        path = self._folder / NAME
        if self._db is None or (self._on_disk and not path.exists()):
            self._db, self._on_disk = _open_index(path)
        return self._db


def _open_index(path: Path) -> tuple[sqlite3.Connection, bool]:
    """(connection, whether it is on disk). A damaged index, or of another version, is replaced."""
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
    """A connection to an index of this version; sqlite3.DatabaseError if the file is another."""
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


def _has_todays_tables(db: sqlite3.Connection) -> bool:
    query = "SELECT sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name"
    with contextlib.closing(_connect(":memory:")) as fresh:
        return db.execute(query).fetchall() == fresh.execute(query).fetchall()


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    other_version = isinstance(error, sqlite3.NotSupportedError)
    return other_version or getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED


def _delete_index(index: Path) -> None:
    for name in (index.name, f"{index.name}-wal", f"{index.name}-shm"):
        with contextlib.suppress(OSError):
            index.with_name(name).unlink()


def scan_folder(root: Path, folder: str) -> tuple[list[str], dict[str, str]]:
    """The sub-folders of a folder, and the stamp of each sidecar by its mp4's name.

    Args:
        folder: relative to ``root``, with ``/``; empty for ``root`` itself.

    Raises:
        OSError: if the folder can't be read.
    """
    inside, mp4s, sidecars = [], {}, {}
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            with contextlib.suppress(OSError, UnicodeError):  # deleted, or a dangling link
                entry.name.encode()  # the index holds no name that isn't text
                if entry.is_dir():
                    if not _is_skipped(entry, root, folder):
                        inside.append(f"{folder}/{entry.name}" if folder else entry.name)
                elif entry.name.lower().endswith(".mp4") and entry.is_file():
                    mp4s[entry.name[:-4]] = entry.name
                elif entry.name.endswith(".json"):
                    status = entry.stat()
                    sidecars[entry.name[:-5]] = f"{status.st_size} {status.st_mtime_ns}"
    return inside, {mp4s[stem]: stamp for stem, stamp in sidecars.items() if stem in mp4s}


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
