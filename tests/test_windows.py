"""Clips by overlapping windows: which, of what noise, with which memory, and what is made of it."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import pytest
import torch
from conftest import CIRCLE
from test_plan import CARDS, machine_with

from cogvx_nb.checkpoints import store
from cogvx_nb.checkpoints.registry import CHECKPOINTS, get_checkpoint
from cogvx_nb.errors import Cancelled
from cogvx_nb.pipeline import loader
from cogvx_nb.pipeline.components import load_component
from cogvx_nb.pipeline.generate import generate_frames
from cogvx_nb.pipeline.noise import Noise
from cogvx_nb.pipeline.vae import decode_latents, decode_to_ram, use_fast_vae
from cogvx_nb.planning import planner, request
from cogvx_nb.planning.step_cache import HALVES
from cogvx_nb.planning.windows import noise_order, padded_length, weights, windows_of
from cogvx_nb.progress import Step

LONG = {"frames": 57, "height": 16, "width": 32, "allow_untrained_size": True}
ABLE = [known for known in CHECKPOINTS if known.window_counts]


@pytest.mark.parametrize("checkpoint", ABLE, ids=lambda known: known.name)
def test_windows_cover_a_clip_and_share_its_noise(checkpoint):
    for frames in (*checkpoint.window_counts[:4], checkpoint.window_counts[-1]):
        windows = windows_of(checkpoint, frames)
        total, order = padded_length(checkpoint, frames), noise_order(windows)
        first = list(windows[0])
        assert (first[0], windows[-1].stop, len(order)) == (0, total, total)
        assert len(first) == padded_length(checkpoint, checkpoint.frames[-1])
        assert order[: len(first)] == first
        for before, window in itertools.pairwise(windows):
            assert 0 < window.start - before.start <= 0.7 * len(first)
            assert window.start % checkpoint.patch_frames == 0
            assert sorted(order[window.start : window.stop]) == first
        sums = torch.zeros(total)
        for window, parts in zip(windows, weights(windows), strict=True):
            sums[window.start : window.stop] += torch.tensor(parts)
        assert torch.allclose(sums, torch.ones(total))


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda known: known.name)
def test_a_clip_that_is_made_at_once_is_one_window(checkpoint):
    for frames in checkpoint.frame_counts:
        assert windows_of(checkpoint, frames) == (range(padded_length(checkpoint, frames)),)


def test_noise_is_that_of_the_first_window_in_another_order():
    whole, shared = Noise(3), Noise(3)
    shared.order = [0, 1, 2, 1, 0]
    drawn = whole.draw((1, 3, 16, 2, 2), torch.float32)
    assert torch.equal(shared.draw((1, 5, 16, 2, 2), torch.float32), drawn[:, [0, 1, 2, 1, 0]])
    varied = Noise(3, 4, 0.3)
    varied.order = shared.order
    drawn = varied.draw((1, 5, 16, 2, 2), torch.float32)
    assert torch.equal(drawn[:, :2], drawn[:, [4, 3]])


@pytest.mark.parametrize("card", CARDS)
def test_long_clips_need_the_memory_of_one_window_and_linear_time(card):
    machine, plans = machine_with(CARDS[card]), {}
    for frames in (49, 97, 193, 961):
        plans[frames] = planner.predict_plan(get_checkpoint("5b"), machine, frames, "turbo")
    usual, counts = plans[49], {97: 3, 193: 5, 961: 27}
    for frames, count in counts.items():
        plan = planner.with_placement(plans[frames], usual.placement, machine)
        assert (
            plan.peak_bytes
            <= 1.05 * planner.with_placement(usual, usual.placement, machine).peak_bytes
        )
        assert f"{count} windows of 49 frames, which overlap by" in " ".join(plans[frames].reasons)
        assert not plan.sparse_attention
    steps = [plans[frames].seconds["denoise"] / count for frames, count in counts.items()]
    assert max(steps) < 1.1 * min(steps)


def test_frames_of_a_decode_to_ram_are_those_of_a_whole_one():
    vae = load_component("vae", store.locate_checkpoint("tiny"), torch.float32).eval()
    latents = torch.randn(1, 4, 16, 2, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for fast in (False, True):
            if fast:
                use_fast_vae(vae)
            parts = list(decode_to_ram(vae, latents, 13))
            assert [len(part) for part in parts] == [9, 4]
            assert torch.equal(torch.cat(parts), decode_latents(vae, latents, 13)[0])
    assert not vae._decode.to_ram


@pytest.fixture(scope="module")
def made(tiny, here):
    """The frames of a request by a plan with a step cache, and the transformer's inputs."""

    def made(step_cache="", on_event=None, cancelled_at=0, peers=(), prompt=CIRCLE, **values):
        asked = request.make_request(tiny, prompt, **LONG | values)
        plan = replace(planner.plan_request(asked, here), step_cache=step_cache, peers=peers)
        loaded, calls, cancel = loader.load_pipeline(plan), [], threading.Event()

        def note(module, args, given):
            if len(calls) == cancelled_at - 1:
                cancel.set()
            calls.append((tuple(given["hidden_states"].shape[:2]), given["image_rotary_emb"]))

        hook = loaded.pipe.transformer.register_forward_pre_hook(note, with_kwargs=True)
        try:
            return generate_frames(asked, loaded, on_event, cancel).frames, calls
        finally:
            hook.remove()

    yield made
    loader.release_pipeline()


def test_each_window_is_a_clip_of_its_own(made):
    events = []
    frames, calls = made(steps=2, on_event=events.append)
    assert frames.shape == (57, 16, 32, 3)
    assert [shape for shape, _ in calls] == [(2, 13)] * 4
    assert len({rotary[0].shape for _, rotary in calls}) == 1
    steps = [event for event in events if isinstance(event, Step)]
    assert [(event.step, event.latents.shape[1]) for event in steps] == [(1, 15), (2, 15)]
    again, _ = made(steps=2)
    assert (frames == again).all()


def test_each_window_has_its_step_cache(made):
    _, calls = made(HALVES, steps=20)
    assert len(calls) % 2 == 0
    assert calls[::2] == calls[1::2]
    assert len(calls) < 40


def test_devices_that_share_steps_make_the_same(made):
    changing = {"prompt": "a [red:blue:0.5] circle", "guidance_interval": "0-0.5", "steps": 2}
    alone, calls = made(**changing)
    assert [shape for shape, _ in calls] == [(2, 13)] * 2 + [(1, 13)] * 2
    shared, calls = made(peers=("cpu",), **changing)
    assert {shape for shape, _ in calls} == {(1, 13)}
    assert abs(alone.astype(int) - shared.astype(int)).max() <= 1


def test_a_cancel_takes_effect_within_a_step(made):
    events = []
    with pytest.raises(Cancelled):
        made(steps=2, on_event=events.append, cancelled_at=1)
    assert not [event for event in events if isinstance(event, Step)]


def test_other_tasks_keep_to_a_clip_of_the_model(tmp_path):
    from PIL import Image

    Image.new("RGB", (144, 96), "red").save(tmp_path / "red.png")
    model = store.locate_checkpoint("tiny-i2v")
    asked = request.make_request(model, CIRCLE, image=str(tmp_path / "red.png"), frames=97)
    assert asked.frames == 49
    (change,) = asked.adjustments
    assert "up to 961 by windows, of text alone" in change.reason
