"""What a page can ask about a result: its marks, a moving picture, other formats, what makes it
again."""

from __future__ import annotations

import functools
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from .. import settings
from ..errors import CogvxError, ResultError
from ..results import clips, pictures, recipe
from ..results.formats import FORMATS, Options
from ..results.result import read_result
from ..results.typed import Range
from .actions import PIECE, Action, Named, Reply
from .desk import Desk
from .rows import entry_row, read_entry


@dataclass(frozen=True, slots=True)
class Export:
    """A piece of a result in another format, from an offset in bytes."""

    path: str
    format: str  # of ``formats.FORMATS``
    offset: Annotated[int, Range(0, clips.MAX_DOWNLOAD)] = 0
    quality: int | None = None  # these as in ``formats.Options``
    fps: int | None = None
    loop: int | None = None

    @property
    def how(self) -> Options:
        return Options(self.quality, self.fps, self.loop)


def read_row(desk: Desk, wanted: Named) -> Reply:
    """The row of a result, with its marks as they are on disk."""
    outputs = settings.outputs_dir()
    return Reply(entry_row(read_entry(desk.path_of(wanted.path), outputs), outputs))


def moving_picture(desk: Desk, wanted: Named) -> Future:
    """A small animated WebP of a result; empty if its video can't be read."""
    entry = read_entry(desk.path_of(wanted.path), settings.outputs_dir())
    return desk.in_background(lambda: Reply(None, tuple(pictures.moving_thumbnails([entry]))))


def export(desk: Desk, wanted: Export) -> Future:
    """A piece of a result in another format, for a download; with its size and a name for it."""
    return desk.in_background(_export, desk.path_of(wanted.path), wanted)


def _export(path: Path, wanted: Export) -> Reply:
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise ResultError(f"{path} can't be read: {error.strerror}") from error
    data = _exported(path, wanted.format, wanted.how, changed)
    kind = FORMATS[wanted.format]
    facts = {"size": len(data), "name": f"{path.stem}{kind.suffix}", "type": kind.mime_type}
    return Reply(facts, (data[wanted.offset : wanted.offset + PIECE],))


@functools.lru_cache(maxsize=3)
def _exported(path: Path, name: str, how: Options, changed: int) -> bytes:
    """The latest exports: pieces of each are asked for one after another, of several in turn."""
    return clips.clip_bytes(path, name, how)


def copy_recipe(desk: Desk, wanted: Named) -> Reply:
    """Command line and notebook cell that make a result again; empty where there is none, and the
    problem."""
    sidecar = read_result(desk.path_of(wanted.path)).settings
    texts = {"command": "", "cell": "", "problem": ""}
    for what, write in (("command", recipe.command_line), ("cell", recipe.notebook_cell)):
        try:
            texts[what] = write(sidecar)
        except CogvxError as error:
            texts["problem"] = str(error)
    return Reply(texts)


ACTIONS: dict[str, Action] = {
    "gallery.row": Action(Named, read_row),
    "gallery.clip": Action(Named, moving_picture),
    "result.export": Action(Export, export),
    "result.recipe": Action(Named, copy_recipe),
}
