"""Predicted bytes of a plan on its device and in RAM. Pure arithmetic.

The constants were measured on one H100 80 GB (torch 2.11, diffusers 0.42.1) with the shapes of
CogVideoX-5b and random weights, which time and memory don't depend on; ``cogvx bench`` measures
what they predict.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..text import GIB

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
