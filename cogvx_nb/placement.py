"""Puts the parts of a pipeline where a plan says."""

from __future__ import annotations

import diffusers
import torch

from . import speedups
from .planning.plan import Plan

PINNED_BLOCK = 2**30
"""Bytes. The largest parameters of CogVideoX-5b take a quarter of it."""

FREE = ("resident", "model_offload")
"""Placements that can be changed into each other; the hooks of the others can't be undone."""


def place_part(plan: Plan, name: str, part: torch.nn.Module) -> list[speedups.Switch]:
    """Put a part that was just loaded where it belongs; the switches of its blocks, if any."""
    switches = []
    if name == "transformer":
        if plan.quantized:
            speedups.quantize(part, plan.quantized, plan.device)
        switches = speedups.install(part, exact=not plan.quantized)
    if name == "vae" and plan.device != "cpu":
        part.arrange()
    if _streams(plan, name):
        _stream(part, name, plan)
    elif plan.placement not in ("model_offload", "sequential") or _stays(plan, name):
        part.to(plan.device)
    return switches


def hook(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> None:
    """Set what moves whole models or single layers as they are needed."""
    if plan.placement == "model_offload":
        pipe.enable_model_cpu_offload(device=plan.device)
    elif plan.placement == "sequential":
        pipe._exclude_from_cpu_offload = ["vae"]
        pipe.enable_sequential_cpu_offload(device=plan.device)


def move(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> None:
    """From one of ``FREE`` to another."""
    pipe.remove_all_hooks()
    pipe.to(plan.device if plan.placement == "resident" else "cpu")
    hook(pipe, plan)


def _streams(plan: Plan, name: str) -> bool:
    if plan.placement in ("streamed", "disk"):
        return name != "vae"
    return plan.placement == "text_out" and name == "text_encoder"


def _stays(plan: Plan, name: str) -> bool:
    return plan.placement == "sequential" and name == "vae"


def pin(part: torch.nn.Module) -> None:
    """Move a part's parameters into blocks of pinned RAM that they share.

    torch pins a power of two for each tensor (4.0 GiB for one of 3.0, measured), so the 10.4 GiB
    of CogVideoX-5b's transformer would take 18.4 one by one.
    """
    left = sum(_aligned(parameter) for parameter in part.parameters())
    block = torch.empty(0, dtype=torch.uint8)
    for parameter in part.parameters():
        size = _aligned(parameter)
        if size > len(block):
            count = max(size, min(left, PINNED_BLOCK))
            block = torch.empty(count, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
        place = block[: parameter.nbytes].view(parameter.dtype).view(parameter.shape)
        parameter.data = place.copy_(parameter.data)
        block, left = block[size:], left - size


def _aligned(parameter: torch.nn.Parameter) -> int:
    return -(-parameter.nbytes // 64) * 64


def _stream(part: torch.nn.Module, name: str, plan: Plan) -> None:
    """Blocks of the transformer, and layers of the text encoder, come as they are needed.

    From pinned RAM; or from the files, which the system maps into memory, by pinning a block at a
    time.
    """
    if plan.placement != "disk":
        pin(part)
    kinds = {
        "transformer": {"offload_type": "block_level", "num_blocks_per_group": 1},
        "text_encoder": {"offload_type": "leaf_level"},
    }
    diffusers.hooks.apply_group_offloading(
        part,
        onload_device=torch.device(plan.device),
        use_stream=True,
        low_cpu_mem_usage=plan.placement == "disk",
        **kinds[name],
    )
