"""What generation and transfers report while they work. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins: one of ``time_left.STAGES``."""

    stage: str
    seconds: float = 0.0  # predicted; 0 if there is no prediction


@dataclass(frozen=True, slots=True)
class Step:
    """A denoising step is done."""

    step: int  # from 1
    steps: int  # of the whole video
    latents: torch.Tensor  # predicted clean latents, (1, latent frames, 16, height / 8, width / 8)
    # on the device: what a preview is made from. Listeners must not change them.


@dataclass(frozen=True, slots=True)
class Planned:
    """A request was validated and planned; the work begins."""

    request: object  # ``planning.request.VideoRequest``
    plan: object  # ``planning.plan.Plan``
    model_note: str = ""  # why this checkpoint, where the choice was not the user's
    # Seconds that each stage is expected to take, in their order; empty if nothing is known.
    expected: Mapping[str, float] = field(default_factory=dict)
    # Share of each denoising step that is computed, the rest being cached; empty if all is.
    step_shares: Sequence[float] = ()

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
class SharesChanged:
    """It was decided which steps of the clip at work are computed."""

    step_shares: Sequence[float]  # of each of its steps, see ``Planned``


@dataclass(frozen=True, slots=True)
class RequestReduced:
    """Memory ran out with every plan; the request is made smaller, as the caller allowed."""

    request: object


@dataclass(frozen=True, slots=True)
class FramesDone:
    """The frames are decoded."""

    generated: object


@dataclass(frozen=True, slots=True)
class FrameFinished:
    """A frame of a finished video is made."""

    frame: int  # from 1
    frames: int  # of the whole video


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user should know, in a line."""

    text: str

    def __str__(self) -> str:
        return self.text


MAKING, MADE, TAKEN = "making", "made", "taken"
"""How it stands with a piece: at work, made now, or there already."""


@dataclass(frozen=True, slots=True)
class PieceReached:
    """A piece of a video that is joined of several is begun, made, or was there already."""

    number: int  # from 1
    pieces: int  # of the whole video
    state: str  # MAKING, MADE or TAKEN


Event = (
    Planned
    | StageStarted
    | Step
    | PlanChanged
    | RequestReduced
    | FramesDone
    | FrameFinished
    | PieceReached
    | Note
)
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
