"""What a plan costs: bytes on the device and in RAM, seconds a stage. Pure arithmetic.

The constants were measured on one H100 80 GB (torch 2.11, diffusers 0.42.1) with the shapes of
CogVideoX-5b and random weights, which time and memory don't depend on; ``cogvx bench`` measures
what they predict. Other GPUs are scaled by how much longer a step takes there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .machine import Gpu
from .text import GIB
from .ways import FLASH4

if TYPE_CHECKING:
    from .plan import Plan


ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

STREAMED = ("streamed", "disk")
"""Placements that hold two blocks of the transformer at a time: one at work, one on its way."""

STEP_COPIES = {False: 13.5, True: 7.0}
"""Activations of a step, in copies of the hidden states: eager, and compiled. Measured: 2.7 GiB
and 1.4 GiB at 49 frames, of which a copy has 0.2 GiB."""

DECODE_COPIES = {"cpu": 22, "cuda": 8.4}
"""Activations of a VAE decode, in copies of eight frames at the width of its last blocks, as
diffusers has it (the CPU) and as ``vae`` has it. Measured at 480 × 720: 14.5 GiB, and 5.9 GiB with
``DECODE_BYTES``."""

DECODE_BYTES = 0.3 * GIB
"""What ``vae`` takes whatever the size: the frames that a convolution is given."""

TEXT_BYTES = 0.3 * GIB
"""Activations of the text encoder, and its largest layer where it streams."""

KEPT_FLOAT32 = 24 * 4096 * 10240 / 4762310656
"""Of T5's parameters those of its layers ``wo``, which transformers keeps in float32 where the rest
is in float16: 1.9 GiB more of a T5 XXL's."""

PINNED = 1.1
"""Pinned RAM for each byte of parameters: blocks of 1 GiB that they don't fill."""

MODULE_BYTES = 0.1 * GIB
"""What a streamed transformer keeps on the device beside its blocks."""

RESERVED = 1.06
"""What the allocator reserves of a GPU for each byte that is in use at the peak, if it must."""

IDLE = 0.2, 0.15 * GIB
"""What it keeps beside that, where there is room: a part of what a decode takes, and bytes.
Measured at 13, 25 and 49 frames: 0.7 to 1.5 GiB after a whole decode, 0.7 after one in tiles."""

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

REUSE_FIRST, REUSE_INTERVAL = 0.24, 4
"""Where steps are reused: the share computed at first, and after how many one is computed again.
Found with the embedded checkpoint on a CPU, four prompts, 13 frames, 50 steps of which 22 are
computed: 36 dB from exact in the mean; 28 dB where 8 come first and then each third is computed."""

TILED_TIME = 1.3
"""Tiles overlap, and give the GPU little at a time. Measured: 1.35 to 1.49 s for 1.2 s."""

TEXT_SECONDS = 0.1
"""Reading a prompt and a negative one, the text encoder on the GPU."""

COMPILE_SECONDS = {"cold": 16.0, "warm": 4.0}
"""Until the first compiled step: nothing on disk, and all of it. Measured: 7 to 20 s, 2 to 4 s."""

SLOWER = {"H100": 1.0, "H200": 1.0, "A100": 4.07 / 1.83, "4090": 4.23 / 1.83}
"""Seconds of a step at 49 frames beside an H100's 1.83 s: xdit-project/xdit_assets,
cogvideo-a100-5b.png, and kijai/ComfyUI-CogVideoXWrapper, readme.md. By a word of the name."""


def known(gpu: Gpu) -> bool:
    """Whether anything is known of a GPU's speed."""
    return _slower(gpu) is not None


def weight_bytes(plan: Plan) -> dict[str, int]:
    """Bytes of each component as the plan stores it."""
    item = ITEM_BYTES[plan.dtype]
    found = {part: count * item for part, count in plan.model.parameters.items()}
    if plan.dtype == "float16":
        found["text_encoder"] += int(KEPT_FLOAT32 * plan.model.parameters["text_encoder"]) * 2
    if plan.quantized:
        layers, heads, head_width, _, _ = plan.model.checkpoint.architecture
        found["transformer"] -= 12 * (heads * head_width) ** 2 * layers * (item - 1)
    return found


def peak_bytes(plan: Plan) -> int:
    """Predicted need of the device; of a GPU what its allocator reserves when memory is short."""
    return int((1.1 if plan.device == "cpu" else RESERVED) * _used_bytes(plan))


def reserved_bytes(plan: Plan, room: float) -> int:
    """Predicted peak on the device; of a GPU what its allocator reserves of so many bytes."""
    needed = peak_bytes(plan)
    if plan.device == "cpu":
        return needed
    share, more = IDLE
    return int(min(_used_bytes(plan) + share * _decode_bytes(plan) + more, max(needed, room)))


