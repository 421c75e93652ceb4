"""Predicted bytes and seconds of the VAE: what ``cost`` adds to those of the other components.

Measured on one H100 80 GB (torch 2.11, diffusers 0.42.1) with random weights, which neither depend
on.
"""

from __future__ import annotations

from ..text import GIB
from .machine import ITEM_BYTES
from .plan import Plan

DECODE_COPIES = {"cpu": 22, "cuda": 8.4}
"""Activations of a VAE decode, in copies of eight frames with the channels of its last blocks: the
decoder of diffusers on the CPU, and the fast one of ``pipeline.vae``. At 480 × 720: 14.5 GiB, and
5.9 GiB with ``CHUNK_BYTES``."""

CHUNK_BYTES = 0.3 * GIB
"""What the fast decoder takes at any size: the frames that a convolution is given."""

DECODE_SECONDS = 1.2 / (49 * 480 * 720)
"""Per pixel and frame decoded."""

TILED_SLOWDOWN = 1.3
"""Tiles overlap, and occupy the GPU less. Measured: 1.35 to 1.49 s instead of 1.2 s."""


def decode_bytes(plan: Plan) -> float:
    """Activations of the decode of a plan's clip, and the clip itself."""
    item = ITEM_BYTES[plan.dtype]
    # Its parts, and the whole that they are copied to.
    clip = 2 * plan.frames * plan.height * plan.width * 3 * item
    copy = 8 * _area(plan) * plan.model.checkpoint.vae_channels * item
    if plan.device == "cpu":
        return DECODE_COPIES["cpu"] * copy + clip
    return DECODE_COPIES["cuda"] * copy + CHUNK_BYTES + clip


def decode_seconds(plan: Plan, slowdown: float) -> float:
    """Seconds of the decode of a plan's clip on a GPU that takes ``slowdown`` times an H100's."""
    pixels = _decoded_frames(plan.frames) * plan.height * plan.width
    return slowdown * pixels * DECODE_SECONDS * (TILED_SLOWDOWN if plan.tiled else 1.0)


def _area(plan: Plan) -> int:
    """Pixels of what passes through the VAE at once: a frame, or a tile of it."""
    if plan.tiled:
        height, width = plan.model.checkpoint.tile
        return height * min(width, plan.width)
    return plan.height * plan.width


def _decoded_frames(frames: int) -> int:
    """Frames decoded for so many: an even number of latent frames is padded by one."""
    latent_frames = (frames - 1) // 4 + 1
    return 4 * (latent_frames - latent_frames % 2) + 1
