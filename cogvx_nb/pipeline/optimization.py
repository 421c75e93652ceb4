"""What makes a pipeline fit and fast: offload, compiled blocks, quantization, step cache, memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc

import diffusers
import torch

from .. import settings
from ..errors import RequestError
from ..planning.plan import CACHE_INTERVAL, Plan, first_cached_step
from .attention import first_line

QUANTIZED_LAYERS = ("attn1.", "ff.")
"""Linear layers that hold nine tenths of a block's weights; the rest sees two rows at a time."""

MAX_COMPILED_SHAPES = 64
"""Sizes of videos that one process keeps compiled code for; torch would stop at 8."""

ROUND_AS_EAGER = {"emulate_precision_casts": True}
"""Settings of torch's compiler: round in between where the block itself would.

With CogVideoX-5b's shapes in bfloat16, random weights and 49 frames a step on an H100 lies 0.7 %
from stock's then, and 2.5 % without; it takes 2 % longer. Stock lies 2.3 % from float32
(``benchmarks/equality.py --random``)."""


class CompileFailed(Exception):
    """The compiler failed: there is none, or it can't; the message is its first line."""


class CompileToggle:
    """A block's forward, compiled or not; hooks that wrap it later needn't know which.

    Args:
        exact: whether compiled code rounds as the block does.
    """

    def __init__(self, block: torch.nn.Module, exact: bool) -> None:
        self._eager = self._now = block.forward
        self._options = ROUND_AS_EAGER if exact else {}
        self._compiled = None

    def turn(self, on: bool) -> None:
        """Whether it is compiled from now on; that happens when it is first called."""
        if on and self._compiled is None:
            torch._dynamo.config.recompile_limit = MAX_COMPILED_SHAPES
            self._compiled = torch.compile(self._eager, dynamic=False, options=self._options)
        self._now = self._compiled if on else self._eager

    def __call__(self, *args, **kwargs):
        return self._now(*args, **kwargs)


def wrap_blocks(transformer: torch.nn.Module, exact: bool) -> list[CompileToggle]:
    """A switch for each block, off; before any hook is set. See ``CompileToggle``."""
    switches = [CompileToggle(block, exact) for block in transformer.transformer_blocks]
    for block, switch in zip(transformer.transformer_blocks, switches, strict=True):
        block.forward = switch
    return switches


def compile_blocks(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> None:
    """A step's work with zeros, so that what it needs is compiled.

    Raises:
        CompileFailed: if the compiler does.
    """
    config, latent_frames = pipe.transformer.config, (plan.frames - 1) // 4 + 1
    dtype, device = getattr(torch, plan.dtype), plan.device
    zeros = functools.partial(torch.zeros, dtype=dtype, device=device)
    latents = zeros(
        plan.batch, latent_frames, config.in_channels, plan.height // 8, plan.width // 8
    )
    text = zeros(plan.batch, plan.model.checkpoint.text_tokens, config.text_embed_dim)
    rotary = None
    if config.use_rotary_positional_embeddings:
        rotary = pipe._prepare_rotary_positional_embeddings(
            plan.height, plan.width, latent_frames, torch.device(device)
        )
    try:
        with torch.no_grad(), pipe.transformer.cache_context("warm"):
            pipe.transformer(
                hidden_states=latents,
                encoder_hidden_states=text,
                timestep=torch.zeros(plan.batch, dtype=torch.int64, device=device),
                image_rotary_emb=rotary,
                return_dict=False,
            )
    except torch._dynamo.exc.TorchDynamoException as error:
        raise CompileFailed(first_line(error)) from None


def remember_compiled(key: str) -> None:
    """Note that code was compiled, for the next plan; see ``Machine.compiled``."""
    path = settings.compiled_list()
    if path.exists() and key in path.read_text(encoding="utf-8").splitlines():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{key}\n")


def quantize_transformer(transformer: torch.nn.Module, kind: str, device: str) -> None:
    """8-bit weights, and 8-bit products with what comes in, in the blocks; they end on the device.

    Args:
        kind: ``fp8``, scaled by row, or ``int8``.

    Raises:
        RequestError: if torchao is missing.
    """
    try:
        from torchao import quantization
    except ImportError as error:
        remedy = "8-bit products need torchao: pip install -e '.[fast]'"
        raise RequestError("speed", "fast", remedy) from error
    # Its own settings for the compiler search for minutes and gain next to nothing.
    if kind == "fp8":
        rows = quantization.PerRow()
        config = quantization.Float8DynamicActivationFloat8WeightConfig(
            granularity=rows, set_inductor_config=False
        )
    else:
        config = quantization.Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)

    def wanted(module: torch.nn.Module, name: str) -> bool:
        return isinstance(module, torch.nn.Linear) and any(
            part in name for part in QUANTIZED_LAYERS
        )

    quantization.quantize_(transformer.transformer_blocks, config, wanted, device=device)


