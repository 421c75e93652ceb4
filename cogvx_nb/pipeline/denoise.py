"""The denoising loop, one for all tasks, over a transformer and a scheduler of diffusers.

On equal inputs it computes what the pipelines of diffusers do, bit by bit
(``tests/test_conformance.py``).
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import diffusers
import torch
from torch import Tensor

from ..planning.guidance import Guidance
from ..planning.step_cache import DENSE, GUARDED, schedule_for
from ..planning.windows import noise_order
from . import schedulers
from .condition import Condition
from .hold import Hold
from .noise import Noise
from .positions import rotary_positions
from .step_cache import Guard, Velocities
from .windows import WindowedVelocities


def denoise(
    transformer: torch.nn.Module,
    scheduler: diffusers.SchedulerMixin,
    text: Tensor,
    shape: tuple[int, int, int],
    steps: int,
    guidance: Guidance,
    condition: Condition,
    noise: Noise,
    on_step: Callable[[int, Tensor], None] = lambda step, clean: None,
    step_cache: str = "",
    idle_dtype: str = "",
    later_texts: Mapping[int, Tensor] = MappingProxyType({}),
    windows: Sequence[range] = (),
    on_kind: Callable[[str], None] = lambda kind: None,
) -> Tensor:
    """Clean latents (1, latent frames, channels, height / 8, width / 8).

    Args:
        scheduler: left as it is.
        text: embedding of the prompt, (1, tokens, width), on the device and in the precision to
            compute in; with guidance (2, tokens, width), that of the negative prompt first.
        shape: latent frames, without padding, and height and width of the latents.
        steps: of a start from noise; see ``Condition.first_step``.
        on_step: called after each step with its number from 1 and the clean latents that it
            predicts.
        step_cache, idle_dtype: what steps compute, see ``planning.step_cache.schedule_for``.
        later_texts: by the done step, from 0, from which each takes the place of ``text``.
        windows: see ``planning.windows``; by default one of the whole clip.
        on_kind: called with what a guarded step cache comes to, once it is decided.
    """
    scheduler, device = copy.deepcopy(scheduler), text.device
    timesteps = schedulers.set_steps(scheduler, steps, condition.first_step, device)
    windows = windows or (range(shape[0] + condition.padding),)
    first = _first_noise(text, shape, windows, noise, transformer.config)
    latents = _noisy_start(scheduler, timesteps, condition, first)
    hold = Hold(scheduler, condition.known, first)
    rotary = rotary_positions(transformer.config, len(windows[0]), *shape[1:], device)
    scales = guidance(timesteps.tolist())
    kinds = [schedule_for(k, scales, idle_dtype, later_texts) for k in (step_cache, DENSE)]
    facts = len(text) == 2, schedulers.levels(scheduler, timesteps)
    velocities = _cached_velocities(windows, step_cache, kinds, *facts, on_kind)
    clean = before = None
    with noise.ahead() as drawn:
        for index, (timestep, scale) in enumerate(zip(timesteps, scales, strict=True)):
            if index in later_texts:
                text = later_texts[index]
                velocities.forget()
            seen = hold.noisy(scheduler.scale_model_input(latents, timestep), timestep)
            given = transformer, seen, text, timestep, rotary, condition
            predicted = functools.partial(_predict_part, *given)
            velocity = velocities.at(index, scale or 1.0, seen, predicted)
            with drawn:
                latents, clean = schedulers.step(
                    scheduler, velocity, clean, timestep, before, latents, noise.generator
                )
            drawn.draw_ahead(len(timesteps) - index - 1)
            latents, before = latents.to(text.dtype), timestep
            on_step(index + 1, hold.clean(clean)[:, condition.padding :])
    return hold.clean(latents)[:, condition.padding :]


def _cached_velocities(
    windows: Sequence[range],
    step_cache: str,
    schedules: Sequence[list[int]],
    guided: bool,
    levels: tuple[Tensor, Tensor],
    on_kind: Callable[[str], None],
) -> WindowedVelocities:
    """Velocities of all windows; of schedules the second is what a guard may change to."""
    guard = Guard(*schedules, on_kind) if step_cache == GUARDED else None
    facts = schedules[0], step_cache, guided, levels, guard
    decide = guard.decide if guard else lambda step: None
    return WindowedVelocities(windows, functools.partial(Velocities, *facts), decide)


def predict(
    transformer: torch.nn.Module,
    latents: Tensor,
    text: Tensor,
    timestep: Tensor,
    rotary: tuple[Tensor, Tensor] | None,
    condition: Condition,
) -> Tensor:
    """The transformer's velocity of noisy latents for each text, float32."""
    if condition.channels is not None:
        latents = torch.cat([latents, condition.channels.to(latents)], dim=2)
    ofs = None if condition.ofs is None else latents.new_full((1,), condition.ofs)
    with transformer.cache_context("cond_uncond"):
        return transformer(
            hidden_states=latents.repeat(len(text), 1, 1, 1, 1),
            encoder_hidden_states=text,
            timestep=timestep.expand(len(text)),
            ofs=ofs,
            image_rotary_emb=rotary,
            return_dict=False,
        )[0].float()


def _predict_part(
    transformer: torch.nn.Module,
    latents: Tensor,
    text: Tensor,
    timestep: Tensor,
    rotary: tuple[Tensor, Tensor] | None,
    condition: Condition,
    part: slice,
    rows: slice,
) -> Tensor:
    """``predict`` for some of the latent frames and of the texts."""
    given = latents[:, part], text[rows], timestep, rotary, condition.of_part(part)
    return predict(transformer, *given)


def _first_noise(
    text: Tensor, shape: tuple[int, int, int], windows: Sequence[range], noise: Noise, config
) -> Tensor:
    """Noise of the whole clip, padding included; like all that follows shared by the windows."""
    _, height, width = shape
    noise.order = noise_order(windows) if len(windows) > 1 else None
    size = (1, windows[-1].stop, config.out_channels, height, width)
    return noise.draw(size, text.dtype, text.device)


def _noisy_start(scheduler, timesteps: Tensor, condition: Condition, drawn: Tensor) -> Tensor:
    """Latents before the first step, padding included."""
    if condition.start is None:
        return drawn * scheduler.init_noise_sigma
    return schedulers.add_noise(scheduler, condition.start, drawn, timesteps)
