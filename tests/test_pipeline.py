"""The loaded pipeline is one of diffusers: what diffusers does with its own, it does with this."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import diffusers
import pytest
import torch
from conftest import CIRCLE

from cogvx_nb.pipeline import generate, loader
from cogvx_nb.pipeline.condition import from_text
from cogvx_nb.pipeline.noise import Noise
from cogvx_nb.pipeline.vae import decode_latents
from cogvx_nb.planning import planner, request

SMALL = {"height": 32, "width": 48, "allow_untrained_size": True, "steps": 3}


@pytest.fixture
def loaded(tiny, here):
    return loader.load_pipeline(planner.plan_request(request.make_request(tiny, CIRCLE), here))


@torch.no_grad()
def test_a_saved_pipeline_gives_diffusers_the_same_frames(loaded, tiny, tmp_path, monkeypatch):
    # diffusers computes the negative prompt's clip in steps where it doesn't count, too.
    monkeypatch.setattr(loaded, "plan", replace(loaded.plan, idle_guidance=False))
    video = request.make_request(tiny, CIRCLE, **SMALL)
    texts, start = loaded.encode(video), from_text(4, loaded.pipe.transformer.config)
    given = (start, Noise(video.seed), lambda event: None, None)
    ours, _ = generate._denoise(video, loaded, texts, *given)
    loaded.pipe.save_pretrained(tmp_path)
    saved = diffusers.CogVideoXPipeline.from_pretrained(tmp_path)
    saved.set_progress_bar_config(disable=True)
    theirs = saved(
        video.prompt,
        height=video.height,
        width=video.width,
        num_frames=video.frames,
        num_inference_steps=video.steps,
        use_dynamic_cfg=True,
        guidance_scale=video.guidance,
        generator=torch.Generator().manual_seed(video.seed),
        max_sequence_length=64,
        output_type="latent",
    ).frames
    assert torch.equal(ours, theirs)
    clips = [decode_latents(pipe.vae, ours, video.frames) for pipe in (loaded.pipe, saved)]
    assert torch.equal(*clips)


@pytest.mark.parametrize(
    "kind", [diffusers.CogVideoXImageToVideoPipeline, diffusers.CogVideoXVideoToVideoPipeline]
)
def test_other_pipelines_take_its_components(loaded, kind):
    other = kind.from_pipe(loaded.pipe)
    assert all(other.components[name] is part for name, part in loaded.pipe.components.items())


def test_a_generator_serves_many_videos(loaded, make):
    make(**SMALL)
    pipe = loaded.pipe
    assert type(pipe.scheduler) is diffusers.CogVideoXDPMScheduler
    generator, values = torch.Generator(), {"height": 32, "width": 48, "num_inference_steps": 2}

    def latents(pipe, frames: int) -> torch.Tensor:
        values.update(num_frames=frames, generator=generator.manual_seed(5))
        return pipe(CIRCLE, max_sequence_length=64, output_type="latent", **values).frames

    first = latents(pipe, 9)
    assert latents(pipe, 5).shape[1] == 2, "another size"
    assert torch.equal(latents(pipe, 9), first)
    for scheduler in (copy.deepcopy(pipe.scheduler), pickle.loads(pickle.dumps(pipe.scheduler))):
        assert vars(scheduler).keys() == vars(pipe.scheduler).keys()
