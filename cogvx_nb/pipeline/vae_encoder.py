"""A faster encoder of the CogVideoX VAE, equal to that of diffusers up to rounding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor, nn

from .vae_blocks import (
    CausalLayers,
    batches,
    frames_per_call,
    in_tiles,
    is_tiled,
    norm_factors,
    shortcut,
)


class FastEncoder:
    """Takes the place of an autoencoder's ``_encode``. For inference: where gradients are wanted
    diffusers' own encoder runs."""

    def __init__(self, vae: AutoencoderKLCogVideoX) -> None:
        self._vae = vae

    def __call__(self, x: Tensor) -> Tensor:
        """Encode pixels (batch, 3, frames, height, width) in -1 … 1, of 4 N + 1 frames.

        Returns:
            (batch, 32, N + 1, height / 8, width / 8): mean and logarithm of the variance.
        """
        vae = self._vae
        if torch.is_grad_enabled() or vae.quant_conv is not None:
            return type(vae)._encode(vae, x)
        ratio = 2 ** (len(vae.config.block_out_channels) - 1)
        if is_tiled(vae, x.shape[-2] // ratio, x.shape[-1] // ratio):
            return in_tiles(vae, x, self._whole, (ratio, 1))
        return self._whole(x)

    def _whole(self, x: Tensor) -> Tensor:
        clips = [_ClipEncoder(self._vae).latents(clip) for clip in x]
        return torch.stack(clips).permute(0, 4, 1, 2, 3)


class _ClipEncoder:
    """Encodes one clip, in batches of eight frames as diffusers does: see ``batches``.

    4 N + 1 frames make N + 1 latent frames for every N: the first batch is of 1, 5, 9 or 13, an
    odd number, of which the downsamplers take the first frame by itself.
    """

    def __init__(self, vae: AutoencoderKLCogVideoX) -> None:
        self._vae, self._layers = vae, CausalLayers()

    def latents(self, pixels: Tensor) -> Tensor:
        """(latent frames, height / 8, width / 8, 32) of (3, frames, height, width)."""
        size, made = self._vae.num_sample_frames_batch_size, []
        for start, end in batches(pixels.shape[1], size):
            self._layers.last_batch = end == pixels.shape[1]
            made.append(self._batch(pixels[:, start:end].permute(1, 2, 3, 0).contiguous()))
        return torch.cat(made)

    def _batch(self, x: Tensor) -> Tensor:
        encoder = self._vae.encoder
        x = self._layers.convolve(encoder.conv_in.conv, x)
        for block in encoder.down_blocks:
            for resnet in block.resnets:
                x = self._resnet(resnet, x)
            for downsampler in block.downsamplers or ():
                x = _downsample(downsampler, x)
        for resnet in encoder.mid_block.resnets:
            x = self._resnet(resnet, x)
        return self._norm_and_convolve(encoder.norm_out, encoder.conv_out, x)

    def _resnet(self, block: nn.Module, x: Tensor) -> Tensor:
        hidden = self._norm_and_convolve(block.norm1, block.conv1, x)
        x = shortcut(block, x)
        return self._norm_and_convolve(block.norm2, block.conv2, hidden, x)

    def _norm_and_convolve(
        self, norm: nn.GroupNorm, causal: nn.Module, x: Tensor, onto: Tensor | None = None
    ) -> Tensor:
        """Norm, SiLU and convolution; added in place to ``onto`` if given."""
        factors = norm_factors(norm, x, self._layers.border)
        factors = (part.expand(len(x), 1, 1, 1, 1, -1) for part in factors)
        return self._layers.norm_and_convolve(causal.conv, x, *factors, onto)


def _downsample(downsampler: nn.Module, x: Tensor) -> Tensor:
    """Halve height and width, and the number of frames where the downsampler compresses time (then
    not the first of an odd number).

    Frames become the mean of two before the convolution, which is two-dimensional, of stride 2, and
    sees zeros below and to the right.
    """
    conv, count = downsampler.conv, len(x)
    single = count % 2 if downsampler.compress_time else count  # frames that stay, from the first
    count = single + (count - single) // 2
    size = min(frames_per_call(x, conv.out_channels), count)
    padded = x.new_zeros(size, x.shape[1] + 1, x.shape[2] + 1, x.shape[3])
    out = x.new_empty(count, x.shape[1] // 2, x.shape[2] // 2, conv.out_channels)
    for start, target in zip(range(0, count, size), out.split(size), strict=True):
        for index, frame in enumerate(padded[: len(target), :-1, :-1], start):
            if index < single:
                frame.copy_(x[index])
            else:
                first = single + 2 * (index - single)
                torch.lerp(x[first], x[first + 1], 0.5, out=frame)
        inputs = padded[: len(target)].permute(0, 3, 1, 2)
        result = F.conv2d(inputs, conv.weight, conv.bias, stride=conv.stride)
        target.copy_(result.permute(0, 2, 3, 1))
    return out
