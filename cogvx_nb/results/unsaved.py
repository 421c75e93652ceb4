"""Frames that couldn't be written as a video: kept without loss, to be saved later."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np

from .. import settings
from ..errors import CogvxError, OutputExists, ResultError, SettingsError
from ..files import numbered_paths, partial_file, publish, translate_errors
from ..text import first_line
from . import video
from .output import new_folders, slug
from .records import MAX_BYTES, Sidecar, read_settings
from .typed import FieldError

FOLDER = "unsaved"
"""In the outputs folder."""

FRAMES, SETTINGS = "frames.rgb", "settings.json"
"""In a file, which is a zip archive: uint8 (frames, height, width, 3), and what would be the
sidecar."""


def keep_frames(error: CogvxError, frames: np.ndarray, sidecar: Sidecar) -> CogvxError:
    """Keep frames that couldn't be saved, in the first place that has room.

    Returns:
        ``error``, which says why, with where the frames are and how to save them.
    """
    problems = []
    for folder in folders():
        try:
            path = _write_frames(folder, frames, sidecar)
        except CogvxError as problem:
            problems.append(first_line(problem))
            continue
        command = f"cogvx save {shlex.quote(str(path))}"
        return type(error)(f"{error}; the frames are kept: save them by '{command} --output FILE'")
    return type(error)(f"{error}; nor could the frames be kept: {'; '.join(problems)}")


def folders() -> Iterator[Path]:
    """Where frames are kept, in the order in which that is tried."""
    with contextlib.suppress(SettingsError):
        yield settings.outputs_dir() / FOLDER
    yield Path(tempfile.gettempdir()) / f"cogvx-{FOLDER}"


def _write_frames(folder: Path, frames: np.ndarray, sidecar: Sidecar) -> Path:
    """Write frames and settings to a new file; CogvxError if they can't be."""
    name = f"{datetime.now():%Y-%m-%d-%H%M%S}-{slug(sidecar.request.prompt)}.frames"
    with translate_errors(folder), new_folders(folder), partial_file(folder / name) as partial:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(SETTINGS, json.dumps(sidecar.as_json()))
            with archive.open(FRAMES, "w", force_zip64=True) as member:
                member.write(np.ascontiguousarray(frames).data)
        for target in numbered_paths(folder / name):
            with contextlib.suppress(OutputExists):
                publish(partial, target)
                return target


def read_frames(path: Path) -> tuple[np.ndarray, Sidecar]:
    """The frames and settings in a file of ``keep_frames``.

    Raises:
        ResultError: if it is another file, or damaged.
    """
    if not path.is_file():
        raise ResultError(f"{path} is no regular file" if path.exists() else f"no file {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            sidecar = read_settings(json.loads(_member(archive, SETTINGS, MAX_BYTES)))
            request = sidecar.request
            shape = (sidecar.shown.frames, request.height, request.width, 3)
            data = _member(archive, FRAMES, min(math.prod(shape), video.MAX_DECODED_BYTES))
        frames = np.frombuffer(data, np.uint8).reshape(shape)
    except FieldError as error:
        raise ResultError(f"{path} can't be used: {error}") from error
    except DAMAGED as error:
        raise ResultError(f"{path} holds no frames that were kept, or is damaged") from error
    if video.frame_hash(frames) != sidecar.frame_hash:
        raise ResultError(f"{path} is damaged: its frames are not those that were kept")
    return frames, sidecar


DAMAGED = (OSError, ValueError, LookupError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile)
"""What reading a file can raise that is no archive, or a damaged one; RuntimeError for one that is
encrypted, or JSON that is nested too deeply."""


def _member(archive: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
    """A member of an archive, read no further than it may be long."""
    with archive.open(name) as member:
        content = member.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"{name} is longer than {most_bytes} bytes")
    return content
