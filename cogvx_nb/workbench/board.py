"""A storyboard as the page has it: rows of a prompt, a length and a transition."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from ..planning.fields import INPUTS, MAX_SEED
from ..planning.request import VideoRequest
from ..planning.transitions import CUT
from ..results.typed import Range

OF_ROWS = ("prompt", "frames", *INPUTS)
"""Fields that all rows don't have in common: the table has them, or a storyboard on the page does
without."""


@dataclass(frozen=True, slots=True)
class BoardRow:
    """A row as it is typed, whether valid or not."""

    prompt: str = ""
    frames: int | None = None  # None: the length of the form
    transition: str = CUT  # of ``planning.transitions.TRANSITIONS``


@dataclass(frozen=True, slots=True)
class Board:
    """The table as it is typed; a seed that was drawn is kept, so that pieces are found again."""

    rows: tuple[BoardRow, ...]
    seed: Annotated[int, Range(0, MAX_SEED)]  # of all pieces but those that go on


def with_frames(rows: tuple[BoardRow, ...], frames: int) -> tuple[BoardRow, ...]:
    """Rows that all have a length."""
    return tuple(replace(row, frames=frames) if row.frames is None else row for row in rows)


def common_values(request: VideoRequest) -> dict[str, object]:
    """What all rows of a storyboard have in common, of the request of its first one: keywords of
    ``make_storyboard``."""
    values = request.asked | request.seeds | request.templates
    values["model"] = str(request.model.folder or request.model.name)
    return {name: value for name, value in values.items() if name not in OF_ROWS}
