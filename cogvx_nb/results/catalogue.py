"""Find results through the index."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from .. import settings
from ..planning.paces import MeasuredPace
from ..planning.stages import PACED_STAGES, median_pace
from . import export
from .columns import COLUMNS
from .filters import GPU_COUNT, KINDS, NEWEST_FIRST, Search, list_query, order_clause
from .index import Index

if TYPE_CHECKING:
    import pandas


PACE_SAMPLES = 5
"""Newest results whose median is the measured pace."""

PAGE = 5000
"""Rows per query of ``Catalogue.pages``: about 10 MB of Python objects."""

LISTS_KEPT = 4
"""Lists of results that were found, kept while nothing changes, so that their pages are quick."""

MOST_VALUES = 200
"""Of a column, that are offered for a filter."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A result, with those columns of the index that lists and galleries show."""

    path: Path  # the mp4
    made: str  # ISO 8601
    prompt: str
    negative_prompt: str
    model: str  # name of the checkpoint
    frames: int
    steps: int
    height: int
    width: int
    guidance: float
    seed: int
    inputs: str | None  # names of the files that it was made from, separated by ", "
    loras: str | None  # names of its LoRAs with their weights, separated by ", "
    fps: int
    speed: str | None
    device: str
    frame_hash: str  # SHA-256
    seconds: float  # of making it
    stars: int  # 0 to 5
    tags: str  # separated by ", "
    note: str
    grid: str  # name of the grid that it was made for; else empty
    finished: str | None  # what was made of another result's frames, such as "lanczos ×2"
    sweep: str  # name of the sweep; else empty
    marks_problem: str  # why stars, tags and note can't be read; else empty


ENTRY_COLUMNS = tuple(field.name for field in fields(Entry))[1:]


@dataclass(frozen=True, slots=True)
class Found:
    """A page of a list of results."""

    entries: list[Entry]
    sizes: list[int]  # how many results each stands for: 1, or those of its group
    total: int  # of the whole list


