"""CogVideoX's transformer block over one tensor of text and clip tokens, to be compiled.

diffusers keeps both kinds of tokens apart and joins them twice in every block, which moves hidden
states of 218 MB (CogVideoX-5b, 49 frames, guidance) to and fro. Here they stay together, text
first; what differs between them, the modulation, is chosen by a token's index. The weights stay in
diffusers' modules, which are called wherever that makes no difference, so that whatever was done
to them holds: LoRAs, quantization, offload.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def compile_block(block: torch.nn.Module, compiler: Callable) -> Callable:
    """A forward with the arguments and results of diffusers' ``CogVideoXBlock``.

    Args:
        compiler: makes compiled code of a function.
    """
    compute = compiler(forward_tokens)

    def forward(
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        attention_kwargs: None = None,
    ) -> tuple[Tensor, Tensor]:
        text = encoder_hidden_states.shape[1]
        tokens = joined([encoder_hidden_states, hidden_states], dim=1)
        tokens = compute(block, tokens, text, temb, image_rotary_emb)
        return tokens[:, text:], tokens[:, :text]

    return forward


def forward_tokens(
    block: torch.nn.Module,
    tokens: Tensor,
    text: int,
    temb: Tensor,
    rotary: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Tokens after a block, (batch, tokens, width).

    For CogVideoX-5b torch compiles it to four kernels beside the products and the attention: norm
    and modulation; norm and rotation of queries and keys; gated sum, norm and modulation; gated
    sums. Between products they move 13 copies of the hidden states, and those of diffusers' block
    31 (counted in the code that torch 2.13 makes for an H100). On an H200 all that is neither
    product nor attention takes 55 ms of a step of 49 frames, instead of 91 (benchmarks/block.py);
    one product for queries, keys and values saved nothing more.

    Args:
        block: whose attention has an ``AttentionProcessor``.
        tokens: (batch, tokens, width), those of the text first.
        text: how many those are.
        temb: embedding of the timestep, (batch, its width).
        rotary: cosines and sines for the tokens of the clip, (tokens - text, width of a head).
    """
    kind = _kinds(tokens, text)
    normed, gate = _modulated(block.norm1, tokens, temb, kind)
    parts = _attention_inputs(block.attn1, normed, text, rotary)
    mixed = block.attn1.processor.mix(block.attn1, *parts, text)
    return _after_attention(block, tokens, mixed, gate, temb, kind)


def write_attention_inputs(
    block: torch.nn.Module,
    tokens: Tensor,
    text: int,
    temb: Tensor,
    rotary: tuple[Tensor, Tensor] | None,
    *parts: Tensor,
) -> None:
    """The part of ``forward_tokens`` before its attention.

    Args:
        parts: where query, key and value are written, (batch, tokens, heads, head width) each.
    """
    normed, _ = _modulated(block.norm1, tokens, temb, _kinds(tokens, text))
    made = _attention_inputs(block.attn1, normed, text, rotary)
    for part, value in zip(parts, made, strict=True):
        part.copy_(value)


def update_tokens(
    block: torch.nn.Module, tokens: Tensor, text: int, temb: Tensor, mixed: Tensor
) -> None:
    """The part of ``forward_tokens`` after its attention, in place.

    Args:
        mixed: output of the attention, (batch, tokens, heads, head width).
    """
    kind = _kinds(tokens, text)
    _, gate = _modulated(block.norm1, tokens, temb, kind)
    tokens.copy_(_after_attention(block, tokens, mixed, gate, temb, kind))


def _kinds(tokens: Tensor, text: int) -> Tensor:
    """Of each token: 0 of the clip, 1 of the text."""
    return (torch.arange(tokens.shape[1], device=tokens.device) < text).long()


