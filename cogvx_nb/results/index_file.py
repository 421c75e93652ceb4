"""The index's file: a SQLite database that is read and written whole, and carries its checksum.

Any damage, however small, is noticed before SQLite reads the file. A process that is killed while
it writes leaves the file before; two that write at once leave one of both, and what the other one
knew is found on disk again.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from pathlib import Path

from ..files import partial_file

SIGNATURE = (slice(60, 64), slice(68, 72))
"""Where a database's header holds its user version and application id, which SQLite doesn't use
(sqlite.org/fileformat.html): the checksum is stored there, and computed with zeros in its place."""

BLOCK = 2**20
"""Bytes per read."""

FORMER = ("-wal", "-shm", "-journal")
"""Ends of the names of files that earlier versions left next to the index."""


def read_database(path: Path, schema: str) -> sqlite3.Connection | None:
    """A copy in memory of the database in a file; None if there is none, it is damaged, or it
    doesn't have that schema."""
    try:
        if not path.is_file() or not _is_whole(path, schema):
            return None
        # Immutable: no locks, and no journal is looked for.
        address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as stored:
            copy = memory_database()
            stored.backup(copy)
    except (OSError, sqlite3.DatabaseError):  # gone, or not readable for this user
        return None
    return copy


def write_database(database: sqlite3.Connection, path: Path, schema: str) -> None:
    """Write a database to a file, whole or not at all.

    Raises:
        OSError, sqlite3.OperationalError: if it can't be written.
    """
    with partial_file(path) as partial:
        with contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = OFF")  # the checksum shows what a power loss broke
            copy.execute("PRAGMA journal_mode = OFF")
            database.backup(copy)
        digest = _digest(partial, schema)
        with partial.open("r+b") as file:
            for place, part in zip(SIGNATURE, (digest[:4], digest[4:8]), strict=True):
                file.seek(place.start)
                file.write(part)
        with contextlib.suppress(OSError):
            path.rmdir()  # an empty folder of that name
        partial.replace(path)
    for end in FORMER:
        with contextlib.suppress(OSError):
            path.with_name(f"{path.name}{end}").unlink()


def memory_database() -> sqlite3.Connection:
    """An empty database in memory, for any thread, in which each statement is a transaction."""
    return sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)


def _is_whole(path: Path, schema: str) -> bool:
    """Whether a file is as long as its header says, and has the checksum that the header holds."""
    with path.open("rb") as file:
        header = file.read(100)
    page, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
    if len(header) < 100 or path.stat().st_size != (page if page > 1 else 65536) * pages:
        return False  # without reading it: it may be any file, of any size
    return b"".join(header[place] for place in SIGNATURE) == _digest(path, schema)[:8]


def _digest(path: Path, schema: str) -> bytes:
    digest = hashlib.sha256(schema.encode())
    with path.open("rb", buffering=0) as file:
        block = bytearray(file.read(BLOCK))
        for place in SIGNATURE:
            block[place] = bytes(4)
        while block:
            digest.update(block)
            block = file.read(BLOCK)
    return digest.digest()