class Catalogue:
    """The results in a folder and its sub-folders.

    The files are authoritative: ``refresh`` reads what changed on disk, the other methods read the
    index only. Those that search take the fields of ``filters.Search`` as keywords, ``text`` first.

    Args:
        folder: the outputs folder by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or settings.outputs_dir()
        self._index = Index(self._folder)
        self._lists: dict[tuple, tuple[array, array]] = {}  # row ids and sizes
        self._values: dict[str, list] = {}  # by column
        self._kept_at = 0  # ``changes`` of the index when these were read

    def refresh(self) -> None:
        """Read what changed on disk. Only folders that changed are scanned."""
        self._index.refresh()

    def find(
        self,
        text: str = "",
        *,
        sort: str = "made",
        ascending: bool = False,
        limit: int = 24,
        offset: int = 0,
        **search: object,
    ) -> list[Entry]:
        """A page of results.

        Args:
            sort: ``made`` or a column of numbers, such as ``stars`` or ``seconds``.
            search: see the class.

        Raises:
            RequestError: if a condition or the column isn't one.
        """
        where, values = Search(text, **search).clause()
        order = order_clause(sort, ascending)
        page = f"SELECT rowid FROM results {where} {order} LIMIT ? OFFSET ?"
        return self._entries(f"WHERE rowid IN ({page}) {order}", (*values, limit, offset))

    def browse(
        self,
        search: Search,
        *,
        sort: str = "made",
        ascending: bool = False,
        group: str = "",
        limit: int = 60,
        offset: int = 0,
    ) -> Found:
        """A page of a list that is looked through, at any offset: the list is kept meanwhile. Not
        for several threads at once.

        Args:
            sort: as for ``find``.
            group: one of ``filters.GROUPS``: of each group only the first is in the list, and of
                results that are in none, none.

        Raises:
            RequestError: as ``find``, and if results can't be grouped by it.
        """
        order = order_clause(sort, ascending)
        if (search, sort, group) == (Search(), "made", ""):  # read from the index of SQLite
            entries = self.find(ascending=ascending, limit=limit, offset=offset)
            return Found(entries, [1] * len(entries), self.count())
        rows, sizes = self._list(search, order, group)
        wanted = rows[offset : offset + limit]
        marks = ", ".join("?" * len(wanted))
        found = self._rows(f"WHERE rowid IN ({marks})", wanted) if wanted else {}
        kept = [n for n, row in enumerate(wanted) if row in found]  # one may be gone by now
        page = sizes[offset : offset + limit]
        return Found([found[wanted[n]] for n in kept], [page[n] for n in kept], len(rows))

    def _list(self, search: Search, order: str, group: str) -> tuple[array, array]:
        """Row ids of all results that match, in order, and how many results each stands for."""
        self._forget_old()
        key = (search, order, group)
        if key not in self._lists:
            query, values = list_query(search, order, group)
            rows = self._index.query(query, values)
            while len(self._lists) >= LISTS_KEPT:
                del self._lists[next(iter(self._lists))]
            columns = [array("q", column) for column in zip(*rows, strict=True)]
            self._lists[key] = tuple(columns or [array("q"), array("q")])
        return self._lists[key]

    def _forget_old(self) -> None:
        """Forget what was kept, if the index has changed since."""
        if self._kept_at != self._index.changes:
            self._kept_at = self._index.changes
            self._lists.clear()
            self._values.clear()

    def _entries(self, rest: str, values: tuple) -> list[Entry]:
        return list(self._rows(rest, values).values())

    def _rows(self, rest: str, values: object) -> dict[int, Entry]:
        """Entries by their row ids, of a query that ends so."""
        columns = ", ".join(ENTRY_COLUMNS)
        query = f"SELECT rowid, folder, name, {columns} FROM results {rest}"
        rows = self._index.query(query, values)
        return {row[0]: Entry(self._folder / row[1] / row[2], *row[3:]) for row in rows}

    def entry(self, path: Path) -> Entry | None:
        """The result of a path in the folder; None if the index has none."""
        try:
            within = path.relative_to(self._folder)
        except ValueError:
            return None
        folder = "/".join(within.parts[:-1])
        found = self._entries("WHERE folder = ? AND name = ?", (folder, within.name))
        return found[0] if found else None

    def paths(self) -> list[Path]:
        """The mp4s of all results, newest first."""
        rows = self._index.query(f"SELECT folder, name FROM results ORDER BY {NEWEST_FIRST}")
        return [self._folder / folder / name for folder, name in rows]

    def count(self, text: str = "", **search: object) -> int:
        """Number of results that match."""
        where, values = Search(text, **search).clause()
        return self._index.query(f"SELECT count(*) FROM results {where}", values)[0][0]

    def values(self, column: str) -> list:
        """The values of a column that occur in the results, in order, at most ``MOST_VALUES``."""
        self._forget_old()
        if column not in self._values:
            self._values[column] = self._tags() if column == "tags" else self._distinct(column)
        return self._values[column]

    def _distinct(self, column: str) -> list:
        rows = self._index.query(
            f"SELECT DISTINCT {column} FROM results WHERE {column} IS NOT NULL AND {column} != ''"
            f" ORDER BY {column} LIMIT {MOST_VALUES}"
        )
        return [bool(row[0]) if KINDS[column] is bool else row[0] for row in rows]

    def _tags(self) -> list[str]:
        """All tags, those of the most results first."""
        rows = self._index.query(
            "SELECT tags, count(*) FROM results WHERE tags != '' GROUP BY tags"
        )
        counts: dict[str, int] = {}
        for tags, count in rows:
            for tag in tags.split(", "):
                counts[tag] = counts.get(tag, 0) + count
        return sorted(counts, key=lambda tag: (-counts[tag], tag))[:MOST_VALUES]

    def paces(self, model: str, device: str, gpus: int = 1) -> dict[int, MeasuredPace]:
        """Median pace of the newest results that were made exactly, by number of frames.

        Args:
            gpus: how many shared a step; 1 on a CPU too.
        """
        stages = ", ".join(f"{stage}_seconds" for stage in PACED_STAGES)
        ranked = (
            f"SELECT frames, denoise_seconds / steps AS step, other_seconds, {stages},"
            " row_number() OVER (PARTITION BY frames ORDER BY at DESC) AS place FROM results"
            f" WHERE model = ? AND device = ? AND {GPU_COUNT} = ? AND guidance > 1"
            " AND ifnull(step_cache, '') = '' AND NOT ifnull(sparse_attention, 0)"
            " AND ifnull(quantized, '') = '' AND ifnull(guidance_interval, '') = ''"
            " AND ifnull(video, '') = ''"  # a changed clip has fewer steps than its request
            " AND finished IS NULL AND ifnull(extend, '') = '' AND denoise_seconds IS NOT NULL"
        )
        rows = self._index.query(
            f"SELECT frames, step, other_seconds, {stages} FROM ({ranked})"
            f" WHERE place <= {PACE_SAMPLES}",
            (model, device, gpus),
        )
        samples: dict[int, list] = {}
        for frames, *seconds in rows:
            samples.setdefault(frames, []).append(seconds)
        return {frames: median_pace(measured) for frames, measured in samples.items()}

    def pages(self, text: str = "", **search: object) -> Iterator[list[tuple]]:
        """All results that match, newest first, a page at a time: memory use doesn't grow with
        their number.

        Yields:
            Rows of (time made in seconds since 1970, path of the mp4, ``columns.COLUMNS``...), with
            None for values that the sidecar doesn't have. No result occurs twice; those added or
            removed meanwhile may be missing.
        """
        after = "at <= ? AND (at < ? OR (folder, name) > (?, ?))"  # last row of the page before
        where, values = Search(text, **search).clause(after)
        page = f"SELECT rowid FROM results {where} ORDER BY {NEWEST_FIRST} LIMIT {PAGE}"
        query = (
            f"SELECT at, folder, name, {', '.join(COLUMNS)} FROM results"
            f" WHERE rowid IN ({page}) ORDER BY {NEWEST_FIRST}"
        )
        root = os.fsencode(self._folder).decode(errors="replace")
        last = (math.inf, "", "")
        while rows := self._index.query(query, (*values, last[0], *last)):
            last = rows[-1][:3]
            yield [(row[0], os.path.join(root, *row[1:3]), *row[3:]) for row in rows]  # noqa: PTH118

    def frame(self, text: str = "", **search: object) -> pandas.DataFrame:
        """All results that match as a pandas DataFrame, one per row, newest first; read from the
        index only.

        Columns and their types don't depend on the results: ``path`` and ``columns.COLUMNS``, as
        text, integers, floats or booleans; ``made`` is a time in UTC. Values that a sidecar doesn't
        have are NaN or NA. ``height`` and ``width`` are in pixels, ``fps`` in frames per second.

        Raises:
            CogvxError: if pandas or pyarrow is missing.
        """
        return export.dataframe(self.pages(text, **search))


def results_frame(text: str = "", **search: object) -> pandas.DataFrame:
    """The results in the outputs folder as a pandas DataFrame; see ``Catalogue.frame``."""
    catalogue = Catalogue()
    catalogue.refresh()
    return catalogue.frame(text, **search)
