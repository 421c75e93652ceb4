"""Overlapping windows of a clip that is longer than its checkpoint makes at once. No torch.

At each step the transformer sees every window as a clip of its own, and where windows overlap its
velocities are averaged. So memory is that of one window, and time is linear in the frames. It is
what is known as MultiDiffusion (arXiv 2302.08113) in time, with the noise of FreeNoise (arXiv
2310.15169). All lengths and places are of latent frames, padding included.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..checkpoints.registry import Checkpoint

STRIDE_SHARE = 0.5
"""From one window to the next, in windows."""


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
    stride = max(1, round(STRIDE_SHARE * length / patch)) * patch
    starts = [*range(0, total - length, stride), total - length]
    return tuple(range(start, start + length) for start in starts)


def window_frames(checkpoint: Checkpoint, frames: int) -> int:
    """Frames that the transformer sees at once of a clip."""
    return frames if frames <= checkpoint.frame_counts[-1] else checkpoint.frames[-1]


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

    As FreeNoise does it: after the first window each stretch has the noise of that one a window
    before, in another order. So all windows see nearly the same noise, and make much the same clip
    of it. The order is the same for all seeds.
    """
    length, total = len(windows[0]), windows[-1].stop
    order, draw = list(range(length)), random.Random(0)
    stride = windows[1].start if len(windows) > 1 else length
    while len(order) < total:
        stretch = order[-length:][:stride]
        draw.shuffle(stretch)
        order += stretch
    return order[:total]
