"""Actions that send pictures and videos to the page, in pieces that a Jupyter server lets pass."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from .. import settings
from ..errors import ResultError
from ..results import pictures, video
from ..results.catalogue import Entry
from ..results.result import read_result
from ..results.typed import MAX_INTEGER, Range
from .actions import PIECE, Action, Named, Paths, Reply
from .desk import Desk
from .page_state import roll_row
from .rows import read_entry


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file, from an offset in bytes."""

    path: str
    offset: Annotated[int, Range(0, MAX_INTEGER)] = 0


def read_video(desk: Desk, arguments: Piece) -> Reply:
    """A piece of an mp4; replies with the size of the whole."""
    path = desk.path_of(arguments.path)
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(arguments.offset)
            return Reply({"size": size}, (file.read(PIECE),))
    except OSError as error:
        raise ResultError(f"{path.name} can't be read: {error.strerror}") from error


def film_strip(desk: Desk, arguments: Named) -> Reply:
    """A row of a result's frames, as PNG."""
    path = desk.path_of(arguments.path)

    def draw() -> Reply:
        return Reply(None, (pictures.filmstrip_png(video.decode_video(path), count=9),))

    return desk.in_background(draw)


def posters(desk: Desk, arguments: Paths) -> Reply:
    """The middle frame of each result, as WebP; empty where there is none."""
    paths = [desk.path_of(path) for path in arguments.paths]

    def draw() -> Reply:
        found = {path: entry for path in paths if (entry := _entry(path))}
        pictured = dict(zip(found, pictures.thumbnails(found.values()), strict=True))
        return Reply(None, tuple(pictured.get(path, b"") for path in paths))

    return desk.in_background(draw)


def _entry(path: Path) -> Entry | None:
    with contextlib.suppress(ResultError):
        return read_entry(path, settings.outputs_dir())
    return None


def describe_result(desk: Desk, arguments: Named) -> Reply:
    """A result as the stage shows it, also one that isn't on the film roll."""
    return Reply(asdict(roll_row(arguments.path, read_result(desk.path_of(arguments.path)))))


ACTIONS = {
    "result.row": Action(Named, describe_result),
    "media.video": Action(Piece, read_video),
    "media.strip": Action(Named, film_strip),
    "media.posters": Action(Paths, posters),
}
