"""Seconds of a video, predicted from how fast others were made. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .cost import step_shares, total_step_flop
from .machine import Machine
from .plan import Plan
from .vae_cost import encode_share

CORE_RATE = 55e9
"""FLOP/s of one CPU core in float32. Measured with the embedded checkpoint on two."""


@dataclass(frozen=True, slots=True)
class MeasuredPace:
    """How fast videos of one checkpoint and number of frames were made on one device."""

    step_seconds: float  # a denoising step
    other_seconds: float  # text, decode and write together
    load_seconds: float = 0.0  # where the checkpoint was not in memory; 0 if it always was
    text_seconds: float = 0.0
    decode_seconds: float = 0.0
    write_seconds: float = 0.0


def predict_seconds(
    plan: Plan, machine: Machine, steps: int, known: Mapping[int, MeasuredPace]
) -> float | None:
    """Seconds of a video, its model loaded; None for an unknown GPU without measurements.

    Args:
        steps: denoising steps, for which the plan was made.
        known: measurements with this checkpoint, device and number of GPUs, by number of frames;
            other numbers of frames are scaled by their floating-point operations.
    """
    if known:
        pace, ratio = nearest_pace(plan, known)
        encode = encode_share(plan) * pace.decode_seconds
        denoise = paced_steps(plan, steps) * pace.step_seconds
        return ratio * (pace.other_seconds + encode + denoise)
    computed = sum(step_shares(plan, steps))  # a cached step takes next to nothing
    if plan.device != "cpu":
        return sum(plan.seconds.values()) if plan.seconds else None
    step = total_step_flop(plan, plan.frames) / (CORE_RATE * machine.threads)
    return step * (plan.model.checkpoint.decode_steps * (1 + encode_share(plan)) + computed)


def paced_steps(plan: Plan, steps: int) -> float:
    """How many steps of an exact video, whose mean a ``MeasuredPace`` has, take as long as so many
    of a plan."""
    exact = replace(plan, step_cache="", idle_guidance=True, guiding=None)
    return steps * sum(step_shares(plan, steps)) / sum(step_shares(exact, steps))


def nearest_pace(plan: Plan, known: Mapping[int, MeasuredPace]) -> tuple[MeasuredPace, float]:
    """(measurement with the nearest number of frames, what a plan's video takes over it)."""
    nearest = min(known, key=lambda frames: abs(frames - plan.frames))
    return known[nearest], total_step_flop(plan, plan.frames) / total_step_flop(plan, nearest)
