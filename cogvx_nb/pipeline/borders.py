"""Edges of a picture's rows, where devices share it: what convolutions and norms need of others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .shards import Group


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

    def with_neighbours(self, x: Tensor) -> Tensor:
        """Rows with one more above and below: of the neighbours, zeros outside of the picture.

        Args:
            x: (frames, height, width, channels).
        """
        edges, number = (x[:, :1].clone(), x[:, -1:].clone()), self._number
        offered = self._group.exchange(number, edges)
        above = offered[number - 1][1] if number else torch.zeros_like(edges[0])
        last = number == len(offered) - 1
        below = torch.zeros_like(edges[1]) if last else offered[number + 1][0]
        return torch.cat([above.to(x.device), x, below.to(x.device)], dim=1)

    def statistics(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of all rows from those of each share; both (channels,), float32."""
        if self._group is None:
            return mean, var
        offered = self._group.exchange(self._number, (mean, var))
        means, variances = (
            torch.stack([each[index].to(mean.device) for each in offered]) for index in (0, 1)
        )
        return means.mean(0), variances.mean(0) + means.var(0, correction=0)

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
