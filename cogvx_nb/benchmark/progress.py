"""One bar over all measurements of a benchmark, and a line for each kind of video."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..live_line import LiveLine, bar_line
from ..time_left import Steady

KNOWN_SHARE = 0.03
"""Share from which on the time left is extrapolated."""


class BenchProgress:
    """Shows a benchmark in a terminal or a notebook, else prints its lines; in a ``with``."""

    def __init__(self) -> None:
        self._line, self._told = LiveLine(self._status), Steady()
        self._title, self._begun = "", time.monotonic()
        self._weights: tuple[float, ...] = ()  # of each kind, by how long it takes
        self._kind, self._step, self._steps = 0, 0, 0  # kinds done; steps done of this one's

    def __enter__(self) -> BenchProgress:
        self._line.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._line.__exit__(*exception)

    def keep(self, line: str) -> None:
        """Show a line that stays."""
        self._line.keep(line)

    def plan(self, weights: Sequence[float], steps: int) -> None:
        """Say what will be measured.

        Args:
            weights: how long each kind takes beside the others.
            steps: denoising steps of all videos of a kind.
        """
        self._weights, self._steps, self._begun = tuple(weights), steps, time.monotonic()

    def begin_kind(self, title: str) -> None:
        """A kind of video is to be timed."""
        self._title, self._step = title, 0
        self._line.redraw(now=True)

    def step(self) -> None:
        """A denoising step of it is done."""
        self._step += 1
        self._line.redraw()

    def end_kind(self, line: str) -> None:
        """It was timed."""
        self._kind, self._step = self._kind + 1, 0
        self.keep(line)

    @property
    def share(self) -> float:
        """How much of all is measured, 0 … 1."""
        if self._kind >= len(self._weights):
            return 1.0 if self._weights else 0.0
        part = min(self._step / self._steps, 0.99) * self._weights[self._kind]
        return (sum(self._weights[: self._kind]) + part) / sum(self._weights)

    def _status(self) -> str:
        share, left = self.share, None
        if share >= KNOWN_SHARE:
            left = self._told.approach((time.monotonic() - self._begun) * (1 - share) / share)
        return (
            f"{bar_line(f'{self._kind + 1} of {len(self._weights)}', share, left)}  {self._title}"
        )
