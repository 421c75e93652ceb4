"""Events of generation and of transfers, and the progress bars that show them. Loads no torch."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING

from . import settings
from .events import (
    Bytes,
    CancelToken,
    Event,
    FramesDone,
    Listener,
    Note,
    PlanChanged,
    Planned,
    RequestReduced,
    StageStarted,
    Started,
    Step,
    TransferEvent,
    TransferListener,
)
from .text import format_duration, print_error
from .time_left import TimeLeft

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = [
    "Bytes",
    "CancelToken",
    "Event",
    "FramesDone",
    "Listener",
    "Note",
    "PlanChanged",
    "Planned",
    "Progress",
    "RequestReduced",
    "StageStarted",
    "Started",
    "Step",
    "TimeLeft",
    "TransferEvent",
    "TransferListener",
    "TransferProgress",
]

QUIET_SECONDS = 30
"""Seconds between lines about work or a transfer, where no bar can be shown."""

REDRAW_SECONDS = 0.5
"""Seconds between looks at a bar in a terminal while nothing happens."""

BAR_COLUMNS = 24
"""Of the bar in a terminal or a notebook."""


class Progress:
    """A listener for ``generate_frames`` and ``save_result``. Use it in a ``with`` statement.

    One bar over the whole video, and a line with its seconds for each stage that is done.
    """

    def __init__(self) -> None:
        self._time = TimeLeft()
        self._step = ""  # such as "12/50"
        self._begun = 0.0  # time at which the stage began
        self._lines: list[str] = []  # what stays, in a notebook
        self._lock, self._over = threading.RLock(), threading.Event()
        self._notebook = notebook_line() if in_notebook() else None
        self._live = self._notebook is None and sys.stderr.isatty()

    def __enter__(self) -> Progress:
        if self._notebook is None:
            threading.Thread(target=self._redraw, name="cogvx progress", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        with self._lock:
            if exception[0] is None:
                self._end_stage()
            elif self._time.stage:
                self._keep(f"stopped in {self._time.stage} {self._step}".rstrip())
            self._draw("")

    def __call__(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, StageStarted):
                self._end_stage()
                self._step, self._begun = "", time.monotonic()
            self._time.record(event)
            match event:
                case Step(step, steps):
                    self._step = f"{step}/{steps}"
                case Planned():
                    if self._notebook is None:  # which shows both itself
                        self._keep(str(event))
                case PlanChanged() | Note():
                    self._keep(str(event))
                case RequestReduced(request):
                    changes = "; ".join(str(change) for change in request.adjustments)
                    self._keep(f"memory ran out; making less: {changes}")
            self._draw(self._status())

    def _end_stage(self) -> None:
        if self._begun:
            self._keep(f"{self._time.stage:8} {time.monotonic() - self._begun:6.1f} s")
            self._begun = 0.0

    def _status(self) -> str:
        """The stage, its step, the bar, the share and the time left, in a line."""
        stage = f"{self._time.stage or 'starting'} {self._step}".rstrip()
        share, left = self._time.share, self._time.seconds_left
        full = round(share * BAR_COLUMNS)
        bar = "█" * full + "░" * (BAR_COLUMNS - full)
        after = f", about {format_duration(left)} left" if left is not None else ""
        return f"{stage:16} {bar} {share:4.0%}{after}"

    def _keep(self, line: str) -> None:
        """Show a line that stays."""
        self._lines.append(line)
        if self._notebook is None:
            print_error(f"{CLEAR_LINE if self._live else ''}{line}")

    def _draw(self, status: str) -> None:
        """Show a line that the next one replaces."""
        if self._notebook is not None:
            lines = "\n".join([*self._lines, *filter(None, [status])])
            self._notebook.update({"text/plain": lines}, raw=True)
        elif self._live:
            columns = shutil.get_terminal_size().columns
            print(f"{CLEAR_LINE}{status[: columns - 1]}", end="", file=sys.stderr, flush=True)

    def _redraw(self) -> None:
        while not self._over.wait(REDRAW_SECONDS if self._live else QUIET_SECONDS):
            with self._lock:
                if self._over.is_set():
                    return
                if self._live:
                    self._draw(self._status())
                else:
                    print_error(self._status())


CLEAR_LINE = "\r\x1b[K"


class TransferProgress:
    """A listener for ``fetch_checkpoint`` and ``verify_checkpoint``.

    A bar for all bytes and one for each file that is being transferred, with rate and time left;
    without a terminal or a front end, a line every ``QUIET_SECONDS``. Use it in a ``with``
    statement.
    """

    def __init__(self) -> None:
        live = in_notebook() and settings.live_ui()
        self._bar_kind = None
        if live or sys.stderr.isatty():
            self._bar_kind = _notebook_bar() if live else _terminal_bar()
        self._whole: tqdm | None = None
        self._files: dict[str, tqdm] = {}
        self._lock, self._printed_at = threading.Lock(), 0.0

    def __enter__(self) -> TransferProgress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def __call__(self, event: TransferEvent) -> None:
        with self._lock:  # workers report from their threads
            match event:
                case Started(stage, total_bytes):
                    self._close()
                    self._printed_at = time.monotonic()
                    self._whole = self._bar(stage, total_bytes, leave=True)
                case Bytes(path, count, file_bytes):
                    self._advance(path, count, file_bytes)
                case Note(text):
                    self._print_line(text)

    def _advance(self, path: str, count: int, file_bytes: int) -> None:
        self._whole.update(count)
        if self._bar_kind is None:
            if time.monotonic() - self._printed_at > QUIET_SECONDS:
                self._print_summary()
            return
        bar = self._files.get(path)
        if bar is None:
            bar = self._files[path] = self._bar(path, file_bytes, leave=False)
        bar.update(count)
        if bar.n >= file_bytes:
            bar.close()

    def _bar(self, name: str, total: int, leave: bool) -> tqdm:
        kind, hidden = self._bar_kind or _terminal_bar(), self._bar_kind is None
        # A hidden bar still counts, for the printed lines.
        options = {"file": _NullFile()} if hidden else {}
        return kind(desc=name, total=total, unit="B", unit_scale=True, leave=leave, **options)

    def _print_summary(self) -> None:
        self._printed_at = time.monotonic()
        if self._whole is None or not self._whole.total:
            return
        now = self._whole.format_dict
        done, total, rate = now["n"], now["total"], now["n"] / max(now["elapsed"], 1e-3)
        left = (
            f", {self._whole.format_interval((total - done) / rate)} left"
            if 0 < done < total
            else ""
        )
        self._print_line(
            f"{self._whole.desc}: {done / total:.0%} of {self._whole.format_sizeof(total)}B, "
            f"{self._whole.format_sizeof(rate)}B/s{left}"
        )

    def _print_line(self, line: str) -> None:
        if self._bar_kind is None:
            print_error(line)
        else:
            self._bar_kind.write(line)

    def _close(self) -> None:
        if self._bar_kind is None:
            self._print_summary()
        for bar in (*self._files.values(), self._whole):
            if bar is not None:
                bar.close()
        self._files, self._whole = {}, None


class _NullFile:
    """A file that discards what is written to it."""

    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass


def _terminal_bar() -> type[tqdm]:
    from tqdm import tqdm  # late: ``cogvx check`` runs where no package is installed

    return tqdm


def _notebook_bar() -> type[tqdm]:
    from tqdm.notebook import tqdm as bar

    return bar


def in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def notebook_line():
    from IPython.display import display

    return display({"text/plain": "starting"}, raw=True, display_id=True)
