"""The guidance scale of each denoising step. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import RequestError

_INTERVAL = re.compile(r"(\d*\.?\d+)\s*[-–]\s*(\d*\.?\d+)", re.ASCII)

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


def falling(scale: float) -> Guidance:
    """From ``scale`` at the first step to 1 at the last, by as much at each."""

    def scales(timesteps: list[int]) -> list[float]:
        last = max(1, len(timesteps) - 1)
        return [scale + (1 - scale) * index / last for index in range(len(timesteps))]

    return scales


CONSTANT, AUTHORS, FALLING = "constant", "authors", "falling"

SCHEDULES: dict[str, Callable[[float], Guidance]] = {
    CONSTANT: constant,
    AUTHORS: wave,
    FALLING: falling,
}
"""By name."""

OFF = 0.0
"""The scale of a step without guidance, whose negative prompt isn't computed. Others are above 1,
where there is guidance."""

ALL = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Guiding:
    """How a video is guided: a ``Guidance``."""

    scale: float
    schedule: str = CONSTANT  # one of ``SCHEDULES``
    interval: tuple[float, float] = ALL  # shares of the steps between which there is guidance

    def __call__(self, timesteps: list[int]) -> list[float]:
        scales = SCHEDULES[self.schedule](self.scale)(timesteps)
        first, end = (round(share * len(scales)) for share in self.interval)
        return [scale if first <= step < end else OFF for step, scale in enumerate(scales)]

    @property
    def limited(self) -> bool:
        """Whether some steps go without."""
        return self.interval != ALL


def parse_interval(text: str) -> tuple[float, float]:
    """Two shares of the steps, such as ``0.2-0.8``; all of them of an empty text.

    What such a limit is good for: arXiv 2404.07724.

    Raises:
        RequestError: if the first isn't below the second, or one isn't in 0 … 1.
    """
    if not text.strip():
        return ALL
    match = _INTERVAL.fullmatch(text.strip())
    if match is not None:
        first, end = map(float, match.groups())
        if first < end <= 1:
            return first, end
    remedy = "write two shares of the steps, 0 … 1, the smaller first, such as 0.2-0.8"
    raise RequestError("guidance_interval", text, remedy)


def trailing_timesteps(steps: int) -> list[int]:
    """Timesteps of so many steps from noise, as the checkpoints' schedulers space them."""
    return [round(1000 - 1000 / steps * index) - 1 for index in range(steps)]
