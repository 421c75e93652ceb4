"""Schedulers to choose: each step is that of diffusers, on the noise schedule of the checkpoint."""

from __future__ import annotations

import json

import diffusers
import numpy as np
import pytest
import torch
from conftest import CIRCLE, ROOT
from test_conformance import SEED, STEPS, Parts, as_pixels, control_to_video, same

from cogvx_nb import reproduction
from cogvx_nb.checkpoints.registry import CHECKPOINTS, COGVIDEOX_2B, COGVIDEOX_5B
from cogvx_nb.errors import CogvxError, RequestError
from cogvx_nb.pipeline import condition, schedulers
from cogvx_nb.pipeline.denoise import denoise
from cogvx_nb.pipeline.noise import Noise
from cogvx_nb.pipeline.positions import rotary_positions
from cogvx_nb.planning.guidance import constant
from cogvx_nb.planning.request import make_request
from cogvx_nb.planning.schedulers import AUTO, SCHEDULERS, has_wave, used_scheduler
from cogvx_nb.results.result import read_result, save_result

OTHERS = tuple(name for name, row in SCHEDULERS.items() if not row.kind.startswith("CogVideoX"))
DRAWING = ("dpm", "euler_ancestral")
"""Those that add noise in their steps."""

FILES = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "snr_shift_scale": 1.0,
}
"""The scheduler's file of CogVideoX-5b; that of 2b has an ``snr_shift_scale`` of 3."""


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def own(**changed) -> diffusers.CogVideoXDDIMScheduler:
    """The scheduler of a checkpoint."""
    return diffusers.CogVideoXDDIMScheduler.from_config(FILES | changed)


def parts_with(name: str, kind: str = "5b", channels: int = 4) -> Parts:
    parts = Parts(kind, "DDIM", channels)
    parts.scheduler = schedulers.choose(parts.scheduler, name)
    return parts


def made(parts: Parts, steps: int, dtype=torch.float32, noise=None, first: int = 0, seen=None):
    """Latents of 9 frames, with guidance."""
    start = torch.randn(1, 3, 4, 4, 6, generator=torch.Generator().manual_seed(5))
    given = condition.Condition(start, first) if first else condition.Condition()
    return denoise(
        parts.transformer.to(dtype),
        parts.scheduler,
        torch.cat([parts.negative, parts.prompt]).to(dtype),
        (3, 4, 6),
        steps,
        constant(6.0),
        given,
        noise or Noise(1),
        lambda step, clean: None if seen is None else seen.append(clean),
    )


