"""Share done and time left of a job that may make several videos, one after another."""

from __future__ import annotations

import time

from .events import MAKING, Event, PieceReached
from .time_left import USUAL_SHARES, TimeLeft

JOINING = USUAL_SHARES["write"]
"""Share of a storyboard in which its pieces are joined and written."""


class PieceTimes:
    """``TimeLeft`` over all pieces of a storyboard; the same as it for any other video.

    Pieces that are still to come are taken to need as long as the one at work.
    """

    def __init__(self) -> None:
        self.states: tuple[str, ...] = ()  # of each piece: of ``events``, or empty before it
        self._time, self._since = TimeLeft(), time.monotonic()
        self._share = 0.0

    def record(self, event: Event) -> None:
        """Take in what an event says."""
        if not isinstance(event, PieceReached):
            self._time.record(event)
            return
        states = self.states or ("",) * event.pieces
        self.states = (*states[: event.number - 1], event.state, *states[event.number :])
        if event.state == MAKING:
            self._time, self._since = TimeLeft(), time.monotonic()

    @property
    def stage(self) -> str:
        """The stage at work, of the piece at work; empty before the first."""
        return self._time.stage

    @property
    def piece(self) -> str:
        """Which piece is at work, such as "piece 2 of 4"; empty between pieces."""
        if MAKING not in self.states:
            return ""
        return f"piece {self.states.index(MAKING) + 1} of {len(self.states)}"

    @property
    def share(self) -> float:
        """How much of the whole is done, below 1 until the end; never less than before."""
        if not self.states:
            return self._time.share
        done = sum(state not in ("", MAKING) for state in self.states)
        own = self._time.share if MAKING in self.states else 0.0
        self._share = max(self._share, (1 - JOINING) * (done + own) / len(self.states))
        return self._share

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the whole is written; None while nothing is known."""
        left = self._time.seconds_left
        if left is None:
            return None
        whole = time.monotonic() - self._since + left
        return left + whole * self.states.count("")
