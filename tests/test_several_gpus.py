"""Several devices that share a video's steps, on CPU devices: a copy and a thread for each."""

from __future__ import annotations

import threading
import weakref
from dataclasses import replace

import pytest
import torch

from cogvx_nb import settings
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.errors import Cancelled, DoesNotFit, RequestError
from cogvx_nb.pipeline import loader, shared_block, vae_blocks
from cogvx_nb.pipeline.copies import transformers
from cogvx_nb.pipeline.failures import SpeedUpFailed
from cogvx_nb.pipeline.generate import generate_frames
from cogvx_nb.pipeline.shards import Group, Shard, shares
from cogvx_nb.pipeline.shared_block import Workspace
from cogvx_nb.pipeline.split import shared_processor
from cogvx_nb.pipeline.team import Team
from cogvx_nb.pipeline.vae import decode_latents, use_fast_vae
from cogvx_nb.pipeline.vae_decoder import SharedDecoder
from cogvx_nb.pipeline.weights import load_component
from cogvx_nb.planning import planner, several_gpus
from cogvx_nb.planning.machine import Gpu, Machine
from cogvx_nb.planning.paces import predict_seconds
from cogvx_nb.planning.request import make_request
from cogvx_nb.progress import PlanChanged, Step
from cogvx_nb.results import forecast
from cogvx_nb.text import GIB

CIRCLE = "a red circle moving right on a black background"


def machine(*names: str, apart: bool = False, free: float = 79) -> Machine:
    gpus = tuple(
        Gpu(
            n,
            name,
            80 * GIB,
            int((free if n else 79) * GIB),
            (9, 0),
            True,
            () if apart else tuple(o for o in range(len(names)) if o != n),
        )
        for n, name in enumerate(names)
    )
    return Machine("", 8, 8, 256 * GIB, 200 * GIB, gpus, {"torch": "2.13.0"}, (), False)


def big(**values):
    return make_request(
        store.random_model(registry.get_checkpoint("CogVideoX-5b")), CIRCLE, **values
    )


def request(**values):
    return make_request(
        store.locate_checkpoint("tiny"), CIRCLE, **{"frames": 9, "steps": 2, **values}
    )


def made(video, peers: int, **changes):
    plan = planner.plan_request(video, machine())
    loaded = loader.load_pipeline(replace(plan, peers=("cpu",) * peers, **changes))
    return generate_frames(video, loaded).frames


@pytest.mark.parametrize(("count", "parts"), [(226, 2), (30, 4), (48, 5), (3, 3)])
def test_shares_cover_everything_evenly(count, parts):
    found = shares(count, parts)
    assert [i for each in found for i in range(each.start, each.stop)] == list(range(count))
    sizes = {each.stop - each.start for each in found}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("guidance", [6.0, 1.0])
def test_the_same_frames_on_any_number_of_devices(guidance):
    video = request(guidance=guidance)
    alone = made(video, 0).astype(int)
    for peers in (1, 3) if guidance > 1 else (2,):
        shared = made(video, peers)
        assert abs(shared - alone).max() <= 1, peers
        assert (shared == made(video, peers)).all()


def test_with_a_step_cache():
    video = request(steps=20)
    changes = {"step_cache": "halves", "speed": "turbo"}
    alone = made(video, 0, **changes).astype(int)
    assert abs(made(video, 1, **changes) - alone).max() <= 1


def test_one_clip_alone_where_guidance_is_idle():
    video = request(guidance=1 + 2e-6)
    plan = planner.plan_request(video, machine())
    assert plan.guided
    assert plan.idle_guidance
    alone = made(video, 0).astype(int)
    for peers in (1, 3):
        assert abs(made(video, peers) - alone).max() <= 1


@pytest.mark.slow
@pytest.mark.skipif(not settings.c_compiler(), reason="needs a C compiler")
def test_with_compiled_blocks():
    video = request(guidance=1.0)  # so that two share the rows
    alone = made(video, 0).astype(int)
    assert abs(made(video, 1, compiled=True) - alone).max() <= 1


def test_a_plan_without_copies_is_as_before():
    video = request()
    first = made(video, 1)
    assert len(transformers(loader.load_pipeline(planner.plan_request(video, machine())).pipe)) == 1
    assert abs(made(video, 0).astype(int) - first).max() <= 1


