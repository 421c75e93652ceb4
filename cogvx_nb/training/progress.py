"""A line that shows how far training is."""

from __future__ import annotations

import time

from ..live_line import LiveLine, bar_line
from .trainer import TrainingStep


class TrainingProgress:
    """A listener for ``train_lora``. Use it in a ``with`` statement."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None  # step and time of the first event
        self._last: TrainingStep | None = None
        self._line = LiveLine(self._status)

    def __enter__(self) -> TrainingProgress:
        self._line.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._last is not None:
            done = f"{self._last.step}/{self._last.steps} steps, loss {self._last.loss:.4f}"
            self._line.keep(done)
        self._line.__exit__(*exception)

    def __call__(self, event: TrainingStep) -> None:
        self._first = self._first or (event.step, time.monotonic())
        self._last = event
        self._line.redraw()

    def _status(self) -> str:
        if self._last is None:
            return bar_line("encoding", 0.0, None)
        (first, then), last = self._first, self._last
        pace = (time.monotonic() - then) / max(last.step - first, 1)
        left = pace * (last.steps - last.step) if last.step > first else None
        return bar_line(f"train {last.step}/{last.steps}", last.step / last.steps, left)
