"""From the pictures and clips of a request to the condition that it is denoised with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.registry import CLIP, CONTROL, EXTEND, FRAMES, IMAGE, TEXT
from ..media import pixels
from ..planning.extension import takes_image
from ..planning.request import VideoRequest
from . import condition
from .condition import Condition
from .noise import Noise


@dataclass(frozen=True, slots=True)
class Encoder:
    """What makes a request's condition.

    Args:
        config, vae: of its checkpoint.
        dtype, device: that the latents are wanted in.
        noise: of the video; what is encoded is drawn first.
    """

    request: VideoRequest
    vae: torch.nn.Module
    config: object  # of the transformer
    dtype: torch.dtype
    device: torch.device
    noise: Noise
    known: np.ndarray | None = None  # frames that a clip goes on from, uint8 (N, height, width, 3)
    hashes: dict[str, str] = field(default_factory=dict)  # SHA-256 of fitted pixels, by field

    @property
    def latent_frames(self) -> int:
        return (self.request.frames - 1) // 4 + 1

    def condition(self) -> Condition:
        """The condition of the request; ``hashes`` are those of what it was made from."""
        return CONDITIONS[self.request.task](self)

    def picture(self, name: str) -> Tensor:
        """Pixels (1, 3, 1, height, width) of the field's picture."""
        request = self.request
        size = (request.height, request.width, request.fit)
        return self._tensor(name, pixels.picture_pixels(getattr(request, name), *size))

    def clip(self) -> Tensor:
        """Pixels (1, 3, frames, height, width) of the video."""
        request = self.request
        size = (request.height, request.width, request.fit)
        shape = (request.frames, request.fps, *size, request.video_start)
        return self._tensor("video", pixels.clip_pixels(request.video, *shape))

    def known_frames(self) -> Tensor:
        """Pixels (1, 3, N, height, width) of ``known``."""
        return self._pixels(self.known)

    def _tensor(self, name: str, frames: np.ndarray) -> Tensor:
        self.hashes[name] = hashlib.sha256(np.ascontiguousarray(frames)).hexdigest()
        return self._pixels(frames)

    def _pixels(self, frames: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(frames).to(self.device).permute(3, 0, 1, 2)[None]
        # As diffusers computes it: first 0 … 1, then -1 … 1, and rounded last.
        return (2.0 * (tensor.float() / 255.0) - 1.0).to(self.dtype)


def _from_text(encoder: Encoder) -> Condition:
    config = encoder.config
    if config.in_channels == config.out_channels:
        return condition.from_text(encoder.latent_frames, config)
    size = encoder.request.height // 8, encoder.request.width // 8
    like = torch.empty((), dtype=encoder.dtype, device=encoder.device)
    return condition.from_nothing(encoder.latent_frames, *size, config, like)


def _from_pictures(encoder: Encoder) -> Condition:
    request, config, noise = encoder.request, encoder.config, encoder.noise
    names = {"image": 0, "last_image": -1}
    images = {at: encoder.picture(name) for name, at in names.items() if getattr(request, name)}
    if request.model.checkpoint.is_masked:
        level = request.model.checkpoint.input_noise
        return condition.from_known_frames(
            images, request.frames, encoder.vae, config, noise, level
        )
    scale = condition.image_scale(encoder.vae.config, request.image_scale == "diffusers")
    return condition.from_images(images, encoder.latent_frames, encoder.vae, config, noise, scale)


def _from_clip(encoder: Encoder) -> Condition:
    request = encoder.request
    return condition.from_clip(
        encoder.clip(), request.strength, request.steps, encoder.vae, encoder.config, encoder.noise
    )


def _from_control(encoder: Encoder) -> Condition:
    return condition.from_control(encoder.clip(), encoder.vae, encoder.config)


def _from_known(encoder: Encoder) -> Condition:
    request, config, frames = encoder.request, encoder.config, encoder.known_frames()
    checkpoint = request.model.checkpoint
    if checkpoint.is_masked:
        images = dict(enumerate(frames.split(1, dim=2)))
        level = checkpoint.input_noise
        return condition.from_known_frames(
            images, request.frames, encoder.vae, config, encoder.noise, level
        )
    if takes_image(checkpoint):
        scale = condition.image_scale(encoder.vae.config, request.image_scale == "diffusers")
        what = ({0: frames}, encoder.latent_frames, encoder.vae, config, encoder.noise, scale)
        return condition.from_images(*what)
    return condition.from_last_frames(frames, encoder.latent_frames, encoder.vae, config)


CONDITIONS: dict[str, Callable[[Encoder], Condition]] = {
    TEXT: _from_text,
    IMAGE: _from_pictures,
    FRAMES: _from_pictures,
    CLIP: _from_clip,
    CONTROL: _from_control,
    EXTEND: _from_known,
}
"""How the condition of each task is made."""
