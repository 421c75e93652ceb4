"""Edges of a picture's rows, where devices share it: what convolutions and norms need of others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .shards import Group, Offer


class Border:
    """A share of the rows of a clip, alone or among others of the same number of rows.

    Args:
        group: of those that share the clip; None if it is whole.
        number: of this share, from above.
    """

    def __init__(self, group: Group | None = None, number: int = 0) -> None:
        self._group, self._number = group, number

    @property
    def is_shared(self) -> bool:
        return self._group is not None

    @property
    def margin(self) -> int:
        """Rows of neighbours above and below."""
        return int(self.is_shared)

    def room_for(self, x: Tensor, frames: int) -> Tensor:
        """An empty clip of so many frames as high as ``x`` and the margins, which are zeros outside
        of the picture.

        Args:
            x: (frames, height, width, channels).
        """
        height, *size = x.shape[1:]
        room = x.new_empty(frames, height + 2 * self.margin, *size)
        if self.is_shared:
            if self._number == 0:
                room[:, 0] = 0
            if self._number == self._group.count - 1:
                room[:, -1] = 0
        return room

    def fill_margins(self, room: Tensor) -> None:
        """Copy the neighbours' rows next to this share, whose own are there, to its margins."""
        if not self.is_shared:
            return
        number, last = self._number, room.shape[1] - 2
        edges = room[:, 1 : last + 1 : max(1, last - 1)].clone()  # its only row is both of them
        offered = self._group.exchange(number, Offer(edges))
        if number:
            offered[number - 1].copy_to(room[:, 0], lambda t: t[:, -1])
        if number < len(offered) - 1:
            offered[number + 1].copy_to(room[:, -1], lambda t: t[:, 0])

    def with_margins(self, x: Tensor) -> Tensor:
        """``x`` with the neighbours' rows next to it, (frames, height, width, channels)."""
        if not self.is_shared:
            return x
        room = self.room_for(x, len(x))
        room[:, 1:-1] = x
        self.fill_margins(room)
        return room

    def statistics(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of all rows from those of each share; both (channels,), float32."""
        if self._group is None:
            return mean, var
        shares = mean.new_empty(self._group.count, 2, len(mean))
        own = torch.stack([mean, var], out=shares[self._number])
        for number, each in enumerate(self._group.exchange(self._number, Offer(own))):
            if number != self._number:
                each.copy_to(shares[number])
        mean, var = shares.mean(0)
        return mean, var + shares[:, 0].var(0, correction=0)

    def convolve_frame(self, conv: torch.nn.Conv2d, frame: Tensor) -> Tensor:
        """A two-dimensional convolution of a frame at twice its size, (rows, width, channels).

        Args:
            frame: (height, width, channels); where it is shared with neighbours' rows.
        """
        large = F.interpolate(frame.permute(2, 0, 1)[None], scale_factor=2.0)
        if not self.is_shared:
            return F.conv2d(large, conv.weight, conv.bias, padding=1)[0].permute(1, 2, 0)
        large = large[:, :, 1:-1]
        return F.conv2d(large, conv.weight, conv.bias, padding=(0, 1))[0].permute(1, 2, 0)
