"""Pixels of pictures and clips, fitted to the size of a video."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from . import kept
from .frames import read_frames
from .given import Given

CROP, PAD, STRETCH = "crop", "pad", "stretch"


def picture_pixels(value: str, height: int, width: int, fit: str) -> np.ndarray:
    """uint8 (1, height, width, 3) of a kept picture."""
    with Image.open(kept.kept_path(value)) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    return np.asarray(_fitted(picture, height, width, fit))[None].copy()


def clip_pixels(
    value: str, frames: int, fps: float, height: int, width: int, fit: str, start: float = 0.0
) -> np.ndarray:
    """uint8 (frames, height, width, 3) of a kept clip, at ``fps`` from ``start`` seconds."""
    decoded = read_frames(kept.kept_path(value), fps).frames
    first = round(start * fps)
    chosen = decoded[first : first + frames]
    return np.stack([_fitted(Image.fromarray(one), height, width, fit) for one in chosen])


def frames_available(given: Given, fps: float, start: float) -> int:
    """Frames of a clip at ``fps`` from ``start`` seconds."""
    return max(0, round((given.seconds - start) * fps))


def fit_note(given: Given, height: int, width: int, fit: str) -> str:
    """What fitting does to a picture or a clip; empty if nothing."""
    if (given.height, given.width) == (height, width):
        return ""
    scaled = f"{given.height} × {given.width} to {height} × {width}"
    if given.height * width == given.width * height:
        return f"scaled from {scaled}"
    done = {CROP: "cropped", PAD: "padded", STRETCH: "stretched"}[fit]
    return f"{done} from {scaled}"


def _fitted(picture: Image.Image, height: int, width: int, fit: str) -> Image.Image:
    size = (width, height)
    if picture.size == size:
        return picture
    if fit == STRETCH:
        return picture.resize(size, Image.Resampling.LANCZOS)
    if fit == PAD:
        return ImageOps.pad(picture, size, Image.Resampling.LANCZOS)
    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
