"""Find results among any number of them. The files are the truth; the index can be deleted."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import sqlite3
import statistics
import threading
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

from . import settings
from .pace import Pace
from .result import FORMAT

INDEX = ".catalogue.sqlite"
VERSION = 2
APART = ("trash", "benchmarks", "grids")
"""Folders in the outputs folder that hold no results."""

SETTLED_SECONDS = 2
"""A folder that changed later than this before a look may change again within the same tick of its
file system's clock, so it is looked through again the next time."""

PACE_SAMPLES = 5

BATCH = 500
"""Results taken in at once: other processes wait for no more than that."""

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""Failures of an index that is broken or not of this schema. After others, such as one that is
busy for too long or a full disk, the file stays."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A result as the catalogue knows it.

    Attributes:
        path: the mp4.
        made: when, in ISO 8601.
        prompt, negative_prompt, frames, steps, height, width, guidance, seed, fps: of its request.
        model: name of the checkpoint.
        device: that it was made on.
        frame_hash: SHA-256 of its frames.
    """

    path: Path
    made: str
    prompt: str
    negative_prompt: str
    model: str
    frames: int
    steps: int
    height: int
    width: int
    guidance: float
    seed: int
    fps: int
    device: str
    frame_hash: str


COLUMNS = tuple(field.name for field in fields(Entry))[1:]
KINDS = {"int": int, "float": (int, float)}
LARGEST = 2**63 - 1
"""The largest whole number that SQLite holds."""

REQUEST = ("prompt", "negative_prompt", "frames", "steps", "height", "width", "guidance", "seed")

SCHEMA = f"""
CREATE TABLE folders (path TEXT PRIMARY KEY, parent TEXT, changed INTEGER);
CREATE INDEX folders_parent ON folders (parent);
CREATE TABLE results (folder TEXT, name TEXT, stamp TEXT, at REAL, folded TEXT,
    denoise_seconds REAL, other_seconds REAL, {", ".join(COLUMNS)}, PRIMARY KEY (folder, name));
