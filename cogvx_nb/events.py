"""What ``generate`` reports while it works, and what it hands over. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .plan import Plan
from .request import VideoRequest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins: ``text``, ``compile``, ``denoise``, ``decode`` or ``write``.

    Attributes:
        seconds: predicted; 0 where nothing is known.
    """

    stage: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """A denoising step is done.

    Attributes:
        step, steps: this one (from 1), and how many there are.
        seconds_left: for the remaining steps, from those done.
        latents: the clean clip as the model sees it now: (1, latent frames, 16, height / 8,
            width / 8) on the device. What a preview is made from; not to be changed.
    """

    step: int
    steps: int
    seconds_left: float
    latents: torch.Tensor


@dataclass(frozen=True, slots=True)
class PlanChanged:
    """Memory ran out, or compiling failed; the same request is tried again on another plan."""

    plan: Plan

    def __str__(self) -> str:
        return f"{self.plan.reasons[-1]}; trying again: {self.plan}"


@dataclass(frozen=True, slots=True)
class RequestReduced:
    """Memory ran out on every plan; a smaller video is made instead, as the caller allowed."""

    request: VideoRequest


@dataclass(frozen=True, slots=True)
class Generated:
    """A video that was made, not yet written.

    Attributes:
        frames: uint8 (frames, height, width, 3), RGB.
        request, plan: as they were run.
        hashes: SHA-256 of the checkpoint's files.
        seconds: of each stage: load, text, denoise, decode.
        threads: CPU threads that torch computed with; they can change the last bit.
    """

    frames: np.ndarray
    request: VideoRequest
    plan: Plan
    hashes: dict[str, str]
    seconds: dict[str, float]
    threads: int


@dataclass(frozen=True, slots=True)
class Done:
    """The frames are there."""

    generated: Generated


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that the user should know of this video.

    Attributes:
        text: in a line.
    """

    text: str


Event = StageStarted | Step | PlanChanged | RequestReduced | Done | Noted
Listener = Callable[[Event], None]


class CancelToken(Protocol):
    """Anything that can be asked whether to stop, such as a ``threading.Event``."""

    def is_set(self) -> bool: ...
