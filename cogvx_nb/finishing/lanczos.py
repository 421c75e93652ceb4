"""Larger frames by Lanczos resampling: Pillow's, whose sums are of whole numbers and the same on
every processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image


def enlarge_by(scale: int) -> Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]]:
    """A function that makes frames so many times as high and as wide; see ``methods.Enlarge``."""

    def enlarge(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for frame in frames:
            height, width, _ = frame.shape
            size = (width * scale, height * scale)
            yield np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))

    return enlarge
