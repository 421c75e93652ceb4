"""Predicted bytes and seconds of a plan. Pure arithmetic.

The constants were measured on one H100 80 GB (torch 2.11, diffusers 0.42.1) with the shapes of
CogVideoX-5b and random weights, which neither depend on; ``cogvx bench`` measures what they
predict. What depends on a speed-up is in ``speed_up.StepCost``, the VAE in ``vae_cost``. Seconds on
another GPU are scaled by how long a step takes there, and come from videos made on it once there
are any.
"""

from __future__ import annotations

from dataclasses import replace

from ..loras.layers import changed_weights
from ..text import GIB
from .guidance import trailing_timesteps
from .machine import ITEM_BYTES, Gpu
from .placements import Placement
from .plan import Plan
from .schedulers import usual_guidance
from .step_cache import shares
from .vae_cost import decode_bytes, decode_seconds, encode_seconds, kept_frames_bytes, vae_bytes
from .windows import window_frames, windows_of

TEXT_BYTES = 0.3 * GIB
"""Activations of the text encoder, and its largest layer where it streams."""

FLOAT32_SHARE = 24 * 4096 * 10240 / 4762310656
"""Share of T5's parameters in its layers ``wo``, which transformers keeps in float32 where the rest
is float16: 1.9 GiB more for T5 XXL."""

PINNED_OVERHEAD = 1.1
"""Pinned RAM per byte of parameters, which don't fill its blocks of 1 GiB."""

STREAMED_BYTES = 0.1 * GIB
"""What a streamed transformer keeps on the GPU besides its blocks."""

STREAMED_BLOCKS = 2
"""Blocks of a streamed transformer on the GPU: one at work, one in transfer."""

CPU_OVERHEAD = 1.1
"""RAM per byte of tensors."""

RESERVED_OVERHEAD = 1.06
"""Bytes that torch's allocator reserves per byte in use at the peak, where memory is short."""

RESERVED_DECODE_SHARE = 0.2
"""Where there is room the allocator keeps more reserved: this share of a decode's activations and
``RESERVED_BYTES``. At 13, 25 and 49 frames 0.7 to 1.5 GiB after a decode, 0.7 after a tiled one."""

RESERVED_BYTES = 0.15 * GIB

SHARED_DECODE = 1.25
"""Bytes of a device's part of a shared decode, with the edges of its neighbours, over its share of
a whole one: 1.2 to 1.3 (H200s, 13 and 49 frames)."""


def weight_bytes(plan: Plan) -> dict[str, int]:
    """Bytes of each component as the plan stores it."""
    item, parameters = ITEM_BYTES[plan.dtype], plan.model.parameters
    sizes = {component: count * item for component, count in parameters.items()}
    if plan.dtype == "float16":
        sizes["text_encoder"] += int(FLOAT32_SHARE * parameters["text_encoder"]) * 2
    stored = plan.step_cost.parameter_bytes
    if stored is not None:
        layers, heads, head_width, _, _ = plan.model.checkpoint.architecture
        sizes["transformer"] -= 12 * (heads * head_width) ** 2 * layers * (item - stored)
    return sizes


def peak_bytes(plan: Plan) -> int:
    """Predicted need of the device; of a GPU what its allocator reserves when memory is short."""
    return int((CPU_OVERHEAD if plan.device == "cpu" else RESERVED_OVERHEAD) * _used_bytes(plan))


def reserved_bytes(plan: Plan, room: float) -> int:
    """Predicted peak on the device; of a GPU what its allocator reserves of so many bytes."""
    needed = peak_bytes(plan)
    if plan.device == "cpu":
        return needed
    relaxed = _used_bytes(plan) + RESERVED_DECODE_SHARE * decode_bytes(plan) + RESERVED_BYTES
    return int(min(relaxed, max(needed, room)))


def peer_bytes(plan: Plan) -> int:
    """Predicted need of each GPU but the first that shares a step."""
    if not plan.peers:
        return 0
    sizes = weight_bytes(plan)
    decode = SHARED_DECODE * vae_bytes(plan) / plan.decoding if plan.decoding > 1 else 0
    more = _recorded_bytes(plan) + max(_step_bytes(plan), decode)
    return int(RESERVED_OVERHEAD * (sizes["transformer"] + sizes["vae"] + more))


def _used_bytes(plan: Plan) -> float:
    """Bytes of tensors at the peak: what stays on the device, and the largest stage besides."""
    sizes, placement = weight_bytes(plan), plan.offload
    stages = {"transformer": _step_bytes(plan), "vae": vae_bytes(plan)}
    if "text_encoder" not in placement.on_gpu:
        stages["text_encoder"] = TEXT_BYTES
    if "transformer" in placement.streamed:
        layers = plan.model.checkpoint.architecture[0]
        blocks = STREAMED_BLOCKS * sizes["transformer"] // layers
        stages["transformer"] += blocks + STREAMED_BYTES
    if placement.hooks == "model":
        stages = {component: sizes[component] + more for component, more in stages.items()}
    kept = sum(sizes[component] for component in placement.on_gpu) + _recorded_bytes(plan)
    return kept + max(stages.values())


