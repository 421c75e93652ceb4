"""What generation hands over to be written."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..planning.plan import Plan
from ..planning.request import VideoRequest


@dataclass(frozen=True, slots=True)
class Generated:
    """A generated video that is not yet written."""

    frames: np.ndarray  # uint8 (frames, height, width, 3), RGB
    request: VideoRequest  # as it was run
    plan: Plan  # as it was run
    hashes: dict[str, str]  # SHA-256 of the checkpoint's files
    seconds: dict[str, float]  # of each stage: load, text, denoise, decode
    threads: int  # of torch on the CPU; they can change the last bit
    input_hashes: dict[str, str] = field(default_factory=dict)  # of fitted pixels, by field
    attention_share: float = 1.0  # part of the attention that was computed
    kept_shares: tuple[float, ...] = ()  # of the plan's LoRAs, see ``pipeline.lora_merge``
