"""Attention over tokens that several devices share, a thread for each (Ulysses, arXiv 2309.14509).

Between two exchanges each device has all tokens for a share of the heads; outside of them it has a
share of the tokens for all heads. What one thread offers another copies from device to device, by
peer access where the devices have it. On one kind of device the exact order of the operations is
the same each time.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(query, key, value) → output, all (batch, tokens, heads, head width)."""


WIDE = torch.complex128
"""Of the numbers that are copied: 16 bytes, as many as a GPU moves at once."""


def shares(count: int, parts: int) -> list[slice]:
    """So many things in parts of nearly the same size, the larger ones first."""
    ends = [-(-count * part // parts) for part in range(parts + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


class Group:
    """The threads that share a sequence, or a picture.

    Args:
        count: threads. Each exchanges as often as the others, with its number.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._barrier = threading.Barrier(count)
        self.reset()

    def exchange(self, number: int, value: object) -> list:
        """What each thread offers, in their order. None may change it any more, in place or by
        work that it launches.

        Raises:
            threading.BrokenBarrierError: if another thread of the group failed.
        """
        # Two lists, filled in turn: who fills one again knows that all have read it, since they
        # have all filled the other one since.
        offered = self._offered[self._turns[number] % 2]
        self._turns[number] += 1
        offered[number] = value
        self._barrier.wait()
        return list(offered)

    def gather(
        self, number: int, parts: Tensor, whole: Tensor | None = None
    ) -> tuple[Tensor, slice]:
        """Query, key and value of all tokens for a thread's share of the heads; and which tokens
        are its own.

        Args:
            parts: query, key and value of a share of the tokens for all heads, (3, batch, tokens,
                heads, head width).
            whole: where they are written, (3, batch, all tokens, its heads, head width).
        """
        batch, _, count, width = parts.shape[1:]
        heads, offered = shares(count, self.count)[number], self.exchange(number, Offer(parts))
        ends = list(itertools.accumulate(each.tensor.shape[2] for each in offered))
        if whole is None:
            whole = parts.new_empty((3, batch, ends[-1], heads.stop - heads.start, width))
        for each, end in zip(offered, ends, strict=True):
            start = end - each.tensor.shape[2]
            each.copy_to(whole[:, :, start:end], lambda t: t[:, :, :, heads])
        return whole, slice(ends[number] - parts.shape[2], ends[number])

    def scatter(self, number: int, mixed: Tensor, own: slice, output: Tensor) -> Tensor:
        """Output of the attention for a thread's share of the tokens.

        Args:
            mixed: of all tokens for its share of the heads, (batch, all tokens, its heads, head
                width).
            own: see ``gather``.
            output: where it is written, (batch, tokens, heads, head width).
        """
        heads = shares(output.shape[2], self.count)
        for each, some in zip(self.exchange(number, Offer(mixed)), heads, strict=True):
            each.copy_to(output[:, :, some], lambda t: t[:, own])
        return output

    def abort(self) -> None:
        """Let the threads that wait fail."""
        self._barrier.abort()

    def reset(self) -> None:
        """Start over, after ``abort`` too; no thread may wait."""
        self._barrier.reset()
        self._offered = [[None] * self.count for _ in range(2)]
        self._turns = [0] * self.count


class Offer:
    """A tensor that other threads copy a part of, once the work that makes it is done.

    A copy between devices is done by the source, in the order of one of its streams. In its current
    one it would wait for what the source itself waits for, the copy in the other direction.

    The tensor may be changed, or its memory used again, after the next exchange: by then the work
    of each thread follows what all have copied for it, if each copies from all the others. Where
    neighbours alone exchange, it holds for two devices.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self._ready = tensor, None
        if tensor.is_cuda:
            self._ready = torch.cuda.current_stream(tensor.device).record_event()

    def copy_to(self, target: Tensor, part: Callable[[Tensor], Tensor] = lambda t: t) -> None:
        """Copy the tensor, or a part of it, to another one of that size.

        Args:
            part: takes it by an index that leaves the last dimension whole.
        """
        source, target = part(_wide(self.tensor)), _wide(target)
        if target.device == source.device:
            target.copy_(source)
            return
        stream = _stream(source.device, target.device)
        with torch.cuda.stream(stream):
            stream.wait_event(self._ready)
            target.copy_(source)


@functools.cache
def _stream(source: torch.device, target: torch.device) -> torch.cuda.Stream:
    """The stream of a device for its copies to another one."""
    return torch.cuda.Stream(source, priority=-1)


def _wide(part: Tensor) -> Tensor:
    """The same memory as fewer, longer numbers: a copy between devices moves one at a time."""
    fits = part.shape[-1] * part.element_size() % WIDE.itemsize == 0 and part.stride(-1) == 1
    return part.view(WIDE) if fits else part


@dataclass(frozen=True)
class Shard:
    """A thread's part of the work of a group."""

    group: Group
    number: int
    attend: Attend = field(repr=False)
    recordable: bool = False  # ``attend`` never waits for the GPU

    def gather(self, parts: Tensor, whole: Tensor | None = None) -> tuple[Tensor, slice]:
        """See ``Group.gather``."""
        return self.group.gather(self.number, parts, whole)

    def scatter(self, mixed: Tensor, own: slice, output: Tensor) -> Tensor:
        """See ``Group.scatter``."""
        return self.group.scatter(self.number, mixed, own, output)
