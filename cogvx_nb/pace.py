"""How long a video will take: from those made here before, or from figures of known GPUs."""

from __future__ import annotations

from dataclasses import dataclass

from .machine import Machine
from .plan import Plan

GPU_RATES = {"H100": 363e12, "A100": 163e12, "4090": 157e12}
"""FLOP/s that denoising reaches, by a part of the GPU's name: 664 TFLOP for a step of CogVideoX-5b
at 49 frames, over 1.83 s (measured with stock diffusers 0.42.1 in bfloat16), 4.07 s
(xdit-project/xdit_assets, cogvideo-a100-5b.png) and 4.23 s (kijai/ComfyUI-CogVideoXWrapper,
readme.md)."""

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
        steps: denoising steps.
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
    else:
        rate = _rate(plan, machine)
        if rate is None:
            return None
        step = step_flop(plan, plan.frames) / rate
        measured = Pace(step, step * plan.model.checkpoint.decode_steps)
    return measured.other_seconds + steps * measured.step_seconds


def step_flop(plan: Plan, frames: int) -> float:
    """Floating-point operations of a denoising step: 664e12 for CogVideoX-5b at 49 frames.

    A block's matrix products take 24 · width² operations a token, its attention 4 · tokens · width.
    """
    layers, heads, head_width, _, _ = plan.model.checkpoint.architecture
    width, tokens = heads * head_width, plan.tokens(frames)
    return plan.batch * tokens * layers * (24.0 * width**2 + 4.0 * tokens * width)


def _rate(plan: Plan, machine: Machine) -> float | None:
    """FLOP/s of the plan's device; None for a GPU of which nothing is known."""
    if plan.device == "cpu":
        return CORE_RATE * machine.threads
    name = next(gpu.name for gpu in machine.gpus if plan.device == f"cuda:{gpu.index}")
    return next((rate for part, rate in GPU_RATES.items() if part in name), None)
