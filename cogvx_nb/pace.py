"""How long a video will take: from those made here before, or else as its plan predicts."""

from __future__ import annotations

from dataclasses import dataclass

from . import cost
from .machine import Machine
from .plan import Plan

CORE_RATE = 55e9
"""FLOP/s of one processor core in float32. Measured with the embedded checkpoint on two."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast videos of one checkpoint and frame count were made on one device.

    Attributes:
        step_seconds: a denoising step.
        other_seconds: text, decode and write together.
    """

    step_seconds: float
    other_seconds: float


def predict(plan: Plan, machine: Machine, steps: int, known: dict[int, Pace]) -> float | None:
    """Seconds for a video, its model loaded; None where nothing is known of the GPU.

    Args:
        steps: denoising steps, for which the plan was made.
        known: what was measured here with this checkpoint and device, by number of frames. Others
            are scaled by their arithmetic.
    """
    if plan.frames in known:
        measured = known[plan.frames]
    elif known:
        nearest = min(known, key=lambda frames: abs(frames - plan.frames))
        ratio = step_flop(plan, plan.frames) / step_flop(plan, nearest)
        pace = known[nearest]
        measured = Pace(ratio * pace.step_seconds, ratio * pace.other_seconds)
    elif plan.device != "cpu":
        return sum(plan.seconds.values()) if plan.seconds else None
    else:
        step = step_flop(plan, plan.frames) / (CORE_RATE * machine.threads)
        measured = Pace(step, step * plan.model.checkpoint.decode_steps)
    return measured.other_seconds + steps * measured.step_seconds


def step_flop(plan: Plan, frames: int) -> float:
    """Floating-point operations of a denoising step: 664e12 for CogVideoX-5b at 49 frames."""
    return sum(cost.step_flop(plan, frames))
