"""A faster decoder of the CogVideoX VAE, equal to that of diffusers up to rounding.

``vae_blocks`` says how. Besides, factors of norms are computed at the latents' size, and repeated
frames once. ``cogvx bench`` measures it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor, nn

from .borders import Border
from .team import Team
from .vae_blocks import CausalLayers, batches, in_tiles, is_tiled, norm_factors, shortcut


class FastDecoder:
    """Takes the place of an autoencoder's ``_decode``. For inference: where gradients are wanted
    diffusers' own decoder runs."""

    def __init__(self, vae: AutoencoderKLCogVideoX) -> None:
        self._vae = vae
        self.shared: SharedDecoder | None = None  # where several devices decode whole clips
        self.to_ram = False  # whether each batch of frames goes there as soon as it is decoded

    def __call__(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Decode (batch, 16, latent frames, height / 8, width / 8).

        Returns:
            (batch, 3, frames, height, width), in -1 … 1.
        """
        vae = self._vae
        if torch.is_grad_enabled() or vae.post_quant_conv is not None:
            return type(vae)._decode(vae, z, return_dict=return_dict)
        if is_tiled(vae, *z.shape[-2:]):
            ratio = 2 ** (len(vae.config.block_out_channels) - 1)
            sample = in_tiles(vae, z, self._whole, (1, ratio))
        else:
            sample = self._whole(z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def _whole(self, z: Tensor) -> Tensor:
        if self.shared and not self.to_ram and self.shared.fits(z.shape[-2]):
            clips = [self.shared.frames(clip) for clip in z]
        else:
            clips = [_ClipDecoder(self._vae, to_ram=self.to_ram).frames(clip) for clip in z]
        return torch.stack(clips).permute(0, 4, 1, 2, 3)


class SharedDecoder:
    """Decodes a clip on several devices, each a share of its rows.

    Args:
        vaes: on each of the team's devices.
    """

    def __init__(self, vaes: Sequence[AutoencoderKLCogVideoX], team: Team) -> None:
        self._vaes, self._team = vaes, team

    @property
    def devices(self) -> tuple[torch.device, ...]:
        return self._team.devices

    def fits(self, height: int) -> bool:
        """Whether each device gets as many of so many rows of latents."""
        return height % len(self._vaes) == 0

    def frames(self, latents: Tensor) -> Tensor:
        """As of a clip on one device, up to rounding."""
        group, size = self._team.groups[0], latents.shape[2] // len(self._vaes)

        def decode(number: int, rows: Tensor, device: torch.device) -> Tensor:
            decoder = _ClipDecoder(self._vaes[number], Border(group, number))
            return decoder.frames(rows.to(device))

        parts = latents.split(size, dim=2)
        work = [functools.partial(decode, *each) for each in enumerate(parts)]
        return torch.cat(self._team.run(work), dim=1)


class _ClipDecoder:
    """Decodes one clip, or a share of its rows, in batches of two latent frames as diffusers does:
    see ``batches``."""

    def __init__(
        self, vae: AutoencoderKLCogVideoX, border: Border | None = None, *, to_ram: bool = False
    ) -> None:
        self._vae, self._layers, self._to_ram = vae, CausalLayers(border), to_ram
        # Weights serve all batches of the clip, indices of frames all norms of a size.
        self._weights, self._frame = map(functools.cache, (_pointwise_weights, _latent_frame))

    def frames(self, latents: Tensor) -> Tensor:
        """(frames, height, width, 3) of latents (16, latent frames, height / 8, width / 8)."""
        size, made = self._vae.num_latent_frames_batch_size, []
        for start, end in batches(latents.shape[1], size):
            self._layers.last_batch = end == latents.shape[1]
            batch = self._batch(latents[:, start:end].permute(1, 2, 3, 0).contiguous())
            made.append(batch.cpu() if self._to_ram else batch)
        return torch.cat(made)

    def _batch(self, z: Tensor) -> Tensor:
        decoder = self._vae.decoder
        x, z = self._layers.convolve(decoder.conv_in.conv, z), z.float()
        for resnet in decoder.mid_block.resnets:
            x = self._resnet(resnet, x, z)
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                x = self._resnet(resnet, x, z)
            for upsampler in block.upsamplers or ():
                x = _upsample(upsampler, x, self._layers.border)
        return self._norm_and_convolve(decoder.norm_out, decoder.conv_out, x, z)

    def _resnet(self, block: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        hidden = self._norm_and_convolve(block.norm1, block.conv1, x, z)
        x = shortcut(block, x)
        return self._norm_and_convolve(block.norm2, block.conv2, hidden, z, onto=x)

    def _norm_and_convolve(
        self, norm: nn.Module, causal: nn.Module, x: Tensor, z: Tensor, onto: Tensor | None = None
    ) -> Tensor:
        """Norm, SiLU and convolution; added in place to ``onto`` if given."""
        factors = self._modulation(norm, x, z)
        return self._layers.norm_and_convolve(causal.conv, x, *factors, onto)

    def _modulation(self, norm: nn.Module, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift of a spatial norm of ``x``: float32, at the latents' size.

        The group norm and its modulation by the latents (arXiv 2209.09002) are one affine map.

        Returns:
            Two of (frames, latent height, 1, latent width, 1, channels).
        """
        gain, offset = norm_factors(norm.norm_layer, x, self._layers.border)
        convs = (norm.conv_y.conv, norm.conv_b.conv)
        times, plus = (F.linear(z, *self._weights(conv)) for conv in convs)
        frame = self._frame(len(x), len(z), x.device)
        scale, shift = (times * gain)[frame], (times * offset + plus)[frame]
        return scale[:, :, None, :, None], shift[:, :, None, :, None]


def _pointwise_weights(conv: nn.Conv3d) -> tuple[Tensor, Tensor]:
    """In float32, of a 1 × 1 × 1 convolution, which commutes with nearest-neighbour upsampling."""
    return conv.weight.flatten(1).float(), conv.bias.float()


def _latent_frame(frames: int, latent_frames: int, device: torch.device) -> Tensor:
    """Index of the latent frame of each frame; of an odd number the first has its own."""
    if frames > 1 and frames % 2:
        later = torch.arange(frames - 1, device=device) // ((frames - 1) // (latent_frames - 1))
        return torch.cat([later.new_zeros(1), later + 1])
    return torch.arange(frames, device=device) // (frames // latent_frames)


def _upsample(upsampler: nn.Module, x: Tensor, border: Border) -> Tensor:
    """Double height and width, and the number of frames where the upsampler compresses time (then
    not the first of an odd number).

    Frames are repeated after the convolution, which is two-dimensional.
    """
    conv = upsampler.conv
    doubled = upsampler.compress_time and len(x) > 1
    odd = len(x) % 2 if doubled else 0
    count = 2 * len(x) - odd if doubled else len(x)
    out = x.new_empty(count, 2 * x.shape[1], 2 * x.shape[2], conv.out_channels)
    for index, frame in enumerate(border.with_margins(x)):
        result = border.convolve_frame(conv, frame)
        first = index if not doubled else max(2 * index - odd, 0)
        out[first : first + (1 if not doubled or (odd and index == 0) else 2)] = result
    return out
