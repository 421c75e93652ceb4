"""Attention of CogVideoX's blocks by any backend; the processor of diffusers knows SDPA only."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers.models import attention_dispatch
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0

from ..errors import RequestError, missing_package
from ..planning.plan import Plan
from ..planning.speedups import FLASH4, SAGE1, SDPA, SPARSE, SPEED_UPS
from ..text import first_line
from .failures import SpeedUpFailed, is_out_of_memory
from .sparse_attention import add_slots, sparse_attention, try_blocks


class AttentionProcessor:
    """``CogVideoXAttnProcessor2_0`` of diffusers with another attention function.

    Args:
        attend: (query, key, value) → output, all (batch, tokens, heads, head width).
    """

    def __init__(self, attend: Callable[..., torch.Tensor]) -> None:
        self.attend = attend

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Clip and text tokens after attention, each (batch, tokens, heads · head width)."""
        text = encoder_hidden_states.shape[1]
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query, key, value = (
            project(tokens).unflatten(2, (attn.heads, -1))
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        query, key = attn.norm_q(query), attn.norm_k(key)
        if image_rotary_emb is not None:
            for part in (query, key):
                part[:, text:] = apply_rotary(part[:, text:], *image_rotary_emb)
        mixed = self.mix(attn, query, key, value, text).flatten(2)
        mixed = attn.to_out[1](attn.to_out[0](mixed))
        return mixed[:, text:], mixed[:, :text]

    def mix(
        self,
        attn: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        text: int,
    ) -> torch.Tensor:
        """Attention of a layer, its first tokens so many of text."""
        return self.attend(query, key, value)


class SparseProcessor(AttentionProcessor):
    """The same by ``sparse_attention``; ``attend`` only tries its kernel."""

    def __init__(self, compiled: bool) -> None:
        super().__init__(_reporting(SPARSE, try_blocks, compiled=False))
        self._by_masks = _reporting(SPARSE, sparse_attention, compiled)

    def mix(
        self,
        attn: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        text: int,
    ) -> torch.Tensor:
        """Attention of a layer, its first tokens so many of text."""
        return self._by_masks(query, key, value, attn.mask_slot, text)


def apply_rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of (batch, tokens, heads, head width), in pairs of neighbours.

    Args:
        cos, sin: (tokens, head width), of each token's angles.
    """
    real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
    rotated = torch.stack([-imaginary, real], dim=-1).flatten(-2)
    cos, sin = cos[:, None].to(x.device), sin[:, None].to(x.device)
    return (x.float() * cos + rotated.float() * sin).to(x.dtype)


MODULES = {FLASH4: "flash_attn.cute.interface", SAGE1: "sageattention"}
"""What is imported of the packages of attentions that speeds bring."""


def check_attention_package(name: str) -> None:
    """Raise RequestError if the package of one of ``MODULES`` can't be imported."""
    try:
        importlib.import_module(MODULES[name])
    except Exception as error:  # also of another version of a package that it imports
        row = SPEED_UPS[name]
        message = missing_package(row.package, row.extra, row.title)
        remedy = f"isn't available here ({first_line(error)}): {message}, or use {SDPA}"
        raise RequestError("attention", name, remedy) from error


@torch.library.custom_op("cogvx_nb::flash4", mutates_args=())
def flash_attention_4(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention of (batch, tokens, heads, head width), in half precision on a GPU."""
    from flash_attn.cute import flash_attn_func

    return flash_attn_func(query, key, value)[0]


@flash_attention_4.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return query.new_empty(query.shape)


SAGE1_BLOCKS = 128, 64
"""Queries and keys that SageAttention 1 gives one scale."""


@torch.library.custom_op("cogvx_nb::sage1", mutates_args=())
def sage_attention_1(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention of (batch, tokens, heads, head width), queries and keys rounded to 8 bits."""
    from sageattention import sageattn

    return whole_blocks(sageattn, query, key, value)


@sage_attention_1.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return query.new_empty(query.shape)


def whole_blocks(
    attend: Callable[..., torch.Tensor],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
) -> torch.Tensor:
    """What ``sageattention.sageattn`` makes of tokens, filled up to whole blocks.

    Version 1.0.6 reads past the end of an incomplete block, and gives each key that it finds there
    the score 0. Here those have the mean value, which of keys whose mean is taken off is what a
    score of 0 stands for: without effect where attention is even, next to none where it isn't. And
    it takes the mean off in place, which would change the keys.
    """
    count = query.shape[1]
    queries, keys = ((0, 0, 0, 0, 0, -count % block) for block in SAGE1_BLOCKS)
    key = key - key.mean(1, keepdim=True)  # the same for all keys of a query: softmax ignores it
    query, key = F.pad(query, queries), F.pad(key, keys)
    mean = value.mean(1, keepdim=True).expand(-1, keys[-1], -1, -1)
    value = torch.cat([value, mean], dim=1)
    mixed = attend(query, key, value, tensor_layout="NHD", smooth_k=False)
    return mixed[:, :count].contiguous()


ATTENTIONS = {FLASH4: flash_attention_4, SAGE1: sage_attention_1}
"""Those that speeds bring, by name."""

RECORDABLE = (SDPA, FLASH4)
"""Those whose launches can be recorded, since they never wait for the GPU."""


TRIAL_TOKENS = 256
"""Enough for any attention kernel to run."""


def try_attention(plan: Plan) -> None:
    """Run a plan's attention once, on a few tokens.

    Raises:
        SpeedUpFailed: if it is one that the planner chooses, and doesn't work here.
        RequestError: if another one isn't available here, or not on the plan's device.
    """
    try:
        processor = attention_processor(plan.attention, plan.compiled, plan.sparse_attention)
    except RequestError as error:
        raise _attention_failure(plan.attention, error) from error
    if plan.attention != SDPA or plan.sparse_attention:
        _attend_once(processor, plan)


def _attend_once(processor: AttentionProcessor, plan: Plan) -> None:
    _, heads, head_width, _, _ = plan.model.checkpoint.architecture
    shape, dtype = (1, TRIAL_TOKENS, heads, head_width), getattr(torch, plan.dtype)
    try:
        tokens = torch.ones(shape, dtype=dtype, device=plan.device)
        with torch.no_grad():
            processor.attend(tokens, tokens, tokens)
    except Exception as error:  # of its package, its kernel or the GPU
        if not is_out_of_memory(error):  # which says nothing about the attention
            raise _attention_failure(plan.attention, error) from error


def _attention_failure(name: str, error: Exception) -> SpeedUpFailed | RequestError:
    """The exception for an attention that doesn't work: of a speed-up if it is one."""
    if name == SPARSE:
        return SpeedUpFailed(name, first_line(error))
    if not isinstance(error, RequestError | SpeedUpFailed):
        error = RequestError("attention", name, f"{first_line(error)}; use {SDPA}")
    return SpeedUpFailed(name, str(error)) if name in SPEED_UPS else error


@functools.cache  # blocks are compiled again for another processor, even an equal one
def attention_processor(
    name: str, compiled: bool, sparse: bool = False
) -> CogVideoXAttnProcessor2_0 | AttentionProcessor:
    """The processor of a transformer's blocks for ``Plan.attention``, sparse or whole.

    Raises:
        RequestError: if there is none of that name, or it isn't available here.
    """
    if sparse:
        if name == FLASH4:
            check_attention_package(name)
        return SparseProcessor(compiled)
    if name == SDPA:
        if not compiled:
            return CogVideoXAttnProcessor2_0()
        name = attention_dispatch.AttentionBackendName.NATIVE.value  # scaled_dot_product_attention
    if name in ATTENTIONS:
        check_attention_package(name)
        return AttentionProcessor(_reporting(name, ATTENTIONS[name], compiled))
    backends = {backend.value: backend for backend in attention_dispatch.AttentionBackendName}
    if name not in backends:
        listed = ", ".join((SDPA, *ATTENTIONS, *backends))
        raise RequestError("attention", name, f"use one of {listed}")
    try:
        attention_dispatch._check_attention_backend_requirements(backends[name])
        attention_dispatch._maybe_download_kernel_for_backend(backends[name])
    except Exception as error:  # of its package, its hub or the GPU
        remedy = f"isn't available here: {first_line(error)}"
        raise RequestError("attention", name, remedy) from error
    attend = functools.partial(attention_dispatch.dispatch_attention_fn, backend=backends[name])
    return AttentionProcessor(_reporting(name, attend, compiled))


def _reporting(
    name: str, attend: Callable[..., torch.Tensor], compiled: bool
) -> Callable[..., torch.Tensor]:
    """The attention, its errors those of ``_attention_failure`` whenever they occur.

    Where it is compiled into the blocks, ``CompileToggle`` reports them.
    """
    if compiled:
        return attend

    def attend_reporting(*tokens: torch.Tensor) -> torch.Tensor:
        try:
            return attend(*tokens)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise _attention_failure(name, error) from error

    return attend_reporting


def set_attention(
    transformer: torch.nn.Module, name: str, compiled: bool, sparse: bool = False
) -> None:
    """Have a transformer's blocks attend by ``Plan.attention``, compiled or sparse or not."""
    if sparse:
        add_slots(transformer)
    transformer.set_attn_processor(attention_processor(name, compiled, sparse))
