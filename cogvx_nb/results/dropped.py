"""Settings in a file of ours that somebody has: an mp4, a sidecar, or a picture of a video."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import ResultError
from ..paths import read_bounded
from .mp4 import TAG, find_tag, read_box
from .records import MAX_BYTES, Sidecar, read_settings
from .typed import FieldError


def read_dropped(path: Path, name: str) -> Sidecar:
    """The settings in a file, whatever its name.

    Args:
        name: what messages call it.

    Raises:
        ResultError: if it has none that can be used.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
        read = _read_picture if start == b"\x89PNG\r\n\x1a\n" else _read_text_or_video
        content = json.loads(read(path).decode("utf-8-sig"))
        return read_settings(content)
    except FieldError as error:
        raise ResultError(f"{name} has settings that can't be used: {error}") from error
    except RecursionError as error:
        raise ResultError(f"{name} has settings that are nested too deeply") from error
    except (OSError, ValueError) as error:
        kinds = "an mp4, a JSON or a PNG that the workbench wrote"
        raise ResultError(f"{name} carries no settings of a video: drop {kinds}") from error


def _read_text_or_video(path: Path) -> bytes:
    box = find_tag(path, TAG)
    if box is None:
        return read_bounded(path, MAX_BYTES)
    if box.end - box.start > MAX_BYTES:
        raise ValueError("settings that are too large")
    return read_box(path, box)


def _read_picture(path: Path) -> bytes:
    from PIL import Image  # late: most users of results need no images

    try:
        with Image.open(path, formats=("PNG",)) as picture:
            text = picture.info.get(TAG, "")
    except Image.DecompressionBombError as error:  # no subclass of ValueError
        raise ValueError("a picture that is too large") from error
    if len(text) > MAX_BYTES:
        raise ValueError("settings that are too large")
    return str(text).encode()
