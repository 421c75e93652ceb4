"""What a video is expected to take."""

from __future__ import annotations

from dataclasses import dataclass

from ..results.fidelity import FidelityRow


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a video is expected to take."""

    seconds: float | None  # None if nothing is known of the GPU
    peak_bytes: float  # on the device
    note: str = ""  # what the speed does without here
    fidelity: FidelityRow | None = None  # how far such videos lie from exact, where measured here
