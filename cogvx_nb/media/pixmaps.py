"""Frames from ffmpeg as portable pixmaps, which carry their size themselves: ffmpeg's messages hold
the metadata too, where a text can look like anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

ARGUMENTS = ("-c:v", "ppm", "-f", "image2pipe", "pipe:")
"""Of ffmpeg, to write them."""

SCALING = "lanczos+accurate_rnd+full_chroma_int+bitexact"
"""swscale's flags for the conversion to RGB, by which every processor computes the same."""


def read_pixmaps(stream: BinaryIO) -> Iterator[np.ndarray]:
    """The frames of a stream of binary pixmaps, uint8 (height, width, 3), RGB, to its end or to
    where it is cut; see netpbm.sourceforge.net/doc/ppm.html."""
    while stream.readline(16) == b"P6\n":
        width, height = map(int, stream.readline(32).split())
        stream.readline(16)  # the largest value, 255
        size = width * height * 3
        data = stream.read(size)
        if len(data) < size:
            return
        yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
