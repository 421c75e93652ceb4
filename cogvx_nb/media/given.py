"""A picture or a clip that a request names: what it is, and whether it can be used."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import CogvxError, FfmpegError, OutputError, PathError, RequestError
from ..paths import shorten, user_path
from . import clips, kept, pictures


@dataclass(frozen=True, slots=True)
class Given:
    """A picture or a clip."""

    value: str  # the name under which it is kept
    name: str  # of the file, for people
    height: int  # pixels, as it is shown: turned upright, and with square pixels
    width: int
    frames: int = 1
    fps: float = 0.0  # on average; 0 for a picture
    seconds: float = 0.0
    notes: tuple[str, ...] = ()  # what reading it changes


def read_picture(value: str, field: str) -> Given:
    """A picture of a request's field, kept.

    Args:
        value: a path, relative to the current folder, or a kept name.

    Raises:
        RequestError: if it can't be used, with the remedy.
        OutputError, DiskFull: if it can't be kept.
    """
    return _read(value, field, _read_picture)


def read_clip(value: str, field: str) -> Given:
    """A clip of a request's field, kept; see ``read_picture``.

    Raises:
        FfmpegError: if ffmpeg doesn't start.
    """
    return _read(value, field, _read_clip)


def _read(value: str, field: str, read: Callable[[Path, tuple], Given]) -> Given:
    try:
        path = _path_of(value, field)
        state = _state(path)
        given = read(path, state)
        if not kept.locate(given.value).is_file():  # removed since
            read.cache_clear()
            given = read(path, state)
        kept.touch(given.value)
        return given
    except (RequestError, OutputError, FfmpegError):
        raise
    except CogvxError as error:
        raise RequestError(field, value, str(error)) from error


def _path_of(value: str, field: str) -> Path:
    if kept.is_kept_name(value):
        path = kept.locate(value)
        if not path.is_file():
            where = path.parent
            raise RequestError(field, value, f"is gone from {where}: give the original file again")
        return path
    try:
        return user_path(value, field)
    except PathError as error:
        reason = str(error).removeprefix(f"{field} {shorten(value)}: ")
        raise RequestError(field, value, reason) from error


def _state(path: Path) -> tuple[int, ...]:
    """What changes where a file is replaced; empty where there is none."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ino


@functools.lru_cache(maxsize=256)
def _read_picture(path: Path, state: tuple[int, ...]) -> Given:
    picture, notes = pictures.read_picture(path)
    value = _kept_name(path)
    return Given(value, kept.name_for_people(value), picture.height, picture.width, notes=notes)


@functools.lru_cache(maxsize=256)
def _read_clip(path: Path, state: tuple[int, ...]) -> Given:
    clip = clips.read_clip(path)
    value = _kept_name(path)
    count = len(clip.times)
    return Given(
        value,
        kept.name_for_people(value),
        clip.height,
        clip.width,
        count,
        count / clip.seconds,
        clip.seconds,
        clip.notes,
    )


def _kept_name(path: Path) -> str:
    """The name under which a file is kept; it is kept now, unless it is a kept one itself."""
    own = f"{kept.FOLDER}/{path.name}"
    if kept.is_kept_name(own) and path == kept.locate(own):
        kept.renew(own)
        return own
    return kept.keep_file(path)
