"""Attention of CogVideoX's blocks by any backend: diffusers' own processor calls only torch's."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0

from ..errors import RequestError
from ..planning.plan import FLASH4, STOCK, Plan


class AttentionProcessor:
    """Does what ``CogVideoXAttnProcessor2_0`` of diffusers does, with another attention.

    Args:
        attend: (query, key, value) → their attention, all (batch, tokens, heads, width).
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
        """(clip, text) tokens after attention, each (batch, tokens, heads · width)."""
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
        mixed = self.attend(query, key, value).flatten(2)
        mixed = attn.to_out[1](attn.to_out[0](mixed))
        return mixed[:, text:], mixed[:, :text]


def apply_rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of (batch, tokens, heads, width); neighbours turn together.

    Args:
        cos, sin: (tokens, width), of each token's angles.
    """
    real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1).flatten(-2)
    cos, sin = cos[:, None].to(x.device), sin[:, None].to(x.device)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)


def check_flash_attention_4() -> None:
    """Raise a RequestError unless it can be had here."""
    try:
        import flash_attn.cute.interface  # noqa: F401
    except Exception as error:  # of a package that another version of it needs
        remedy = f"can't be had here ({error}): pip install -e '.[flash]', or use stock"
        raise RequestError("attention", "flash4", remedy) from error


@torch.library.custom_op("cogvx_nb::flash4", mutates_args=())
def flash_attention_4(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention of (batch, tokens, heads, width), on a GPU in half precision; of the same shape."""
    from flash_attn.cute import flash_attn_func

    return flash_attn_func(query, key, value)[0]


@flash_attention_4.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return query.new_empty(query.shape)


FEW_TOKENS = 256
"""Enough for an attention to be tried with."""


def try_attention(plan: Plan) -> None:
    """Attend once as a plan says, with next to nothing.

    Raises:
        RequestError: if it can't be had here, or not on the plan's device.
    """
    made = attention_processor(plan.attention, plan.compiled)
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
        raise RequestError(
            "attention", plan.attention, f"{first_line(error)}; use stock"
        ) from error


@functools.cache  # another one, though equal, would have the blocks compiled again
def attention_processor(
    name: str, compiled: bool
) -> CogVideoXAttnProcessor2_0 | AttentionProcessor:
    """What has a transformer's blocks attend as ``Plan.attention`` says.

    Raises:
        RequestError: if there is none of that name, or it can't be had here.
    """
    if name == STOCK:
        if not compiled:
            return CogVideoXAttnProcessor2_0()
        name = attention_dispatch.AttentionBackendName.NATIVE.value  # torch's choice, as in stock
    if name == FLASH4:
        check_flash_attention_4()
        return AttentionProcessor(flash_attention_4)
    known = {backend.value: backend for backend in attention_dispatch.AttentionBackendName}
    if name not in known:
        raise RequestError("attention", name, f"use one of {', '.join((STOCK, FLASH4, *known))}")
    try:
        attention_dispatch._check_attention_backend_requirements(known[name])
        attention_dispatch._maybe_download_kernel_for_backend(known[name])
    except Exception as error:  # of its package, its hub, its card
        raise RequestError("attention", name, f"can't be had here: {first_line(error)}") from error
    dispatch = attention_dispatch.dispatch_attention_fn
    return AttentionProcessor(functools.partial(dispatch, backend=known[name]))


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
