"""A result as a page lists it: a row of JSON."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..errors import ResultError
from ..results import columns
from ..results.catalogue import ENTRY_COLUMNS, Entry
from ..results.marks import Marks, read_marks
from ..results.result import read_result


def entry_row(entry: Entry, outputs: Path, size: int = 1) -> dict[str, object]:
    """The row of a result: the fields of ``Entry``, but ``path`` relative to the outputs folder,
    with ``/``, and ``tags`` as a list.

    Args:
        size: how many results it stands for, where they are grouped.
    """
    row = dataclasses.asdict(entry)
    row["path"] = entry.path.relative_to(outputs).as_posix()
    row["tags"] = entry.tags.split(", ") if entry.tags else []
    return row | {"size": size}


def read_entry(path: Path, outputs: Path) -> Entry:
    """A result read from its files, not from the index: one that was just made, say.

    Raises:
        ResultError: if it has no settings that can be used.
    """
    settings = read_result(path).settings
    marks, problem = Marks(), ""
    try:
        marks = read_marks(path, settings.frame_hash)
    except ResultError as error:
        problem = str(error)
    folder = path.parent.relative_to(outputs).as_posix()
    values = columns.result_values(folder, settings, marks, problem)
    named = dict(zip((*columns.COMPUTED, *columns.COLUMNS), values, strict=True))
    return Entry(path, *(named[name] for name in ENTRY_COLUMNS))
