"""As many frames as were asked for, each at its time."""

from __future__ import annotations

import evaluate
import numpy as np
import pytest
import torch
import world
from conftest import CIRCLE

from cogvx_nb.pipeline import loader
from cogvx_nb.pipeline.vae import decode_latents
from cogvx_nb.planning import planner, probe, request


@pytest.fixture(scope="module")
def vae(tiny):
    return loader.load_pipeline(
        planner.plan_request(request.make_request(tiny, CIRCLE), probe.probe_machine())
    ).pipe.vae


def to_video(clip: np.ndarray) -> torch.Tensor:
    """A clip, uint8 (frames, height, width, 3), as the VAE takes it."""
    return torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def reconstruct(vae, clip: np.ndarray) -> np.ndarray:
    """A clip, uint8 (frames, height, width, 3), encoded and decoded; float 0 … 1."""
    with torch.no_grad():
        latents = vae.encode(to_video(clip)).latent_dist.mode().permute(0, 2, 1, 3, 4)
        return decode_latents(vae, latents * vae.config.scaling_factor, len(clip))[0].numpy()


def psnr(decoded: np.ndarray, clip: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((decoded - clip / 255) ** 2)))


@pytest.mark.parametrize("frames", [13, 25, 49])
def test_a_clip_comes_back_with_its_length(vae, frames):
    latents = torch.zeros(2, (frames - 1) // 4 + 1, 16, 2, 2)
    with torch.no_grad():
        video = decode_latents(vae, latents, frames)
    assert video.shape == (2, frames, 16, 16, 3)
    assert video.dtype == torch.float32
    assert 0 <= video.min() <= video.max() <= 1


def test_a_wrong_length_is_refused(vae):
    with pytest.raises(ValueError, match="4 latent frames do not make 16"):
        decode_latents(vae, torch.zeros(1, 4, 16, 2, 2), 16)


@pytest.mark.slow
def test_every_length_reconstructs(vae):
    for frames in world.FRAMES:
        assert evaluate.reconstruction(vae, frames, clips=1) > 36


@pytest.mark.slow
def test_13_frames_reconstruct_as_well_as_the_same_frames_of_a_longer_clip(vae):
    """Padding must not show: the first 13 of 25 frames are the measure."""
    short, long = [], []
    for seed, attributes in enumerate(world.HELD_OUT[:2]):
        clip = world.clip(attributes, 25, seed)
        short.append(psnr(reconstruct(vae, clip[:13]), clip[:13]))
        long.append(psnr(reconstruct(vae, clip)[:13], clip[:13]))
    assert np.mean(short) > np.mean(long) - 1


def test_the_stock_decode_of_13_frames_is_wrong(vae):
    """What the padding is for; if this fails, diffusers has mended it."""
    clip = world.clip(world.HELD_OUT[0], 13)
    with torch.no_grad():
        latents = vae.encode(to_video(clip)).latent_dist.mode()
        assert latents.shape[2] == 4
        assert vae.decode(latents).sample.shape[2] == 16


@pytest.mark.slow
def test_tiles_add_up_to_the_picture(vae, tiny):
    latents = torch.randn(1, 4, 16, 12, 18, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = decode_latents(vae, latents, 13)
        try:
            vae.enable_tiling(*tiny.checkpoint.tile)
            tiled = decode_latents(vae, latents, 13)
            vae.enable_tiling(48, 72)  # what diffusers would choose: tiles that overlap badly
            with pytest.raises(ValueError, match="148"):
                decode_latents(vae, latents, 13)
        finally:
            vae.disable_tiling()
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().mean() < 0.1
