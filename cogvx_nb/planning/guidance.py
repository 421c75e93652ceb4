"""The guidance scale of each denoising step. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable

Guidance = Callable[[list[int]], list[float]]
"""The guidance scale of each step, from the timesteps of all of them."""


def constant(scale: float) -> Guidance:
    """The same scale at each step."""
    return lambda timesteps: [scale] * len(timesteps)


def wave(scale: float) -> Guidance:
    """Between 1 and 1 + ``scale``, up and down from step to step.

    The authors call it dynamic guidance. It is a formula for the index of a step that their code,
    and that of diffusers, gives the timestep of 0 … 999.
    """

    def scales(timesteps: list[int]) -> list[float]:
        count = len(timesteps)
        parts = (((count - timestep) / count) ** 5.0 for timestep in timesteps)
        return [1 + scale * ((1 - math.cos(math.pi * part)) / 2) for part in parts]

    return scales


def trailing_timesteps(steps: int) -> list[int]:
    """Timesteps of so many steps from noise, as the checkpoints' schedulers space them."""
    return [round(1000 - 1000 / steps * index) - 1 for index in range(steps)]