def set_step_cache(transformer: torch.nn.Module, steps: int | None) -> None:
    """Have steps reuse others, on the fixed schedule of ``plan.computed_steps``; None for not."""
    if transformer.is_cache_enabled:
        transformer.disable_cache()
    if steps is not None:
        transformer.enable_cache(
            diffusers.TaylorSeerCacheConfig(
                cache_interval=CACHE_INTERVAL,
                disable_cache_before_step=first_cached_step(steps),
                max_order=0,
                taylor_factors_dtype=torch.float32,
                use_lite_mode=True,
            )
        )


PINNED_BLOCK = 2**30
"""Bytes. The largest parameters of CogVideoX-5b take a quarter of it."""

REVERSIBLE = ("resident", "model_offload")
"""Placements that can be changed into each other; the hooks of the others can't be undone."""


def place_component(plan: Plan, name: str, part: torch.nn.Module) -> list[CompileToggle]:
    """Put a part that was just loaded where it belongs; the switches of its blocks, if any."""
    switches = []
    if name == "transformer":
        if plan.quantized:
            quantize_transformer(part, plan.quantized, plan.device)
        switches = wrap_blocks(part, exact=not plan.quantized)
    if name == "vae" and plan.device != "cpu":
        part.arrange()
    if _is_streamed(plan, name):
        _stream_component(part, name, plan)
    elif plan.placement not in ("model_offload", "sequential") or _stays(plan, name):
        part.to(plan.device)
    return switches


def install_offload_hooks(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> None:
    """Set what moves whole models or single layers as they are needed."""
    if plan.placement == "model_offload":
        pipe.enable_model_cpu_offload(device=plan.device)
    elif plan.placement == "sequential":
        pipe._exclude_from_cpu_offload = ["vae"]
        pipe.enable_sequential_cpu_offload(device=plan.device)


def move_pipeline(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> None:
    """From one of ``REVERSIBLE`` to another."""
    pipe.remove_all_hooks()
    pipe.to(plan.device if plan.placement == "resident" else "cpu")
    install_offload_hooks(pipe, plan)


def _is_streamed(plan: Plan, name: str) -> bool:
    if plan.placement in ("streamed", "disk"):
        return name != "vae"
    return plan.placement == "text_out" and name == "text_encoder"


def _stays(plan: Plan, name: str) -> bool:
    return plan.placement == "sequential" and name == "vae"


def pin_parameters(part: torch.nn.Module) -> None:
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


def _stream_component(part: torch.nn.Module, name: str, plan: Plan) -> None:
    """Blocks of the transformer, and layers of the text encoder, come as they are needed.

    From pinned RAM; or from the files, which the system maps into memory, by pinning a block at a
    time.
    """
    if plan.placement != "disk":
        pin_parameters(part)
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


OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",
    "could not create a primitive",
    "could not create a memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What is said when memory runs out elsewhere than in torch's allocator of GPU memory: by that of
the CPU, oneDNN, CUDA (pinned RAM too) and its libraries."""


def free_memory() -> None:
    """Give memory that no tensor uses back to the device, and to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        # Of pinned RAM; torch 2.11 has no public name for it.
        empty = getattr(torch.accelerator, "empty_host_cache", None)
        (empty or torch._C._host_emptyCache)()
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        # It keeps what is freed: hundreds of MiB after a decode on the CPU.
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def synchronize(device: str) -> None:
    """Wait until a device has done all that it was given."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says with this exception that memory ran out, on a GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in OUT_OF_MEMORY_MESSAGES
    )
