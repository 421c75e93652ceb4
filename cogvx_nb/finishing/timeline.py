"""When the frames of an interpolated video are, and what may lie between two frames of a clip."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

MOVING, STILL, CUT = "moving", "still", "cut"
"""What happens between two frames: only where something moves frames are invented."""

MOST_NOISE, MEAN_NOISE = 8, 0.1
"""Levels of 255 by which H.264 changes pixels of what stands still, and on average: up to 5 and
0.03, while a fade changes all of them."""

THUMBNAIL = 16
"""Columns and rows of the copies that cuts are found in: what moves changes few of their cells."""

CUT_CHANGE = 0.12
"""Least mean change of a cell, of 1, at a cut."""

CUT_OVER_MOTION = 4.0
"""How many times as large it is at least as that of the pairs around it. A fast pan has large
changes too, but all alike."""

NEIGHBOURS = 2
"""Pairs on each side that a pair is compared with."""


def frame_count(count: int, fps: int, wanted: int) -> int:
    """How many frames a clip has at another frame rate, from its first frame to its last one.

    (N − 1) × wanted / fps + 1, which is (N − 1) × k + 1 for k times as many frames. Where that is
    no whole number the nearest one: the frames are spread evenly, so that first and last stay, and
    the clip is by at most half a frame shorter or longer.
    """
    exact = Fraction((count - 1) * wanted, fps)
    return int(exact + Fraction(1, 2)) + 1


def positions(count: int, made: int) -> list[Fraction]:
    """Where ``made`` frames are among ``count``: evenly spread from 0 to ``count - 1``."""
    return [Fraction(number * (count - 1), made - 1) for number in range(made)]


class Pairs:
    """Looks at the frames of a clip, one after another, and says what happens between them."""

    def __init__(self) -> None:
        self.count = 0
        self._before: tuple[np.ndarray, np.ndarray] | None = None  # the frame and its thumbnail
        self._same: list[bool] = []
        self._changes: list[float] = []

    def add(self, frame: np.ndarray) -> None:
        """Look at the next frame, uint8 (height, width, 3)."""
        small = _thumbnail(frame)
        if self._before is not None:
            other, thumbnail = self._before
            difference = np.maximum(frame, other) - np.minimum(frame, other)
            same = difference.max() <= MOST_NOISE and difference.mean() <= MEAN_NOISE
            self._same.append(bool(same))
            self._changes.append(float(np.abs(small - thumbnail).mean()))
        self.count += 1
        self._before = frame, small

    def kinds(self) -> list[str]:
        """``MOVING``, ``STILL`` or ``CUT`` for each pair."""
        return [
            STILL if same else CUT if self._is_cut(number) else MOVING
            for number, same in enumerate(self._same)
        ]

    def _is_cut(self, number: int) -> bool:
        around = self._changes[max(0, number - NEIGHBOURS) : number]
        around += self._changes[number + 1 : number + 1 + NEIGHBOURS]
        usual = sorted(around)[len(around) // 2] if around else 0.0
        change = self._changes[number]
        return change > CUT_CHANGE and change > CUT_OVER_MOTION * usual


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    """Mean colours of a grid of cells, (rows, columns, 3), from 0 to 1."""
    rows = np.linspace(0, frame.shape[0], THUMBNAIL + 1).astype(int)[:-1]
    columns = np.linspace(0, frame.shape[1], THUMBNAIL + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(frame, rows, 0, np.uint32), columns, 1, np.uint32)
    heights = np.diff(rows, append=frame.shape[0])[:, None, None]
    widths = np.diff(columns, append=frame.shape[1])[None, :, None]
    return sums / (255.0 * heights * widths)


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive pairs of a clip that are interpolated together, and the frames to make of them.

    The frames are those from ``first`` to ``last``; ``positions`` count from ``first`` on.
    """

    first: int
    last: int
    positions: tuple[Fraction, ...]
    moving: bool  # else the nearest frame is repeated


def runs(kinds: Sequence[str], made: int, longest: int) -> Iterator[Run]:
    """A clip with ``len(kinds)`` pairs in runs, in order, each frame of the new clip in one.

    Args:
        made: frames of the new clip.
        longest: most pairs of a run. Frames may depend on it, so it must not depend on the machine.
    """
    wanted = iter(positions(len(kinds) + 1, made))
    position = next(wanted, None)
    for first, last, kind in _stretches(kinds, longest):
        ending = last == len(kinds)
        inside = []
        while position is not None and (position < last or ending):
            inside.append(position - first)
            position = next(wanted, None)
        yield Run(first, last, tuple(inside), kind == MOVING)


def _stretches(kinds: Sequence[str], longest: int) -> Iterator[tuple[int, int, str]]:
    first = 0
    while first < len(kinds):
        last = first + 1
        while last < min(len(kinds), first + longest) and kinds[last] == kinds[first]:
            last += 1
        yield first, last, kinds[first]
        first = last


def nearest(frames: Sequence[np.ndarray], places: Iterable[Fraction]) -> Iterator[np.ndarray]:
    """The frame that is nearest to each position; of two the earlier."""
    for place in places:
        yield frames[math.ceil(place - Fraction(1, 2))]
