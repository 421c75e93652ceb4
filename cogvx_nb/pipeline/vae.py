"""The CogVideoX VAE: the faster encoder and decoder where they are worth it, and whole decodes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import nn

from ..planning.vae_cost import DECODE_BATCH
from .vae_decoder import FastDecoder
from .vae_encoder import FastEncoder


def use_fast_vae(vae: AutoencoderKLCogVideoX) -> None:
    """Have an autoencoder encode and decode faster, with results that differ by rounding.

    Its class stays that of diffusers, so that diffusers saves it and passes it on as its own. Not
    worth it on a CPU, where channels-last is slow.
    """
    layouts = {nn.Conv2d: torch.channels_last, nn.Conv3d: torch.channels_last_3d}
    for module in vae.modules():
        for kind, layout in layouts.items():
            if isinstance(module, kind):
                module.weight.data = module.weight.data.contiguous(memory_format=layout)
    vae._encode, vae._decode = FastEncoder(vae), FastDecoder(vae)


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
    return _pixels(_decoded(vae, latents, frames))


def decode_to_ram(vae, latents: torch.Tensor, frames: int) -> Iterator[torch.Tensor]:
    """Decode a latent clip of any length in the GPU memory of a few frames.

    Args and errors are those of ``decode_latents``.

    Returns:
        float32 (some frames, height, width, 3) in 0 … 1 in RAM, until all frames were given.
    """
    decoder = getattr(vae, "_decode", None)
    if isinstance(decoder, FastDecoder):
        decoder.to_ram = True
    try:
        video = _decoded(vae, latents, frames)
    finally:
        if isinstance(decoder, FastDecoder):
            decoder.to_ram = False
    return (_pixels(part)[0] for part in video.split(DECODE_BATCH, dim=2))


def _decoded(vae, latents: torch.Tensor, frames: int) -> torch.Tensor:
    """(batch, 3, frames, height, width) in -1 … 1."""
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
    return video


def _pixels(video: torch.Tensor) -> torch.Tensor:
    """float32 (batch, frames, height, width, 3) in 0 … 1."""
    # In place: three more copies of a long, large clip would need more than the decode itself.
    return video.permute(0, 2, 3, 4, 1).to(torch.float32, copy=True).add_(1).div_(2).clamp_(0, 1)