def ram_bytes(plan: Plan) -> int:
    """Predicted need of RAM: what stays there, or the largest component on its way to the GPU; and
    frames that are kept there as they are decoded."""
    return (
        _weights_ram(plan) + kept_frames_bytes(plan) if plan.device != "cpu" else peak_bytes(plan)
    )


def _weights_ram(plan: Plan) -> int:
    sizes, placement = weight_bytes(plan), plan.offload
    text = sizes["text_encoder"]
    # The transformer passes through RAM, not quantized, before the text encoder is loaded.
    transformer = weight_bytes(replace(plan, quantized=""))["transformer"]
    if placement.hooks:
        return max(sum(sizes.values()), transformer)
    if placement.from_disk:
        # A mapped file takes none, but converted weights no longer are the file's.
        mapped = plan.model.folder is not None and plan.dtype == plan.model.checkpoint.gpu_dtype
        merged = changed_weights(plan.loras, plan.model.checkpoint) * ITEM_BYTES[plan.dtype]
        return text + (merged if mapped else transformer)
    pinned = PINNED_OVERHEAD * sum(sizes[component] for component in placement.streamed)
    if "transformer" in placement.streamed:
        return int(max(pinned + sizes["vae"], transformer))
    return int(max(pinned or text, transformer))


WORKSPACE_COPIES = 9
"""What recorded launches keep between steps besides a block's activations, in copies of a device's
tokens: these, and queries, keys, values and outputs before and after an exchange."""


def _step_bytes(plan: Plan) -> float:
    tokens = plan.tokens(plan.window_frames)
    pairs = plan.batch * plan.model.checkpoint.architecture[1] * tokens**2
    masks = plan.step_cost.mask_bytes * pairs / len(plan.devices)
    return plan.step_cost.activation_copies * _token_bytes(plan) + masks


def _token_bytes(plan: Plan) -> float:
    """One copy of a device's tokens in a step."""
    _, heads, head_width, _, _ = plan.model.checkpoint.architecture
    tokens = plan.batch * plan.tokens(plan.window_frames)
    return tokens * heads * head_width * ITEM_BYTES[plan.dtype] / len(plan.devices)


def _recorded_bytes(plan: Plan) -> float:
    """What recorded launches keep between the steps."""
    if plan.parts == 1 or not plan.compiled or "transformer" not in plan.offload.on_gpu:
        return 0.0
    batches = sum(set(plan.block_batches)) / max(plan.block_batches)
    copies = WORKSPACE_COPIES + plan.step_cost.activation_copies
    return batches * copies * _token_bytes(plan)


LAUNCH_SECONDS, RECORDED_LAUNCH_SECONDS = 2.5e-3, 0.95e-3
"""One thread's launches of a block, where several share a clip: they wait for each other. Four need
0.42 s for the eager blocks of CogVideoX-5b, and 0.13 to 0.16 s for compiled ones, whose launches
are recorded (H200s). Other numbers than two and four weren't measured."""

STEP_OVERHEAD_SECONDS = 0.006
"""A step outside the blocks: the scheduler and guidance."""

H100_LINK, OTHER_LINK = 37e9, 20e9
"""Bytes/s from pinned RAM to an H100, and to another GPU."""

PEER_LINK = 150e9
"""Bytes/s from one GPU to another that it reaches directly."""

SPLIT_SECONDS = 0.005
"""Of a step on several GPUs: what is copied to them and back, and threads that wait."""

PAGEABLE_RATE, DISK_RATE = 3e9, 2e9
"""Bytes/s to a GPU from pageable RAM, half of the time of a script that moves whole models, and
from a disk."""

TEXT_SECONDS = 0.1
"""Encoding a prompt and a negative one, the text encoder on the GPU."""

SLOWDOWNS = {"H100": 1.0, "H200": 1.0, "A100": 4.07 / 1.83, "4090": 4.23 / 1.83}
"""Seconds of a step at 49 frames over an H100's 1.83 s, by a word of the GPU's name. Sources:
xdit-project/xdit_assets, cogvideo-a100-5b.png, and kijai/ComfyUI-CogVideoXWrapper, readme.md."""


def is_known_gpu(gpu: Gpu) -> bool:
    """Whether there is a timing for the GPU."""
    return _slowdown(gpu) is not None


