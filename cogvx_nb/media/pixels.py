"""Pixels of pictures and clips, fitted to the size of a video.

A frame of a clip is fitted as a picture is, so that both give the same pixels.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import ResultError
from . import clips, kept, pictures
from .clips import Clip
from .given import Given
from .kinds import Unusable

CROP, PAD, STRETCH = "crop", "pad", "stretch"


def picture_pixels(value: str, height: int, width: int, fit: str) -> np.ndarray:
    """uint8 (1, height, width, 3), RGB, of a kept picture.

    Raises:
        ResultError: if it is gone, or was changed.
    """
    path = kept.kept_path(value)
    with _naming(path):
        picture, _ = pictures.read_picture(path)
    return np.asarray(fitted(picture, height, width, fit))[None].copy()


def clip_pixels(
    value: str, frames: int, fps: float, height: int, width: int, fit: str, start: float = 0.0
) -> np.ndarray:
    """uint8 (frames, height, width, 3), RGB, of a kept clip: what it shows at ``start`` seconds
    and then at each ``1 / fps`` (``Clip.frames_at``).

    Raises:
        ResultError: if it is gone, was changed, or is too short.
        FfmpegError: if ffmpeg doesn't start.
    """
    path = kept.kept_path(value)
    pixels = np.empty((frames, height, width, 3), np.uint8)
    with _naming(path):
        clip = _read_clip(path)
        numbers = clip.frames_at(fps, start, frames)
        if len(numbers) < frames:
            has = f"{len(numbers)} frames at {fps:g} fps from {start:g} s"
            raise Unusable(f"has {has}, not {frames}: use a longer clip")
        last = None
        for index, frame in enumerate(clips.read_frames(path, clip, numbers)):
            if frame is not last:  # else it is shown again
                shown, last = np.asarray(fitted(frame, height, width, fit)), frame
            pixels[index] = shown
    return pixels


def frames_available(given: Given, fps: float, start: float) -> int:
    """Frames of a clip at ``fps`` from ``start`` seconds."""
    return clips.count_frames(given.seconds, fps, start)


def fit_note(given: Given, height: int, width: int, fit: str) -> str:
    """What fitting does to a picture or a clip; empty if nothing."""
    if (given.height, given.width) == (height, width):
        return ""
    scaled = f"{given.height} × {given.width} to {height} × {width}"
    if given.height * width == given.width * height:
        return f"scaled from {scaled}"
    if fit == STRETCH:
        return f"stretched from {scaled}"
    share = given.width * height / (given.height * width)  # above 1: wider than the video
    side = "width" if (share > 1) == (fit == CROP) else "height"
    part = f"{max(1, round(100 * (1 - min(share, 1 / share))))} %"
    if fit == CROP:
        return f"cropped from {scaled}, {part} of its {side} cut off"
    return f"padded from {scaled}, {part} of the {side} black"


@functools.lru_cache(maxsize=32)
def _read_clip(path: Path) -> Clip:
    """The clip of a kept path, whose content doesn't change."""
    return clips.read_clip(path)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before the message that it can't be used."""
    try:
        yield
    except Unusable as error:
        raise ResultError(f"{path} {error}") from error


def fitted(picture: Image.Image, height: int, width: int, fit: str) -> Image.Image:
    """A picture of another size, by Lanczos over the pixels that each new one covers. ``crop``
    keeps the middle, and ``pad`` adds black on both sides."""
    size, lanczos = (width, height), Image.Resampling.LANCZOS
    if picture.size == size:
        return picture
    if fit == STRETCH:
        return picture.resize(size, lanczos)
    return (ImageOps.pad if fit == PAD else ImageOps.fit)(picture, size, lanczos)
