"""A picture or a clip that a request names: what it is, and whether it can be used."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from ..errors import CogvxError, RequestError
from ..paths import user_path
from . import kept
from .frames import read_frames

LEAST_SIDE, MOST_PIXELS = 16, 64_000_000
"""Pixels of the shorter side, and of a whole picture."""

MOST_BYTES = 2**30
"""Of a file."""


@dataclass(frozen=True, slots=True)
class Given:
    """A picture or a clip."""

    value: str  # the name under which it is kept
    name: str  # of the file, for people
    height: int  # pixels, as it is shown
    width: int
    frames: int = 1
    fps: float = 0.0  # 0 for a picture
    seconds: float = 0.0
    notes: tuple[str, ...] = ()  # what reading it changes


def read_picture(value: str, field: str) -> Given:
    """A picture of a request's field, kept.

    Args:
        value: a path, or a kept name.

    Raises:
        RequestError: if it can't be used, with the remedy.
    """
    path = _path_of(value, field)
    try:
        return _read_picture(path, value, _state(path))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise RequestError(field, value, "can't be read as a picture") from error


def read_clip(value: str, field: str) -> Given:
    """A clip of a request's field, kept; see ``read_picture``."""
    path = _path_of(value, field)
    try:
        return _read_clip(path, value, _state(path))
    except (OSError, ValueError, CogvxError) as error:
        raise RequestError(field, value, "can't be read as a clip") from error


def _path_of(value: str, field: str) -> Path:
    path = kept.kept_path(value) if kept.is_kept_name(value) else user_path(value, field)
    if not path.is_file():
        raise RequestError(field, value, "is no file: name a picture or a clip")
    return path


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=256)
def _read_picture(path: Path, value: str, state: tuple[int, int]) -> Given:
    with Image.open(path) as opened:
        ending = opened.format.lower()
        width, height = ImageOps.exif_transpose(opened).size
    name = kept.keep_file(path, ending)
    return Given(name, path.name, height, width)


@functools.lru_cache(maxsize=256)
def _read_clip(path: Path, value: str, state: tuple[int, int]) -> Given:
    shown = read_frames(path)
    name = kept.keep_file(path, "mp4")
    frames, height, width, _ = shown.frames.shape
    return Given(name, path.name, height, width, frames, shown.fps, frames / shown.fps)
