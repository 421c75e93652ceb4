"""Overlapping windows of a clip that is longer than its checkpoint makes at once. No torch.

At each step the transformer sees every window as a clip of its own, and where windows overlap its
velocities are averaged. So memory is that of one window, and time is linear in the frames. It is
what is known as MultiDiffusion (arXiv 2302.08113) in time, with the noise of FreeNoise (arXiv
2310.15169). All lengths and places are of latent frames, padding included.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

from ..checkpoints.registry import Checkpoint

LONGEST_STRIDE = 0.7
"""From one window to the next, in windows. With 0.7 and with 0.5 the shapes of the embedded model
stay the same over 97 frames, and no step at a seam is above the largest elsewhere."""


def windows_of(checkpoint: Checkpoint, frames: int) -> tuple[range, ...]:
    """The windows of a clip, each as long as the checkpoint's longest usual clip; one that holds
    it whole where the checkpoint makes so many frames at once.

    Args:
        frames: of the clip, one of the checkpoint's counts.
    """
    total = padded_length(checkpoint, frames)
    if frames <= checkpoint.frame_counts[-1]:
        return (range(total),)
    length, patch = padded_length(checkpoint, checkpoint.frames[-1]), checkpoint.patch_frames
    places = (total - length) // patch
    moves = math.ceil(places / max(1, int(LONGEST_STRIDE * length / patch)))
    starts = [round(places * n / moves) * patch for n in range(moves + 1)]
    return tuple(range(start, start + length) for start in starts)


def window_frames(checkpoint: Checkpoint, frames: int) -> int:
    """Frames that the transformer sees at once of a clip."""
    return frames if frames <= checkpoint.frame_counts[-1] else checkpoint.frames[-1]


def describe(checkpoint: Checkpoint, frames: int) -> str:
    """The windows of a clip in words."""
    windows = windows_of(checkpoint, frames)
    overlap = 4 * min(one.stop - other.start for one, other in itertools.pairwise(windows))
    length = window_frames(checkpoint, frames)
    return f"{len(windows)} windows of {length} frames, which overlap by {overlap} or more"


def padded_length(checkpoint: Checkpoint, frames: int) -> int:
    """Latent frames of a clip, with those that it lacks to be cut into patches."""
    latent_frames = (frames - 1) // 4 + 1
    return latent_frames + -latent_frames % checkpoint.patch_frames


def weights(windows: Sequence[range]) -> list[list[float]]:
    """Weights of the latent frames of each window, which add up to 1 in each latent frame.

    They rise linearly from a window's ends to its middle, so that no window begins or ends with a
    jump.
    """
    raw = [[1.0 + min(n, len(one) - 1 - n) for n in range(len(one))] for one in windows]
    sums = [0.0] * windows[-1].stop
    for window, parts in zip(windows, raw, strict=True):
        for place, part in zip(window, parts, strict=True):
            sums[place] += part
    return [
        [part / sums[place] for place, part in zip(window, parts, strict=True)]
        for window, parts in zip(windows, raw, strict=True)
    ]


def noise_order(windows: Sequence[range]) -> list[int]:
    """For each latent frame of a clip that of its first window whose noise it has.

    As FreeNoise does it: what a window has beyond the one before has the noise of what that has
    before it, in another order. So all windows see the same noise, and make much the same clip of
    it. The order is the same for all seeds.
    """
    order, draw = list(windows[0]), random.Random(0)
    for before, window in itertools.pairwise(windows):
        stretch = order[before.start : window.start]
        draw.shuffle(stretch)
        order += stretch
    return order
