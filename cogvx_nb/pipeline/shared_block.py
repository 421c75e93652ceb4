"""CogVideoX's compiled block on one of several devices that share a clip's tokens.

Only the attention needs the other devices. What is before and after it is compiled apart, and the
launches of each piece are recorded: from Python they take longer than their work on each of four
GPUs, since the threads of a process take turns (``docs/benchmarks.md``, Several GPUs).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from .block import update_tokens, write_attention_inputs
from .recording import Recordings
from .shards import Shard


class Workspace:
    """The tensors of a step that recorded work reads and writes, at the same addresses each time.

    Args:
        text, clip: tokens of both kinds, (batch, tokens, width).
        heads: of the attention.
        record: see ``Recordings``.
    """

    def __init__(self, text: Tensor, clip: Tensor, heads: int, record: bool) -> None:
        batch, count, width = clip.shape
        self.words = text.shape[1]
        self.tokens = clip.new_empty(batch, self.words + count, width)
        self.text, self.clip = self.tokens[:, : self.words], self.tokens[:, self.words :]
        shape = batch, self.words + count, heads, width // heads
        self.parts, self.mixed = clip.new_empty(3, *shape), clip.new_empty(shape)
        self.recordings = Recordings(clip.device, record)
        self._whole: Tensor | None = None
        self._attended: Tensor | None = None
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}

    def put(self, text: Tensor, clip: Tensor) -> None:
        """Take a block's tokens, unless they are there from the block before."""
        if clip is not self.clip or text is not self.text:
            self.text.copy_(text)
            self.clip.copy_(clip)

    def attend(self, shard: Shard) -> None:
        """Set ``mixed`` by the ``parts`` of all devices."""
        self._whole, own = shard.gather(self.parts, self._whole)
        if self._attended is None:
            self._attended = torch.empty_like(self._whole[0])
        whole, attended = self._whole, self._attended

        def work() -> None:
            attended.copy_(shard.attend(*whole))

        self.recordings.run("attention", work, shard.recordable)
        shard.scatter(attended, own, self.mixed)

    def keep(self, name: str, value: Tensor) -> Tensor:
        """A copy of a tensor that is the same for all blocks of a step."""
        given, kept = self._kept.get(name, (None, None))
        if given is not value:
            kept = value.clone() if kept is None else kept.copy_(value)
            self._kept[name] = value, kept
        return kept


class DeviceBlocks:
    """What the blocks of one device have in common.

    Args:
        shard: of the device.
        record: see ``Recordings``.
    """

    def __init__(self, shard: Shard, record: bool) -> None:
        self.shard, self._record = shard, record
        self._video: Hashable = None
        self.workspaces: dict[Hashable, Workspace] = {}  # of a video: for two clips, and for one

    def begin_step(self, video: Hashable) -> None:
        """Forget the workspaces of another video.

        Args:
            video: sizes of what the devices share.
        """
        if video != self._video:
            self.workspaces.clear()
        self._video = video

    def workspace(self, text: Tensor, clip: Tensor, heads: int) -> Workspace:
        """That of tokens of such shapes."""
        key = text.shape, clip.shape, clip.dtype
        if key not in self.workspaces:
            self.workspaces[key] = Workspace(text, clip, heads, self._record)
        return self.workspaces[key]


def share_block(
    block: torch.nn.Module, number: int, device_blocks: DeviceBlocks, compiler: Callable
) -> Callable:
    """A forward with the arguments and results of diffusers' ``CogVideoXBlock``, of a device's
    share of the tokens.

    Args:
        number: of the block.
        compiler: makes compiled code of a function.
    """
    before, after = compiler(write_attention_inputs), compiler(update_tokens)
    attn, shard = block.attn1, device_blocks.shard

    def forward(
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        attention_kwargs: None = None,
    ) -> tuple[Tensor, Tensor]:
        space = device_blocks.workspace(encoder_hidden_states, hidden_states, attn.heads)
        space.put(encoder_hidden_states, hidden_states)
        temb, rotary = space.keep("temb", temb), None
        if image_rotary_emb is not None:
            cos, sin = image_rotary_emb
            rotary = space.keep("cos", cos), space.keep("sin", sin)
        words, run = space.words, space.recordings.run
        run((number, 0), lambda: before(block, space.tokens, words, temb, rotary, *space.parts))
        space.attend(shard)
        run((number, 1), lambda: after(block, space.tokens, words, temb, space.mixed))
        return space.clip, space.text

    return forward
