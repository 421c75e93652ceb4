"""What makes a transformer faster: compiled blocks, 8-bit products, reused steps, attention."""

from __future__ import annotations

import functools

import diffusers
import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0

from . import attention, flash_attention, settings
from .errors import RequestError
from .planning.plan import FLASH4, REUSE_INTERVAL, STOCK, Plan, reused_after

QUANTIZED = ("attn1.", "ff.")
"""Linear layers that hold nine tenths of a block's weights; the rest sees two rows at a time."""

MOST_SHAPES = 64
"""Sizes of videos that one process keeps compiled code for; torch would stop at 8."""

AS_EAGER = {"emulate_precision_casts": True}
"""Settings of torch's compiler: round in between where the block itself would.

With CogVideoX-5b's shapes in bfloat16, random weights and 49 frames a step on an H100 lies 0.7 %
from stock's then, and 2.5 % without; it takes 2 % longer. Stock lies 2.3 % from float32
(``benchmarks/equality.py --random``)."""

FEW_TOKENS = 256
"""Enough for an attention to be tried with."""


class CompileFailed(Exception):
    """The compiler failed: there is none, or it can't; the message is its first line."""


class Switch:
    """A block's forward, compiled or not; hooks that wrap it later needn't know which.

    Args:
        exact: whether compiled code rounds as the block does.
    """

    def __init__(self, block: torch.nn.Module, exact: bool) -> None:
        self._eager = self._now = block.forward
        self._options = AS_EAGER if exact else {}
        self._compiled = None

    def turn(self, on: bool) -> None:
        """Whether it is compiled from now on; that happens when it is first called."""
        if on and self._compiled is None:
            torch._dynamo.config.recompile_limit = MOST_SHAPES
            self._compiled = torch.compile(self._eager, dynamic=False, options=self._options)
        self._now = self._compiled if on else self._eager

    def __call__(self, *args, **kwargs):
        return self._now(*args, **kwargs)


def install(transformer: torch.nn.Module, exact: bool) -> list[Switch]:
    """A switch for each block, off; before any hook is set. See ``Switch``."""
    switches = [Switch(block, exact) for block in transformer.transformer_blocks]
    for block, switch in zip(transformer.transformer_blocks, switches, strict=True):
        block.forward = switch
    return switches


def warm(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> None:
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
        raise CompileFailed(_reason(error)) from None


def remember(key: str) -> None:
    """Note that code was compiled, for the next plan; see ``Machine.compiled``."""
    path = settings.compiled_list()
    if path.exists() and key in path.read_text(encoding="utf-8").splitlines():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{key}\n")


def quantize(transformer: torch.nn.Module, kind: str, device: str) -> None:
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
        return isinstance(module, torch.nn.Linear) and any(part in name for part in QUANTIZED)

    quantization.quantize_(transformer.transformer_blocks, config, wanted, device=device)


def reuse(transformer: torch.nn.Module, steps: int | None) -> None:
    """Have steps reuse others, on the fixed schedule of ``cost.computed_steps``; None for not."""
    if transformer.is_cache_enabled:
        transformer.disable_cache()
    if steps is not None:
        transformer.enable_cache(
            diffusers.TaylorSeerCacheConfig(
                cache_interval=REUSE_INTERVAL,
                disable_cache_before_step=reused_after(steps),
                max_order=0,
                taylor_factors_dtype=torch.float32,
                use_lite_mode=True,
            )
        )


def try_attention(plan: Plan) -> None:
    """Attend once as a plan says, with next to nothing.

    Raises:
        RequestError: if it can't be had here, or not on the plan's device.
    """
    made = processor(plan.attention, plan.compiled)
    if plan.attention == STOCK:
        return
    _, heads, width, _, _ = plan.model.checkpoint.architecture
    try:
        shape = (1, FEW_TOKENS, heads, width)
        tokens = torch.ones(shape, dtype=getattr(torch, plan.dtype), device=plan.device)
        with torch.no_grad():
            made.attend(tokens, tokens, tokens)
    except torch.OutOfMemoryError:  # says nothing of the attention
        return
    except Exception as error:  # of a package, a kernel, a card
        raise RequestError("attention", plan.attention, f"{_reason(error)}; use stock") from error


@functools.cache  # another one, though equal, would have the blocks compiled again
def processor(name: str, compiled: bool) -> CogVideoXAttnProcessor2_0 | attention.Processor:
    """What has a transformer's blocks attend as ``Plan.attention`` says.

    Raises:
        RequestError: if there is none of that name, or it can't be had here.
    """
    if name == STOCK:
        if not compiled:
            return CogVideoXAttnProcessor2_0()
        name = attention_dispatch.AttentionBackendName.NATIVE.value  # torch's choice, as in stock
    if name == FLASH4:
        flash_attention.check()
        return attention.Processor(flash_attention.attend)
    known = {backend.value: backend for backend in attention_dispatch.AttentionBackendName}
    if name not in known:
        raise RequestError("attention", name, f"use one of {', '.join((STOCK, FLASH4, *known))}")
    try:
        attention_dispatch._check_attention_backend_requirements(known[name])
        attention_dispatch._maybe_download_kernel_for_backend(known[name])
    except Exception as error:  # of its package, its hub, its card
        raise RequestError("attention", name, f"can't be had here: {_reason(error)}") from error
    dispatch = attention_dispatch.dispatch_attention_fn
    return attention.Processor(functools.partial(dispatch, backend=known[name]))


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
