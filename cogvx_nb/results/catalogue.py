"""Find results through the index; move them to the trash and back."""

from __future__ import annotations

import itertools
import math
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from .. import settings
from ..errors import ResultError
from ..files import numbered_paths
from ..planning.cost import MeasuredPace
from . import export, records
from .index import Index
from .typed import MAX_INTEGER

if TYPE_CHECKING:
    import pandas


PACE_SAMPLES = 5
"""Newest results whose median is the measured pace."""

PAGE = 5000
"""Rows per query of ``Catalogue.pages``: about 10 MB of Python objects."""

NEWEST_FIRST = "ORDER BY at DESC, folder, name"


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
    fps: int
    device: str
    frame_hash: str  # SHA-256


ENTRY_COLUMNS = tuple(field.name for field in fields(Entry))[1:]


class Catalogue:
    """The results in a folder and its sub-folders.

    The files are authoritative: ``refresh`` reads what changed on disk, the other methods read the
    index only. Those that search take the same filters, which are combined with AND:

    - ``text``: words that must all occur in the prompt, ignoring case, also within words;
    - ``model``, ``frames``, ``seed``: equal to these; no filter if empty, 0 or None.

    Args:
        folder: the outputs folder by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or settings.outputs_dir()
        self._index = Index(self._folder)

    def refresh(self) -> None:
        """Read what changed on disk. Only folders that changed are scanned."""
        self._index.refresh()

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
        """A page of results, newest first."""
        where, values = _where(text, model, frames, seed)
        page = f"SELECT rowid FROM results {where} {NEWEST_FIRST} LIMIT ? OFFSET ?"
        rows = self._index.query(
            f"SELECT folder, name, {', '.join(ENTRY_COLUMNS)} FROM results WHERE rowid IN ({page})"
            f" {NEWEST_FIRST}",
            (*values, limit, offset),
        )
        return [Entry(self._folder / row[0] / row[1], *row[2:]) for row in rows]

    def count(
        self, text: str = "", *, model: str = "", frames: int = 0, seed: int | None = None
    ) -> int:
        """Number of results that match."""
        where, values = _where(text, model, frames, seed)
        return self._index.query(f"SELECT count(*) FROM results {where}", values)[0][0]

    def models(self) -> list[str]:
        """Names of the checkpoints of all results."""
        rows = self._index.query("SELECT DISTINCT model FROM results ORDER BY model")
        return [row[0] for row in rows]

    def frame_counts(self) -> list[int]:
        """Numbers of frames that occur in the results."""
        rows = self._index.query("SELECT DISTINCT frames FROM results ORDER BY frames")
        return [row[0] for row in rows]

    def paces(self, model: str, device: str) -> dict[int, MeasuredPace]:
        """Median pace of the newest results, by number of frames."""
        ranked = (
            "SELECT frames, denoise_seconds / steps AS step, other_seconds, row_number() OVER"
            " (PARTITION BY frames ORDER BY at DESC) AS place FROM results"
            " WHERE model = ? AND device = ? AND guidance > 1"
        )
        rows = self._index.query(
            f"SELECT frames, step, other_seconds FROM ({ranked}) WHERE place <= {PACE_SAMPLES}",
            (model, device),
        )
        samples: dict[int, list] = {}
        for frames, *seconds in rows:
            samples.setdefault(frames, []).append(seconds)
        return {
            frames: MeasuredPace(*map(statistics.median, zip(*measured, strict=True)))
            for frames, measured in samples.items()
        }

    def pages(
        self, text: str = "", *, model: str = "", frames: int = 0, seed: int | None = None
    ) -> Iterator[list[tuple]]:
        """All results that match, newest first, a page at a time: memory use doesn't grow with
        their number.

        Yields:
            Rows of (time made in seconds since 1970, path of the mp4, ``records.COLUMNS``...), with
            None for values that the sidecar doesn't have. No result occurs twice; those added or
            removed meanwhile may be missing.
        """
        where, values = _where(text, model, frames, seed)
        after = "at <= ? AND (at < ? OR (folder, name) > (?, ?))"  # last row of the page before
        page = (
            f"SELECT rowid FROM results {where} {'AND' if where else 'WHERE'} {after}"
            f" {NEWEST_FIRST} LIMIT {PAGE}"
        )
        query = (
            f"SELECT at, folder, name, {', '.join(records.COLUMNS)} FROM results"
            f" WHERE rowid IN ({page}) {NEWEST_FIRST}"
        )
        root = os.fsencode(self._folder).decode(errors="replace")
        last = (math.inf, "", "")
        while rows := self._index.query(query, (*values, last[0], *last)):
            last = rows[-1][:3]
            yield [(row[0], os.path.join(root, *row[1:3]), *row[3:]) for row in rows]  # noqa: PTH118

    def frame(
        self, text: str = "", *, model: str = "", frames: int = 0, seed: int | None = None
    ) -> pandas.DataFrame:
        """All results that match as a pandas DataFrame, one per row, newest first; read from the
        index only.

        Columns and their types don't depend on the results: ``path`` and ``records.COLUMNS``, as
        text, integers, floats or booleans; ``made`` is a time in UTC. Values that a sidecar doesn't
        have are NaN or NA. ``height`` and ``width`` are in pixels, ``fps`` in frames per second.

        Raises:
            CogvxError: if pandas or pyarrow is missing.
        """
        return export.dataframe(self.pages(text, model=model, frames=frames, seed=seed))


def results_frame(
    text: str = "", *, model: str = "", frames: int = 0, seed: int | None = None
) -> pandas.DataFrame:
    """The results in the outputs folder as a pandas DataFrame; see ``Catalogue.frame``."""
    catalogue = Catalogue()
    catalogue.refresh()
    return catalogue.frame(text, model=model, frames=frames, seed=seed)


def _where(text: str, model: str, frames: int, seed: int | None) -> tuple[str, tuple]:
    """(WHERE clause, its values)."""
    tests = [
        ("instr(folded, ?) > 0", _storable_text(records.fold_text(word))) for word in text.split()
    ]
    # The + keeps SQLite from using the index results_pace, whose rows it would have to sort.
    tests += [("+model = ?", _storable_text(model))] if model else []
    tests += [("frames = ?", _clamped(frames))] if frames else []
    tests += [("seed = ?", _clamped(seed))] if seed is not None else []
    if not tests:
        return "", ()
    return f"WHERE {' AND '.join(test for test, _ in tests)}", tuple(value for _, value in tests)


def _storable_text(text: str) -> str:
    """A text that SQLite accepts: lone surrogates, as from a command line, are escaped."""
    return text.encode(errors="backslashreplace").decode()


def _clamped(number: int) -> int:
    """Clamp to SQLite's 64-bit range; an out-of-range value still matches nothing."""
    return max(-MAX_INTEGER, min(number, MAX_INTEGER))


