"""Simple measures of a video's picture, by OpenCV: what moves, flickers, is sharp, and is alike.

They compare videos of one size with each other. None of them says whether a video is good.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .errors import CogvxError

FLOW_WIDTH = 240
"""Pixels to which wider frames are scaled for the flow: a second for 49 frames of 480 × 720."""

PRINT_FRAMES, PRINT_SIZE = 8, 16
"""Frames of a fingerprint, and their height and width."""

ALIKE = 3.0
"""Root mean square, in levels of 0 … 255, up to which fingerprints count as of the same video."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What a video's frames show.

    Attributes:
        motion: mean length of the optical flow (DIS, arXiv 1603.03590) from each frame to the next,
            in pixels; 0 for a single frame. The flow spreads from what moves into plain
            surroundings, so compare videos that are alike in this.
        flicker: mean of half the second difference of the frames' mean brightness, in levels of
            0 … 255: 0 for a steady clip or an even fade, d for one that jumps by d and back; 0 for
            less than three frames.
        sharpness: variance of the Laplacian of each grey frame (Pech-Pacheco and others, 2000), in
            the mean; 0 for a plain one.
        fingerprint: uint8 (8, 16, 16, 3), frames spread over the clip, scaled down by area.
    """

    motion: float
    flicker: float
    sharpness: float
    fingerprint: np.ndarray = field(repr=False, compare=False)


def measure(frames: np.ndarray) -> Measures:
    """Measure a clip.

    Args:
        frames: uint8 (frames, height, width, 3), RGB; one frame or more.

    Raises:
        CogvxError: if OpenCV is missing.
    """
    cv2 = opencv()
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    brightness = np.array([one.mean() for one in grey])
    jumps = np.abs(np.diff(brightness, n=2)) / 2
    sharp = [cv2.Laplacian(one, cv2.CV_64F).var() for one in grey]
    chosen = np.linspace(0, len(frames) - 1, PRINT_FRAMES).round().astype(int)
    size = (PRINT_SIZE, PRINT_SIZE)
    small = [cv2.resize(frames[n], size, interpolation=cv2.INTER_AREA) for n in chosen]
    return Measures(
        motion=_motion(cv2, grey),
        flicker=float(jumps.mean()) if len(jumps) else 0.0,
        sharpness=float(np.mean(sharp)),
        fingerprint=np.stack(small),
    )


def alike(fingerprints: Sequence[np.ndarray]) -> list[int]:
    """Which videos are near-duplicates: the number of a group for each, from 1; 0 for none.

    Two are when their fingerprints differ by no more than ``ALIKE``; a group is all that hang
    together in this way.
    """
    if not fingerprints:
        return []
    flat = np.stack(fingerprints).reshape(len(fingerprints), -1).astype(np.float32)
    group = list(range(len(flat)))
    for number, one in enumerate(flat):
        apart = np.sqrt(np.mean((flat[:number] - one) ** 2, axis=1))
        for other in np.flatnonzero(apart <= ALIKE):
            old, new = group[other], group[number]
            group = [new if name == old else name for name in group]
    shared = [name for name in dict.fromkeys(group) if group.count(name) > 1]
    return [shared.index(name) + 1 if name in shared else 0 for name in group]


def opencv():
    """OpenCV's module.

    Raises:
        CogvxError: if it is missing.
    """
    try:
        import cv2
    except ImportError:
        raise CogvxError(
            'measuring videos needs OpenCV: pip install -e ".[measure]" in the workbench\'s folder'
        ) from None
    return cv2


def _motion(cv2, grey: list[np.ndarray]) -> float:
    """Mean length of the flow between frames (height, width) of 0 … 255, in their pixels."""
    height, width = grey[0].shape
    scale = min(1.0, FLOW_WIDTH / width)
    if scale < 1:
        size = (round(width * scale), round(height * scale))
        grey = [cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in grey]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    pairs = itertools.pairwise(grey)
    lengths = [np.linalg.norm(flow.calc(a, b, None), axis=2).mean() for a, b in pairs]
    return float(np.mean(lengths)) / scale if lengths else 0.0