def stage_seconds(
    plan: Plan, gpu: Gpu, steps: int, warm: bool, videos: int = 1
) -> dict[str, float]:
    """Predicted seconds of each stage of a video, its model loaded and its prompt not cached.

    Args:
        gpu: an unknown one counts as an H100, which is good enough to compare plans.
        steps: denoising steps.
        warm: whether the compiled code is on disk.
        videos: how many share a compilation.
    """
    slowdown, cost = _slowdown(gpu) or 1.0, plan.step_cost
    computed = sum(step_shares(plan, steps))  # a cached step takes next to nothing
    seconds = {
        "text": _text_seconds(plan, gpu),
        "denoise": computed * _step_seconds(plan, gpu, slowdown) + steps * STEP_OVERHEAD_SECONDS,
        "decode": decode_seconds(plan, slowdown) / plan.decoding,
    }
    if plan.encoded_frames:
        seconds["encode"] = encode_seconds(plan, plan.encoded_frames, slowdown)
    compilation = cost.compile_seconds[1 if warm else 0]
    return seconds | ({"compile": compilation / videos} if compilation else {})


def step_shares(plan: Plan, steps: int) -> list[float]:
    """Share of the time of a whole step that each of so many takes, 0 … 1.

    Where GPUs compute the clips of guidance apart, one clip takes as long as two.
    """
    guided = plan.guided and plan.halves == 1
    scales = (plan.guiding or usual_guidance(plan.model.checkpoint))(trailing_timesteps(steps))
    return shares(plan.step_cache, scales, guided=guided, idle_dtype=plan.idle_dtype)


def step_flop(plan: Plan, frames: int) -> tuple[float, float]:
    """Floating-point operations of a denoising step: of matrix products, and of attention.

    338e12 and 326e12 for CogVideoX-5b at 49 frames: a block's matrix products take 24 · width²
    operations per token, its attention 4 · tokens · width.
    """
    layers, heads, head_width, _, _ = plan.model.checkpoint.architecture
    checkpoint = plan.model.checkpoint
    width, tokens = heads * head_width, plan.tokens(window_frames(checkpoint, frames))
    work = float(len(windows_of(checkpoint, frames)) * plan.batch * tokens * layers)
    return work * 24 * width**2, work * 4 * tokens * width


def total_step_flop(plan: Plan, frames: int) -> float:
    """Floating-point operations of a denoising step: 664e12 for CogVideoX-5b at 49 frames."""
    return sum(step_flop(plan, frames))


def _step_seconds(plan: Plan, gpu: Gpu, slowdown: float) -> float:
    layers, heads, head_width, _, _ = plan.model.checkpoint.architecture
    products, attention = step_flop(plan, plan.frames)
    tokens = len(plan.windows) * plan.tokens(plan.window_frames)
    elements = plan.batch * tokens * heads * head_width * layers
    cost, placement, count = plan.step_cost, plan.offload, len(plan.devices)
    step = slowdown * (
        products / cost.matmul_flops
        + attention / cost.attention_flops
        + elements * cost.elementwise_seconds
    )
    if count > 1:
        # Queries, keys, values and outputs, but for the own share.
        exchanged = 4 * elements * ITEM_BYTES[plan.dtype] * (plan.parts - 1) / plan.parts
        step = (step + exchanged / PEER_LINK) / count + SPLIT_SECONDS
    if plan.parts > 1:
        launch = RECORDED_LAUNCH_SECONDS if plan.compiled else LAUNCH_SECONDS
        step = max(step, launch * layers * count * len(plan.windows))
    transfer = weight_bytes(plan)["transformer"] / _transfer_rate(placement, gpu)
    if "transformer" in placement.streamed:  # at the same time
        return max(step * cost.streaming, transfer)
    return step + transfer if placement.hooks == "sequential" else step


def _text_seconds(plan: Plan, gpu: Gpu) -> float:
    """Encoding a prompt and a negative one; moving whole models is counted here too."""
    sizes, placement = weight_bytes(plan), plan.offload
    rate = _transfer_rate(placement, gpu)
    if "text_encoder" in placement.on_gpu:
        return TEXT_SECONDS
    if placement.hooks == "model":  # to the GPU and back
        return TEXT_SECONDS + 2 * (sizes["text_encoder"] + sizes["transformer"]) / rate
    return TEXT_SECONDS + plan.batch * sizes["text_encoder"] / rate


def _transfer_rate(placement: Placement, gpu: Gpu) -> float:
    """Bytes/s of weights to the GPU."""
    if placement.hooks:
        return PAGEABLE_RATE
    if placement.from_disk:
        return DISK_RATE
    return H100_LINK if _slowdown(gpu) == 1.0 else OTHER_LINK


def _slowdown(gpu: Gpu) -> float | None:
    words = gpu.name.replace("-", " ").split()
    if "Laptop" in words:  # another chip under the same name
        return None
    return next((value for word, value in SLOWDOWNS.items() if word in words), None)
