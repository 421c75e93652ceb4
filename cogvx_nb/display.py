"""Pictures and players for a notebook, with the data inside so that a moved copy shows them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from .results.video import filmstrip

if TYPE_CHECKING:
    import numpy as np
    from IPython.display import Image as Picture
    from IPython.display import Video

    from .results.result import Result


MOST_EMBEDDED_BYTES = 1_000_000
"""Of a video inside a notebook, where it takes a third more; a notebook of 2 MB still opens."""


def strip(frames: np.ndarray, count: int = 7) -> Picture:
    """A ``filmstrip`` for a notebook's output, as PNG."""
    from IPython.display import Image as Picture

    data = io.BytesIO()
    filmstrip(frames, count).save(data, "PNG")
    return Picture(data=data.getvalue(), format="png")


def player(result: Result, width: int = 432) -> Video:
    """A player with the video inside it; a smaller copy of it where it is large.

    Args:
        width: on the page, in pixels.
    """
    from IPython.display import Video

    from .results import video

    data = result.path.read_bytes()
    if len(data) > MOST_EMBEDDED_BYTES:
        data = video.shrink(result.path, MOST_EMBEDDED_BYTES)
        print(f"embedded: a smaller copy; the whole video is {result.path}")
    return Video(
        data=data,
        embed=True,
        mimetype="video/mp4",
        width=width,
        html_attributes="controls loop autoplay muted",
    )
