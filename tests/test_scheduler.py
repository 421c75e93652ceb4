"""Noise drawn ahead is the noise that would have been drawn."""

from __future__ import annotations

import contextlib
import threading

import diffusers
import pytest
import torch

from cogvx_nb.pipeline import noise
from cogvx_nb.pipeline.noise import Noise

STEPS = 6


def trajectory(
    ahead: bool, dtype: torch.dtype, kind: type = diffusers.CogVideoXDPMScheduler
) -> list[torch.Tensor]:
    """Latents after each step, from an arbitrary model, as the pipeline's loop goes."""
    scheduler = kind(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(STEPS)
    random = Noise(7)
    latents = random.draw((1, 4, 16, 12, 18), dtype)
    before, old, seen = None, None, []
    with random.ahead() if ahead else contextlib.nullcontext() as drawn:
        for left, timestep in zip(range(STEPS)[::-1], scheduler.timesteps, strict=True):
            torch.randn(3)  # of somebody else's: it takes nothing from the generator
            values = (latents.sin(), timestep, latents)
            if kind is diffusers.CogVideoXDPMScheduler:
                values = (latents.sin(), old, timestep, before, latents)
            with drawn or contextlib.nullcontext():
                result = scheduler.step(*values, generator=random.generator, return_dict=False)
            if drawn:
                drawn.draw_ahead(left)
            latents, old, before = result[0].to(dtype), result[1], timestep
            seen.append(latents)
    return seen


def drawing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("noise")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_step_is_that_of_diffusers(dtype):
    stock, ahead = trajectory(False, dtype), trajectory(True, dtype)
    assert all(torch.equal(a, b) for a, b in zip(stock, ahead, strict=True))
    assert not torch.equal(stock[-1], stock[-2]), "the steps do something"


def test_a_scheduler_without_noise_draws_none():
    kind = diffusers.CogVideoXDDIMScheduler
    stock, ahead = (trajectory(value, torch.float32, kind) for value in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(stock, ahead, strict=True))


@pytest.mark.parametrize(("steps", "tensors"), [(2, 2), (9, 9), (9, 3), (1, 0)])
def test_noise_is_drawn_between_steps_and_no_thread_stays(monkeypatch, steps, tensors):
    """As many tensors as the steps to come need, or there is room for; at least one."""
    scheduler, random = diffusers.CogVideoXDPMScheduler(), Noise(1)
    scheduler.set_timesteps(STEPS)
    latents, times = torch.zeros(1, 4, 16, 12, 18), scheduler.timesteps
    stock = torch.Generator().manual_seed(1)
    ahead = min(steps, max(tensors, 1))
    for _ in range(1 + ahead):  # of the first step, and of those after it
        torch.randn(latents.shape, generator=stock)
    monkeypatch.setattr(noise, "AHEAD_BYTES", tensors * latents.nbytes)
    others = set(drawing())  # of a test before this one, about to end
    with random.ahead() as drawn:
        with drawn:
            scheduler.step(latents, None, times[0], None, latents, generator=random.generator)
        assert not {*drawing()} - others
        drawn.draw_ahead(steps)
        assert len(drawn._drawn) == ahead
        (thread,) = {*drawing()} - others
        while not torch.equal(random.generator.get_state(), stock.get_state()):
            assert thread.is_alive()
        drawn._drawn.popleft()
        drawn.draw_ahead(steps)  # after a step that drew none
        assert len(drawn._drawn) == ahead - 1
    thread.join(60)
    assert not {*drawing()} - others


def test_memory_that_runs_out_in_the_thread_is_met_by_the_step(monkeypatch, capfd):
    draw = Noise.randn

    def fail(*args, **kwargs):
        if threading.current_thread().name.startswith("noise"):
            raise RuntimeError("can't allocate memory")
        return draw(*args, **kwargs)

    monkeypatch.setattr(Noise, "randn", fail)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        trajectory(True, torch.float32)
    assert capfd.readouterr().err == "", "and not printed by the thread"
