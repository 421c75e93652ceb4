"""Frames between frames by ffmpeg's minterpolate: blocks are followed by their motion and blended
(``mi_mode=mci``; ffmpeg.org/ffmpeg-filters.html). No weights, and nothing more to install."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from ..errors import ResultError
from ..media.ffmpeg import ffmpeg_output
from ..media.pixmaps import SCALING

BEFORE, AFTER = 1, 3
"""Copies of the first and of the last frame around them: the filter looks at four frames, and ends
two before the last one."""

CONVERSION = f"{SCALING}:sws_dither=none"
"""Between RGB and the planar yuv that the filter needs, in full range, where an error is at most
of one or two levels."""


def fill(frames: Sequence[np.ndarray], positions: Sequence[Fraction]) -> Iterator[np.ndarray]:
    """The frames at some positions between frames without a cut; see ``methods.Fill``.

    Raises:
        ResultError: if ffmpeg fails.
        FfmpegError: if it doesn't start.
    """
    step = _spacing(positions)
    # The filter makes frames at whole multiples of ``step``: times are shifted so that they fall
    # on the positions. The clock ticks often enough for both.
    shift = -(positions[0] + BEFORE) % step
    ticks = math.lcm(shift.denominator, step.denominator)
    numbers = [(position + BEFORE + shift) / step for position in positions]
    height, width, _ = frames[0].shape
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    source += ["-framerate", "1", "-i", "pipe:"]
    filters = (
        f"settb=1/{ticks},setpts=N*{ticks}+{shift * ticks}",
        f"scale=out_color_matrix=bt709:out_range=full:flags={CONVERSION},format=yuv444p",
        f"minterpolate=fps={1 / step}:mi_mode=mci:scd=none",
        f"scale=in_color_matrix=bt709:in_range=full:flags={CONVERSION},format=rgb24",
    )
    target = ["-vf", ",".join(filters), "-fps_mode", "passthrough", "-f", "rawvideo", "pipe:"]
    around = [*[frames[0]] * BEFORE, *frames, *[frames[-1]] * AFTER]
    size = height * width * 3
    at = round(shift / step + Fraction(1, 1000))  # as the filter rounds its first time
    with ffmpeg_output([*source, *target], np.stack(around).tobytes()) as stream:
        for number in map(int, numbers):
            while at <= number:  # those before it are of no position
                data, at = stream.read(size), at + 1
            if len(data) < size:
                raise ResultError("frames can't be interpolated: ffmpeg ended too early")
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)


def _spacing(positions: Sequence[Fraction]) -> Fraction:
    """The largest step that leads from the first position to each of the others; 1 for one."""
    gaps = [position - positions[0] for position in positions[1:]]
    if not gaps:
        return Fraction(1)
    common = math.lcm(*(gap.denominator for gap in gaps))
    return Fraction(math.gcd(*(int(gap * common) for gap in gaps)), common)
