"""Predicted seconds of a plan: from videos made here before, or else from its arithmetic.

The constants were measured on one H100 80 GB (torch 2.11, diffusers 0.42.1) with the shapes of
CogVideoX-5b and random weights; ``cogvx bench`` measures what they predict. Other GPUs are scaled
by how much longer a step takes there.
"""

from __future__ import annotations

from dataclasses import dataclass

from .machine import Gpu, Machine
from .memory import weight_bytes
from .plan import FLASH4, Plan, computed_steps

LINEAR, EIGHT_BIT = 775e12, 1400e12
"""FLOP/s of matrix products in bfloat16 and in eight bits."""

ATTENTION = {FLASH4: 498e12}
"""FLOP/s of an attention; ``ATTENTION_BY_TORCH`` of any other. In a step, where the GPU is at its
limit of power: alone they reach 549e12 and 427e12."""

ATTENTION_BY_TORCH = 390e12

ELEMENTWISE = {"eager": 1.2e-10, "compiled": 3.0e-11, "quantized": 3.0e-11}
"""Seconds that a layer takes for all else, a number of the hidden states."""

BETWEEN_STEPS = 0.006
"""Seconds of a step outside the blocks: the scheduler and guidance."""

LINK, OTHER_LINK, PAGEABLE, DISK = 37e9, 20e9, 3e9, 2e9
"""Bytes a second to the GPU: from pinned RAM on an H100 and elsewhere, from pageable RAM (half of
the time of a script that moves whole models), and from a disk."""

STREAMING = {False: 1.12, True: 1.06}
"""How much longer a step takes where blocks stream, their transfer hidden; eager and compiled."""

DECODE_SECONDS = 1.2 / (49 * 480 * 720)
"""A pixel of a frame that is decoded."""

TILED_TIME = 1.3
"""Tiles overlap, and give the GPU little at a time. Measured: 1.35 to 1.49 s for 1.2 s."""

TEXT_SECONDS = 0.1
"""Reading a prompt and a negative one, the text encoder on the GPU."""

COMPILE_SECONDS = {"cold": 16.0, "warm": 4.0}
"""Until the first compiled step: nothing on disk, and all of it. Measured: 7 to 20 s, 2 to 4 s."""

SLOWER = {"H100": 1.0, "H200": 1.0, "A100": 4.07 / 1.83, "4090": 4.23 / 1.83}
"""Seconds of a step at 49 frames beside an H100's 1.83 s: xdit-project/xdit_assets,
cogvideo-a100-5b.png, and kijai/ComfyUI-CogVideoXWrapper, readme.md. By a word of the name."""


def is_known_gpu(gpu: Gpu) -> bool:
    """Whether anything is known of a GPU's speed."""
    return _relative_slowness(gpu) is not None


def stage_seconds(
    plan: Plan, gpu: Gpu, steps: int, warm: bool, videos: int = 1
) -> dict[str, float]:
    """Predicted seconds of each stage of a video, its model loaded and its prompt a new one.

    Args:
        gpu: one of which nothing is known is taken for an H100, good enough to choose by.
        steps: denoising steps.
        warm: whether compiled code is on disk.
        videos: how many share a compilation.
    """
    slower = _relative_slowness(gpu) or 1.0
    found = {
        "text": _text_seconds(plan, gpu),
        "denoise": _computed_steps(plan, steps) * _step_seconds(plan, gpu, slower)
        + steps * BETWEEN_STEPS,
        "decode": slower * _decoded_frames(plan.frames) * plan.height * plan.width * DECODE_SECONDS,
    }
    if plan.tiled:
        found["decode"] *= TILED_TIME
    if plan.compiled:
        found["compile"] = COMPILE_SECONDS["warm" if warm else "cold"] / videos
    return found


