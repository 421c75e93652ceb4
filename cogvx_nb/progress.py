"""Events of generation and of transfers, and the progress bars that show them. Loads no torch."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from . import settings
from .text import print_error

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins: ``text``, ``compile``, ``denoise``, ``decode`` or ``write``."""

    stage: str
    seconds: float = 0.0  # predicted; 0 if there is no prediction


@dataclass(frozen=True, slots=True)
class Step:
    """A denoising step is done."""

    step: int  # from 1
    steps: int  # of the whole video
    seconds_left: float  # for the remaining steps, extrapolated from those done
    latents: torch.Tensor  # predicted clean latents, (1, latent frames, 16, height / 8, width / 8)
    # on the device: what a preview is made from. Listeners must not change them.


@dataclass(frozen=True, slots=True)
class Planned:
    """A request was validated and planned; the work begins."""

    request: object  # ``planning.request.VideoRequest``
    plan: object  # ``planning.plan.Plan``
    model_note: str = ""  # why this checkpoint, where the choice was not the user's

    def __str__(self) -> str:
        lines = [f"model: {self.model_note}"] if self.model_note else []
        lines += [str(self.request), f"plan: {self.plan}"]
        return "\n".join(lines + [f"approximate: {text}" for text in self.plan.approximations])


@dataclass(frozen=True, slots=True)
class PlanChanged:
    """Memory ran out, or compiling failed; the same request is retried with another plan."""

    plan: object

    def __str__(self) -> str:
        return f"{self.plan.reasons[-1]}; trying again: {self.plan}"


@dataclass(frozen=True, slots=True)
class RequestReduced:
    """Memory ran out with every plan; the request is made smaller, as the caller allowed."""

    request: object


@dataclass(frozen=True, slots=True)
class FramesDone:
    """The frames are decoded."""

    generated: object


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user should know, in a line."""

    text: str

    def __str__(self) -> str:
        return self.text


Event = Planned | StageStarted | Step | PlanChanged | RequestReduced | FramesDone | Note
Listener = Callable[[Event], None]


class CancelToken(Protocol):
    """Says whether to stop, as a ``threading.Event`` does."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Started:
    """A transfer stage begins: ``fetching`` or ``checking``."""

    stage: str
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes of a file were fetched or checked."""

    path: str
    count: int  # since the last event; negative if the file is fetched from the start again
    file_bytes: int


TransferEvent = Started | Bytes | Note
TransferListener = Callable[[TransferEvent], None]

QUIET_SECONDS = 30
"""Seconds between lines about a transfer, where no bar can be shown."""


class Progress:
    """A listener for ``generate_frames`` and ``save_result``. Use it in a ``with`` statement."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: tqdm | None = None
        self._notebook = notebook_line() if in_notebook() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()
        if self._notebook is not None:
            self._show("stopped" if exception[0] else "done")

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted(stage, seconds):
                self._close()
                self._stage = stage
                self._show(f"{stage}, about {seconds:.0f} s" if seconds else stage)
            case Step(step, steps, seconds_left):
                self._advance(step, steps, seconds_left)
            case Planned() | PlanChanged() | Note():
                self._close()
                self._show(str(event))
            case RequestReduced(request):
                self._close()
                changes = "; ".join(str(change) for change in request.adjustments)
                self._show(f"memory ran out; making less: {changes}")

    def _advance(self, step: int, steps: int, seconds_left: float) -> None:
        if self._notebook is not None:
            self._show(f"{self._stage} {step}/{steps}, {seconds_left:.0f} s left")
        elif sys.stderr.isatty():
            if self._bar is None:
                self._bar = _terminal_bar()(desc=self._stage, total=steps, unit="step", leave=False)
            self._bar.update(step - self._bar.n)

    def _show(self, line: str) -> None:
        if self._notebook is not None:
            self._notebook.update({"text/plain": line}, raw=True)
        else:
            print_error(line)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


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
