"""Files that are dropped on the page: they come in pieces, and their settings go into the form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..errors import ResultError
from ..files import temporary_folder
from ..results.dropped import read_dropped
from ..results.typed import Range
from ..text import plain_line
from .actions import Action, Reply
from .desk import Desk

MOST_BYTES = 100_000_000
"""Of a file: a video of 49 frames has about 2 MB."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a dropped file; the bytes come with it."""

    name: str
    size: Annotated[int, Range(0, 2**53)]  # bytes of the whole
    offset: Annotated[int, Range(0, MOST_BYTES)]


def take_piece(desk: Desk, arguments: Piece, data: bytes) -> Reply:
    """Take a piece; after the last one the settings are in the form.

    Replies with None, and after the last piece with the form and a note.
    """
    name = plain_line(arguments.name)[:80]
    if arguments.size > MOST_BYTES:
        most = MOST_BYTES // 1_000_000
        raise ResultError(f"{name} has {arguments.size / 1e6:.0f} MB: drop files of up to {most}")
    if arguments.offset == 0:
        desk.dropped = bytearray()
    if arguments.offset != len(desk.dropped):
        raise ResultError(f"{name} came in parts that don't fit together: drop it again")
    desk.dropped += data[: arguments.size - arguments.offset]
    if len(desk.dropped) < arguments.size and data:
        return Reply()
    content, desk.dropped = bytes(desk.dropped), bytearray()
    with temporary_folder() as folder:
        path = folder / "dropped"
        path.write_bytes(content)
        sidecar = read_dropped(path, name)
    note = desk.form.load(sidecar)
    desk.save_soon()
    return Reply({"form": desk.form.as_json(), "note": note})


ACTIONS = {"drop.piece": Action(Piece, take_piece, takes_data=True)}
