"""How a sweep stands, for a person: a live table in a terminal or a notebook, else plain lines."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ..progress import in_notebook, notebook_line
from ..text import cut_line, format_duration, format_rate, plain_line
from .runs import SweepRun

LATEST = 20
"""Runs whose time says how long the rest will take."""


@dataclass
class Progress:
    """How a sweep stands. Only the driver changes it.

    Attributes:
        name: of the sweep.
        total: its runs, in this driver's share.
        done: runs that are done, earlier ones included.
        failed: why runs failed, by id.
        running: what each worker is at, and since when by ``time.monotonic``.
        waiting: runs that are yet to begin.
        seconds: of the latest runs that were done.
        note: what happened last, in a line.
        start: when the driver began, by ``time.monotonic``.
    """

    name: str
    total: int
    done: int
    waiting: int
    workers: int
    failed: dict[str, str] = field(default_factory=dict)
    running: dict[int, tuple[SweepRun, float]] = field(default_factory=dict)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))
    note: str = ""
    start: float = field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float | None:
        """For what is running and waiting; None before the first is done."""
        if not self.seconds:
            return None
        each = sum(self.seconds) / len(self.seconds)
        now = time.monotonic()
        begun = sum(max(0.0, each - (now - since)) for _, since in self.running.values())
        return (self.waiting * each + begun) / self.workers


View = Callable[[Progress], None]
"""Shows how a sweep stands; called at each change and each ``TICK``."""

QUIET_SECONDS = 30
"""Between plain lines while nothing ends."""

MOST_SHOWN = 60
"""Places that a value may take in a line, so that others are seen too."""


class ProgressTable:
    """A view for ``driver.run_sweep``. Use it in a ``with`` statement."""

    def __init__(self) -> None:
        self._notebook = notebook_line() if in_notebook() else None
        self._live = self._notebook is None and sys.stderr.isatty()
        self._drawn, self._note, self._told = 0, "", 0.0

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
            # Up over what was drawn before, and from there everything anew.
            up = f"\x1b[{self._drawn}F" if self._drawn else ""
            print(f"{up}\x1b[J" + "\n".join(shown), file=sys.stderr, flush=True)
            self._drawn = len(shown)
        elif progress.note != self._note or time.monotonic() - self._told > QUIET_SECONDS:
            news = f"; {progress.note}" if progress.note != self._note else ""
            self._note, self._told = progress.note, time.monotonic()
            print(f"{progress_summary(progress)}{news}", file=sys.stderr, flush=True)


def progress_lines(progress: Progress) -> list[str]:
    """The lines of a live table."""
    lines = [progress_summary(progress)]
    for number, (run, since) in sorted(progress.running.items()):
        lines.append(
            f"  worker {number + 1}  {run.id}  {time.monotonic() - since:5.0f} s  {describe_varied(run)}"
        )
    if progress.note:
        lines.append(f"  last      {progress.note}")
    return lines


def progress_summary(progress: Progress) -> str:
    """One line: how many are done, running, failed and waiting, how fast, and for how long yet."""
    counts = f"{progress.done} of {progress.total} done, {len(progress.running)} running"
    counts += f", {len(progress.failed)} failed, {progress.waiting} waiting"
    if not progress.seconds:
        return f"{progress.name}: {counts}"
    each = sum(progress.seconds) / len(progress.seconds) / progress.workers
    left = progress.seconds_left
    return f"{progress.name}: {counts}; {format_rate(each)}, {format_duration(left)} left"


def describe_varied(run: SweepRun) -> str:
    """What sets a run apart, in a line."""
    values = run.varied.items()
    return ", ".join(
        f"{name} = {cut_line(plain_line(value), MOST_SHOWN)}" for name, value in values
    )
