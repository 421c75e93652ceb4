"""A denoising step on several devices: halves of guidance, and shares of the rows.

Every device has a copy of the transformer and a thread that launches its work: from one thread two
GPUs would wait for each other's launches (1.78 times as fast as one, against 1.99, measured on two
H200s with CogVideoX-5b at 49 frames).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .attention import RECORDABLE, AttentionProcessor, attention_processor
from .shards import Shard, shares
from .shared_block import DeviceBlocks, share_block
from .team import Team


@dataclass(frozen=True)
class Copy:
    """A copy of the transformer on one of the devices."""

    transformer: torch.nn.Module
    device: torch.device


class SplitTransformer:
    """In place of a transformer of diffusers, which it is called like: computes on all its copies.

    Args:
        copies: the first on the device of what it is called with.
        halves: 2 if guidance's two clips are computed apart, else 1. Their number divides that of
            the copies; those of a half share the rows of its latents and its text.
        attention: of the plan.
        record: whether their work can be recorded, see ``recording.Recordings``.
    """

    def __init__(
        self, copies: Sequence[Copy], halves: int, attention: str, record: bool = True
    ) -> None:
        self.copies, self.halves = tuple(copies), halves
        self.count = len(copies) // halves
        self._team = Team([copy.device for copy in copies], halves)
        self._device_blocks: list[DeviceBlocks] = []
        if self.count > 1:
            attend = attention_processor(attention, compiled=True).attend
            self._device_blocks = [
                DeviceBlocks(Shard(group, number, attend, attention in RECORDABLE), record)
                for group in self._team.groups
                for number in range(self.count)
            ]

    @property
    def config(self):
        return self.copies[0].transformer.config

    @property
    def transformer_blocks(self) -> list[torch.nn.Module]:
        """Those of all copies."""
        return [block for copy in self.copies for block in copy.transformer.transformer_blocks]

    @contextlib.contextmanager
    def cache_context(self, name: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for copy in self.copies:
                stack.enter_context(copy.transformer.cache_context(name))
            yield

    def forget_workspaces(self) -> None:
        """Free what the blocks keep between steps."""
        for blocks in self._device_blocks:
            blocks.workspaces.clear()

    def share_tokens(self) -> None:
        """Have the copies that share a half attend to each other's tokens. Applying their plan's
        speed-ups again undoes it."""
        for copy, blocks in zip(self.copies, self._device_blocks, strict=False):
            copy.transformer.set_attn_processor(shared_processor(blocks.shard))
            for number, block in enumerate(copy.transformer.transformer_blocks):
                block.compile_toggle.replace(functools.partial(share_block, block, number, blocks))

    def __call__(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: Tensor,
        ofs: Tensor | None,
        image_rotary_emb: tuple[Tensor, Tensor] | None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """The velocity of a batch of one clip or two, (batch, frames, channels, height, width).

        Raises:
            SpeedUpFailed: if a device but the first fails or runs out of memory.
        """
        batch, size = len(hidden_states), self.config.patch_size
        clips = [slice(0, batch)] if self.halves == 1 else [slice(n, n + 1) for n in range(batch)]
        height, width = (length // size for length in hidden_states.shape[3:])
        words = shares(encoder_hidden_states.shape[1], self.count)
        for blocks in self._device_blocks:
            blocks.begin_step((hidden_states.shape[1:], encoder_hidden_states.shape[1:]))
        work = [
            (
                hidden_states[clip, :, :, rows.start * size : rows.stop * size],
                encoder_hidden_states[clip, some],
                timestep[clip],
                ofs,
                _rows_of(image_rotary_emb, height, width, rows),
            )
            for clip in clips
            for rows, some in zip(shares(height, self.count), words, strict=True)
        ]
        calls = [functools.partial(_call, *pair) for pair in zip(self.copies, work, strict=False)]
        parts = self._team.run(calls)
        starts = range(0, len(parts), self.count)
        return (torch.cat([torch.cat(parts[n : n + self.count], dim=3) for n in starts]),)


def _call(copy: Copy, part: tuple, device: torch.device) -> Tensor:
    latents, text, timestep, ofs, rotary = _moved(part, device)
    return copy.transformer(
        hidden_states=latents,
        encoder_hidden_states=text,
        timestep=timestep,
        ofs=ofs,
        image_rotary_emb=rotary,
        return_dict=False,
    )[0]


def _rows_of(
    rotary: tuple[Tensor, Tensor] | None, height: int, width: int, rows: slice
) -> tuple[Tensor, Tensor] | None:
    """The tables of some rows of tokens, (tokens, head width), from those of all of them."""
    if rotary is None:
        return None
    return tuple(t.unflatten(0, (-1, height, width))[:, rows].flatten(0, 2) for t in rotary)


def _moved(value, device: torch.device):
    """Tensors, alone or in tuples, on a device."""
    if isinstance(value, tuple):
        return tuple(_moved(each, device) for each in value)
    return value if value is None else value.to(device)


def shared_processor(shard: Shard) -> AttentionProcessor:
    """The processor of diffusers' blocks for a share of the tokens."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        whole, own = shard.gather(torch.stack([query, key, value]))
        mixed = shard.attend(*whole).to(query.dtype).contiguous()
        return shard.scatter(mixed, own, torch.empty_like(query))

    return AttentionProcessor(attend)
