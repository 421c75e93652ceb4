"""Progress of a sweep: a live table in a terminal or a notebook, else plain lines."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ..progress import in_notebook, notebook_line
from ..text import cut_line, format_duration, format_rate, plain_line
from .folder import LATEST, SweepRun


@dataclass
class Progress:
    """Progress of a sweep. Only the driver changes it."""

    name: str  # of the sweep
    total: int  # runs in this driver's share
    done: int  # earlier ones included
    waiting: int  # runs not started yet
    workers: int
    failed: dict[str, str] = field(default_factory=dict)  # the error of each, by run id
    running: dict[int, tuple[SweepRun, float]] = field(default_factory=dict)  # since, by worker
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))  # of latest runs
    note: str = ""  # the last event, in one line
    start: float = field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float | None:
        """Predicted for the runs running and waiting; None before the first is done."""
        if not self.seconds:
            return None
        each = sum(self.seconds) / len(self.seconds)
        now = time.monotonic()
        running = sum(max(0.0, each - (now - since)) for _, since in self.running.values())
        return (self.waiting * each + running) / self.workers


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
    lines = [progress_summary(progress)]
    for number, (run, since) in sorted(progress.running.items()):
        seconds = time.monotonic() - since
        lines.append(f"  worker {number + 1}  {run.id}  {seconds:5.0f} s  {describe_varied(run)}")
    if progress.note:
        lines.append(f"  last      {progress.note}")
    return lines


def progress_summary(progress: Progress) -> str:
    """One line: runs done, running, failed and waiting; their rate; the time left."""
    counts = f"{progress.done} of {progress.total} done, {len(progress.running)} running"
    counts += f", {len(progress.failed)} failed, {progress.waiting} waiting"
    if not progress.seconds:
        return f"{progress.name}: {counts}"
    each = sum(progress.seconds) / len(progress.seconds) / progress.workers
    left = progress.seconds_left
    return f"{progress.name}: {counts}; {format_rate(each)}, {format_duration(left)} left"


def describe_varied(run: SweepRun) -> str:
    """The parameters that vary, with their values in this run, in one line."""
    values = run.varied.items()
    return ", ".join(
        f"{name} = {cut_line(plain_line(value), VALUE_WIDTH)}" for name, value in values
    )