def _used_bytes(plan: Plan) -> float:
    """Bytes of tensors at the peak."""
    parts = weight_bytes(plan)
    text, transformer, vae = parts["text_encoder"], parts["transformer"], parts["vae"]
    step, decode = _step_bytes(plan), _decode_bytes(plan)
    layers = plan.model.checkpoint.architecture[0]
    if plan.device == "cpu" or plan.placement == "resident":
        return sum(parts.values()) + max(step, decode)
    if plan.placement == "text_out":
        return transformer + vae + max(step, decode, TEXT_BYTES)
    if plan.placement == "model_offload":
        return max(text + TEXT_BYTES, transformer + step, vae + decode)
    if plan.placement in STREAMED:
        blocks = 2 * transformer // layers + MODULE_BYTES
        return vae + max(blocks + step, decode, TEXT_BYTES)
    return vae + max(step, decode, TEXT_BYTES)


def ram_bytes(plan: Plan) -> int:
    """Predicted need of RAM: what stays there, or the largest part on its way to the GPU."""
    parts = weight_bytes(replace(plan, quantized=""))  # which is done on the GPU
    text, transformer = parts["text_encoder"], parts["transformer"]
    if plan.device == "cpu":
        return peak_bytes(plan)
    if plan.placement in ("model_offload", "sequential"):
        return sum(parts.values())
    if plan.placement == "streamed":
        return int(PINNED * (text + transformer) + parts["vae"])
    if plan.placement == "disk":
        mapped = plan.model.folder is not None and plan.dtype == plan.model.checkpoint.gpu_dtype
        return text if mapped else text + transformer  # what is converted is no more a file's
    if plan.placement == "text_out":
        return int(max(PINNED * text, transformer))
    return max(text, transformer)


def seconds(plan: Plan, gpu: Gpu, steps: int, warm: bool, videos: int = 1) -> dict[str, float]:
    """Predicted seconds of each stage of a video, its model loaded and its prompt a new one.

    Args:
        gpu: one of which nothing is known is taken for an H100, good enough to choose by.
        steps: denoising steps.
        warm: whether compiled code is on disk.
        videos: how many share a compilation.
    """
    slower = _slower(gpu) or 1.0
    found = {
        "text": _text_seconds(plan, gpu),
        "denoise": _computed(plan, steps) * _step_seconds(plan, gpu, slower)
        + steps * BETWEEN_STEPS,
        "decode": slower * _decoded(plan.frames) * plan.height * plan.width * DECODE_SECONDS,
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


def _step_bytes(plan: Plan) -> float:
    _, heads, head_width, _, _ = plan.model.checkpoint.architecture
    copy = plan.tokens(plan.frames) * heads * head_width * plan.batch * ITEM_BYTES[plan.dtype]
    return STEP_COPIES[plan.compiled] * copy


def _decode_bytes(plan: Plan) -> float:
    checkpoint, area = plan.model.checkpoint, plan.height * plan.width
    item = ITEM_BYTES[plan.dtype]
    frames = 2 * plan.frames * area * 3 * item  # the clip, and where it is put together
    if plan.tiled:
        area = checkpoint.tile[0] * min(checkpoint.tile[1], plan.width)
    copy = 8 * area * checkpoint.vae_channels * item
    if plan.device == "cpu":
        return DECODE_COPIES["cpu"] * copy + frames
    return DECODE_COPIES["cuda"] * copy + DECODE_BYTES + frames


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
        return max(step * STREAMING[plan.compiled], moved / _link(gpu))
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
    return TEXT_SECONDS + texts * encoder / rates.get(plan.placement, _link(gpu))


def _decoded(frames: int) -> int:
    """Frames that are decoded for so many: an even number of latent frames gets one more."""
    latent_frames = (frames - 1) // 4 + 1
    return 4 * (latent_frames - latent_frames % 2) + 1


def _computed(plan: Plan, steps: int) -> int:
    """Steps that are computed; a reused one costs next to nothing."""
    return len(computed_steps(steps)) if plan.reuse else steps


def computed_steps(steps: int) -> list[int]:
    """Which steps (from 0) are computed where the others reuse them.

    The steps that decide a clip's layout, and then each fourth. The rule is that of diffusers'
    ``TaylorSeerCacheConfig``.
    """
    first = reused_after(steps)
    return [n for n in range(steps) if n < first or (n - first - 1) % REUSE_INTERVAL == 0]


def reused_after(steps: int) -> int:
    """How many steps are computed at first."""
    return max(1, round(REUSE_FIRST * steps))


def _slower(gpu: Gpu) -> float | None:
    words = gpu.name.replace("-", " ").split()
    if "Laptop" in words:  # of the same name, and another chip
        return None
    return next((value for word, value in SLOWER.items() if word in words), None)


def _link(gpu: Gpu) -> float:
    return LINK if _slower(gpu) == 1.0 else OTHER_LINK
