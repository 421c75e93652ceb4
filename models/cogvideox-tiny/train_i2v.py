"""The image-to-video transformer: that of the text-to-video model, widened by a picture's latents.

The layout is that of CogVideoX-5b-I2V: 32 channels, of which the latter 16 hold the first picture's
latents at the first latent frame and, where a last picture is given, its latents at the last one;
zeros elsewhere. Each picture is encoded alone, as the pipeline does.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path

import scenes
import torch
import torch.nn.functional as F
from diffusers import CogVideoXTransformer3DModel
from train_transformer import LATENT_SHARES, TRANSFORMER, Clips, assemble, fit, velocity_loss
from training import Average, Clock, adam, autocast

CHANNELS = 32
"""Of the noisy video, then of the pictures."""

FIRST, FIRST_AND_LAST = 0.6, 0.3
"""Shares of clips that are trained with the first picture, and with both. The rest has none."""


class PicturedClips(Clips):
    """Clips of ``scenes.py``. Two more latent frames: those of the first and the last picture."""

    def encode(self, vae, attributes, frames, rng, device) -> torch.Tensor:
        chosen = [scenes.scene(one, frames, rng) for one in attributes]
        video = scenes.draw(chosen, frames, device).permute(0, 2, 1, 3, 4)
        with torch.no_grad(), autocast(device):
            parts = (video, video[:, :, :1], video[:, :, -1:])
            return torch.cat([vae.encode(part).latent_dist.sample() for part in parts], dim=2)


def train_i2v(
    text: Path, out: Path, minutes: float, device: str, batch: int, seconds: float
) -> None:
    """Store a transformer in ``out``, trained from that of ``text`` with its other parts unchanged.

    One that is in ``out`` already is trained further.
    """
    start = time.time()
    pipe = assemble(text)
    ready = out if (out / "transformer").is_dir() else text
    pipe.transformer = widened(CogVideoXTransformer3DModel.from_pretrained(ready / "transformer"))
    seed = 100 if ready == text else 200  # other clips the second time
    pipe.to(device).text_encoder.requires_grad_(False)
    data = [
        PicturedClips(pipe.vae, pipe.tokenizer, frames, seconds * share, device, seed + frames)
        for frames, share in LATENT_SHARES.items()
    ]
    pipe.transformer.train()
    average = Average(pipe.transformer, 0.9993)
    optimizer = adam([(pipe.transformer, 7e-4)], device)
    clock = Clock(minutes - (time.time() - start) / 60)
    fit(pipe, data, pictured_loss, average, optimizer, clock, batch, lambda: store(average, out))


def widened(transformer: CogVideoXTransformer3DModel) -> CogVideoXTransformer3DModel:
    """The same with 32 input channels. New ones have no weight: the predictions are the same."""
    wide = CogVideoXTransformer3DModel(**TRANSFORMER, in_channels=CHANNELS)
    weights = transformer.state_dict()
    old = weights["patch_embed.proj.weight"]
    missing = CHANNELS - old.shape[1]
    weights["patch_embed.proj.weight"] = F.pad(old, (0, 0, 0, 0, 0, missing))
    wide.load_state_dict(weights)
    return wide


def pictured_loss(pipe, latents: torch.Tensor, ids: torch.Tensor, long: bool) -> torch.Tensor:
    """The velocity's error with one picture, two or none, as it falls to each clip."""
    latents, first, last = latents[:, :-2], latents[:, -2], latents[:, -1]
    fate = torch.rand(len(latents), 1, 1, 1, device=latents.device)
    condition = torch.zeros_like(latents)
    condition[:, 0] = first * (fate < FIRST + FIRST_AND_LAST)
    condition[:, -1] = last * (fate < FIRST_AND_LAST)
    return velocity_loss(pipe, latents, ids, long, condition)


def store(average: Average, out: Path) -> None:
    copy.deepcopy(average.shadow).half().save_pretrained(out / "transformer")