def test_cancel_takes_effect_within_a_step():
    video, cancel = request(steps=3), threading.Event()
    plan = planner.plan_request(video, machine())
    loaded = loader.load_pipeline(replace(plan, peers=("cpu",) * 3))
    seen = []

    def on_event(event):
        if isinstance(event, Step):
            seen.append(event.step)
            hook(cancel.set)

    def hook(call):
        block = loaded.pipe.copies[2].transformer.transformer_blocks[2]
        block.register_forward_pre_hook(lambda *_: call())

    with pytest.raises(Cancelled):
        generate_frames(video, loaded, on_event, cancel)
    assert seen == [1]
    loader.release_pipeline()


def test_a_device_that_fails_is_done_without():
    video = request()
    plan = planner.plan_request(video, machine())
    loaded = loader.load_pipeline(replace(plan, peers=("cpu",)))
    block = loaded.pipe.copies[0].transformer.transformer_blocks[3]

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    block.register_forward_pre_hook(fail)
    changed = []
    frames = generate_frames(video, loaded, lambda e: changed.append(e)).frames
    plans = [event.plan for event in changed if isinstance(event, PlanChanged)]
    assert [len(one.devices) for one in plans] == [1]
    assert "memory ran out" in plans[0].reasons[-1]
    assert (frames == made(video, 0)).all()


@pytest.mark.slow
@pytest.mark.skipif(not settings.c_compiler(), reason="needs a C compiler")
def test_a_failure_within_compiled_blocks_is_that_of_the_device():
    video = request(guidance=1.0)
    plan = planner.plan_request(video, machine())
    loaded = loader.load_pipeline(replace(plan, peers=("cpu",), compiled=True))
    generate_frames(video, loaded)
    second = loaded.pipe.copies[0].transformer.transformer_blocks[3]

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    second.register_forward_pre_hook(fail)
    changed = []
    generate_frames(video, loaded, lambda e: changed.append(getattr(e, "plan", None)))
    plans = [one for one in changed if one is not None]
    assert [(one.peers, one.compiled) for one in plans] == [((), True)]
    assert "memory ran out" in plans[0].reasons[-1]


def test_a_second_failure_of_the_decode_repeats_the_decode_alone():
    video, calls, steps = request(), [], []
    loaded = loader.load_pipeline(planner.plan_request(video, machine()))
    decode = loaded.pipe.vae.decode

    def failing(*arguments):
        calls.append(loaded.plan.tiled)
        if len(calls) == 1:
            raise SpeedUpFailed("gpus", "cuda:1: an error")
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(*arguments)

    loaded.pipe.vae.decode = failing
    try:
        generate_frames(video, loaded, lambda e: steps.append(e) if isinstance(e, Step) else None)
    finally:
        del loaded.pipe.vae.decode
    assert len(steps) == video.steps
    assert calls == [False, False, True]
    loader.release_pipeline()


def test_a_gpu_without_room_that_was_asked_for_is_named():
    with pytest.raises(DoesNotFit, match=r"memory of cuda:1 .* try --gpus auto"):
        planner.plan_request(big(frames=49, gpus="2"), machine(H100, H100, free=5))


def test_in_place_there_are_no_copies_where_models_move():
    plan = planner.plan_request(big(frames=49), machine(H100, H100))
    assert planner.next_plan(plan, "move").peers == ()


def test_a_thread_that_fails_frees_the_others():
    group, found = Group(2), []

    def wait():
        with pytest.raises(threading.BrokenBarrierError):
            group.gather(0, torch.zeros(3, 1, 2, 2, 4))
        found.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    group.abort()
    thread.join(60)
    assert found == [True]


