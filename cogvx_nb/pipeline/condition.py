"""What denoising starts from and sees at each step, besides the text.

All of the family's tasks are one loop with different conditions. Pixels are (1, 3, frames, height,
width) in -1 … 1, latents (1, latent frames, channels, height / 8, width / 8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoints.registry import CLIP
from ..planning.inputs import done_steps
from .noise import Noise

OFS = 2.0
"""Input of the offset embedding that CogVideoX1.5-5B-I2V has; its authors give it no other."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The part of a task that isn't text."""

    start: Tensor | None = None  # clean latents that noise is added to; None to start from noise
    first_step: int = 0  # steps that are left out, since the start has less noise
    channels: Tensor | None = None  # latents next to the noisy ones at each step, padding included
    known: Tensor | None = None  # clean latents of its first frames, which all steps are held to
    padding: int = 0  # latent frames in front of the video's own, dropped after the last step
    ofs: float | None = None  # input of the offset embedding; None for models without one

    def of_part(self, part: slice) -> Condition:
        """That of some latent frames, padding included; their start is left as it is."""
        channels = None if self.channels is None else self.channels[:, part]
        return replace(self, channels=channels)


def padding_of(latent_frames: int, config) -> int:
    """Latent frames that a clip lacks to be cut into patches.

    Args:
        config: of the transformer; patches of CogVideoX1.5 span two latent frames.
    """
    return -latent_frames % (config.patch_size_t or 1)


def from_text(latent_frames: int, config) -> Condition:
    """For text alone."""
    return Condition(padding=padding_of(latent_frames, config), ofs=_ofs(config))


def from_last_frames(clip: Tensor, latent_frames: int, vae, config) -> Condition:
    """For a clip that goes on from the last frames of another, with weights for text alone.

    Args:
        clip: pixels of those frames, 4 N + 1.
    """
    padding = padding_of(latent_frames, config)
    latents = vae.config.scaling_factor * encode(vae, clip)
    known = torch.cat([latents[:, :1]] * padding + [latents], dim=1)
    return Condition(known=known, padding=padding, ofs=_ofs(config))


def from_images(
    images: Mapping[int, Tensor],
    latent_frames: int,
    vae,
    config,
    noise: Noise,
    scale: float | None = None,
) -> Condition:
    """For a clip with images at some of its frames, of which the model sees the latents.

    Args:
        images: pixels of one frame, by the index of a latent frame: 0 for an image that the clip
            begins with, -1 for one that it ends with.
        noise: the images' latents are drawn before all others.
        scale: factor of the images' latents; None for the one that the model was trained with, see
            ``image_scale``.
    """
    scale = image_scale(vae.config) if scale is None else scale
    padding = padding_of(latent_frames, config)
    channels = None
    for index, image in images.items():
        latents = scale * encode(vae, image, noise)
        if channels is None:
            channels = latents.new_zeros(1, latent_frames + padding, *latents.shape[2:])
        # The first also where there is padding: the model was trained with its latents there.
        channels[:, index] = latents[:, 0]
    return Condition(channels=channels, padding=padding, ofs=_ofs(config))


def from_nothing(latent_frames: int, height: int, width: int, config, like: Tensor) -> Condition:
    """For text alone with a model that sees more than text, as where it was trained without.

    Args:
        height, width: of the latents.
        like: any tensor of the wanted dtype and device.
    """
    padding = padding_of(latent_frames, config)
    size = (1, latent_frames + padding, config.in_channels - config.out_channels, height, width)
    return Condition(channels=like.new_zeros(size), padding=padding, ofs=_ofs(config))


