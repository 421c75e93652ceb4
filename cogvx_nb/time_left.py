"""One time left and one share done over all stages of a video, from its events.

What is left is what was expected at first, corrected by the pace of the steps. The first step is
not extrapolated, since it warms up; and the time left that is told approaches the estimate
gradually, so that it doesn't jump.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from .events import Event, FrameFinished, PlanChanged, Planned, SharesChanged, StageStarted, Step

USUAL_SHARES = {"load": 0.1, "text": 0.03, "denoise": 0.65, "decode": 0.2, "write": 0.02}
"""Of the time of a video, where nothing better is known."""

MOST_SHARE = 0.99
"""Of what isn't over yet: whole per cent are shown, and 100 of them only of what is there."""

UNKNOWN_SECONDS = 60.0
"""Of a video, for the share done of what comes before the steps, where nothing is known."""

STAGES = ("enrich", "load", "text", "encode", "compile", "denoise", "decode", "finish", "write")
"""In the order in which they follow each other."""

COUNTED = ("denoise", "finish")
"""Stages whose steps, or frames, are counted; a video has one of them."""

EXPECTED_WEIGHT = 1.5
"""Steps that the expected pace counts for beside those observed."""

FORGETTING = 0.9
"""Weight of a step beside the next: the latest ten decide, so that a machine's load is noticed."""

CACHED_STEP = 0.03
"""Time of a step whose result is taken from a cache, over that of a computed one."""

MOST_SCALE = 20.0
"""By how much what follows the steps may be slower or faster than was expected, as they were."""

MOST_CHANGE = 1.4
"""The time left changes at most by this factor in a second, and from one look to the next."""

LEAST_SECONDS = 4.0
"""A time left below this may change as if it were this."""


