"""Latents to frames, with exactly as many frames as were asked for."""

from __future__ import annotations

import torch


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
        frames: frames wanted, 4 * (latent frames - 1) + 1.

    Returns:
        float32 (batch, frames, height, width, 3) in 0 … 1, on the latents' device. NaN stays NaN.

    Raises:
        ValueError: if ``latents`` don't hold exactly ``frames`` frames, or come out in another size
            (as badly chosen tiles do).
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
