"""Events of generation and of transfers, and the progress bars that show them. Loads no torch."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from . import settings
from .events import (
    Bytes,
    CancelToken,
    Event,
    FrameFinished,
    FramesDone,
    Listener,
    Note,
    PieceReached,
    PlanChanged,
    Planned,
    RequestReduced,
    SharesChanged,
    StageStarted,
    Started,
    Step,
    TransferEvent,
    TransferListener,
)
from .live_line import QUIET_SECONDS, LiveLine, bar_line, in_notebook
from .piece_times import PieceTimes
from .text import print_error
from .time_left import TimeLeft

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = [
    "Bytes",
    "CancelToken",
    "Event",
    "FrameFinished",
    "FramesDone",
    "Listener",
    "Note",
    "PlanChanged",
    "Planned",
    "Progress",
    "RequestReduced",
    "SharesChanged",
    "StageStarted",
    "Started",
    "Step",
    "TimeLeft",
    "TransferEvent",
    "TransferListener",
    "TransferProgress",
]


class Progress:
    """A listener for ``generate_frames`` and ``save_result``. Use it in a ``with`` statement.

    One bar over the whole video, with all pieces of a storyboard, and a line with its seconds for
    each stage that is done.
    """

    def __init__(self) -> None:
        self._time = PieceTimes()
        self._step = ""  # such as "12/50"
        self._begun = 0.0  # time at which the stage began
        self._line = LiveLine(self._status)

    def __enter__(self) -> Progress:
        self._line.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self._end_stage()
        elif self._time.stage:
            self._line.keep(f"stopped in {self._at_work()}")
        self._line.__exit__(*exception)

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted | PieceReached):
            self._end_stage()
            self._step = ""
        if isinstance(event, StageStarted):
            self._begun = time.monotonic()
        self._time.record(event)
        match event:
            case Step(step, steps) | FrameFinished(step, steps):
                self._step = f"{step}/{steps}"
                self._line.redraw()
            case StageStarted() | PieceReached():
                self._line.redraw(now=True)
            case Planned():
                if not self._line.in_notebook:  # which shows both itself
                    self._line.keep(str(event))
            case PlanChanged() | Note():
                self._line.keep(str(event))
            case RequestReduced(request):
                changes = "; ".join(str(change) for change in request.adjustments)
                self._line.keep(f"memory ran out; making less: {changes}")

    def _end_stage(self) -> None:
        if self._begun:
            self._line.keep(f"{self._time.stage:8} {time.monotonic() - self._begun:6.1f} s")
            self._begun = 0.0

    def _status(self) -> str:
        return bar_line(self._at_work(), self._time.share, self._time.seconds_left)

    def _at_work(self) -> str:
        """Piece, stage and step, such as "piece 2 of 4, denoise 12/50"."""
        stage = f"{self._time.stage or 'starting'} {self._step}".rstrip()
        return ", ".join(filter(None, [self._time.piece, stage]))


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
