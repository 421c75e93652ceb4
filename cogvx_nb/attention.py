"""Attention of CogVideoX's blocks by any backend: diffusers' own processor calls only torch's."""

from __future__ import annotations

from collections.abc import Callable

import torch


class Processor:
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
                part[:, text:] = rotated(part[:, text:], *image_rotary_emb)
        mixed = self.attend(query, key, value).flatten(2)
        mixed = attn.to_out[1](attn.to_out[0](mixed))
        return mixed[:, text:], mixed[:, :text]


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of (batch, tokens, heads, width); neighbours turn together.

    Args:
        cos, sin: (tokens, width), of each token's angles.
    """
    real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1).flatten(-2)
    cos, sin = cos[:, None].to(x.device), sin[:, None].to(x.device)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)