def from_known_frames(
    known: Mapping[int, Tensor], frames: int, vae, config, noise: Noise, noise_level: float = 0.0
) -> Condition:
    """For the models of CogVideoX-Fun that fill in what a mask leaves out.

    They see a mask and the latents of a clip in which unknown pixels are -1. This is what
    VideoX-Fun does (``pipeline_cogvideox_fun_inpaint.py``), whose mask is 1 where pixels are known
    and, like the latents, multiplied by the scaling factor.

    Args:
        known: pixels of one frame, by the index of a frame of the clip.
        frames: of the clip, 4 N + 1.
        noise_level: standard deviation of the noise on known pixels that a model was trained with.
    """
    height, width = next(iter(known.values())).shape[-2:]
    example = next(iter(known.values()))
    clip = example.new_full((1, 3, frames, height, width), -1.0)
    mask = example.new_zeros(1, 1, frames, height, width)
    for index, image in known.items():
        if noise_level:  # on all but black, which stands for unknown
            grain = noise_level * noise.draw(image.shape, image.dtype, image.device)
            image = torch.where(image == -1, image, image + grain)
        clip[:, :, index] = image[:, :, 0]
        mask[:, :, index] = 1.0
    seen = vae.config.scaling_factor * encode(vae, clip)
    sizes = ((1, *seen.shape[-2:]), (seen.shape[1] - 1, *seen.shape[-2:]))
    parts = [
        F.interpolate(part, size=size, mode="trilinear", align_corners=False)
        for part, size in zip((mask[:, :, :1], mask[:, :, 1:]), sizes, strict=True)
        if size[0]
    ]
    small = vae.config.scaling_factor * torch.cat(parts, dim=2).permute(0, 2, 1, 3, 4)
    channels = _padded(torch.cat([small.to(seen), seen], dim=2), config)
    padding = padding_of(seen.shape[1], config)
    return Condition(channels=channels, padding=padding, ofs=_ofs(config))


def image_scale(config, as_diffusers: bool = False) -> float:
    """Factor of an image's latents.

    CogVideoX1.5 was trained without any, and its authors' code uses none. diffusers divides by the
    scaling factor instead, which shows as a jump in brightness after the first frames.

    Args:
        config: of the VAE.
    """
    if not config.invert_scale_latents:
        return config.scaling_factor
    return 1 / config.scaling_factor if as_diffusers else 1.0


def from_clip(clip: Tensor, strength: float, steps: int, vae, config, noise: Noise) -> Condition:
    """For a clip that is changed: noise is added to it, and the steps after that are done.

    Args:
        strength: share of the steps that are done, above 0; at least one is.
        noise: the clip's latents are drawn before all others.
    """
    start = _padded(vae.config.scaling_factor * encode(vae, clip, noise), config)
    done = done_steps(CLIP, steps, strength)
    padding = padding_of(_latent_frames(clip), config)
    return Condition(start, steps - done, padding=padding, ofs=_ofs(config))


def from_control(clip: Tensor, vae, config) -> Condition:
    """For a clip of poses, edges or depths, of which the model sees the latents."""
    channels = _padded(vae.config.scaling_factor * encode(vae, clip), config)
    padding = padding_of(_latent_frames(clip), config)
    return Condition(channels=channels, padding=padding, ofs=_ofs(config))


def encode(vae, pixels: Tensor, noise: Noise | None = None) -> Tensor:
    """Latents of pixels, not scaled: N + 1 of 4 N + 1 frames, for every N.

    Latent frame 0 is of the first frame and each later one of four more, as in a longer clip but
    for the statistics of group norms, which are of eight frames or, the first time, of up to 13. So
    an even number of latents needs no padding, unlike in a decode.

    Args:
        noise: that the latents are drawn with; None for the most likely ones.

    Raises:
        ValueError: for another number of frames, which diffusers encodes at wrong times.
    """
    if pixels.shape[2] % 4 != 1:
        raise ValueError(f"{pixels.shape[2]} frames can't be encoded: give 4 N + 1")
    found = vae.encode(pixels.to(vae.dtype)).latent_dist
    latents = found.mean
    if noise is not None:
        latents = latents + found.std * noise.draw(latents.shape, latents.dtype, latents.device)
    return latents.to(pixels.dtype).permute(0, 2, 1, 3, 4)


def _latent_frames(clip: Tensor) -> int:
    return (clip.shape[2] - 1) // 4 + 1


def _padded(latents: Tensor, config) -> Tensor:
    """With the first latent frame repeated in front, as in training."""
    padding = padding_of(latents.shape[1], config)
    return torch.cat([latents[:, :1]] * padding + [latents], dim=1)


def _ofs(config) -> float | None:
    return None if config.ofs_embed_dim is None else OFS
