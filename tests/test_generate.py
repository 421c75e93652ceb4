"""Running requests: frames, events, cancelling, memory."""

from __future__ import annotations

import json
import os
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
from cogvx_nb.errors import BadFrames, Cancelled, DeviceFailed
from cogvx_nb.pipeline import generate, loader
from cogvx_nb.pipeline.vae import decode_latents
from cogvx_nb.planning import planner, request
from cogvx_nb.results.video import frame_hash

SMALL = {"height": 32, "width": 48, "allow_untrained_size": True}
"""A size of which a decode takes a tenth of the native one's time."""


@pytest.mark.parametrize("frames", [13, 25, 49])
def test_the_video_has_the_frames_that_were_asked_for(make, frames):
    size = SMALL if frames == 49 else {}
    generated = make(frames=frames, **size)
    height, width = size.get("height", 96), size.get("width", 144)
    assert generated.frames.shape == (frames, height, width, 3)
    assert generated.frames.dtype == np.uint8
    assert set(generated.seconds) == {"load", "text", "denoise", "decode"}


def test_the_same_request_makes_identical_frames(make):
    first, second = make(seed=7, **SMALL), make(seed=7, **SMALL)
    assert np.array_equal(first.frames, second.frames)
    assert not np.array_equal(first.frames, make(seed=8, **SMALL).frames)


def test_guidance_of_one_is_off(generated):
    off, on = generated(guidance=1.0, **SMALL), generated(guidance=6.0, **SMALL)
    assert not np.array_equal(off.frames, on.frames)


def test_a_negative_prompt_has_an_effect(generated):
    blue = "a blue square on a gray background"
    plain, negative = generated(**SMALL), generated(negative_prompt=blue, **SMALL)
    assert not np.array_equal(plain.frames, negative.frames)


def test_events_follow_the_stages(make):
    seen = []
    generated = make(steps=3, on_event=seen.append)
    stages = [event.stage for event in seen if isinstance(event, progress.StageStarted)]
    assert stages == ["text", "denoise", "decode"]
    steps = [event for event in seen if isinstance(event, progress.Step)]
    assert [(event.step, event.steps) for event in steps] == [(1, 3), (2, 3), (3, 3)]
    assert steps[-1].latents.shape == (1, 4, 16, 12, 18)
    assert seen[-1].generated is generated


def test_the_model_stays_loaded(make):
    before = loader.load_pipeline(make(**SMALL).plan)
    assert loader.load_pipeline(make(frames=25, **SMALL).plan) is before


def test_released_memory_is_loaded_again(make, generated):
    before = generated(**SMALL)
    loader.release_pipeline()
    assert np.array_equal(make(**SMALL).frames, before.frames)


def test_cancel_takes_effect_after_a_step(make):
    cancel, seen = threading.Event(), []

    def listen(event):
        seen.append(event)
        if isinstance(event, progress.Step) and event.step == 2:
            cancel.set()

    with pytest.raises(Cancelled) as caught:
        make(steps=50, on_event=listen, cancel=cancel)
    assert caught.value.exit_code == 130
    assert [event.step for event in seen if isinstance(event, progress.Step)] == [1, 2]
    assert make(**SMALL).frames.shape == (13, 32, 48, 3), "and the next run works"


class SetLater:
    """A token that is set once it was asked so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_cancel_takes_effect_within_a_step(make):
    seen = []
    asked = SetLater(10**6)
    expected = make(on_event=seen.append, cancel=asked, **SMALL).frames
    steps = sum(isinstance(event, progress.Step) for event in seen)
    blocks = registry.TINY.architecture[0]
    assert 10**6 - asked.left > steps * blocks, "it is asked before each block"
    begun = []
    with pytest.raises(Cancelled):
        make(on_event=begun.append, cancel=SetLater(2 + blocks // 2), **SMALL)
    assert [event.stage for event in begun] == ["text", "denoise"], "in the first step"
    assert np.array_equal(make(**SMALL).frames, expected), "and the next video is the same"


def test_a_cancelled_token_stops_before_any_work(make):
    cancel, seen = threading.Event(), []
    cancel.set()
    with pytest.raises(Cancelled):
        make(on_event=seen.append, cancel=cancel)
    assert seen == []


class Interrupted(Exception):
    """Of a listener, as Ctrl-C comes at any time."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Interrupted])
def test_a_video_after_interrupted_ones_is_the_same(make, generated, kind):
    seen = []
    for number in range(6):

        def interrupt(event, number=number):
            seen.append(event)
            if len(seen) > number:
                raise kind

        with pytest.raises(kind):
            make(on_event=interrupt, **SMALL)
        seen.clear()
    assert np.array_equal(make(**SMALL).frames, generated(**SMALL).frames)


@pytest.fixture
def failing(tiny, here, monkeypatch):
    """Makes the transformer do something else in one of its calls; returns what then comes out."""

    def run(action, call: int = 2, **values):
        video = request.make_request(tiny, CIRCLE, steps=2, **SMALL | values)
        loaded = loader.load_pipeline(planner.plan_request(video, here))
        calls, forward = [], loaded.pipe.transformer.forward

        def act(*args, **kwargs):
            calls.append(1)
            return action() if len(calls) == call else forward(*args, **kwargs)

        monkeypatch.setattr(loaded.pipe.transformer, "forward", act)
        return generate.generate_frames(video, loaded)

    return run


def raising(error: Exception):
    def act():
        raise error

    return act


