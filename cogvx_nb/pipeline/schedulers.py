"""The schedulers of ``planning.schedulers``, and one way to use those of diffusers.

Those that aren't the authors' count noise by its standard deviation over that of the clean latents,
which is without bound at the first step of a schedule that begins at pure noise. diffusers sets it
to 4096 there.
"""

from __future__ import annotations

import inspect

import diffusers
import torch
from torch import Tensor

from ..planning.schedulers import AUTO, SCHEDULERS

SHARED = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "timestep_spacing",
    "steps_offset",
    "rescale_betas_zero_snr",
)
"""Keys of a configuration that all schedulers take. What diffusers' ``from_config`` leaves out of
it, since it was a default of the class it came from, is another default of the next one."""


def choose(own: diffusers.SchedulerMixin, name: str) -> diffusers.SchedulerMixin:
    """A scheduler with the noise schedule of another one.

    Args:
        own: of the checkpoint, one of the authors' two; left as it is.
        name: one of ``planning.schedulers.SCHEDULERS``, or ``AUTO`` for ``own``.
    """
    if name == AUTO or SCHEDULERS[name].kind == type(own).__name__:
        return own
    kind = getattr(diffusers, SCHEDULERS[name].kind)
    values = {key: own.config[key] for key in SHARED}
    if "snr_shift_scale" in inspect.signature(kind.__init__).parameters:
        shift = {key: own.config[key] for key in ("snr_shift_scale", "set_alpha_to_one")}
        return kind(**values, **shift, clip_sample=False)
    if own.config.snr_shift_scale != 1:
        values["trained_betas"] = _shifted_betas(own)
    return kind(**values)


def _shifted_betas(own: diffusers.SchedulerMixin) -> list[float]:
    """Betas with the shift of the signal-to-noise ratio that only the authors' schedulers know,
    before they are rescaled to end at pure noise, which the others do too."""
    products = type(own).from_config(own.config, rescale_betas_zero_snr=False).alphas_cumprod
    before = torch.cat([torch.ones_like(products[:1]), products[:-1]])
    return (1 - products / before).tolist()


def set_steps(
    scheduler: diffusers.SchedulerMixin, steps: int, first: int, device: torch.device
) -> Tensor:
    """Prepare a scheduler for so many steps; the timesteps of those from ``first`` on.

    For 62 numbers of steps up to 1000, such as 61, diffusers makes one timestep more, -1, by a
    rounding error of ``numpy.arange``: a step to pure noise after the last.
    """
    scheduler.set_timesteps(steps, device=device)
    if len(scheduler.timesteps) > steps:
        scheduler.timesteps = scheduler.timesteps[:steps]
        scheduler.num_inference_steps = steps
        if hasattr(scheduler, "sigmas"):
            scheduler.sigmas = torch.cat([scheduler.sigmas[:steps], scheduler.sigmas[-1:]])
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return scheduler.timesteps[first:]


def levels(scheduler: diffusers.SchedulerMixin, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """What latents have of the clean ones and of noise at some timesteps, (steps,) each; their
    squares add up to 1. Of the input of the transformer, which all schedulers scale alike."""
    kept = scheduler.alphas_cumprod.to(timesteps.device)[timesteps.long()]
    return kept**0.5, (1 - kept) ** 0.5


def add_noise(
    scheduler: diffusers.SchedulerMixin, clean: Tensor, noise: Tensor, timesteps: Tensor
) -> Tensor:
    """Clean latents with the noise of the first of some timesteps.

    In float32: in half precision low noise is off by up to a tenth, and the square of the highest
    noise is infinite.
    """
    noisy = scheduler.add_noise(clean.float(), noise.float(), timesteps[:1])
    return noisy.to(noise.dtype)


def step(
    scheduler: diffusers.SchedulerMixin,
    velocity: Tensor,
    clean: Tensor | None,
    timestep: Tensor,
    before: Tensor | None,
    latents: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Latents after a step, and the clean ones that it predicts.

    Args:
        clean, before: clean latents and timestep of the step before; None in the first.
        generator: of the noise that some schedulers add.
    """
    if isinstance(scheduler, diffusers.CogVideoXDPMScheduler):
        values = (velocity, clean, timestep, before, latents)
        return scheduler.step(*values, generator=generator, return_dict=False)
    if not hasattr(scheduler, "sigmas"):
        return scheduler.step(velocity, timestep, latents, return_dict=False)
    draws = "generator" in inspect.signature(scheduler.step).parameters
    latents = latents.float()  # UniPC can't mix precisions
    options = {"generator": generator} if draws else {}
    found = scheduler.step(velocity, timestep, latents, **options, return_dict=False)
    if len(found) == 2:
        return found
    sigma = scheduler.sigmas[scheduler.step_index - 1]
    return *found, (latents - sigma * velocity) / (sigma**2 + 1) ** 0.5
