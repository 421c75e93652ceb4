"""What a LoRA is trained with. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import RequestError

BOUNDS = {
    "rank": (1, 256),
    "alpha": (1e-3, 1024),
    "steps": (1, 100_000),
    "learning_rate": (1e-7, 1.0),
    "batch": (1, 64),
    "frames": (1, 161),
    "seed": (0, 2**63 - 1),
    "save_every": (1, 100_000),
}
"""Least and most of each number."""

ATTENTION = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
"""Linear layers of each block. On the embedded model a new style needs both: with the attention
alone, at twice the rank, 300 steps drew fragments of outlines."""

WHOLE = ("rank", "steps", "batch", "frames", "seed", "save_every")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Numbers of a training run.

    Raises:
        RequestError: for one out of ``BOUNDS``.
    """

    rank: int = 3
    alpha: float | None = None  # None: the rank, a scale of 1
    steps: int = 700
    learning_rate: float = 3e-3  # the highest
    batch: int = 3  # examples a step
    frames: int = 13  # of each clip; pictures are clips of one
    seed: int = 0
    save_every: int = 50  # steps between two checkpoints
    layers: tuple[str, ...] = (*ATTENTION, *FEED_FORWARD)  # ends of names

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            value = getattr(self, name)
            if value is None and name == "alpha":
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not least <= value <= most:
                raise RequestError(name, value, f"give a number from {least} to {most}")
            if name in WHOLE and not isinstance(value, int):
                raise RequestError(name, value, "give a whole number")

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / self.rank