# Against the pipelines of diffusers, with the same scheduler.


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(("kind", "frames"), [("2b", 13), ("1.5", 9)])
def test_text_to_video(kind, frames, name):
    parts = parts_with(name, kind)
    assert type(parts.scheduler).__name__ == SCHEDULERS[name].kind
    given = condition.from_text((frames - 1) // 4 + 1, parts.config)
    theirs = parts.theirs("text", num_frames=frames)[:, given.padding :]
    assert same(parts.ours(frames, given), theirs)


def plain_loop(parts: Parts, clip: torch.Tensor, strength: float) -> torch.Tensor:
    """Latents of a changed clip, as the documentation of diffusers has it.

    ``CogVideoXVideoToVideoPipeline`` multiplies a clip for Euler by the noise of the first step.
    """
    pixels, generator = as_pixels(clip), torch.Generator().manual_seed(SEED)
    found = parts.vae.encode(pixels).latent_dist.sample(generator)
    clean = (parts.vae.config.scaling_factor * found).permute(0, 2, 1, 3, 4)
    noise = torch.randn(clean.shape, generator=generator)
    scheduler, first = parts.scheduler, STEPS - int(STEPS * strength)
    scheduler.set_timesteps(STEPS)
    scheduler.set_begin_index(first)
    times = scheduler.timesteps[first:]
    latents = scheduler.add_noise(clean, noise, times[:1])
    text = torch.cat([parts.negative, parts.prompt])
    options = (
        {} if isinstance(scheduler, diffusers.UniPCMultistepScheduler) else {"generator": generator}
    )
    for timestep in times:
        seen = torch.cat([scheduler.scale_model_input(latents, timestep)] * 2)
        rotary = rotary_positions(parts.config, seen.shape[1], *seen.shape[3:], "cpu")
        velocity = parts.transformer(seen, text, timestep.expand(2), image_rotary_emb=rotary).sample
        negative, positive = velocity.chunk(2)
        velocity = negative + 6.0 * (positive - negative)
        latents = scheduler.step(velocity, timestep, latents, **options).prev_sample
    return latents


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
def test_video_to_video(strength, name):
    parts, noise = parts_with(name), Noise(SEED)
    clip = parts.clip(13)
    given = condition.from_clip(as_pixels(clip), strength, STEPS, parts.vae, parts.config, noise)
    ours = parts.ours(len(clip), given, noise, dynamic=False)
    assert same(ours, plain_loop(parts, clip, strength))


@pytest.mark.parametrize("name", OTHERS)
def test_control_to_video(name):
    parts = parts_with(name, "Fun-5b", channels=8)
    clip = parts.clip(9)
    assert same(control_to_video(parts, clip), parts.theirs("control", control_video=[clip]))


def test_following_a_clip_with_the_dpm_of_the_authors():
    """``CogVideoXFunControlPipeline`` can't: its step lacks two arguments."""
    parts = parts_with("dpm", "Fun-5b", channels=8)
    assert control_to_video(parts, parts.clip(9)).isfinite().all()


# The noise schedule.


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_noise_schedule_is_that_of_the_checkpoint(shift, name):
    checkpoint = own(snr_shift_scale=shift)
    wanted, found = checkpoint.alphas_cumprod, schedulers.choose(checkpoint, name).alphas_cumprod
    assert torch.allclose(found[:-1].double(), wanted[:-1], rtol=1e-4, atol=0)
    assert (wanted[-1], found[-1]) == (0, 2**-24), "as near to pure noise as diffusers goes"
    unshifted = getattr(diffusers, SCHEDULERS[name].kind).from_config(checkpoint.config)
    as_stock = torch.allclose(unshifted.alphas_cumprod[:-1].double(), wanted[:-1], rtol=1e-4)
    assert as_stock == (shift == 1), "diffusers forgets the shift"
    if shift == 1:
        assert torch.equal(unshifted.alphas_cumprod, found)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_a_file_leaves_out_is_the_default_of_its_own_class(name):
    few = {"prediction_type", "rescale_betas_zero_snr", "timestep_spacing"}
    checkpoint = diffusers.CogVideoXDPMScheduler.from_config(
        {key: value for key, value in FILES.items() if key in few}
    )
    found = schedulers.choose(checkpoint, name)
    assert found.config.beta_schedule == "scaled_linear"
    wanted = checkpoint.alphas_cumprod[:-1]
    assert torch.allclose(found.alphas_cumprod[:-1].double(), wanted, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_nothing_is_clipped_and_the_checkpoints_scheduler_stays(name):
    checkpoint = own(clip_sample=True)
    before = dict(vars(checkpoint))
    found = schedulers.choose(checkpoint, name)
    assert not found.config.get("clip_sample") or found is checkpoint
    assert vars(checkpoint) == before
    assert (found is checkpoint) == (name == "ddim")
    assert schedulers.choose(checkpoint, AUTO) is checkpoint


def test_the_authors_schedulers_know_no_clipping():
    parts = Parts("5b", "DDIM")
    plain = made(parts, 3)
    parts.scheduler = type(parts.scheduler).from_config(
        parts.scheduler.config, clip_sample=True, clip_sample_range=0.01
    )
    assert torch.equal(made(parts, 3), plain)


# Steps.


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("steps", "first"), [(1, 0), (2, 0), (4, 2)])
def test_few_steps_end_at_clean_latents(steps, first, dtype, name):
    seen = []
    last = made(parts_with(name), steps, dtype, first=first, seen=seen)
    assert last.dtype == dtype
    assert len(seen) == steps - first
    assert all(clean.isfinite().all() for clean in seen)
    assert torch.allclose(last.float(), seen[-1].float(), rtol=0.01, atol=0.01)
    assert 0.01 < last.std() < 20


class SameNoise(Noise):
    """Noise that is the same in each precision but for rounding."""

    def randn(self, *args, dtype: torch.dtype, **options) -> torch.Tensor:
        return super().randn(*args, dtype=torch.float32, **options).to(dtype)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(("steps", "first"), [(1, 0), (8, 0), (8, 3)])
def test_half_precision_is_near_float32(steps, first, name):
    full, half = (
        made(parts_with(name), steps, dtype, SameNoise(1), first)
        for dtype in (torch.float32, torch.float16)
    )
    assert (half - full).norm() / full.norm() < 0.02


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_clip_gets_all_of_its_noise_in_half_precision(dtype, name):
    scheduler, torch_noise = schedulers.choose(own(), name), torch.randn(1, 3, 4, 4, 6)
    clean = torch.ones_like(torch_noise)
    for first in (0, 19):
        times = schedulers.set_steps(scheduler, 20, first, torch.device("cpu"))
        args = (clean.to(dtype), torch_noise.to(dtype), times)
        noisy = schedulers.add_noise(scheduler, *args).float()
        exact = schedulers.add_noise(scheduler, clean, torch_noise.to(dtype).float(), times)
        assert torch.allclose(noisy, exact, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("name", ["unipc", "dpm++"])
def test_the_clean_latents_of_a_step_are_those_that_the_solver_goes_by(name, monkeypatch):
    parts, found, solved = parts_with(name), [], []
    kind = type(parts.scheduler)
    convert = kind.convert_model_output

    def noted(scheduler, *args, **kwargs):
        solved.append(convert(scheduler, *args, **kwargs))
        return solved[-1]

    monkeypatch.setattr(kind, "convert_model_output", noted)
    made(parts, 6, seen=found)
    pairs = zip(found, solved, strict=True)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [61, 103, 999])
def test_there_are_as_many_steps_as_were_asked_for(steps, name):
    """diffusers makes one more of these numbers, from pure noise at timestep -1."""
    scheduler = schedulers.choose(own(), name)
    scheduler.set_timesteps(steps)
    assert len(scheduler.timesteps) == steps + (steps != 999)
    times = schedulers.set_steps(scheduler, steps, 0, torch.device("cpu"))
    assert len(times) == len(set(times.tolist())) == steps
    assert times.min() >= 0
    assert schedulers.set_steps(scheduler, steps, 3, torch.device("cpu")).tolist() == (
        times[3:].tolist()
    )
    if name in OTHERS:
        assert len(scheduler.sigmas) == steps + 1
        assert scheduler.sigmas[-1] == 0 < scheduler.sigmas[-2]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_only_the_authors_leave_noise_where_steps_do_not_divide_1000(name, tiny):
    """With a model that knows the clean latents, they are what is left at the end."""
    scheduler, clean = schedulers.choose(own(), name), torch.randn(1, 3, 4, 4, 6)
    random, left = Noise(3), {}
    for steps in (20, 60):
        times = schedulers.set_steps(scheduler, steps, 0, torch.device("cpu"))
        latents = random.draw(clean.shape, torch.float32) * scheduler.init_noise_sigma
        found = before = None
        for timestep in times:
            seen = scheduler.scale_model_input(latents, timestep)
            product = scheduler.alphas_cumprod[int(timestep)].float()
            velocity = (product.sqrt() * seen - clean) / (1 - product).sqrt()
            values = (velocity, found, timestep, before, latents, random.generator)
            latents, found = schedulers.step(scheduler, *values)
            before = timestep
        left[steps] = (latents - clean).std()
    assert left[20] < 1e-3
    assert (left[60] > 0.01) == SCHEDULERS[name].divides
    noted = "steps do not divide" in str(make_request(tiny, CIRCLE, steps=60, scheduler=name))
    assert noted == SCHEDULERS[name].divides


@pytest.mark.parametrize("name", SCHEDULERS)
def test_all_noise_comes_from_the_seed(name):
    first, again, other = (made(parts_with(name), STEPS, noise=Noise(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    scheduler, drawn = parts_with(name).scheduler, []
    for seed in (1, 2):
        times = schedulers.set_steps(scheduler, STEPS, 0, torch.device("cpu"))
        latents = torch.ones(1, 3, 4, 4, 6)
        scheduler.scale_model_input(latents, times[0])
        generator = torch.Generator().manual_seed(seed)
        values = (latents, None, times[0], None, latents, generator)
        drawn.append(schedulers.step(scheduler, *values)[0])
    assert torch.equal(*drawn) == (name not in DRAWING)


# As a field of a request.


def test_auto_is_the_checkpoints_own_with_its_guidance():
    for checkpoint in CHECKPOINTS:
        assert used_scheduler(checkpoint, AUTO).kind == checkpoint.scheduler
        assert has_wave(checkpoint, AUTO) == checkpoint.dynamic_cfg
    assert [has_wave(COGVIDEOX_5B, name) for name in SCHEDULERS] == [True] + 5 * [False]
    assert not any(has_wave(COGVIDEOX_2B, name) for name in SCHEDULERS)


def test_names_that_are_not_offered_are_refused(tiny):
    for name, remedy in (("heun", "use one of auto, dpm"), ("euler_a", "did you mean 'euler")):
        with pytest.raises(RequestError, match=remedy):
            make_request(tiny, CIRCLE, scheduler=name)


def test_a_video_by_another_scheduler_is_recorded_and_made_again(generated, outputs):
    auto, dpm, unipc = (generated(scheduler=name) for name in (AUTO, "dpm", "unipc"))
    assert np.array_equal(auto.frames, dpm.frames)
    assert not np.array_equal(auto.frames, unipc.frames)
    assert "scheduler unipc" in str(unipc.request)
    assert "scheduler" not in str(auto.request)
    saved = save_result(unipc)
    assert json.loads(saved.sidecar.read_text())["request"]["scheduler"] == "unipc"
    assert reproduction.reproduce(read_result(saved.path)).identical


def test_sidecars_from_before_are_of_the_checkpoints_own(place):
    path = place()
    content = json.loads(path.with_suffix(".json").read_text())
    for part in ("request", "asked"):
        del content[part]["scheduler"]
    path.with_suffix(".json").write_text(json.dumps(content))
    kept = read_result(path).settings
    assert kept.request.scheduler == reproduction.request_of(kept).scheduler == AUTO


def test_a_sidecar_of_an_unknown_scheduler_is_refused(place):
    with pytest.raises(CogvxError, match=r"scheduler.*must be one of auto, dpm"):
        read_result(place(scheduler="heun")).settings  # noqa: B018


def test_the_guide_has_each_scheduler():
    noted = {True: ("those that divide 1000",), False: ("all",)}
    rows = [
        (f"`{name}`", f"`{row.kind}`", "yes" if name in DRAWING else "no", *noted[row.divides])
        for name, row in SCHEDULERS.items()
    ]
    guide = (ROOT / "docs" / "guide.md").read_text()
    assert all(f"| {' | '.join(row)} |" in guide for row in rows)