CREATE INDEX results_found ON results (at DESC, folder, name, model, frames, seed, folded);
CREATE INDEX results_pace ON results (model, device, frames, at DESC);
PRAGMA user_version = {VERSION};
"""


class Catalogue:
    """The results in a folder and the folders in it.

    Args:
        folder: the outputs folder by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or settings.outputs_dir()
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None

    def refresh(self) -> None:
        """Take in what changed on disk. Only folders that changed are looked through."""
        with self._lock:
            try:
                self._take_in()
            except sqlite3.DatabaseError as error:
                self._recover(error)
                self._take_in()

    def find(
        self,
        text: str = "",
        *,
        model: str = "",
        frames: int = 0,
        seed: int | None = None,
        limit: int = 24,
        offset: int = 0,
    ) -> list[Entry]:
        """A page of results, newest first.

        Args:
            text: words that all stand in the prompt, in any case, also as parts of words.
            model, frames, seed: only these; all where empty, 0 or None.
        """
        where, values = _where(text, model, frames, seed)
        page = f"SELECT rowid FROM results {where} ORDER BY at DESC, folder, name LIMIT ? OFFSET ?"
        rows = self._ask(
            f"SELECT folder, name, {', '.join(COLUMNS)} FROM results WHERE rowid IN ({page})"
            " ORDER BY at DESC, folder, name",
            (*values, limit, offset),
        )
        return [Entry(self._folder / row[0] / row[1], *row[2:]) for row in rows]

    def count(
        self, text: str = "", *, model: str = "", frames: int = 0, seed: int | None = None
    ) -> int:
        """How many results there are; see ``find``."""
        where, values = _where(text, model, frames, seed)
        return self._ask(f"SELECT count(*) FROM results {where}", values)[0][0]

    def models(self) -> list[str]:
        """Names of the checkpoints that made results."""
        return [row[0] for row in self._ask("SELECT DISTINCT model FROM results ORDER BY model")]

    def frame_counts(self) -> list[int]:
        """Numbers of frames that results have."""
        return [row[0] for row in self._ask("SELECT DISTINCT frames FROM results ORDER BY frames")]

    def paces(self, model: str, device: str) -> dict[int, Pace]:
        """How fast the newest results of each number of frames were made, as medians."""
        ranked = (
            "SELECT frames, denoise_seconds / steps AS step, other_seconds, row_number() OVER"
            " (PARTITION BY frames ORDER BY at DESC) AS place FROM results"
            " WHERE model = ? AND device = ? AND guidance > 1"
        )
        rows = self._ask(
            f"SELECT frames, step, other_seconds FROM ({ranked}) WHERE place <= {PACE_SAMPLES}",
            (model, device),
        )
        found: dict[int, list] = {}
        for frames, *seconds in rows:
            found.setdefault(frames, []).append(seconds)
        return {
            frames: Pace(*map(statistics.median, zip(*samples, strict=True)))
            for frames, samples in found.items()
        }

    # --- the index --------------------------------------------------------------------------------

    def _take_in(self) -> None:
        waiting = [""] if self._folder.is_dir() else []
        if not waiting:
            self._forget("")
        while waiting:
            waiting += self._look(waiting.pop())

    def _look(self, folder: str) -> list[str]:
        """Bring a folder's rows up to date; returns the folders in it."""
        try:
            changed = (self._folder / folder).stat().st_mtime_ns
        except OSError:  # gone by now
            self._forget(folder)
            return []
        known = self._rows("SELECT changed FROM folders WHERE path = ?", (folder,))
        if known and known[0][0] == changed:
            inside = self._rows("SELECT path FROM folders WHERE parent = ?", (folder,))
            return [row[0] for row in inside]
        settled = changed if time.time_ns() - changed > SETTLED_SECONDS * 1e9 else 0
        try:
            inside, sidecars = _scan(self._folder, folder)
        except OSError:  # gone by now, or not for this user
            self._forget(folder)
            return []
        stored = dict(self._rows("SELECT name, stamp FROM results WHERE folder = ?", (folder,)))
        gone = [(folder, name) for name, stamp in stored.items() if sidecars.get(name) != stamp]
        new = ((name, stamp) for name, stamp in sidecars.items() if stored.get(name) != stamp)
        rows = _described(self._folder, folder, new)
        with self._writing() as db:
            db.executemany("DELETE FROM results WHERE folder = ? AND name = ?", gone)
        while batch := list(itertools.islice(rows, BATCH)):
            with self._writing() as db:
                db.executemany(INSERT, batch)
        with self._writing() as db:
            db.execute("REPLACE INTO folders VALUES (?, ?, ?)", (folder, _parent(folder), settled))
        before = self._rows("SELECT path FROM folders WHERE parent = ?", (folder,))
        for row in before:
            if row[0] not in inside:
                self._forget(row[0])
        return inside

    def _forget(self, folder: str) -> None:
        """Drop the rows of a folder that is gone, and of those in it."""
        below = f"{folder}/" if folder else ""
        with self._writing() as db:
            for table, column in (("results", "folder"), ("folders", "path")):
                db.execute(
                    f"DELETE FROM {table} WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (folder, len(below), below),
                )

    def _ask(self, query: str, values: tuple = ()) -> list[tuple]:
        with self._lock:
            try:
                return self._rows(query, values)
            except sqlite3.DatabaseError as error:
                self._recover(error)
                self._take_in()
                return self._rows(query, values)

    def _rows(self, query: str, values: tuple) -> list[tuple]:
        with self._lock:
            return self._connected().execute(query, values).fetchall()

    def _recover(self, error: sqlite3.DatabaseError) -> None:
        """After a failure go on with a new index: on disk if that one was damaged, else in memory.

        Raises:
            sqlite3.DatabaseError: that one, if the index is in memory or isn't what failed.
        """
        if not (self._db and self._on_disk and hasattr(error, "sqlite_errorcode")):
            raise error
        self._db.close()
        self._db = None
        if _damaged(error):
            _delete(self._folder / INDEX)
        else:
            self._db, self._on_disk = _prepared(":memory:"), False

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connected() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db

    def _connected(self) -> sqlite3.Connection:
        """The index, made anew if it was deleted meanwhile."""
        path = self._folder / INDEX
        if self._db is None or (self._on_disk and not path.exists()):
            self._db, self._on_disk = _open(path)
        return self._db


INSERT = f"REPLACE INTO results VALUES ({', '.join('?' * (7 + len(COLUMNS)))})"


def _open(path: Path) -> tuple[sqlite3.Connection, bool]:
    """(the index, whether it is on disk): one that is damaged or of another version is replaced."""
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        return _prepared(":memory:"), False
    for _ in range(2):
        try:
            return _prepared(path), True
        except sqlite3.DatabaseError as error:
            if not _damaged(error):
                break
            _delete(path)
    return _prepared(":memory:"), False


def _damaged(error: sqlite3.DatabaseError) -> bool:
    other_version = isinstance(error, sqlite3.NotSupportedError)
    return other_version or getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED


def _delete(index: Path) -> None:
    for name in (index.name, f"{index.name}-wal", f"{index.name}-shm"):
        with contextlib.suppress(OSError):
            index.with_name(name).unlink()