def move_to_trash(path: Path) -> Path:
    """Move a result, mp4 and sidecar, to ``outputs/trash/``, keeping its relative path.

    Returns:
        The mp4's new path: in ``trash/.2/`` (``.3``, ...) if the trash holds one of its path.

    Raises:
        ResultError: if it doesn't exist, isn't in the outputs folder, is in the trash already or
            can't be moved.
    """
    outputs, path = settings.outputs_dir(), _normalized(path)
    if not path.is_relative_to(outputs) or path.is_relative_to(_trash_folder()):
        raise ResultError(f"{path} is not among the results in {outputs}, which the trash is for")
    within = path.relative_to(outputs)
    more = (_trash_folder() / f".{number}" for number in itertools.count(2))
    targets = (folder / within for folder in itertools.chain([_trash_folder()], more))
    return _move_pair(path, next(filter(_is_unused, targets)))


def restore(path: Path) -> Path:
    """Move a result back to where it was, with ``-2``, ``-3``, ... if the name is taken.

    Returns:
        The mp4's path.

    Raises:
        ResultError: if it is not in the trash, or can't be moved.
    """
    path = _normalized(path)
    if not path.is_relative_to(_trash_folder()):
        raise ResultError(f"{path} is not in {_trash_folder()}, so it can't be taken out of it")
    within = path.relative_to(_trash_folder())
    if within.parts[0].startswith("."):
        within = within.relative_to(within.parts[0])
    targets = numbered_paths(settings.outputs_dir() / within)
    return _move_pair(path, next(filter(_is_unused, targets)))


def _normalized(path: Path) -> Path:
    """A path without ``..``; links aren't resolved, since results may be in a linked folder."""
    return Path(os.path.normpath(path))


def _trash_folder() -> Path:
    return settings.outputs_dir() / "trash"


def _is_unused(path: Path) -> bool:
    """Whether there is neither an mp4 nor a sidecar of that name."""
    return not path.exists() and not path.with_suffix(".json").exists()


def _move_pair(path: Path, target: Path) -> Path:
    """Move mp4 and sidecar, both or neither."""
    if not path.is_file():
        raise ResultError(f"there is no file {path}")
    sidecar, new_sidecar = path.with_suffix(".json"), target.with_suffix(".json")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if sidecar.exists():
            sidecar.rename(new_sidecar)
        try:
            path.rename(target)
        except OSError:
            if new_sidecar.exists():
                new_sidecar.rename(sidecar)
            raise
    except OSError as error:
        raise ResultError(f"{path} can't be moved to {target}: {error.strerror}") from error
    return target