def step_flop(plan: Plan, frames: int) -> tuple[float, float]:
    """Floating-point operations of a denoising step: of matrix products, and of attention.

    338e12 and 326e12 for CogVideoX-5b at 49 frames: a block's matrix products take 24 · width²
    operations a token, its attention 4 · tokens · width.
    """
    layers, heads, head_width, _, _ = plan.model.checkpoint.architecture
    width, tokens = heads * head_width, plan.tokens(frames)
    work = float(plan.batch * tokens * layers)
    return work * 24 * width**2, work * 4 * tokens * width


def _step_seconds(plan: Plan, gpu: Gpu, slower: float) -> float:
    layers, heads, head_width, _, _ = plan.model.checkpoint.architecture
    products, attention = step_flop(plan, plan.frames)
    numbers = plan.batch * plan.tokens(plan.frames) * heads * head_width * layers
    kind = "quantized" if plan.quantized else "compiled" if plan.compiled else "eager"
    rate = EIGHT_BIT if plan.quantized else LINEAR
    attending = attention / ATTENTION.get(plan.attention, ATTENTION_BY_TORCH)
    step = slower * (products / rate + attending + numbers * ELEMENTWISE[kind])
    moved = weight_bytes(plan)["transformer"]
    if plan.placement == "streamed":
        return max(step * STREAMING[plan.compiled], moved / _link_rate(gpu))
    if plan.placement == "disk":
        return max(step * STREAMING[plan.compiled], moved / DISK)
    if plan.placement == "sequential":
        return step + moved / PAGEABLE
    return step


def _text_seconds(plan: Plan, gpu: Gpu) -> float:
    """Of a prompt and a negative one; moving whole models is counted here too."""
    parts = weight_bytes(plan)
    texts, encoder = plan.batch, parts["text_encoder"]
    if plan.placement == "resident":
        return TEXT_SECONDS
    if plan.placement == "model_offload":  # there and back
        return TEXT_SECONDS + 2 * (encoder + parts["transformer"]) / PAGEABLE
    rates = {"disk": DISK, "sequential": PAGEABLE}
    return TEXT_SECONDS + texts * encoder / rates.get(plan.placement, _link_rate(gpu))


def _decoded_frames(frames: int) -> int:
    """Frames that are decoded for so many: an even number of latent frames gets one more."""
    latent_frames = (frames - 1) // 4 + 1
    return 4 * (latent_frames - latent_frames % 2) + 1


def _computed_steps(plan: Plan, steps: int) -> int:
    """Steps that are computed; a reused one costs next to nothing."""
    return len(computed_steps(steps)) if plan.reuse else steps


def _relative_slowness(gpu: Gpu) -> float | None:
    words = gpu.name.replace("-", " ").split()
    if "Laptop" in words:  # of the same name, and another chip
        return None
    return next((value for word, value in SLOWER.items() if word in words), None)


def _link_rate(gpu: Gpu) -> float:
    return LINK if _relative_slowness(gpu) == 1.0 else OTHER_LINK


CORE_RATE = 55e9
"""FLOP/s of one processor core in float32. Measured with the embedded checkpoint on two."""


@dataclass(frozen=True, slots=True)
class MeasuredPace:
    """How fast videos of one checkpoint and frame count were made on one device.

    Attributes:
        step_seconds: a denoising step.
        other_seconds: text, decode and write together.
    """

    step_seconds: float
    other_seconds: float


def predict_seconds(
    plan: Plan, machine: Machine, steps: int, known: dict[int, MeasuredPace]
) -> float | None:
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
        ratio = total_step_flop(plan, plan.frames) / total_step_flop(plan, nearest)
        pace = known[nearest]
        measured = MeasuredPace(ratio * pace.step_seconds, ratio * pace.other_seconds)
    elif plan.device != "cpu":
        return sum(plan.seconds.values()) if plan.seconds else None
    else:
        step = total_step_flop(plan, plan.frames) / (CORE_RATE * machine.threads)
        measured = MeasuredPace(step, step * plan.model.checkpoint.decode_steps)
    return measured.other_seconds + steps * measured.step_seconds


def total_step_flop(plan: Plan, frames: int) -> float:
    """Floating-point operations of a denoising step: 664e12 for CogVideoX-5b at 49 frames."""
    return sum(step_flop(plan, frames))
