"""A table of a report, for ``templates/tables.html``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """Cells of a table as text; in a row that is too short, the last cell spans the rest."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    numbers: Sequence[int]  # indexes of columns that are aligned right
    caption: str = ""
    folded: str = ""  # what it is, where it is shown on a click only
