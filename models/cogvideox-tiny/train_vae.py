"""The VAE: learns to reconstruct clips, then has its latents whitened."""

from __future__ import annotations

import random
import time
from pathlib import Path

import torch
import world
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from training import Average, Clock, adam, autocast, descend, learning_rate, sample

VAE = {
    "block_out_channels": (24, 48, 64, 96),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "sample_height": world.HEIGHT,
    "sample_width": world.WIDTH,
}
NARROWEST = 0.12
"""Least standard deviation that is widened to one, about 15 × the posterior's own."""


def crop(video: torch.Tensor, track: torch.Tensor, size: int, rng: random.Random) -> torch.Tensor:
    """A square around each shape, (batch, frames, 3, size, size): edges are what is to learn."""
    squares = []
    for clip, path in zip(video, track, strict=True):
        x, y, _ = path[rng.randrange(len(path))].tolist()
        left = int(min(max(x - size / 2 + rng.uniform(-16, 16), 0), world.WIDTH - size))
        top = int(min(max(y - size / 2 + rng.uniform(-16, 16), 0), world.HEIGHT - size))
        squares.append(clip[..., top : top + size, left : left + size])
    return torch.stack(squares)


def clips_for_vae(progress: float, rng: random.Random, device: str, share: float) -> torch.Tensor:
    """(batch, 3, frames, height, width): small crops first, whole clips for the rest."""
    whole = progress > share
    count, frames = (6, rng.choice((13, 17, 25))) if whole else (24, 9)
    attributes = sample(count, rng)
    track = world.tracks(attributes, rng.choice((13, 25, 49)), rng)
    start = rng.randrange(track.shape[1] - min(frames, track.shape[1]) + 1)
    track = track[:, start : start + frames]
    frames = track.shape[1] - (track.shape[1] - 1) % 4
    video = world.draw(attributes, track[:, :frames], device)
    if not whole:
        video = crop(video, track[:, :frames], 48, rng)
    return video.permute(0, 2, 1, 3, 4).contiguous()


def reconstruct(vae: AutoencoderKLCogVideoX, video: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """(reconstruction, KL divergence from a standard normal a latent value) of a batch of clips.

    An even number of latent frames is padded as the workbench does when it decodes.
    """
    posterior = vae.encode(video).latent_dist
    latents = posterior.sample()
    if latents.shape[2] % 2 == 0:
        latents = torch.cat([latents, latents[:, :, -1:]], dim=2)
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    return vae.decode(latents).sample[:, :, : video.shape[2]], divergence


def train_vae(out: Path, minutes: float, device: str, share: float) -> None:
    vae, rng = AutoencoderKLCogVideoX(**VAE).to(device), random.Random(2)
    average, optimizer, clock = Average(vae, 0.998), adam([(vae, 1e-3)], device), Clock(minutes)
    for step in clock.steps():
        video = clips_for_vae(clock.progress, rng, device, share)
        paper = video[:, :, :, :1, :1]
        weight = 1 + 8 * ((video - paper).abs().amax(dim=1, keepdim=True) > 0.02)
        with autocast(device):
            made, divergence = reconstruct(vae, video)
        error = made.float() - video
        loss = (weight * (error.abs() + 4 * error**2)).mean() + 2e-4 * divergence
        descend(loss, optimizer, vae, learning_rate(step, clock.progress, 1.0))
        average.update(step)
        if step % 100 == 0:
            db = -10 * torch.log10((error.clamp(-2, 2) ** 2).mean() / 4).item()
            seconds = time.time() - clock.start
            print(f"vae {step} {seconds:.0f} s loss {loss.item():.4f} {db:.1f} dB "
                  f"KL {divergence.item():.2f}", flush=True)  # fmt: skip
    whiten(average.shadow, rng)
    average.shadow.half().save_pretrained(out / "vae")


@torch.no_grad()
def whiten(vae: AutoencoderKLCogVideoX, rng: random.Random) -> None:
    """Give the latents zero mean, no correlation and unit variance, by folding a linear map and
    its inverse into the layers on either side.

    Without it a few directions (the background, mostly) carry nearly all variance, and what tells
    a circle from a square is small beside the noise until the last denoising steps. Directions
    narrower than ``NARROWEST`` stay narrower than one. Exact but at the picture's border, where the
    decoder's first convolution pads with zeros, which are the mean afterwards: 0.02 dB of 42.8.
    """
    device = str(vae.device)
    batches = [
        encode(vae, sample(8, rng), frames, rng, device) for frames in (13, 25) for _ in range(8)
    ]
    means = torch.cat([d.mean.transpose(0, 1).flatten(1) for d in batches], dim=1).float()
    variances = torch.cat([d.var.transpose(0, 1).flatten(1) for d in batches], dim=1).float()
    mean = means.mean(dim=1)
    values, directions = torch.linalg.eigh(torch.cov(means))
    widths = values.clamp(min=NARROWEST**2).sqrt()
    forth, back = directions.T / widths[:, None], directions * widths
    last, channels = vae.encoder.conv_out.conv, len(mean)
    last.weight[:channels] = torch.einsum("ij,jklmn->iklmn", forth, last.weight[:channels])
    last.bias[:channels] = forth @ (last.bias[:channels] - mean)
    last.weight[channels:] = 0
    last.bias[channels:] = torch.log(forth**2 @ variances.mean(dim=1))
    for name, module in vae.decoder.named_modules():
        if name.endswith(("conv_y.conv", "conv_b.conv")) or name == "conv_in.conv":
            module.bias += torch.einsum("ijklm,j->i", module.weight, mean)
            module.weight.copy_(torch.einsum("ijklm,jn->inklm", module.weight, back))
    vae.register_to_config(scaling_factor=1.0)


@torch.no_grad()
def encode(
    vae: AutoencoderKLCogVideoX,
    attributes: list[world.Attributes],
    frames: int,
    rng: random.Random,
    device: str,
) -> DiagonalGaussianDistribution:
    """Posterior of new clips' latents, (batch, 16, latent frames, height / 8, width / 8)."""
    video = world.draw(attributes, world.tracks(attributes, frames, rng), device)
    with autocast(device):
        return vae.encode(video.permute(0, 2, 1, 3, 4)).latent_dist
