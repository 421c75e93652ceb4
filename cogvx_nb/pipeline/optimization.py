"""What makes a pipeline fit and fast: offload, speed-ups, and what to do when either fails."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
from collections.abc import Callable, Iterator

import accelerate
import diffusers
import torch

from ..planning.plan import Plan
from .attention import set_attention
from .compilation import enable_compiled, wrap_blocks
from .condition import from_text, padding_of
from .denoise import predict
from .positions import cut_learned_positions, rotary_positions
from .quantization import quantize_transformer
from .sparse_attention import set_sparse_attention
from .transfer import move_component
from .vae import use_fast_vae

COMPILED_BLOCKS = 3
"""Blocks that run to be compiled: what the first is given is strided otherwise than what a block
gives the next, and all after the second are given the same."""


def compile_blocks(transformer, plan: Plan) -> None:
    """Run a step on zeros for each batch of a video, so that what it needs is compiled.

    Args:
        transformer: what computes the plan's steps.

    Raises:
        SpeedUpFailed: if the compiler fails, or there is none.
    """
    config, latent_frames = transformer.config, (plan.window_frames - 1) // 4 + 1
    text = plan.model.checkpoint.text_tokens, config.text_embed_dim
    seen = latent_frames + padding_of(latent_frames, config), config.in_channels
    size = plan.height // 8, plan.width // 8
    zeros = functools.partial(torch.zeros, dtype=getattr(torch, plan.dtype), device=plan.device)
    with torch.no_grad(), contextlib.ExitStack() as stack:
        if "transformer" in plan.offload.on_gpu:  # elsewhere hooks follow the order of all blocks
            for copy in getattr(transformer, "copies", ()):
                stack.enter_context(_few_blocks(copy.transformer))
            if isinstance(transformer, torch.nn.Module):
                stack.enter_context(_few_blocks(transformer))
        for batch in plan.batches:
            predict(
                transformer,
                zeros(1, *seen, *size),
                zeros(batch, *text),
                torch.zeros((), dtype=torch.int64, device=plan.device),
                rotary_positions(config, seen[0], *size, plan.device),
                from_text(latent_frames, config),
            )


@contextlib.contextmanager
def _few_blocks(transformer: torch.nn.Module) -> Iterator[None]:
    """Within it a transformer has only its first ``COMPILED_BLOCKS``."""
    blocks = transformer.transformer_blocks
    transformer.transformer_blocks = blocks[:COMPILED_BLOCKS]
    try:
        yield
    finally:
        transformer.transformer_blocks = blocks


LOAD, PLACED, VIDEO = "load", "placed", "video"
"""When a speed-up is applied to a transformer: once as it is loaded, before it is placed; whenever
a loaded pipeline gets another plan; and before each video."""

APPLY: dict[str, tuple[str, Callable[[torch.nn.Module, Plan], None]]] = {
    "quantized": (
        LOAD,
        lambda t, plan: quantize_transformer(
            t, plan.quantized, plan.device, stays="transformer" in plan.offload.on_gpu
        ),
    ),
    "compiled": (
        PLACED,
        lambda t, plan: enable_compiled(t, plan.compiled, plan.joined_tokens, plan.block_batches),
    ),
    "attention": (
        PLACED,
        lambda t, plan: set_attention(t, plan.attention, plan.compiled, plan.sparse_attention),
    ),
    "sparse_attention": (
        VIDEO,
        lambda t, plan: set_sparse_attention(t, plan.sparse_attention),
    ),
}
"""How each field of a plan that switches a speed-up takes effect on a transformer, on or off."""


def apply_speed_ups(when: str, transformer: torch.nn.Module, plan: Plan) -> None:
    """Apply what a plan says to a transformer, at one of the times in ``APPLY``."""
    for moment, apply in APPLY.values():
        if moment == when:
            apply(transformer, plan)


def load_key(plan: Plan) -> tuple:
    """What only loading again can change: precision, weights, and hooks that can't be removed.

    Quantized weights that move are kept in another way than those that stay.
    """
    applied = [getattr(plan, field) for field, (when, _) in APPLY.items() if when == LOAD]
    hooks = "" if plan.offload.reversible and not plan.quantized else plan.placement
    return plan.device, plan.dtype, hooks, *applied


PINNED_BLOCK = 2**30
"""Bytes. The largest parameter of CogVideoX-5b takes a quarter of it."""


def place_component(plan: Plan, name: str, part: torch.nn.Module) -> None:
    """Put a component that was just loaded where its plan keeps it."""
    if name == "transformer":
        apply_speed_ups(LOAD, part, plan)
        wrap_blocks(part, exact=not plan.quantized)
        cut_learned_positions(part)
    if name == "vae" and plan.device != "cpu":
        use_fast_vae(part)
    if name in plan.offload.streamed:
        _stream_component(part, name, plan)
    elif name in plan.offload.on_gpu:
        move_component(part, plan.device)


def install_offload_hooks(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> None:
    """Install hooks that move whole models, or single layers, when called."""
    if plan.offload.hooks == "model":
        pipe.enable_model_cpu_offload(device=plan.device)
    elif plan.offload.hooks == "sequential":
        for name, part in pipe.components.items():
            if isinstance(part, torch.nn.Module) and name not in plan.offload.on_gpu:
                accelerate.cpu_offload(part, torch.device(plan.device))


def move_pipeline(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> None:
    """Change a loaded pipeline from one reversible placement to another."""
    pipe.remove_all_hooks()
    pipe.to("cpu" if plan.offload.offloads else plan.device)
    install_offload_hooks(pipe, plan)


def pin_parameters(part: torch.nn.Module) -> None:
    """Move a component's parameters into shared blocks of pinned RAM.

    torch pins a power of two for each tensor (4.0 GiB for one of 3.0, measured), so the 10.4 GiB
    of CogVideoX-5b's transformer would take 18.4 one by one.
    """
    left = sum(_aligned_bytes(parameter) for parameter in part.parameters())
    block = torch.empty(0, dtype=torch.uint8)
    for parameter in part.parameters():
        size = _aligned_bytes(parameter)
        if size > len(block):
            count = max(size, min(left, PINNED_BLOCK))
            block = torch.empty(count, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
        pinned = block[: parameter.nbytes].view(parameter.dtype).view(parameter.shape)
        parameter.data = pinned.copy_(parameter.data)
        block, left = block[size:], left - size


def _aligned_bytes(parameter: torch.nn.Parameter) -> int:
    return -(-parameter.nbytes // 64) * 64


def _stream_component(part: torch.nn.Module, name: str, plan: Plan) -> None:
    """Install group offload: of the transformer by blocks, of the text encoder by layers.

    From pinned RAM; or from the files, which the system maps into memory, by pinning a block at a
    time.
    """
    if not plan.offload.from_disk:
        pin_parameters(part)
    granularity = {
        "transformer": {"offload_type": "block_level", "num_blocks_per_group": 1},
        "text_encoder": {"offload_type": "leaf_level"},
    }
    diffusers.hooks.apply_group_offloading(
        part,
        onload_device=torch.device(plan.device),
        use_stream=plan.device != "cpu",
        low_cpu_mem_usage=plan.offload.from_disk,
        **granularity[name],
    )


def free_memory() -> None:
    """Return memory that no tensor uses to the device and to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        # Pinned RAM; torch 2.11 has no public name for it.
        empty = getattr(torch.accelerator, "empty_host_cache", None)
        (empty or torch._C._host_emptyCache)()
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        # glibc keeps freed memory: hundreds of MiB after a decode on the CPU.
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def synchronize(device: str) -> None:
    """Wait until a device has finished its queue."""
    if device != "cpu":
        torch.cuda.synchronize(device)
