"""What the faster encoder and decoder of the CogVideoX VAE share.

On an H100 the decode of 49 frames by diffusers spends a third of its time on the statistics of
group norms and another third on copies, and takes 14.7 GiB. Here activations are channels-last, so
that convolutions need no transposes; a group norm, with its modulation by the latents where it has
one, is one multiply-add with factors in float32; and each convolution takes a few frames at a time.

Activations are (frames, height, width, channels), of one clip.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor, nn

from ..planning.vae_cost import CALL_BYTES
from .borders import Border


def batches(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and end of each batch of frames; the first is longer by what is left over.

    As in diffusers. Group norms are computed per batch, so other batches would change the result.
    """
    starts = [0, *range(size + count % size, count, size), count]
    return itertools.pairwise(starts)


def frames_per_call(x: Tensor, channels: int = 0) -> int:
    """Frames that a convolution of ``x`` to so many channels is given at once."""
    elements = x.shape[1] * x.shape[2] * max(x.shape[3], channels)
    return max(1, CALL_BYTES // (elements * x.element_size()))


class CausalLayers:
    """Causal convolutions of one clip, and the norms before them.

    Each convolution keeps the last two frames of its input for the next batch of the clip.
    """

    def __init__(self, border: Border | None = None) -> None:
        self.border = border or Border()
        self.last_batch = False  # whether nothing needs to be kept
        self._last_frames: dict[nn.Module, Tensor] = {}

    def norm_and_convolve(
        self, conv: nn.Conv3d, x: Tensor, scale: Tensor, shift: Tensor, onto: Tensor | None = None
    ) -> Tensor:
        """Multiply-add, SiLU and convolution; added in place to ``onto`` if given.

        Args:
            scale, shift: (frames, rows, 1, columns, 1, channels), float32. Height and width of
                ``x`` are multiples of rows and columns.
        """
        size = frames_per_call(x, conv.out_channels)
        factors = iter(zip(scale.split(size), shift.split(size), strict=True))

        def prepare(part: Tensor, out: Tensor, room: Tensor) -> None:
            a, b = next(factors)
            rows, columns = part.shape[1] // a.shape[1], part.shape[2] // a.shape[3]
            shape = (len(part), a.shape[1], rows, a.shape[3], columns, a.shape[-1])
            torch.addcmul(b, part.view(shape), a, out=out.view(shape))
            F.silu(room, inplace=True)  # at once, since it is contiguous

        return self.convolve(conv, x, prepare, onto)

    def convolve(
        self,
        conv: nn.Conv3d,
        x: Tensor,
        prepare: Callable[[Tensor, Tensor, Tensor], object] = lambda part, out, _: out.copy_(part),
        onto: Tensor | None = None,
    ) -> Tensor:
        """Causal convolution, a few frames at a time; added in place to ``onto`` if given.

        Args:
            prepare: with ``(part, out, room)`` writes the input of a part of ``x`` to ``out``.
                ``room`` is ``out`` with its margins: zeros in them must stay zeros, all else in
                them is overwritten afterwards.
        """
        parts, look_back = x.split(frames_per_call(x, conv.out_channels)), conv.kernel_size[0] - 1
        padded = self.border.room_for(x, look_back + len(parts[0]))
        margin, rows = self.border.margin, x.shape[1]
        inner = padded[:, margin : margin + rows]
        previous, start, end = self._last_frames.pop(conv, None), 0, 0
        out, write = onto, Tensor.copy_ if onto is None else Tensor.add_
        if onto is None and len(parts) > 1:
            out = x.new_empty(*x.shape[:3], conv.out_channels)
        for part in parts:
            if start:
                _move_to_front(padded[:end], look_back)
            end = look_back + len(part)
            room = padded[look_back:end]
            prepare(part, inner[look_back:end], room)
            self.border.fill_margins(room)
            if not start:
                padded[:look_back] = padded[look_back] if previous is None else previous
                previous = None  # frees its memory
            if out is None:  # all in one part
                out = self._convolve_rows(conv, padded[:end]).contiguous()
            else:
                write(out[start : start + len(part)], self._convolve_rows(conv, padded[:end]))
            start += len(part)
        if not self.last_batch:
            self._last_frames[conv] = padded[end - look_back : end].clone()
        return out

    def _convolve_rows(self, conv: nn.Conv3d, x: Tensor) -> Tensor:
        padding = (0, 1 - self.border.margin, 1)
        result = F.conv3d(x.permute(3, 0, 1, 2)[None], conv.weight, conv.bias, padding=padding)
        return result[0].permute(1, 2, 3, 0)


def _move_to_front(frames: Tensor, count: int) -> None:
    """Copy the last of some frames to the first places, which they may overlap."""
    step = len(frames) - count
    for first in range(0, count, step):
        last = min(first + step, count)
        frames[first:last] = frames[first + step : last + step]


def shortcut(block: nn.Module, x: Tensor) -> Tensor:
    """What a residual block adds its result to."""
    if block.in_channels == block.out_channels:
        return x
    return F.linear(x, block.conv_shortcut.weight.flatten(1), block.conv_shortcut.bias)


def norm_factors(norm: nn.GroupNorm, x: Tensor, border: Border) -> tuple[Tensor, Tensor]:
    """Scale and shift of a group norm of ``x``, both float32 (channels,)."""
    mean, rstd = _statistics(x, norm.num_groups, norm.eps, border)
    grouped = (norm.num_groups, -1)
    scale = rstd * norm.weight.view(grouped)
    return scale.flatten(), (norm.bias.view(grouped) - mean * scale).flatten()


def _statistics(x: Tensor, groups: int, eps: float, border: Border) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation of each group of channels, both float32 (groups, 1)."""
    flat = x.reshape(-1, x.shape[-1])
    if x.is_cuda:  # one pass in float32; var_mean would round its results to x's dtype
        mean, rstd = torch.batch_norm_stats(flat, 0.0)
        var = rstd.pow(-2)
    else:
        var, mean = torch.var_mean(flat.float(), dim=0, correction=0)
    mean, var = (each.view(groups, -1) for each in border.statistics(mean, var))
    spread = var.mean(1, keepdim=True) + mean.var(1, correction=0, keepdim=True)
    return mean.mean(1, keepdim=True), torch.rsqrt(spread + eps)


def is_tiled(vae: AutoencoderKLCogVideoX, height: int, width: int) -> bool:
    """Whether latents of a size are made, or decoded, in tiles."""
    small = height <= vae.tile_latent_min_height and width <= vae.tile_latent_min_width
    return vae.use_tiling and not small


def in_tiles(
    vae: AutoencoderKLCogVideoX, given: Tensor, work: Callable[[Tensor], Tensor], sizes: tuple
) -> Tensor:
    """Encode or decode in tiles that are blended where they overlap: an approximation.

    Tiles as wide as the clip have no neighbours to the left or right.

    Args:
        given: (batch, channels, frames, height, width).
        work: makes of a tile of it what is wanted of it.
        sizes: height and width of a latent in what is given, and in what is wanted.
    """
    scale, made = sizes
    size = (vae.tile_latent_min_height, vae.tile_latent_min_width)
    factors = (vae.tile_overlap_factor_height, vae.tile_overlap_factor_width)
    step = [int(n * (1 - factor)) for n, factor in zip(size, factors, strict=True)]
    blend = [int(made * n * factor) for n, factor in zip(size, factors, strict=True)]
    high, wide = (scale * n for n in size)
    if wide >= given.shape[-1]:
        step[1] = size[1]
    rows, above = [], None
    for top in range(0, given.shape[-2], scale * step[0]):
        tiles = [
            work(given[..., top : top + high, left : left + wide])
            for left in range(0, given.shape[-1], scale * step[1])
        ]
        parts = []
        for index, tile in enumerate(tiles):
            if above is not None:
                tile = vae.blend_v(above[index], tile, blend[0])
            if index:
                tile = vae.blend_h(tiles[index - 1], tile, blend[1])
            parts.append(tile[..., : made * step[0], : made * step[1]])
        rows.append(torch.cat(parts, dim=-1))
        above = tiles
    return torch.cat(rows, dim=-2)
