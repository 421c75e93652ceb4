"""Find results among any number of them: what doors ask of the index."""

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
from ..planning.timing import MeasuredPace
from . import export, records
from .index import Index

if TYPE_CHECKING:
    import pandas


PACE_SAMPLES = 5

PAGE = 5000
"""Results read at once where all are wanted: about 10 MB of Python's objects."""

NEWEST_FIRST = "ORDER BY at DESC, folder, name"


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


ENTRY = tuple(field.name for field in fields(Entry))[1:]


class Catalogue:
    """The results in a folder and the folders in it.

    The files are the truth: ``refresh`` takes in what changed on disk, and the others tell what was
    taken in. Those that search have the same filters, all of which must be met:

    - ``text``: words that all stand in the prompt, in any case, also as parts of words;
    - ``model``, ``frames``, ``seed``: only these; all where empty, 0 or None.

    Args:
        folder: the outputs folder by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or settings.outputs_dir()
        self._index = Index(self._folder)

    def refresh(self) -> None:
        """Take in what changed on disk. Only folders that changed are looked through."""
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
        rows = self._index.ask(
            f"SELECT folder, name, {', '.join(ENTRY)} FROM results WHERE rowid IN ({page})"
            f" {NEWEST_FIRST}",
            (*values, limit, offset),
        )
        return [Entry(self._folder / row[0] / row[1], *row[2:]) for row in rows]

    def count(
        self, text: str = "", *, model: str = "", frames: int = 0, seed: int | None = None
    ) -> int:
        """How many results there are."""
        where, values = _where(text, model, frames, seed)
        return self._index.ask(f"SELECT count(*) FROM results {where}", values)[0][0]

    def models(self) -> list[str]:
        """Names of the checkpoints that made results."""
        rows = self._index.ask("SELECT DISTINCT model FROM results ORDER BY model")
        return [row[0] for row in rows]

    def frame_counts(self) -> list[int]:
        """Numbers of frames that results have."""
        rows = self._index.ask("SELECT DISTINCT frames FROM results ORDER BY frames")
        return [row[0] for row in rows]

    def paces(self, model: str, device: str) -> dict[int, MeasuredPace]:
        """How fast the newest results of each number of frames were made, as medians."""
        ranked = (
            "SELECT frames, denoise_seconds / steps AS step, other_seconds, row_number() OVER"
            " (PARTITION BY frames ORDER BY at DESC) AS place FROM results"
            " WHERE model = ? AND device = ? AND guidance > 1"
        )
        rows = self._index.ask(
            f"SELECT frames, step, other_seconds FROM ({ranked}) WHERE place <= {PACE_SAMPLES}",
            (model, device),
        )
        found: dict[int, list] = {}
        for frames, *seconds in rows:
            found.setdefault(frames, []).append(seconds)
        return {
            frames: MeasuredPace(*map(statistics.median, zip(*samples, strict=True)))
            for frames, samples in found.items()
        }

    def pages(
        self, text: str = "", *, model: str = "", frames: int = 0, seed: int | None = None
    ) -> Iterator[list[tuple]]:
        """All results, newest first, some at a time, so that any number takes the same memory.

        Yields:
            Rows of (seconds since 1970 when it was made, its mp4's path, ``records.COLUMNS``...);
            None for what a sidecar doesn't say. Each result is there once at most; those that come
            or go meanwhile are there or not.
        """
        where, values = _where(text, model, frames, seed)
        after = "at <= ? AND (at < ? OR (folder, name) > (?, ?))"  # the last of the page before
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
        while rows := self._index.ask(query, (*values, last[0], *last)):
            last = rows[-1][:3]
            yield [(row[0], os.path.join(root, *row[1:3]), *row[3:]) for row in rows]  # noqa: PTH118

    def frame(
        self, text: str = "", *, model: str = "", frames: int = 0, seed: int | None = None
    ) -> pandas.DataFrame:
        """All results as a pandas DataFrame, one a row, newest first; read from the index alone.

        Columns and their types are the same for any results: ``path`` and those of
        ``records.COLUMNS``, as text, whole numbers, floats or booleans; ``made`` is a time in UTC.
        What a sidecar doesn't say is NaN or NA. ``height`` and ``width`` are in pixels, ``fps`` is
        in frames a second.

        Raises:
            CogvxError: if pandas or pyarrow is missing.
        """
        return export.dataframe(self.pages(text, model=model, frames=frames, seed=seed))


def results_frame(
    text: str = "", *, model: str = "", frames: int = 0, seed: int | None = None
) -> pandas.DataFrame:
    """What is in the outputs folder by now, as a pandas DataFrame; see ``Catalogue.frame``."""
    found = Catalogue()
    found.refresh()
    return found.frame(text, model=model, frames=frames, seed=seed)


def _where(text: str, model: str, frames: int, seed: int | None) -> tuple[str, tuple]:
    """(WHERE clause, its values)."""
    tests = [
        ("instr(folded, ?) > 0", _storable_text(records.fold_text(word))) for word in text.split()
    ]
    # The + keeps SQLite from the index made for paces, whose rows it would have to sort by time.
    tests += [("+model = ?", _storable_text(model))] if model else []
    tests += [("frames = ?", _clamped(frames))] if frames else []
    tests += [("seed = ?", _clamped(seed))] if seed is not None else []
    if not tests:
        return "", ()
    return f"WHERE {' AND '.join(test for test, _ in tests)}", tuple(value for _, value in tests)


def _storable_text(text: str) -> str:
    """A text as SQLite takes it: half a character, which a command line can hold, is spelt out."""
    return text.encode(errors="backslashreplace").decode()


def _clamped(number: int) -> int:
    """A number as SQLite takes it: one that no result has stays one."""
    return max(-records.LARGEST, min(number, records.LARGEST))


def move_to_trash(path: Path) -> Path:
    """Move a result, mp4 and sidecar, to ``outputs/trash/`` under the path that it had.

    Returns:
        The mp4's new place: in ``trash/.2/`` where one of its path was thrown away before.

    Raises:
        ResultError: if there is none, it lies elsewhere or in the trash, or can't be moved.
    """
    outputs, path = settings.outputs_dir(), _normalized(path)
    if not path.is_relative_to(outputs) or path.is_relative_to(_trash_folder()):
        raise ResultError(f"{path} is not among the results in {outputs}, which the trash is for")
    within = path.relative_to(outputs)
    folders = itertools.chain(
        [_trash_folder()], (_trash_folder() / f".{n}" for n in itertools.count(2))
    )
    return _move_pair(
        path, next(folder / within for folder in folders if _is_unused(folder / within))
    )


def restore(path: Path) -> Path:
    """Move a result back to where it was; under another number where its name is taken by now.

    Returns:
        The mp4's place.

    Raises:
        ResultError: if it is not in the trash, or can't be moved.
    """
    path = _normalized(path)
    if not path.is_relative_to(_trash_folder()):
        raise ResultError(f"{path} is not in {_trash_folder()}, so it can't be taken out of it")
    within = path.relative_to(_trash_folder())
    if within.parts[0].startswith("."):
        within = within.relative_to(within.parts[0])
    first = settings.outputs_dir() / within
    more = (first.with_stem(f"{first.stem}-{number}") for number in itertools.count(2))
    return _move_pair(
        path, next(name for name in itertools.chain([first], more) if _is_unused(name))
    )


def _normalized(path: Path) -> Path:
    """A path without ``..``; links in it stay, for results may be in a linked folder."""
    return Path(os.path.normpath(path))


def _trash_folder() -> Path:
    return settings.outputs_dir() / "trash"


def _is_unused(path: Path) -> bool:
    """Whether neither an mp4 nor a sidecar has that name."""
    return not path.exists() and not path.with_suffix(".json").exists()


def _move_pair(path: Path, target: Path) -> Path:
    """Move mp4 and sidecar, both or neither."""
    if not path.is_file():
        raise ResultError(f"there is no file {path}")
    sidecar, to = path.with_suffix(".json"), target.with_suffix(".json")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if sidecar.exists():
            sidecar.rename(to)
        try:
            path.rename(target)
        except OSError:
            if to.exists():
                to.rename(sidecar)
            raise
    except OSError as error:
        raise ResultError(f"{path} can't be moved to {target}: {error.strerror}") from error
    return target
