"""The CogVideoX VAE with a faster decoder, equal to that of diffusers up to rounding.

On an H100 the decode of 49 frames by diffusers spends a third of its time on the statistics of
group norms and another third on copies, and takes 14.7 GiB. Here activations are channels-last, so
that convolutions need no transposes; a group norm and its modulation by the latents are one
multiply-add, with factors computed at the latents' size; each convolution takes a few frames at a
time; and repeated frames are computed once. ``cogvx bench`` measures it.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor, nn

CHUNK_BYTES = 180 * 2**20
"""Input frames of one convolution call, without the two before them that it looks back at: two
frames of 480 × 720 with the last block's channels. Twice as much is 5 % faster and takes 0.5 GiB
more."""


def use_fast_decoder(vae: AutoencoderKLCogVideoX) -> None:
    """Have an autoencoder decode with the faster decoder, whose results differ by rounding.

    Its class stays that of diffusers, so that diffusers saves it and passes it on as its own. Not
    worth it on a CPU, where channels-last is slow.
    """
    layouts = {nn.Conv2d: torch.channels_last, nn.Conv3d: torch.channels_last_3d}
    for module in vae.decoder.modules():
        for kind, layout in layouts.items():
            if isinstance(module, kind):
                module.weight.data = module.weight.data.contiguous(memory_format=layout)
    vae._decode = FastDecoder(vae)


class FastDecoder:
    """Takes the place of an autoencoder's ``_decode``. For inference: where gradients are wanted
    diffusers' own decoder runs."""

    def __init__(self, vae: AutoencoderKLCogVideoX) -> None:
        self._vae = vae

    def __call__(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Decode (batch, 16, latent frames, height / 8, width / 8).

        Returns:
            (batch, 3, frames, height, width), in -1 … 1.
        """
        vae = self._vae
        if torch.is_grad_enabled():
            return type(vae)._decode(vae, z, return_dict=return_dict)
        small = z.shape[-2] <= vae.tile_latent_min_height
        small = small and z.shape[-1] <= vae.tile_latent_min_width
        sample = self._tiled(z) if vae.use_tiling and not small else self._whole(z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def _tiled(self, z: Tensor) -> Tensor:
        """Decode in tiles that are blended where they overlap: an approximation.

        Tiles as wide as the clip have no neighbours to the left or right.
        """
        vae = self._vae
        ratio = vae.tile_sample_min_height // vae.tile_latent_min_height
        size = (vae.tile_latent_min_height, vae.tile_latent_min_width)
        factors = (vae.tile_overlap_factor_height, vae.tile_overlap_factor_width)
        step = [int(n * (1 - factor)) for n, factor in zip(size, factors, strict=True)]
        blend = [int(ratio * n * factor) for n, factor in zip(size, factors, strict=True)]
        if size[1] >= z.shape[-1]:
            step[1] = size[1]
        rows, above = [], None
        for top in range(0, z.shape[-2], step[0]):
            tiles = [
                self._whole(z[..., top : top + size[0], left : left + size[1]])
                for left in range(0, z.shape[-1], step[1])
            ]
            parts = []
            for index, tile in enumerate(tiles):
                if above is not None:
                    tile = vae.blend_v(above[index], tile, blend[0])
                if index:
                    tile = vae.blend_h(tiles[index - 1], tile, blend[1])
                parts.append(tile[..., : ratio * step[0], : ratio * step[1]])
            rows.append(torch.cat(parts, dim=-1))
            above = tiles
        return torch.cat(rows, dim=-2)

    def _whole(self, z: Tensor) -> Tensor:
        clips = [_ClipDecoder(self._vae).frames(clip) for clip in z]
        return torch.stack(clips).permute(0, 4, 1, 2, 3)


class _ClipDecoder:
    """Decodes one clip. Activations are (frames, height, width, channels).

    As in diffusers a clip is decoded in batches of two latent frames (the first of three where
    their number is odd). Group norms are computed per batch, so other batches would change the
    result.
    """

    def __init__(self, vae: AutoencoderKLCogVideoX) -> None:
        self._vae = vae
        self._last_frames: dict[nn.Module, Tensor] = {}  # last two inputs of each convolution

    def frames(self, latents: Tensor) -> Tensor:
        """(frames, height, width, 3) of latents (16, latent frames, height / 8, width / 8)."""
        size = self._vae.num_latent_frames_batch_size
        count = latents.shape[1]
        starts = [0, *range(size + count % size, count, size), count]
        return torch.cat([self._batch(latents[:, a:b]) for a, b in itertools.pairwise(starts)])

    def _batch(self, latents: Tensor) -> Tensor:
        decoder = self._vae.decoder
        z = latents if self._vae.post_quant_conv is None else self._vae.post_quant_conv(latents)
        z = z.permute(1, 2, 3, 0).contiguous()
        x = self._convolve(decoder.conv_in.conv, z, lambda part, out: out.copy_(part))
        for resnet in decoder.mid_block.resnets:
            x = self._resnet(resnet, x, z)
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                x = self._resnet(resnet, x, z)
            for upsampler in block.upsamplers or ():
                x = _upsample(upsampler, x)
        return self._norm_and_convolve(decoder.norm_out, decoder.conv_out, x, z)

    def _resnet(self, block: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        hidden = self._norm_and_convolve(block.norm1, block.conv1, x, z)
        if block.in_channels != block.out_channels:
            x = F.linear(x, block.conv_shortcut.weight.flatten(1), block.conv_shortcut.bias)
        return self._norm_and_convolve(block.norm2, block.conv2, hidden, z, onto=x)

    def _norm_and_convolve(
        self, norm: nn.Module, causal: nn.Module, x: Tensor, z: Tensor, onto: Tensor | None = None
    ) -> Tensor:
        """Norm, SiLU and convolution; added in place to ``onto`` if given."""
        scale, shift = _modulation(norm, x, z)
        size = _frames_per_call(x)
        factors = iter(zip(scale.split(size), shift.split(size), strict=True))

        def prepare(part: Tensor, out: Tensor) -> None:
            a, b = next(factors)
            rows, columns = part.shape[1] // a.shape[1], part.shape[2] // a.shape[3]
            shape = (len(part), a.shape[1], rows, a.shape[3], columns, a.shape[-1])
            torch.addcmul(b, part.view(shape), a, out=out.view(shape))
            F.silu(out, inplace=True)

        return self._convolve(causal.conv, x, prepare, onto)

    def _convolve(self, conv: nn.Conv3d, x: Tensor, prepare, onto: Tensor | None = None) -> Tensor:
        """Causal convolution, a few frames at a time; ``prepare(part, out)`` writes its input."""
        look_back, size = conv.kernel_size[0] - 1, _frames_per_call(x)
        padded = x.new_empty(look_back + min(size, len(x)), *x.shape[1:])
        out = x.new_empty(*x.shape[:3], conv.out_channels) if onto is None else onto
        previous = self._last_frames.pop(conv, None)
        for part, target in zip(x.split(size), out.split(size), strict=True):
            end = look_back + len(part)
            prepare(part, padded[look_back:end])
            padded[:look_back] = padded[look_back] if previous is None else previous
            result = F.conv3d(
                padded[:end].permute(3, 0, 1, 2)[None], conv.weight, conv.bias, padding=(0, 1, 1)
            )[0].permute(1, 2, 3, 0)
            target.copy_(result) if onto is None else target.add_(result)
            previous = padded[end - look_back : end].clone()
        self._last_frames[conv] = previous
        return out


def _frames_per_call(x: Tensor) -> int:
    return max(1, CHUNK_BYTES // (x[0].numel() * x.element_size()))


def _modulation(norm: nn.Module, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift of a spatial norm of ``x``: float32, at the latents' size.

    The group norm and its modulation by the latents (arXiv 2209.09002) are one affine map.

    Returns:
        Two of (frames, latent height, 1, latent width, 1, channels).
    """
    affine = norm.norm_layer
    mean, rstd = _statistics(x, affine.num_groups, affine.eps)
    gain = rstd * affine.weight.float()
    offset = affine.bias.float() - mean * gain
    times, plus = (_pointwise(conv.conv, z) for conv in (norm.conv_y, norm.conv_b))
    frame = _latent_frame(len(x), len(z), x.device)
    scale, shift = (times * gain)[frame], (times * offset + plus)[frame]
    return scale[:, :, None, :, None], shift[:, :, None, :, None]


def _statistics(x: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation of each channel's group, both float32 (channels,)."""
    channels = x.shape[-1]
    flat = x.reshape(-1, channels)
    if x.is_cuda:  # one pass in float32; var_mean would round its results to x's dtype
        mean, rstd = torch.batch_norm_stats(flat, 0.0)
        var = rstd.pow(-2)
    else:
        var, mean = torch.var_mean(flat.float(), dim=0, correction=0)
    mean, var = mean.view(groups, -1), var.view(groups, -1)
    spread = var.mean(1) + mean.var(1, correction=0)
    mean, rstd = mean.mean(1), torch.rsqrt(spread + eps)
    return (part.repeat_interleave(channels // groups) for part in (mean, rstd))


def _pointwise(conv: nn.Conv3d, z: Tensor) -> Tensor:
    """1 × 1 × 1 convolution in float32, which commutes with nearest-neighbour upsampling."""
    return F.linear(z.float(), conv.weight.flatten(1).float(), conv.bias.float())


def _latent_frame(frames: int, latent_frames: int, device: torch.device) -> Tensor:
    """Index of the latent frame of each frame; of an odd number the first has its own."""
    if frames > 1 and frames % 2:
        later = torch.arange(frames - 1, device=device) // ((frames - 1) // (latent_frames - 1))
        return torch.cat([later.new_zeros(1), later + 1])
    return torch.arange(frames, device=device) // (frames // latent_frames)


def _upsample(upsampler: nn.Module, x: Tensor) -> Tensor:
    """Double height and width, and the number of frames where the upsampler compresses time (then
    not the first of an odd number).

    Frames are repeated after the convolution, which is two-dimensional.
    """
    conv = upsampler.conv
    doubled = upsampler.compress_time and len(x) > 1
    odd = len(x) % 2 if doubled else 0
    count = 2 * len(x) - odd if doubled else len(x)
    out = x.new_empty(count, 2 * x.shape[1], 2 * x.shape[2], conv.out_channels)
    for index, frame in enumerate(x):
        large = F.interpolate(frame.permute(2, 0, 1)[None], scale_factor=2.0)
        result = F.conv2d(large, conv.weight, conv.bias, padding=1)[0].permute(1, 2, 0)
        first = index if not doubled else max(2 * index - odd, 0)
        out[first : first + (1 if not doubled or (odd and index == 0) else 2)] = result
    return out


def decode_latents(vae, latents: torch.Tensor, frames: int) -> torch.Tensor:
    """Decode a batch of latent clips.

    The CogVideoX decoder works on pairs of latent frames and applies its rule for the first frame
    (one latent frame makes one frame, each later one makes four) only when the number of latent
    frames is odd. An even number (13 frames are 4 latent frames) would come out as 16 frames, the
    first ones mistimed. The decoder is causal in time, so such clips are padded with their last
    latent frame, decoded, and cut to length.

    Args:
        vae: an ``AutoencoderKLCogVideoX``.
        latents: (batch, latent frames, channels, height / 8, width / 8), as the pipeline returns
            them with ``output_type="latent"``, that is multiplied by the VAE's scaling factor.
        frames: 4 * (latent frames - 1) + 1.

    Returns:
        float32 (batch, frames, height, width, 3) in 0 … 1, on the latents' device. NaN is kept.

    Raises:
        ValueError: if ``latents`` don't make exactly ``frames`` frames, or tiles of a wrong size
            don't add up to the clip's size.
    """
    latent_frames = latents.shape[1]
    ratio = vae.config.temporal_compression_ratio
    if frames != ratio * (latent_frames - 1) + 1:
        raise ValueError(f"{latent_frames} latent frames do not make {frames} frames")
    if latent_frames % 2 == 0:
        latents = torch.cat([latents, latents[:, -1:]], dim=1)
    latents = latents.permute(0, 2, 1, 3, 4) / vae.config.scaling_factor
    video = vae.decode(latents.to(vae.dtype)).sample[:, :, :frames]
    size = tuple(2 ** (len(vae.config.block_out_channels) - 1) * n for n in latents.shape[-2:])
    if video.shape[2:] != (frames, *size):
        raise ValueError(f"decoded {tuple(video.shape[2:])} instead of {(frames, *size)}")
    return video.permute(0, 2, 3, 4, 1).float().add(1).div(2).clamp(0, 1)
