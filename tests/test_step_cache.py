"""The step cache: its schedules by arithmetic, and videos of the embedded model with it."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import pytest
import torch
from conftest import CIRCLE, denoised

from cogvx_nb import progress
from cogvx_nb.pipeline import denoise, generate, loader, schedulers
from cogvx_nb.pipeline.condition import from_text
from cogvx_nb.pipeline.noise import Noise
from cogvx_nb.planning import cost, planner, request
from cogvx_nb.planning.guidance import Guiding, constant, trailing_timesteps, wave
from cogvx_nb.planning.step_cache import (
    DENSE,
    GUARDED,
    HALVES,
    SCHEDULES,
    STEPS,
    schedule_for,
    shares,
)

WAVE_50 = wave(6.0)(trailing_timesteps(50))


def test_the_schedule_of_whole_steps_is_the_former_one():
    computed = [*range(12), *range(13, 50, 4)]
    assert SCHEDULES[STEPS](WAVE_50) == [2 * (n in computed) for n in range(50)]
    assert SCHEDULES[STEPS]([1.0]) == [2]


def test_the_negative_prompt_is_left_out_where_guidance_hardly_acts():
    schedule = SCHEDULES[HALVES](WAVE_50)
    assert [n for n, count in enumerate(schedule) if count == 1] == [6, 10, 25, 37, 45, 49]
    assert sum(schedule) == 38
    assert all(WAVE_50[n] < 1.1 for n in (6, 10))


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 33, 50, 61, 100, 1000])
@pytest.mark.parametrize("guidance", [wave(6.0), wave(0.5), constant(6.0), constant(1.05)])
def test_every_schedule_begins_whole_and_computes_no_more_than_the_former(steps, guidance):
    scales = guidance(trailing_timesteps(steps))
    former, schedule = SCHEDULES[STEPS](scales), SCHEDULES[HALVES](scales)
    assert len(schedule) == steps
    assert [bool(count) for count in schedule] == [bool(count) for count in former]
    assert all(count <= most for count, most in zip(schedule, former, strict=True))


def test_without_guidance_the_prompt_alone_is_computed():
    assert set(SCHEDULES[HALVES]([1.0] * 50)) == {0, 1}
    assert sum(shares(HALVES, [6.0] * 50, guided=False)) == 22


def test_stronger_guidance_computes_the_negative_prompt_more_often():
    counts = [sum(SCHEDULES[HALVES]([scale] * 50)) for scale in (1.05, 1.5, 3.0, 6.0)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize(("scales", "expected"), [(WAVE_50, 19.0), ([6.0] * 50, 20.5)])
def test_what_a_video_is_predicted_to_compute(scales, expected):
    assert sum(shares(HALVES, scales, guided=True)) == expected
    assert shares("", scales[:3], guided=True) == [1.0] * 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_two_of_fifty_steps_have_idle_guidance(dtype):
    schedule = schedule_for("", WAVE_50, dtype)
    assert [n for n, count in enumerate(schedule) if count == 1] == [47, 48]
    assert sum(shares("", WAVE_50, guided=True, idle_dtype=dtype)) == 49
    assert sum(shares("", WAVE_50, guided=False, idle_dtype=dtype)) == 50
    assert schedule_for("", wave(6.0)(trailing_timesteps(20)), dtype) == [2] * 20
    assert schedule_for("", WAVE_50) == [2] * 50
    assert schedule_for(HALVES, WAVE_50, dtype) == SCHEDULES[HALVES](WAVE_50)


@pytest.fixture(scope="module")
def pipe(tiny, here):
    video = request.make_request(tiny, CIRCLE, frames=9, steps=20)
    yield loader.load_pipeline(planner.plan_request(video, here)).pipe
    loader.release_pipeline()


@pytest.fixture
def made(pipe):
    """Latents of 8 × 8 pixels from random text; and the batches that the transformer was given."""

    def made(step_cache="", scheduler="auto", texts=2, steps=20, guide=None, idle_dtype="", **more):
        batches = []
        hook = pipe.transformer.register_forward_pre_hook(
            lambda module, args, given: batches.append(len(given["hidden_states"])),
            with_kwargs=True,
        )
        width = pipe.transformer.config.text_embed_dim
        text = torch.randn(texts, 8, width, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            latents = denoise.denoise(
                pipe.transformer,
                schedulers.choose(pipe.scheduler, scheduler),
                text,
                (1, 12, 18),
                steps,
                guide or wave(6.0),
                from_text(1, pipe.transformer.config),
                Noise(3),
                step_cache=step_cache,
                idle_dtype=idle_dtype,
                **more,
            )
        hook.remove()
        return latents, batches

    return made


def test_the_former_cache_is_that_of_diffusers_bit_by_bit(pipe, made):
    ours, batches = made(STEPS)
    pipe.transformer.enable_cache(
        diffusers.TaylorSeerCacheConfig(
            cache_interval=4,
            disable_cache_before_step=5,
            max_order=0,
            taylor_factors_dtype=torch.float32,
            use_lite_mode=True,
        )
    )
    try:
        theirs, _ = made()
    finally:
        pipe.transformer.disable_cache()
    assert torch.equal(ours, theirs)
    assert batches == [2] * 9


@pytest.mark.parametrize(
    ("scheduler", "texts"),
    [("auto", 1), ("auto", 2), ("ddim", 2), ("euler_ancestral", 2), ("unipc", 2), ("dpm++", 2)],
)
def test_clips_are_computed_as_scheduled_with_every_scheduler(made, scheduler, texts):
    exact, _ = made("", scheduler, texts)
    cached, batches = made(HALVES, scheduler, texts)
    schedule = SCHEDULES[HALVES](wave(6.0)(trailing_timesteps(20)))
    assert batches == [min(count, texts) for count in schedule if count]
    assert 0 < (cached - exact).norm() / exact.norm() < 0.6


def test_guidance_that_never_acts_leaves_the_negative_prompt_out(made):
    cached, batches = made(HALVES, guide=constant(1.0))
    assert set(batches) == {1}
    assert torch.isfinite(cached).all()


def test_idle_guidance_is_left_out_within_rounding(made):
    def guide(timesteps):
        return [6.0, 1.0, 7.0, 1 + 5e-6, 2.0]

    whole, batches = made(steps=5, guide=guide)
    assert batches == [2] * 5
    found, batches = made(steps=5, guide=guide, idle_dtype="float32")
    assert batches == [2, 1, 2, 1, 2]
    assert (found - whole).norm() / whole.norm() < 1e-5  # 2e-6: CPUs round otherwise
    alone, batches = made(steps=5, guide=guide, texts=1, idle_dtype="float32")
    assert batches == [1] * 5
    assert torch.equal(alone, made(steps=5, guide=guide, texts=1)[0])


def test_hard_prompts_halve_three_intervals(tiny, here):
    halves, dense = SCHEDULES[HALVES](WAVE_50), SCHEDULES[DENSE](WAVE_50)
    changed = [n for n in range(50) if halves[n] != dense[n]]
    assert changed == [15, 19, 23]
    assert [dense[n] for n in changed] == [2, 2, 2]
    assert SCHEDULES[GUARDED](WAVE_50) == halves
    planned = planner.plan_request(request.make_request(tiny, CIRCLE, frames=9), here)
    planned = replace(planned, idle_guidance=False)
    plans = [replace(planned, step_cache=kind) for kind in ("", GUARDED, HALVES, DENSE, STEPS)]
    clips = [2 * sum(cost.step_shares(plan, 50)) for plan in plans]
    assert clips[1:4] == pytest.approx([sum(halves), sum(halves), sum(dense)])
    assert clips[0] == 100, "without a cache"
    assert clips[4] == pytest.approx(sum(SCHEDULES[STEPS](WAVE_50)))
    for steps in (1, 2, 7, 20, 61):
        scales = wave(6.0)(trailing_timesteps(steps))
        assert sum(SCHEDULES[DENSE](scales)) <= sum(SCHEDULES[HALVES](scales)) + 6


@pytest.mark.parametrize(("most", "kind"), [(0.0, DENSE), (1e9, HALVES)])
def test_the_guard_decides_once_and_what_it_says_makes_the_same(made, monkeypatch, most, kind):
    monkeypatch.setattr("cogvx_nb.pipeline.step_cache.HARD_CHANGE", most)
    decided = []
    guarded, batches = made(GUARDED, on_kind=decided.append)
    assert decided == [kind]
    again, others = made(kind, on_kind=decided.append)
    assert torch.equal(again, guarded)
    assert (others, len(decided)) == (batches, 1)


def test_what_the_guard_decides_is_told(tiny, here):
    video = request.make_request(tiny, CIRCLE, frames=5, steps=6)
    planned = replace(planner.plan_request(video, here), step_cache=GUARDED)
    generated, seen = generate.generate_frames, []
    plan = generated(video, loader.load_pipeline(planned), seen.append).plan
    (told,) = [event for event in seen if isinstance(event, progress.SharesChanged)]
    assert plan.step_cache in (HALVES, DENSE)
    assert told.step_shares == cost.step_shares(plan, 6)


@pytest.mark.slow
def test_videos_one_after_the_other(tiny, here):
    video = request.make_request(tiny, CIRCLE, frames=9, steps=20)
    planned = planner.plan_request(video, here)

    def latents(**changes):
        found, seen = denoised(video, loader.load_pipeline(replace(planned, **changes)))
        assert [e.step for e in seen if isinstance(e, progress.Step)] == list(range(1, 21))
        return found

    exact, halves, whole = latents(), latents(step_cache=HALVES), latents(step_cache=STEPS)
    assert (halves - exact).norm() < (whole - exact).norm(), "nearer with fewer computed"
    assert torch.equal(latents(step_cache=HALVES), halves)
    guarded = latents(step_cache=GUARDED)
    kept = loader.load_pipeline(replace(planned, step_cache=GUARDED))
    generated = generate.generate_frames(video, kept)
    assert generated.plan.step_cache in (HALVES, DENSE)
    assert torch.equal(latents(step_cache=generated.plan.step_cache), guarded)


@pytest.mark.parametrize("kind", ["", HALVES])
def test_steps_outside_of_an_interval_compute_the_prompt_alone(made, kind):
    guide = Guiding(6.0, interval=(0.3, 0.6))
    found, batches = made(kind, steps=20, guide=guide)
    schedule = schedule_for(kind, guide(trailing_timesteps(20)))
    assert batches == [count for count in schedule if count]
    assert batches.count(2) == (6 if not kind else schedule.count(2))
    if not kind:
        whole, _ = made(steps=20, guide=lambda times: [scale or 1.0 for scale in guide(times)])
        assert (found - whole).norm() / whole.norm() < 1e-5