def _modulated(
    norm: torch.nn.Module, tokens: Tensor, temb: Tensor, kind: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens normalised, scaled and shifted by the timestep, and the gate for their change.

    Args:
        norm: ``CogVideoXLayerNormZero``, whose layer gives shift, scale and gate for clip and text.
        kind: see ``_kinds``.
    """
    parts = norm.linear(norm.silu(temb)).unflatten(1, (2, 3, -1))
    shift, scale, gate = (part[:, kind] for part in parts.unbind(2))
    return norm.norm(tokens) * (1 + scale) + shift, gate


def _attention_inputs(
    attn: torch.nn.Module, tokens: Tensor, text: int, rotary: tuple[Tensor, Tensor] | None
) -> list[Tensor]:
    """Query, key and value, each (batch, tokens, heads, head width)."""
    parts = [project(tokens) for project in (attn.to_q, attn.to_k, attn.to_v)]
    query, key, value = (part.unflatten(2, (attn.heads, -1)) for part in parts)
    query, key = attn.norm_q(query), attn.norm_k(key)
    if rotary is not None:
        tables = _tables(rotary, text, tokens.device)
        query, key = _rotated(query, *tables), _rotated(key, *tables)
    return [query, key, value]


def _after_attention(
    block: torch.nn.Module,
    tokens: Tensor,
    mixed: Tensor,
    gate: Tensor,
    temb: Tensor,
    kind: Tensor,
) -> Tensor:
    """Tokens after a block.

    Args:
        gate: of the attention's change.
    """
    first, dropout = block.attn1.to_out
    tokens = tokens + gate * dropout(first(mixed.flatten(2)))
    normed, gate = _modulated(block.norm2, tokens, temb, kind)
    return tokens + gate * _feed_forward(block.ff, normed)


def _tables(
    rotary: tuple[Tensor, Tensor], text: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines for all tokens, (tokens, 1, width of a head); text isn't rotated."""
    cos, sin = (table.to(device) for table in rotary)
    signs = torch.arange(sin.shape[1], device=device) % 2 * 2 - 1
    cos, sin = F.pad(cos, (0, 0, text, 0), value=1.0), F.pad(sin * signs, (0, 0, text, 0))
    return cos[:, None], sin[:, None]


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of (batch, tokens, heads, width of a head), in pairs of neighbours.

    ``attention.apply_rotary`` with the sign in the table: a pair is exchanged and not taken apart.
    """
    exchanged = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return (x.float() * cos + exchanged.float() * sin).to(x.dtype)


def _feed_forward(ff: torch.nn.Module, tokens: Tensor) -> Tensor:
    first, *rest = ff.net
    if first.approximate == "tanh" and is_plain(first.proj):
        tokens = linear_gelu(tokens, first.proj.weight, first.proj.bias)
    else:
        tokens = first(tokens)
    for layer in rest:
        tokens = layer(tokens)
    return tokens


def is_plain(linear: torch.nn.Module) -> bool:
    """Whether a layer is its product and nothing else: not quantized, without an adapter."""
    kinds = (torch.nn.Parameter, Tensor)
    return type(linear) is torch.nn.Linear and all(
        type(parameter) in kinds for parameter in (linear.weight, linear.bias)
    )


@torch.library.custom_op("cogvx_nb::linear_gelu", mutates_args=())
def linear_gelu(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU by its tanh approximation of a product, which on a GPU is rounded only once.

    Args:
        tokens: (…, width).
        weight, bias: (outputs, width) and (outputs).
    """
    if not tokens.is_cuda:  # where torch's product with an activation has the exact GELU
        return F.gelu(F.linear(tokens, weight, bias), approximate="tanh")
    rows = tokens.flatten(0, -2)
    product = torch._addmm_activation(bias, rows, weight.t(), use_gelu=True)
    return product.unflatten(0, tokens.shape[:-1])


@linear_gelu.register_fake
def _(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return tokens.new_empty((*tokens.shape[:-1], weight.shape[0]))


def joined(parts: list[Tensor], dim: int) -> Tensor:
    """``torch.cat``, but a view of tensors that follow one another in memory.

    With gradients it is always a copy, since they would reach the first one only.
    """
    if torch.is_grad_enabled() or not _adjoin(parts, dim):
        return torch.cat(parts, dim)
    size = list(parts[0].shape)
    size[dim] = sum(part.shape[dim] for part in parts)
    return parts[0].as_strided(size, parts[0].stride())


def _adjoin(parts: list[Tensor], dim: int) -> bool:
    """Whether tensors are of one memory, each beginning where the one before it ends."""
    first, offset = parts[0], parts[0].storage_offset()
    for part in parts:
        alike = part.dtype == first.dtype and part.stride() == first.stride()
        same_memory = part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not alike or not same_memory or part.storage_offset() != offset:
            return False
        offset += part.shape[dim] * part.stride(dim)
    return True
