"""An order of a clip's tokens in which neighbours in memory are neighbours in space and time.

Attention and everything per token give the same in any order, so the tokens are put in order once
before the first block, with their rotary positions, and back after the last.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.lru_cache(maxsize=8)
def compact_order(frames: int, height: int, width: int, tokens: int) -> Tensor:
    """Which patch of a clip, counted by frame, row and column, comes at each place.

    The clip is cut into nearly cubic tiles of about so many tokens. A path turns at the ends of its
    rows of tiles, so that a block that begins in one tile ends in one beside it.

    Args:
        frames, height, width: of the clip in patches.

    Returns:
        A permutation, int64 (frames · height · width), on the CPU.
    """
    counts = _tile_counts((frames, height, width), tokens)
    frame, row, column = torch.meshgrid(
        *(torch.arange(size) for size in (frames, height, width)), indexing="ij"
    )
    tile = [
        index * count // size
        for index, count, size in zip(
            (frame, row, column), counts, (frames, height, width), strict=True
        )
    ]
    path = torch.zeros_like(frame)
    for index, count in zip(tile, counts, strict=True):
        path = path * count + torch.where(path % 2 == 0, index, count - 1 - index)
    return torch.argsort(path.flatten(), stable=True)


def _tile_counts(sizes: tuple[int, int, int], tokens: int) -> list[int]:
    """Into how many parts each axis is cut; what an axis can't give the following make up for."""
    counts, left = [], float(tokens)
    for axis, size in enumerate(sizes):
        edge = left ** (1 / (len(sizes) - axis))
        counts.append(min(size, max(1, round(size / edge))))
        left = max(1.0, left / (size / counts[-1]))
    return counts


def inverse(order: Tensor) -> Tensor:
    """The permutation that undoes another."""
    return torch.argsort(order)
