"""Files that are dropped on the page, or chosen: they come in pieces. The settings in a file of
ours go into the form; from any other picture or clip a video starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..errors import RequestError, ResultError
from ..files import temporary_folder
from ..media.kinds import guess_kind
from ..planning.fields import INPUTS
from ..results.dropped import read_dropped
from ..results.typed import OneOf, Range
from .actions import Action, Reply
from .desk import Desk
from .draft import file_name

MOST_BYTES = 100_000_000
"""Of a file: a video of 49 frames has about 2 MB. Of a larger clip one can type the path."""

MOST_NAME_BYTES = 200
"""Of the name under which it is written to be read: file systems take at most 255."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a dropped file; the bytes come with it."""

    name: str
    size: Annotated[int, Range(0, 2**53)]  # bytes of the whole
    offset: Annotated[int, Range(0, MOST_BYTES)]
    # That it is given for; empty: its settings are, if it carries some, else what is in it.
    field: Annotated[str, OneOf(("", *INPUTS))] = ""


def take_piece(desk: Desk, arguments: Piece, data: bytes) -> Reply:
    """Take a piece; after the last one the form has the settings, or the picture or clip.

    Replies with None, and after the last piece with the form and a note; where a file with settings
    can be started from too, with ``start_as``, the field for which it can be given.
    """
    name = file_name(arguments.name)
    if arguments.size > MOST_BYTES:
        most = MOST_BYTES // 1_000_000
        remedy = f"drop files of up to {most}, or type the path of a larger clip"
        raise ResultError(f"{name} has {arguments.size / 1e6:.0f} MB: {remedy}")
    if arguments.offset == 0:
        desk.dropped = bytearray()
    if arguments.offset != len(desk.dropped):
        raise ResultError(f"{name} came in parts that don't fit together: drop it again")
    desk.dropped += data[: arguments.size - arguments.offset]
    if len(desk.dropped) < arguments.size and data:
        return Reply()
    content, desk.dropped = bytes(desk.dropped), bytearray()
    return desk.in_background(_take_whole, desk, name, content, arguments.field)


def _take_whole(desk: Desk, name: str, content: bytes, field: str) -> Reply:
    with temporary_folder() as folder:
        path = folder / name.encode()[-MOST_NAME_BYTES:].decode(errors="ignore")
        path.write_bytes(content)
        if field:
            return Reply(desk.take_file(path, name, field))
        try:
            sidecar = read_dropped(path, name)
        except ResultError as no_settings:
            return _take_other(desk, path, name, no_settings)
        start_as = _field_for(path)
    note = desk.form.load(sidecar)
    desk.save_soon()
    return Reply({"form": desk.form.as_json(), "note": note, "start_as": start_as})


def _take_other(desk: Desk, path: Path, name: str, no_settings: ResultError) -> Reply:
    """Start from a file without settings."""
    try:
        return Reply(desk.take_file(path, name))
    except RequestError:
        if _field_for(path):
            raise
        raise no_settings from None


def _field_for(path: Path) -> str:
    """The field that a file can be given for by what is in it; empty for other files."""
    kind = guess_kind(path)
    return "" if kind is None else "image" if kind.is_picture else "video"


ACTIONS = {"drop.piece": Action(Piece, take_piece, takes_data=True)}
