"""Progress of a sweep: a live table in a terminal or a notebook, else plain lines."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ..live_line import bar_line, in_notebook, notebook_line
from ..text import cut_line, format_duration, format_rate, plain_line
from ..time_left import Steady
from .folder import LATEST, SweepRun

START_SECONDS = 15.0
"""What the first run of a worker takes besides: its kernel, the imports, the model."""


@dataclass
class Progress:
    """Progress of a sweep. Only the driver changes it."""

    name: str  # of the sweep
    total: int  # runs in this driver's share
    done: int  # earlier ones included
    waiting: int  # runs not started yet
    workers: int
    waiting_seconds: float | None = None  # predicted for those; None if it isn't for all
    failed: dict[str, str] = field(default_factory=dict)  # the error of each, by run id
    running: dict[int, tuple[SweepRun, float]] = field(default_factory=dict)  # since, by worker
    status: dict[int, str] = field(default_factory=dict)  # what each shows of its run, by worker
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))  # of latest runs
    # Of the same, over what was predicted for them.
    slowdowns: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))
    note: str = ""  # the last event, in one line
    start: float = field(default_factory=time.monotonic)
    _told: Steady = field(default_factory=Steady)

    @property
    def share(self) -> float:
        """How much of all runs is done, 0 … 1; a run that is running counts in part."""
        now, parts = time.monotonic(), 0.0
        for run, since in self.running.values():
            if expected := self._expected(run):
                parts += min((now - since) / expected, 0.95)
        return (self.done + parts) / self.total if self.total else 1.0

    @property
    def seconds_left(self) -> float | None:
        """For the runs running and waiting: as they were predicted, corrected by those done."""
        estimate = self._estimate()
        return None if estimate is None else self._told.approach(estimate)

    def _estimate(self) -> float | None:
        now, left = time.monotonic(), 0.0
        for run, since in self.running.values():
            expected, past = self._expected(run), now - since
            if expected is None:
                return None
            left += max(expected - past, 0.1 * past)
        if self.waiting_seconds is not None:
            left += self._slowdown * self.waiting_seconds
        elif self.seconds:
            left += self.waiting * statistics.median(self.seconds)
        elif self.waiting:
            return None
        return left / max(self.workers, 1)

    def _expected(self, run: SweepRun) -> float | None:
        """Seconds that a run takes; None if nothing is known."""
        if run.seconds:
            start = 0.0 if self.slowdowns else START_SECONDS
            return self._slowdown * run.seconds + start
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def _slowdown(self) -> float:
        # The first run loads the model, so it counts only until there is another.
        known = list(self.slowdowns)
        return statistics.median(known[1:] or known or [1.0])


def predicted_seconds(runs: Collection[SweepRun]) -> float | None:
    """Predicted seconds of some runs together; None if that isn't known for one of them."""
    known = [run.seconds for run in runs if run.seconds is not None]
    return sum(known) if len(known) == len(runs) else None


View = Callable[[Progress], None]
"""Shows the progress of a sweep; called at each change and each ``driver.TICK``."""

QUIET_SECONDS = 30
"""Seconds between plain lines while no run ends."""

VALUE_WIDTH = 60
"""Columns that a parameter's value may take in a line, so that others fit too."""


class ProgressTable:
    """A view for ``driver.run_sweep``. Use it in a ``with`` statement."""

    def __init__(self) -> None:
        self._notebook = notebook_line() if in_notebook() else None
        self._live = self._notebook is None and sys.stderr.isatty()
        self._drawn, self._note, self._printed = 0, "", 0.0  # lines, last note, time of last line

    def __enter__(self) -> ProgressTable:
        return self

    def __exit__(self, *exception: object) -> None:
        self._drawn = 0

    def __call__(self, progress: Progress) -> None:
        if self._notebook is not None:
            self._notebook.update({"text/plain": "\n".join(progress_lines(progress))}, raw=True)
        elif self._live:
            width, height = shutil.get_terminal_size()
            shown = [cut_line(line, width - 1) for line in progress_lines(progress)[: height - 1]]
            # Move the cursor up over the last table, and clear from there.
            up = f"\x1b[{self._drawn}F" if self._drawn else ""
            print(f"{up}\x1b[J" + "\n".join(shown), file=sys.stderr, flush=True)
            self._drawn = len(shown)
        elif progress.note != self._note or time.monotonic() - self._printed > QUIET_SECONDS:
            news = f"; {progress.note}" if progress.note != self._note else ""
            self._note, self._printed = progress.note, time.monotonic()
            print(f"{progress_summary(progress)}{news}", file=sys.stderr, flush=True)


def progress_lines(progress: Progress) -> list[str]:
    """The lines of a live table."""
    lines = [bar_line(progress.name, progress.share, progress.seconds_left), _counts(progress)]
    for number, (run, since) in sorted(progress.running.items()):
        seconds, status = time.monotonic() - since, progress.status.get(number, "")
        parts = (f"  worker {number + 1}", f"{seconds:4.0f} s", status, describe_varied(run))
        lines.append("  ".join(filter(None, parts)))
    if progress.note:
        lines.append(f"  last  {progress.note}")
    return lines


def progress_summary(progress: Progress) -> str:
    """One line: runs done, running, failed and waiting; their rate; the time left."""
    left = progress.seconds_left if progress.running or progress.waiting else None
    after = f", about {format_duration(left)} left" if left is not None else ""
    return f"{progress.name}: {_counts(progress)}{after}"


def _counts(progress: Progress) -> str:
    counts = [f"{progress.done} of {progress.total} done"]
    for count, word in (
        (len(progress.running), "running"),
        (len(progress.failed), "failed"),
        (progress.waiting, "waiting"),
    ):
        counts += [f"{count} {word}"] if count else []
    if progress.seconds:
        each = statistics.fmean(progress.seconds) / max(progress.workers, 1)
        counts.append(format_rate(each))
    return ", ".join(counts)


def describe_varied(run: SweepRun) -> str:
    """The parameters that vary, with their values in this run, in one line."""
    values = run.varied.items()
    return ", ".join(
        f"{name} = {cut_line(plain_line(value), VALUE_WIDTH)}" for name, value in values
    )
