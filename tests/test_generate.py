"""Running requests: frames, events, cancelling, memory."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import world
from conftest import CIRCLE

from cogvx_nb import progress
from cogvx_nb.checkpoints import registry
from cogvx_nb.errors import Cancelled, ModelError
from cogvx_nb.pipeline import generate, loader
from cogvx_nb.pipeline.vae import decode_latents
from cogvx_nb.planning import planner, request
from cogvx_nb.results import result


@pytest.mark.parametrize("frames", [13, 25, 49])
def test_the_video_has_the_frames_that_were_asked_for(make, frames):
    made = make(frames=frames)
    assert made.frames.shape == (frames, 96, 144, 3)
    assert made.frames.dtype == np.uint8
    assert set(made.seconds) == {"load", "text", "denoise", "decode"}


def test_the_same_request_makes_identical_frames(make):
    first, second = make(seed=7), make(seed=7)
    assert np.array_equal(first.frames, second.frames)
    assert not np.array_equal(first.frames, make(seed=8).frames)


def test_guidance_of_one_is_off(make):
    assert not np.array_equal(make(guidance=1.0).frames, make(guidance=6.0).frames)


def test_a_negative_prompt_has_an_effect(make):
    plain, negative = make(), make(negative_prompt="a blue square on a gray background")
    assert not np.array_equal(plain.frames, negative.frames)


def test_events_follow_the_stages(make):
    seen = []
    made = make(steps=3, on_event=seen.append)
    stages = [event.stage for event in seen if isinstance(event, progress.StageStarted)]
    assert stages == ["text", "denoise", "decode"]
    steps = [event for event in seen if isinstance(event, progress.Step)]
    assert [(event.step, event.steps) for event in steps] == [(1, 3), (2, 3), (3, 3)]
    assert steps[-1].latents.shape == (1, 4, 16, 12, 18)
    assert steps[-1].seconds_left == 0
    assert seen[-1].generated is made


def test_the_model_stays_loaded(make):
    before = loader.load_pipeline(make().plan)
    assert loader.load_pipeline(make(frames=25).plan) is before


def test_released_memory_is_loaded_again(make):
    made = make()
    loader.release_pipeline()
    assert np.array_equal(make().frames, made.frames)


def test_cancel_takes_effect_within_a_step(make):
    cancel, seen = threading.Event(), []

    def listen(event):
        seen.append(event)
        if isinstance(event, progress.Step) and event.step == 2:
            cancel.set()

    with pytest.raises(Cancelled) as caught:
        make(steps=50, on_event=listen, cancel=cancel)
    assert caught.value.exit_code == 130
    assert [event.step for event in seen if isinstance(event, progress.Step)] == [1, 2]
    assert make().frames.shape == (13, 96, 144, 3), "and the next run works"


def test_a_cancelled_token_stops_before_any_work(make):
    cancel, seen = threading.Event(), []
    cancel.set()
    with pytest.raises(Cancelled):
        make(on_event=seen.append, cancel=cancel)
    assert seen == []


LIMITED = """
import resource, sys
import psutil
from cogvx_nb.checkpoints import store
from cogvx_nb.pipeline import generate, loader
from cogvx_nb.planning import machine, planner, request
from cogvx_nb.errors import OutOfMemory

model = store.locate_checkpoint("tiny")
size = {"height": 192, "width": 288, "allow_untrained_size": True}
fallback = sys.argv[3]
wanted = request.make_request(model, sys.argv[1], steps=25, fallback=fallback, **size)
loaded = loader.load_pipeline(planner.plan_request(wanted, machine.probe_machine()))
room = int(float(sys.argv[2]) * 2**30)
limit = psutil.Process().memory_info().vms + room
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

def listen(event):
    print("Denoised 25" if getattr(event, "step", 0) == 25 else type(event).__name__)

try:
    made = generate.generate_frames(wanted, loaded, listen)
    print(made.frames.shape, made.plan.tiled, made.plan.reasons[-1])
except OutOfMemory as error:
    print("OutOfMemory:", error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize(
    ("room_gib", "fallback", "expected"),
    [
        (1.2, "", ["(13, 192, 288, 3) True memory ran out decoding whole"]),
        (0.1, "", ["OutOfMemory: memory ran out on cpu for 13 frames"]),
        (0.1, "reduce", ["RequestReduced", "OutOfMemory: memory ran out on cpu"]),
    ],
)
def test_out_of_memory_steps_the_plan_down(room_gib, fallback, expected):
    """With the process's address space really limited."""
    command = [sys.executable, "-c", LIMITED, CIRCLE, str(room_gib), fallback]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    lines = [line for line in done.stdout.splitlines() if line not in ("StageStarted", "Step")]
    found = [line for line in lines if line != "Done"]
    assert found[:2] == ["Denoised 25", "PlanChanged"], "what was denoised isn't lost"
    pairs = zip(found[2:], expected, strict=True)
    assert all(line.startswith(start) for line, start in pairs), found


def test_a_frame_hash_is_of_the_raw_frames(make):
    frames = make().frames
    assert result.frame_hash(frames) == result.frame_hash(frames.copy())
    changed = frames.copy()
    changed[0, 0, 0, 0] ^= 1
    assert result.frame_hash(frames) != result.frame_hash(changed)


def test_ddim_without_dynamic_guidance_as_the_2b_has_it(tiny, here):
    checkpoint = replace(
        tiny.checkpoint,
        scheduler=registry.COGVIDEOX_2B.scheduler,
        timestep_spacing=registry.COGVIDEOX_2B.timestep_spacing,
        dynamic_cfg=registry.COGVIDEOX_2B.dynamic_cfg,
    )
    asked = request.make_request(replace(tiny, checkpoint=checkpoint), CIRCLE, steps=20)
    loader.release_pipeline()  # the same files as the embedded model's, which may be loaded
    seen = []
    loaded = loader.load_pipeline(planner.plan_request(asked, here))
    made = generate.generate_frames(asked, loaded, seen.append)
    assert world.measure(made.frames) == world.Attributes("red", "circle", "right", "black")
    steps = [event for event in seen if isinstance(event, progress.Step)]
    assert {step.latents.shape for step in steps} == {(1, 4, 16, 12, 18)}
    with torch.no_grad():
        last = decode_latents(loaded.pipe.vae, steps[-1].latents, 13)[0].mul(255).numpy()
        half = decode_latents(loaded.pipe.vae, steps[9].latents, 13)[0].mul(255).numpy()
    loader.release_pipeline()
    assert np.abs(last - made.frames).mean() < 1, "the last estimate is the clip"
    colour = world.measure(half.round().astype(np.uint8)).colour
    assert colour == "red", "clean, not noisy, half way"


def test_a_checkpoint_that_cannot_run_is_refused_by_name(tiny):
    model = replace(tiny, checkpoint=registry.COGVIDEOX_15_5B)
    with pytest.raises(ModelError, match=r"CogVideoX1\.5-5B can't be run here: its patches span"):
        request.make_request(model, CIRCLE)