class Steady:
    """A time left that approaches what is estimated, without a jump."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.seconds: float | None = None  # as it was told last
        self._then = 0.0

    def approach(self, estimate: float) -> float:
        """The time left to tell now."""
        now = self._clock()
        if self.seconds is None:
            self.seconds, self._then = estimate, now
            return estimate
        past, self._then = now - self._then, now
        counted = max(self.seconds - past, 0.0)
        most, base = MOST_CHANGE ** min(past, 1.0), max(counted, LEAST_SECONDS)
        lowest, highest = counted - base * (1 - 1 / most), counted + base * (most - 1)
        self.seconds = max(min(max(estimate, lowest), highest), 0.0)
        return self.seconds


class TimeLeft:
    """Share done and seconds left of a video; a listener, which may be looked at from any thread.

    Args:
        expected: seconds of each stage that is still to come; where it is empty those of the event
            ``Planned`` count, and if there are none either, only the steps tell.
        clock: seconds, such as ``time.monotonic``.
    """

    def __init__(
        self,
        expected: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._known = dict(expected or {})
        self._shares: tuple[float, ...] = ()  # of each step that is computed; empty if all is
        self._stage, self._since, self._counted = "", clock(), COUNTED[0]
        self._step, self._steps, self._stepped = 0, 0, 0.0  # done, of how many, time of the last
        self._seconds, self._weight = 0.0, 0.0  # of the steps observed, the latest count most
        self._share = 0.0
        self._told = Steady(clock)

    def record(self, event: Event) -> None:
        """Take in what an event says."""
        with self._lock:
            match event:
                case Planned(expected=expected, step_shares=shares):
                    self._known = self._known or dict(expected)
                    self._shares = tuple(shares)
                case StageStarted(stage, seconds):
                    if seconds:
                        self._known.setdefault(stage, seconds)
                    self._stage, self._since, self._step = stage, self._clock(), 0
                    self._counted = stage if stage in COUNTED else self._counted
                case Step(step, steps) | FrameFinished(step, steps):
                    self._record_step(step, steps)
                case SharesChanged(shares):
                    self._change_shares(tuple(shares))
                case PlanChanged():  # the pace is another
                    self._seconds = self._weight = 0.0
            self._look()

    @property
    def stage(self) -> str:
        """The stage at work; empty before the first."""
        return self._stage

    @property
    def share(self) -> float:
        """How much of the whole is done, 0 … ``MOST_SHARE``; never less than before."""
        with self._lock:
            self._look()
            return self._share

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the video is written; None while nothing is known."""
        with self._lock:
            self._look()
            return self._told.seconds

    def _record_step(self, step: int, steps: int) -> None:
        now = self._clock()
        if step > 1 and self._step == step - 1:  # the first one warms up
            kept = FORGETTING if self._weight else 1.0
            self._seconds = kept * self._seconds + (now - self._stepped)
            self._weight = kept * self._weight + self._step_weight(step - 1)
        self._step, self._steps, self._stepped = step, steps, now

    def _change_shares(self, shares: tuple[float, ...]) -> None:
        """Those of the clip at work; all clips of a video have as many steps."""
        before = sum(map(self._step_weight, range(len(self._shares))))
        begin = self._step // len(shares) * len(shares)
        end = begin + len(shares)
        self._shares = (*self._shares[:begin], *shares, *self._shares[end:])
        if before and "denoise" in self._known:
            after = sum(map(self._step_weight, range(len(self._shares))))
            self._known["denoise"] *= after / before

    def _step_weight(self, index: int) -> float:
        return max(self._shares[index], CACHED_STEP) if index < len(self._shares) else 1.0

    def _weight_left(self) -> float:
        return sum(map(self._step_weight, range(self._step, self._steps)))

    def _expected(self, stage: str) -> float:
        return (self._known or USUAL_SHARES).get(stage, 0.0)

    def _expected_pace(self) -> float:
        """Expected seconds of a computed step; 0 if none were."""
        whole = sum(map(self._step_weight, range(self._steps)))
        return self._known.get(self._counted, 0.0) / whole if whole else 0.0

    def _pace(self) -> float:
        """Seconds of a computed step; 0 if nothing is known of it."""
        expected = self._expected_pace()
        # What was expected is forgotten as the steps are.
        weight = EXPECTED_WEIGHT * FORGETTING**self._step if expected else 0.0
        known = self._weight + weight
        return (self._seconds + weight * expected) / known if known > CACHED_STEP else 0.0

    def _scale(self) -> float:
        """By how much all is slower than was expected; 0 if nothing is known."""
        pace, expected = self._pace(), self._expected_pace()
        if not self._known:  # the usual shares, scaled so that the steps take what they do
            whole = sum(map(self._step_weight, range(self._steps)))
            return pace * whole / USUAL_SHARES["denoise"]
        if not (pace and expected):
            return 1.0
        return min(max(pace / expected, 1 / MOST_SCALE), MOST_SCALE)

    def _look(self) -> None:
        """Bring the share and the time left up to now."""
        now, place = self._clock(), self._place()
        following = sum(map(self._expected, STAGES[place + 1 :]))
        before = sum(map(self._expected, STAGES[: max(place, 0)]))
        own = self._expected(self._stage) if place >= 0 else 0.0
        whole = before + own + following
        if whole:
            done = (before + own * self._part(now)) / whole
            self._share = max(self._share, min(done, MOST_SHARE))
        scale = self._scale()
        if scale:
            self._told.approach(self._stage_left(now, scale) + scale * following)

    def _place(self) -> int:
        """Number of the stage at work; -1 before the first."""
        return STAGES.index(self._stage) if self._stage in STAGES else -1

    def _part(self, now: float) -> float:
        """How much of the stage at work is done."""
        if self._stage in COUNTED:
            left, pace = self._weight_left(), self._pace()
            if not self._steps:
                return 0.0
            begun = min((now - self._stepped) / pace, 0.9) if pace else 0.0
            next_weight = self._step_weight(self._step) if self._step < self._steps else 0.0
            whole = sum(map(self._step_weight, range(self._steps)))
            return 1 - (left - begun * next_weight) / whole
        past, left = now - self._since, self._stage_left(now, self._scale() or UNKNOWN_SECONDS)
        return past / (past + left) if past + left else 0.0

    def _stage_left(self, now: float, scale: float) -> float:
        """Seconds left of the stage at work; a tenth of its time where it takes longer."""
        past = now - self._since
        if self._stage in COUNTED and self._steps:
            pace = self._pace()
            weight = self._step_weight(self._step) if self._step < self._steps else 0.0
            return self._weight_left() * pace - min(now - self._stepped, pace * weight)
        expected = self._expected(self._stage)
        return max(scale * expected - past, 0.1 * past) if expected else 0.0