@pytest.mark.slow
def test_the_plan_that_is_recorded_made_the_frames(failing, generated):
    size = SMALL | {"height": 64, "width": 96}  # larger than a tile
    ended = failing(raising(torch.OutOfMemoryError("CUDA out of memory")), **size)
    assert ended.plan.tiled
    assert ended.plan.reasons[-1] == "memory ran out with no_offload"
    assert loader._loaded.pipe.vae.use_tiling
    assert not np.array_equal(ended.frames, generated(**size).frames), "tiles are an approximation"


def test_a_device_that_fails_is_one_line(failing, generated):
    text = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"
    with pytest.raises(DeviceFailed, match=r"^cpu failed .CUDA error: an illegal memory") as caught:
        failing(raising(RuntimeError(text)))
    assert "\n" not in str(caught.value)


def test_nan_is_met_in_the_step_that_makes_it(failing):
    nothing = (torch.full((2, 4, 16, 4, 6), float("nan")),)
    with pytest.raises(BadFrames, match=r"step 1 of 2 gave NaN: try another seed"):
        failing(lambda: nothing, call=1)


LIMITED = """
import json, resource, sys
from dataclasses import replace
from cogvx_nb.checkpoints import store
from cogvx_nb.errors import OutOfMemory
from cogvx_nb.pipeline import generate, loader
from cogvx_nb.planning import planner, probe, request

def mapped(field):
    lines = open("/proc/self/status").read().splitlines()
    (kibibytes,) = [line.split()[1] for line in lines if line.startswith(field)]
    return int(kibibytes) * 1024

def run(room=None, **changed):
    size = {"height": 144, "width": 208, "allow_untrained_size": True}
    wanted = request.make_request(model, sys.argv[1], frames=9, steps=3, **size, **changed)
    loaded = loader.load_pipeline(replace(planner.plan_request(wanted, here), tiled=room is None))
    limit = resource.RLIM_INFINITY if room is None else mapped("VmSize") + int(room)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    seen = []

    def listen(event):
        name = type(event).__name__
        if getattr(event, "stage", "") == "decode":
            peaks.append(mapped("VmPeak"))
        if name not in ("StageStarted", "Step", "FramesDone") or getattr(event, "step", 0) == 3:
            seen.append(name)

    try:
        video = generate.generate_frames(wanted, loaded, listen)
        seen.append(f"{video.frames.shape} {video.plan.tiled} {video.plan.reasons[-1]}")
    except OutOfMemory as error:
        seen.append(f"OutOfMemory: {error}")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    peaks.append(mapped("VmPeak"))
    return seen

peaks = []
generate.REDUCED_REQUEST["steps"] = 2
model, here = store.locate_checkpoint("tiny"), probe.probe_machine()
run()
tiles = peaks[1] - peaks[0]
print(json.dumps([run(tiles / 4), run(tiles / 4, fallback="reduce"), run(tiles * 1.5)]))
"""
"""Decodes in tiles, which a whole decode takes twice the memory of, and then with less."""


@pytest.fixture(scope="module")
def limited() -> list[list[str]]:
    """Runs with a quarter of the memory that tiles take, also reduced, and with 1.5 times it."""
    command = [sys.executable, "-c", LIMITED, CIRCLE]
    # By default the C library keeps what is freed in blocks of up to 32 MiB.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "4000000", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (0, ["OutOfMemory: memory ran out on cpu for 9 frames"]),
        (1, ["RequestReduced", "OutOfMemory: memory ran out on cpu"]),
        (2, ["(9, 144, 208, 3) True memory ran out with a whole VAE"]),
    ],
    ids=["too little", "too little, reduced", "enough for tiles"],
)
def test_out_of_memory_steps_the_plan_down(limited, case, expected):
    """With the process's address space really limited."""
    seen = limited[case]
    assert seen[:2] == ["Step", "PlanChanged"], "what was denoised isn't lost"
    pairs = zip(seen[2:], expected, strict=True)
    assert all(line.startswith(start) for line, start in pairs), seen


def test_a_frame_hash_is_of_the_raw_frames(generated):
    frames = generated().frames
    assert frame_hash(frames) == frame_hash(frames.copy())
    changed = frames.copy()
    changed[0, 0, 0, 0] ^= 1
    assert frame_hash(frames) != frame_hash(changed)


@pytest.mark.slow
def test_ddim_without_dynamic_guidance_as_the_2b_has_it(tiny, here):
    checkpoint = replace(
        tiny.checkpoint,
        scheduler=registry.COGVIDEOX_2B.scheduler,
        timestep_spacing=registry.COGVIDEOX_2B.timestep_spacing,
        dynamic_cfg=registry.COGVIDEOX_2B.dynamic_cfg,
    )
    video = request.make_request(replace(tiny, checkpoint=checkpoint), CIRCLE, steps=20)
    loader.release_pipeline()  # the same files as the embedded model's, which may be loaded
    seen = []
    loaded = loader.load_pipeline(planner.plan_request(video, here))
    generated = generate.generate_frames(video, loaded, seen.append)
    assert world.measure(generated.frames) == world.Attributes("red", "circle", "right", "black")
    steps = [event for event in seen if isinstance(event, progress.Step)]
    assert {step.latents.shape for step in steps} == {(1, 4, 16, 12, 18)}
    with torch.no_grad():
        last = decode_latents(loaded.pipe.vae, steps[-1].latents, 13)[0].mul(255).numpy()
        half = decode_latents(loaded.pipe.vae, steps[9].latents, 13)[0].mul(255).numpy()
    loader.release_pipeline()
    assert np.abs(last - generated.frames).mean() < 1, "the last estimate is the clip"
    colour = world.measure(half.round().astype(np.uint8)).colour
    assert colour == "red", "clean, not noisy, half way"