def _prepared(path: Path | str) -> sqlite3.Connection:
    """A connection to an index of this version.

    Raises:
        sqlite3.DatabaseError: if there is something else.
    """
    db = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
    try:
        with contextlib.suppress(sqlite3.OperationalError):  # not every file system can
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if _version(db) == 0:
            db.execute("BEGIN IMMEDIATE")
            if _version(db) == 0:  # else another process made it meanwhile
                for statement in SCHEMA.split(";"):
                    db.execute(statement)
            db.execute("COMMIT")
        if _version(db) != VERSION:
            raise sqlite3.NotSupportedError(f"version {_version(db)}")
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA user_version").fetchone()[0]


def _where(text: str, model: str, frames: int, seed: int | None) -> tuple[str, tuple]:
    """(WHERE clause, its values)."""
    words = [("instr(folded, ?) > 0", _folded(word)) for word in text.split()]
    tests = [*words, *([("model = ?", model)] if model else [])]
    tests += [("frames = ?", frames)] if frames else []
    tests += [("seed = ?", min(seed, LARGEST))] if seed is not None else []
    if not tests:
        return "", ()
    return f"WHERE {' AND '.join(test for test, _ in tests)}", tuple(value for _, value in tests)


def _scan(root: Path, folder: str) -> tuple[list[str], dict[str, str]]:
    """(folders in a folder, stamp of each sidecar by its mp4's name).

    Raises:
        OSError: if the folder can't be read.
    """
    inside, mp4s, sidecars = [], set(), {}
    with os.scandir(root / folder) as found:
        for one in found:
            if one.name.startswith("."):
                continue
            with contextlib.suppress(OSError, UnicodeError):  # gone by now, or a link to nowhere
                one.name.encode()  # the index holds no name that isn't text
                if one.is_dir():
                    apart = not folder and one.name in APART
                    if not apart and not (one.is_symlink() and _leads_back(Path(one.path), root)):
                        inside.append(f"{folder}/{one.name}" if folder else one.name)
                elif one.name.endswith(".mp4") and one.is_file():
                    mp4s.add(one.name)
                elif one.name.endswith(".json"):
                    kept = one.stat()
                    sidecars[f"{one.name[:-5]}.mp4"] = f"{kept.st_size} {kept.st_mtime_ns}"
    return inside, {name: stamp for name, stamp in sidecars.items() if name in mp4s}


def _leads_back(link: Path, root: Path) -> bool:
    """Whether a link leads to where results are found without it, or to a folder around it."""
    target, root = link.resolve(), root.resolve()
    around = any(inner.is_relative_to(target) for inner in (root, link.parent.resolve()))
    return around or target.is_relative_to(root)


def _described(root: Path, folder: str, sidecars: Iterator[tuple[str, str]]) -> Iterator[tuple]:
    """Rows of the sidecars that are ones; others are passed over."""
    wrong = (OSError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
    for name, stamp in sidecars:
        with contextlib.suppress(*wrong, RecursionError):
            text = (root / folder / f"{name[:-4]}.json").read_text(encoding="utf-8")
            yield (folder, name, stamp, *_values(json.loads(text)))


def _values(kept: dict) -> tuple:
    """What the index keeps of a sidecar, from ``at`` on.

    Raises:
        LookupError, TypeError, ValueError, ...: if it is not one of this format.
    """
    wanted, seconds = kept["request"], kept["seconds"]
    other = sum(value for stage, value in seconds.items() if stage not in ("load", "denoise"))
    told = {name: wanted[name] for name in (*REQUEST, "fps")}
    told |= {"made": kept["made"], "model": kept["checkpoint"]["name"]}
    told |= {"device": kept["plan"]["device"], "frame_hash": kept["frame_hash"]}
    fit = all(_fits(told[field.name], field.type) for field in fields(Entry)[1:])
    timed = math.isfinite(seconds["denoise"] + other) and wanted["steps"] > 0
    if not (kept["format"] == FORMAT and fit and timed):
        raise ValueError(told)
    at = datetime.fromisoformat(kept["made"]).timestamp()
    row = (at, _folded(wanted["prompt"]), float(seconds["denoise"]), float(other))
    return (*row, *(told[name] for name in COLUMNS))


def _fits(value: object, kind: str) -> bool:
    """Whether the index can hold a value; ``kind`` as in ``Entry``.

    Raises:
        UnicodeError: for text with half a character.
    """
    if isinstance(value, str):
        value.encode()
        return kind == "str"
    return kind != "str" and isinstance(value, KINDS[kind]) and abs(value) <= LARGEST


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _parent(folder: str) -> str | None:
    return folder.rpartition("/")[0] if folder else None
