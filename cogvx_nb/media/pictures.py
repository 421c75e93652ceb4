"""Pictures as 8-bit sRGB, upright and opaque, by Pillow."""

from __future__ import annotations

import contextlib
import io
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from ..text import plain_line
from .kinds import Unusable, file_kind

LEAST_SIDE = 16
"""Pixels of the shorter side."""

MOST_PIXELS = 120_000_000
"""Of a picture, checked before it is decoded: cameras have up to 102 million, and each takes three
bytes and more."""

SHOWN_PROFILE = 40
"""Characters of a colour profile's name in a note."""

SAME_COLOUR = 3
"""Of 255: by so much profiles of sRGB differ in a channel."""

ORIENTATION = 0x0112
"""Tag of EXIF."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture that isn't decoded yet.

    Raises:
        Unusable: if it is none, damaged, too large or too small; also if decoding fails in the
            block.
    """
    kind = file_kind(path)
    if not kind.pillow:
        raise Unusable(f"is a clip ({kind.name}): give it as video, or save a frame of it as PNG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, whose limit is here, and of odd tags
            with Image.open(path, formats=(kind.pillow,)) as picture:
                check_size(picture.height, picture.width)
                yield picture
    except Unusable:
        raise
    except Image.DecompressionBombError:
        most = MOST_PIXELS // 1_000_000
        raise Unusable(f"has more than {most} million pixels: scale it down first") from None
    except Exception as error:  # a damaged file raises whatever its format's reader happens to
        damaged = f"is a {kind.name} file that is damaged or cut short"
        raise Unusable(f"{damaged}: save or copy it again") from error


def check_size(height: int, width: int) -> None:
    """Raise ``Unusable`` for a size that isn't taken, in pixels."""
    size = f"has {height:,} × {width:,} pixels"
    if height * width > MOST_PIXELS:
        raise Unusable(f"{size}, over {MOST_PIXELS // 1_000_000} million: scale it down first")
    if min(height, width) < LEAST_SIDE:
        raise Unusable(f"{size}, under {LEAST_SIDE} on a side: give a larger one")


def read_picture(path: Path) -> tuple[Image.Image, tuple[str, ...]]:
    """A picture as RGB, of several the first, and what was changed for that.

    Raises:
        Unusable: see ``opened``.
    """
    notes = []
    with opened(path) as picture:
        if picture.format != "MPO" and getattr(picture, "is_animated", False):
            what = "page" if picture.format == "TIFF" else "frame"
            notes.append(f"it has several {what}s: the first is used")
        if picture.getexif().get(ORIENTATION, 1) != 1:
            notes.append("turned upright, as its EXIF data says")
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        return convert(upright, notes), tuple(notes)


def convert(picture: Image.Image, notes: list[str]) -> Image.Image:
    """A decoded picture of any mode as RGB in sRGB; what is worth saying is added to ``notes``.

    Transparent parts become white, as on a page.

    Raises:
        Unusable: if its numbers have no known range.
    """
    icc = picture.info.get("icc_profile")
    picture = _eight_bit(picture, notes)
    if picture.mode in ("LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    elif picture.mode == "P":
        picture = picture.convert("RGB")
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    colours = _in_srgb(picture if alpha is None else picture.convert("RGB"), icc, notes)
    if alpha is None or alpha.getextrema()[0] == 255:
        return colours
    notes.append("transparent parts are shown on white")
    white = Image.new("RGB", colours.size, "white")
    return Image.composite(colours, white, alpha)


def _eight_bit(picture: Image.Image, notes: list[str]) -> Image.Image:
    """The picture with 8 bits a channel. Pillow clips grey values of 16 bits where it converts
    them, and reads colours of 16 bits as 8 already."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture)
    wide = picture.mode == "F" or values.min() < 0 or values.max() > 65535
    if wide:
        raise Unusable("has 32 bits a pixel, of unknown range: save it as PNG with 8 or 16 bits")
    notes.append("16 bits of grey scaled to 8")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _in_srgb(picture: Image.Image, icc: bytes | None, notes: list[str]) -> Image.Image:
    """The picture as RGB, its colours converted from those of its profile."""
    if picture.mode == "LAB":
        icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    if icc and picture.mode in ("RGB", "L", "CMYK", "LAB"):
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            if picture.mode == "RGB" and _is_srgb(profile):
                return picture
            converted = _to_srgb(picture, profile)
            name = plain_line(ImageCms.getProfileDescription(profile).strip())[:SHOWN_PROFILE]
            notes.append(f"colours converted to sRGB from {name or 'its profile'}")
            return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            notes.append("its colour profile can't be used: its colours are taken as sRGB")
    if picture.mode == "CMYK":
        notes.append("CMYK converted to RGB without a profile: colours may differ from print")
    return picture.convert("RGB")


def _to_srgb(picture: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    srgb = ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(picture, profile, srgb, outputMode="RGB")


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile of RGB is sRGB but for rounding, whatever its name: there are many."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)
    converted = np.asarray(_to_srgb(Image.fromarray(colours), profile))
    return bool(np.abs(converted.astype(int) - colours).max() <= SAME_COLOUR)


def frames_of(path: Path) -> Iterator[tuple[Image.Image, float]]:
    """The frames of an animated GIF, WebP, PNG or AVIF as RGB, and for how many seconds each is
    shown.

    Raises:
        Unusable: see ``opened``; also if it is a still picture.
    """
    with opened(path) as picture:
        if picture.format == "TIFF" or not getattr(picture, "is_animated", False):
            raise Unusable(f"is a picture ({picture.format}): give it as image")
        for number in itertools.count():
            try:
                picture.seek(number)
            except EOFError:
                return
            picture.load()
            shown = picture.info.get("duration", 0)
            # As browsers do, which show frames of no time for a tenth of a second.
            yield convert(picture.copy(), []), shown / 1000 if shown > 10 else 0.1