@pytest.mark.parametrize("recorded", [False, True])
def test_a_backend_of_attention_may_return_any_layout_and_precision(recorded):
    tokens, heads, width, group, found = (3, 2), 2, 8, Group(2), {}
    parts = [torch.randn(3, 1, count, heads, width) for count in tokens]

    def attend(query, key, value):
        mixed = torch.nn.functional.scaled_dot_product_attention(
            *(x.transpose(1, 2) for x in (query, key, value))
        )
        return mixed.transpose(1, 2).double().transpose(2, 3).contiguous().transpose(2, 3)

    def share(number):
        shard, part = Shard(group, number, attend), parts[number]
        if not recorded:
            found[number] = shared_processor(shard).attend(*part)
            return
        text, clip = torch.zeros(1, tokens[number], heads * width).split([1, tokens[number] - 1], 1)
        space = Workspace(text, clip, heads, record=True)
        space.parts.copy_(part)
        space.attend(shard)
        found[number] = space.mixed

    threads = [threading.Thread(target=share, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    whole = attend(*torch.cat(parts, dim=2)).float()
    torch.testing.assert_close(torch.cat([found[0], found[1]], dim=1), whole)


class Replayed:
    """``Recordings`` on a CPU: does again what a piece did the second time, on the same tensors."""

    def __init__(self, device, enabled=True):
        self._work = {}

    def run(self, name, work, recordable=True):
        former = self._work.setdefault(name, [])
        if len(former) < 2:
            former.append(work)
        former[-1]()


@pytest.mark.slow
@pytest.mark.skipif(not settings.c_compiler(), reason="needs a C compiler")
def test_recorded_blocks_keep_nothing_of_another_video(monkeypatch):
    monkeypatch.setattr(shared_block, "Recordings", Replayed)
    sizes = [{"height": n, "allow_untrained_size": True} for n in (96, 80, 96)]  # 6, 5, 6 rows
    sizes += [{"guidance": 6.0}, {"seed": 7}]
    videos = [request(**({"guidance": 1.0, "steps": 3} | size)) for size in sizes]
    assert [video.height for video in videos][:3] == [96, 80, 96]
    shared = [made(video, 2, compiled=True) for video in videos]
    blocks = loader.load_pipeline(loader._loaded.plan).pipe.split._device_blocks
    assert all(1 <= len(one.workspaces) <= 2 for one in blocks)  # for one clip, and for two
    for video, frames in zip(videos, shared, strict=True):
        assert abs(frames.astype(int) - made(video, 0)).max() <= 1


def test_what_was_recorded_is_freed_with_its_plan():
    plan = planner.plan_request(request(guidance=1.0), machine())
    loaded = loader.load_pipeline(replace(plan, peers=("cpu",) * 2))
    dropped = weakref.ref(loaded.pipe.copies[1].transformer)
    loaded.apply(replace(plan, peers=("cpu",)))
    assert dropped() is None
    assert len(loaded.pipe.copies) == 1
    split = loaded.pipe.split
    loaded.apply(replace(plan, peers=("cpu",)))
    assert loaded.pipe.split is split, "the same plan"
    loader.release_pipeline()


def test_launching_limits_how_many_gpus_are_worth_it():
    h100s = machine(H100, H100, H100, H100)
    short, long = (planner.plan_request(big(frames=n), h100s, videos=100) for n in (13, 49))
    assert (len(short.devices), len(long.devices)) == (2, 4)


def compiling(*names: str) -> Machine:
    """A machine that can compile blocks."""
    return replace(machine(*names), compiler=True, versions={"torch": "2.13.0", "triton": "3.7.0"})


def test_recorded_launches_make_more_gpus_worth_it():
    plans = {
        (frames, here.compiler): planner.plan_request(big(frames=frames), here, videos=100)
        for frames in (13, 25, 49)
        for here in (machine(*[H100] * 4), compiling(*[H100] * 4))
    }
    assert all(plan.compiled == compiler for (_, compiler), plan in plans.items())
    on_all = {key for key, plan in plans.items() if len(plan.devices) == 4}
    assert on_all == {(25, True), (49, False), (49, True)}
    recorded, eager = plans[49, True], plans[49, False]
    more = (recorded.peer_bytes - eager.peer_bytes) / GIB
    assert 0.8 < more < 1.2  # 16 copies of 54 MB, with what the allocator keeps
    long = planner.plan_request(big(frames=97, gpus="4"), compiling(*[H100] * 4), videos=100)
    assert len(long.windows) > 1
    assert long.seconds["denoise"] > 1.9 * recorded.seconds["denoise"]


@pytest.mark.parametrize("call_bytes", [vae_blocks.CALL_BYTES, 1])  # all frames at once, or one
def test_a_decode_that_is_shared_equals_a_whole_one(monkeypatch, call_bytes):
    monkeypatch.setattr(vae_blocks, "CALL_BYTES", call_bytes)
    model, cpu = store.locate_checkpoint("tiny"), torch.device("cpu")
    vaes = [load_component("vae", model, torch.float32).eval() for _ in range(3)]
    for vae in vaes:
        use_fast_vae(vae)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 3, 16, 6, 4, generator=generator)
    with torch.no_grad():
        whole = decode_latents(vaes[0], latents, 9)
        for count in (2, 3):
            vaes[0]._decode.shared = SharedDecoder(vaes[:count], Team([cpu] * count, 1))
            shared = decode_latents(vaes[0], latents, 9)
            assert (shared - whole).abs().max() < 1e-5
            assert torch.equal(shared, decode_latents(vaes[0], latents, 9))
        low = decode_latents(vaes[0], latents[:, :, :, :3], 9)  # a row of latents for each
        vaes[0]._decode.shared = SharedDecoder(vaes[:2], Team([cpu] * 2, 1))
        odd = decode_latents(vaes[0], latents[:, :, :, :5], 9)  # rows that 2 don't divide
        vaes[0]._decode.shared = None
        assert torch.equal(odd, decode_latents(vaes[0], latents[:, :, :, :5], 9))
        assert (low - decode_latents(vaes[0], latents[:, :, :, :3], 9)).abs().max() < 1e-5


H100 = "NVIDIA H100 80GB HBM3"


def test_auto_takes_those_alike_that_make_it_faster():
    plan = planner.plan_request(big(frames=49), machine(H100, H100, "NVIDIA L4", H100, H100))
    assert plan.devices == ("cuda:0", "cuda:1", "cuda:3", "cuda:4")
    assert (plan.halves, plan.parts) == (2, 2)
    alone = planner.plan_request(big(frames=49, gpus="1"), machine(H100, H100))
    assert alone.devices == ("cuda:0",)
    assert plan.seconds["denoise"] < 0.3 * alone.seconds["denoise"]


def test_a_prediction_is_of_the_gpus_that_are_asked_for():
    four, asked = machine(*["NVIDIA H100"] * 4), []

    def paces(model, device, gpus):
        asked.append(gpus)
        return {}

    seconds = {}
    for gpus, count in (("auto", 4), ("1", 1), ("2", 2)):
        plan = planner.predict_plan(big().model, four, 49, gpus=gpus)
        assert len(plan.devices) == count
        forecast.paces_for(plan, "auto", paces)
        seconds[count] = predict_seconds(plan, four, 50, {})
    assert asked == [4, 1, 2]
    assert seconds[4] < seconds[2] < seconds[1]
    with pytest.raises(RequestError, match="there are 4"):
        planner.predict_plan(big().model, four, 49, gpus="5")


def test_gpus_that_cannot_reach_each_other_share_guidance_only():
    here = machine(*[H100] * 4, apart=True)
    assert len(planner.plan_request(big(frames=49), here).devices) == 2
    with pytest.raises(RequestError, match="can't reach each other directly"):
        planner.plan_request(big(gpus="4"), here)


def test_a_gpu_without_room_is_left_alone():
    full = machine(H100, H100, free=5)
    assert planner.plan_request(big(frames=49), full).devices == ("cuda:0",)


def test_unguided_videos_share_rows():
    plan = planner.plan_request(big(frames=49, guidance=1.0), machine(H100, H100))
    assert (len(plan.devices), plan.halves, plan.parts) == (2, 1, 2)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1;2", "0,0", "", "99999", "1.5", "٣"])
def test_what_is_no_choice_of_gpus_is_refused(text):
    with pytest.raises(RequestError, match=r"^gpus = .*use auto"):
        several_gpus.parse_gpus(text)


@pytest.mark.parametrize(
    ("text", "why"), [("3", "there are 2 of"), ("0,7", "no GPU 7"), ("5,", "no GPU 5")]
)
def test_gpus_that_are_not_here_are_refused(text, why):
    with pytest.raises(RequestError, match=why):
        planner.plan_request(big(gpus=text), machine(H100, H100))


def test_a_named_gpu_is_the_one_that_is_used():
    plan = planner.plan_request(big(gpus="1,"), machine(H100, H100))
    assert plan.devices == ("cuda:1",)


def test_without_a_gpu():
    assert planner.plan_request(request(), machine()).devices == ("cpu",)
    with pytest.raises(RequestError, match="torch sees no GPU"):
        planner.plan_request(request(gpus="2"), machine())


def test_it_is_recorded_and_taken_back():
    video, here = big(frames=49), machine(H100, H100)
    choices = planner.plan_request(video, here).choices
    assert choices["peers"] == ("cuda:1",)
    kept = choices | {"peers": ["cuda:5"]}  # as JSON has it, of another machine
    assert planner.replay_plan(video, here, kept).devices == ("cuda:0", "cuda:1")
    less = planner.replay_plan(video, machine(H100), kept)
    assert less.devices == ("cuda:0",)
    assert "2 GPUs shared its steps: there are 1 of" in less.reasons[-1]
    older = {name: value for name, value in choices.items() if name != "peers"}
    assert planner.replay_plan(video, here, older).devices == ("cuda:0",)


def test_fewer_gpus_leave_out_the_one_that_failed():
    plan = planner.plan_request(big(frames=49), machine(*[H100] * 4))
    two = planner.next_plan(plan, "gpus", "cuda:1: CUDA error: an illegal memory access")
    assert two.devices == ("cuda:0", "cuda:2")
    assert planner.next_plan(two, "gpus", "cuda:2: out of memory").devices == ("cuda:0",)
