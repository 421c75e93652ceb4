"""What a video is expected to take."""

from __future__ import annotations

from dataclasses import dataclass

from ..planning.request import VideoRequest
from ..results.fidelity import FidelityRow


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a video is expected to take."""

    seconds: float | None  # None if nothing is known of the GPU
    peak_bytes: float  # on the device
    note: str = ""  # what the speed does without here
    fidelity: FidelityRow | None = None  # how far such videos lie from exact, where measured here


def cost_kind(request: VideoRequest) -> tuple:
    """What decides how long a request takes: those with equal ones are predicted once."""
    size = request.clip_frames, request.pieces, request.height, request.width
    how = request.done_steps, request.guiding, request.speed, request.attention, request.gpus
    model = str(request.model.folder or request.model.name)
    return (model, *size, *how, request.encoded_frames, request.loras)
