"""Noise drawn ahead is the noise that would have been drawn."""

from __future__ import annotations

import threading

import diffusers
import pytest
import torch

from cogvx_nb.pipeline.components import Scheduler

STEPS = 6


def trajectory(kind: type, dtype: torch.dtype) -> list[torch.Tensor]:
    """Latents after each step, from an arbitrary model, as the pipeline's loop goes."""
    scheduler = kind(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(STEPS)
    generator = torch.Generator().manual_seed(7)
    latents = torch.randn(1, 4, 16, 12, 18, generator=generator, dtype=dtype)
    before, old, seen = None, None, []
    for timestep in scheduler.timesteps:
        torch.randn(3)  # of somebody else's: it takes nothing from the generator
        latents, old = scheduler.step(
            latents.sin(), old, timestep, before, latents, generator=generator, return_dict=False
        )
        latents, before = latents.to(dtype), timestep
        seen.append(latents)
    return seen


def drawing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "noise"]


def finish() -> None:
    for thread in drawing():
        thread.join(10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_step_is_that_of_diffusers(dtype):
    stock = trajectory(diffusers.CogVideoXDPMScheduler, dtype)
    ours = trajectory(Scheduler, dtype)
    assert all(torch.equal(a, b) for a, b in zip(stock, ours, strict=True))
    assert not torch.equal(stock[-1], stock[-2]), "the steps do something"


def test_no_noise_is_lost_where_none_can_be_pinned(monkeypatch):
    stock = trajectory(diffusers.CogVideoXDPMScheduler, torch.float32)
    tried = []

    def refused(tensor):
        tried.append(1)
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", refused)
    ours = trajectory(Scheduler, torch.float32)
    assert tried
    assert all(torch.equal(a, b) for a, b in zip(stock, ours, strict=True))


def test_noise_is_drawn_between_steps_and_no_thread_stays():
    scheduler, generator = Scheduler(), torch.Generator().manual_seed(1)
    scheduler.set_timesteps(STEPS)
    latents = torch.zeros(1, 4, 16, 12, 18)
    times = scheduler.timesteps
    scheduler.step(latents, None, times[0], None, latents, generator=generator)
    finish()
    drawn = generator.get_state()
    scheduler.step(latents, latents, times[1], times[0], latents, generator=generator)
    stock = torch.Generator().manual_seed(1)
    for _ in range(3):  # one of the first step, two of the second, drawn before it began
        torch.randn(latents.shape, generator=stock)
    assert torch.equal(drawn, stock.get_state())
    finish()
    assert not drawing()


def test_a_generator_for_each_clip_is_as_in_diffusers():
    results = []
    for kind in (diffusers.CogVideoXDPMScheduler, Scheduler):
        scheduler = kind()
        scheduler.set_timesteps(STEPS)
        generators = [torch.Generator().manual_seed(n) for n in range(2)]
        latents = torch.ones(2, 4, 16, 12, 18)
        times = scheduler.timesteps
        results.append(
            scheduler.step(latents, latents, times[1], times[0], latents, generator=generators)
        )
    assert torch.equal(results[0][0], results[1][0])
