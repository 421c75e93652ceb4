"""Pictures and players for a notebook, with the data inside so that a moved copy shows them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from IPython.display import Image as Picture
    from IPython.display import Video

    from .result import Result

GAP = 4
"""Pixels between the frames of a strip."""


def filmstrip(frames: np.ndarray, count: int = 7, height: int = 120) -> Image.Image:
    """A row of frames, evenly spread from the first to the last.

    Args:
        frames: uint8 (frames, height, width, 3), RGB.
        count: frames in the row, at most as many as there are.
        height: of the row, in pixels.
    """
    chosen = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    width = round(frames.shape[2] * height / frames.shape[1])
    row = Image.new("RGB", (len(chosen) * (width + GAP) - GAP, height), "white")
    for place, index in enumerate(chosen):
        picture = Image.fromarray(frames[index]).resize((width, height), Image.Resampling.LANCZOS)
        row.paste(picture, (place * (width + GAP), 0))
    return row


def strip(frames: np.ndarray, count: int = 7) -> Picture:
    """A ``filmstrip`` for a notebook's output, as PNG."""
    from IPython.display import Image as Picture

    data = io.BytesIO()
    filmstrip(frames, count).save(data, "PNG")
    return Picture(data=data.getvalue(), format="png")


def player(result: Result, width: int = 432) -> Video:
    """A player with the video inside it.

    Args:
        width: on the page, in pixels.
    """
    from IPython.display import Video

    return Video(
        data=result.path.read_bytes(),
        embed=True,
        mimetype="video/mp4",
        width=width,
        html_attributes="controls loop autoplay muted",
    )
