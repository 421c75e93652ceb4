"""Predicted bytes and seconds of the VAE: what ``cost`` adds to those of the other components.

Measured on one H100 80 GB (torch 2.11, diffusers 0.42.1) with random weights, which neither depend
on, if nothing else is said.
"""

from __future__ import annotations

from ..text import GIB
from .machine import ITEM_BYTES
from .plan import Plan

DECODE_COPIES = {"cpu": 22, "cuda": 8.4}
"""Activations of a VAE decode, in copies of eight frames with the channels of its last blocks: the
decoder of diffusers on the CPU, and the fast one of ``pipeline.vae``. At 480 × 720: 14.5 GiB, and
5.9 GiB with ``DECODE_BYTES``."""

DECODE_BYTES = 0.3 * GIB
"""What the fast decoder takes at any size: the frames that a convolution is given."""

CALL_BYTES = 180 * 2**20
"""Frames that the fast encoder and decoder give one convolution call, of its input or its output,
without the two before them that it looks back at: two frames of 480 × 720 with the channels of the
blocks at full size. Twice as much is 5 % faster in a decode and takes 0.5 GiB more."""

DECODE_BATCH = 9
"""Frames that are decoded together, at most."""

ENCODE_BATCH = 8
"""Frames that are encoded together, the first time with what is left over: of a clip of 4 N + 1
frames 1, 5, 9 or 13. The same in diffusers and here."""

CACHED_FRAMES = 20
"""What convolutions keep of one batch for the next, in frames with the channels of the blocks at
full size: the last two of each one's input, of which 12 have that size."""

DECODE_SECONDS = 1.2 / (49 * 480 * 720)
"""Per pixel and frame decoded."""

ENCODE_SECONDS = 0.50 / (49 * 480 * 720)
"""Per pixel and frame encoded; measured on an H200, whose decodes take what an H100's do."""

TILED_SLOWDOWN = 1.3
"""Tiles overlap, and occupy the GPU less. Measured: 1.35 to 1.49 s instead of 1.2 s."""


def decode_bytes(plan: Plan) -> float:
    """Activations of the decode of a plan's clip, and the clip itself."""
    item = ITEM_BYTES[plan.dtype]
    # Its parts, and the whole that they are copied to.
    # Of several windows each batch goes to RAM.
    frames = plan.frames if len(plan.windows) == 1 or plan.device == "cpu" else DECODE_BATCH
    clip = 2 * frames * plan.height * plan.width * 3 * item
    copy = 8 * _area(plan) * plan.model.checkpoint.vae_channels * item
    if plan.device == "cpu":
        return DECODE_COPIES["cpu"] * copy + clip
    return DECODE_COPIES["cuda"] * copy + DECODE_BYTES + clip


def kept_frames_bytes(plan: Plan) -> int:
    """RAM of the frames of a GPU's decode by batches: twice as decoded, and as they are written."""
    if len(plan.windows) == 1:
        return 0
    return plan.frames * plan.height * plan.width * 3 * (2 * ITEM_BYTES[plan.dtype] + 1)


def decode_seconds(plan: Plan, slowdown: float) -> float:
    """Seconds of the decode of a plan's clip on a GPU that takes ``slowdown`` times an H100's."""
    pixels = _decoded_frames(plan.frames) * plan.height * plan.width
    return slowdown * pixels * DECODE_SECONDS * (TILED_SLOWDOWN if plan.tiled else 1.0)


def vae_bytes(plan: Plan) -> float:
    """Activations of the larger of a plan's encode and decode."""
    encoded = encode_bytes(plan, plan.encoded_frames) if plan.encoded_frames else 0.0
    return max(decode_bytes(plan), encoded)


def encode_share(plan: Plan) -> float:
    """Time of a plan's encode over that of its decode, on any device."""
    return plan.encoded_frames / plan.frames * ENCODE_SECONDS / DECODE_SECONDS


def encode_bytes(plan: Plan, frames: int) -> float:
    """Activations of the encode of a picture or a clip at a plan's size, and its pixels.

    Counted from the tensors that are alive at once: a batch twice on the GPU, where the fast
    encoder runs, and five times on the CPU, where that of diffusers does. 49 frames of 480 × 720
    in 16 bits take 3.6 GiB, and 6.4 GiB with diffusers.

    Args:
        frames: of the clip; 1 for a picture.
    """
    item = ITEM_BYTES[plan.dtype]
    pixels = frames * plan.height * plan.width * 3 * item
    frame = _area(plan) * plan.model.checkpoint.vae_channels * item
    single = frames < 2 * ENCODE_BATCH  # a batch
    batch, cached = (frames, 0) if single else (ENCODE_BATCH, CACHED_FRAMES)
    if plan.device == "cpu":
        return (5 * batch + cached + 16) * frame + pixels
    call = min(batch, max(1, CALL_BYTES // frame))
    padded = call + 2  # those that it looks back at
    return (2 * batch + cached + padded + call) * frame + pixels


def encode_seconds(plan: Plan, frames: int, slowdown: float) -> float:
    """Seconds of the encode of so many frames, pictures or a clip, at a plan's size.

    Args:
        slowdown: how many times an H100's seconds the GPU takes.
    """
    pixels = frames * plan.height * plan.width
    return slowdown * pixels * ENCODE_SECONDS * (TILED_SLOWDOWN if plan.tiled else 1.0)


def _area(plan: Plan) -> int:
    """Pixels of what passes through the VAE at once: a frame, or a tile of it."""
    if plan.tiled:
        height, width = plan.tile
        return min(height, plan.height) * min(width, plan.width)
    return plan.height * plan.width


def _decoded_frames(frames: int) -> int:
    """Frames decoded for so many: an even number of latent frames is padded by one."""
    latent_frames = (frames - 1) // 4 + 1
    return 4 * (latent_frames - latent_frames % 2) + 1
