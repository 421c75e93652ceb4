"""Plans: pure arithmetic, so every card and host can be tried without one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import CIRCLE

from cogvx_nb.checkpoints import registry
from cogvx_nb.checkpoints.registry import Model
from cogvx_nb.errors import DoesNotFit, RequestError
from cogvx_nb.planning import (
    cost,
    former_names,
    model_choice,
    paces,
    placements,
    plan,
    planner,
    request,
    requirements,
    speedups,
)
from cogvx_nb.planning.machine import Gpu, Machine
from cogvx_nb.text import GIB

# From the checkpoint's configs: 5.57, 4.76 and 0.216 billion parameters.
PARAMETERS = {
    "transformer": 5_570_283_072,
    "text_encoder": 4_762_310_656,
    "vae": 215_583_907,
}


@pytest.fixture
def big(tiny) -> request.VideoRequest:
    """A request for the 5B at its native size."""
    model = Model(registry.COGVIDEOX_5B, tiny.folder, PARAMETERS, PARAMETERS)
    video = request.make_request(tiny, CIRCLE)
    return replace(video, model=model, height=480, width=720, frames=49)


def machine_with(
    gib: float | None = None,
    ram: float = 64,
    bf16: bool = True,
    name: str = "NVIDIA H100 80GB HBM3",
    torchao: str | None = "0.18.0",
    compiled: tuple[str, ...] = (),
    flash: str | None = None,
    compiler: bool = True,
) -> Machine:
    """A host with ``ram`` GiB free, and one GPU with ``gib`` free unless that is None."""
    capability = (9, 0) if bf16 else (7, 5)
    gpus = () if gib is None else (Gpu(0, name, int(80 * GIB), int(gib * GIB), capability, bf16),)
    versions = {"torch": "2.11.0", "torchao": torchao, "flash-attn-4": flash}
    ram = int(ram * GIB)
    return Machine("test", 8, 8, ram, ram, gpus, versions, compiled, compiler)


CARDS = {"80 GB": 79, "40 GB": 39, "24 GB": 22.8, "16 GB": 15, "12 GB": 11.2, "8 GB": 7.2}
"""GiB that are left of each for torch."""


@pytest.mark.parametrize(
    ("card", "ram", "exact", "fast"),
    [
        ("80 GB", 14, "no_offload", "no_offload fp8"),
        ("40 GB", 14, "no_offload", "no_offload fp8"),
        ("24 GB", 14, "text_encoder_offload", "no_offload fp8"),
        ("16 GB", 60, "group_offload", "text_encoder_offload fp8"),
        ("16 GB", 28, "group_offload", "text_encoder_offload fp8"),
        ("16 GB", 14, "disk_offload", "text_encoder_offload fp8"),
        ("12 GB", 28, "group_offload", "group_offload fp8"),
        ("12 GB", 14, "disk_offload", "disk_offload"),
        ("8 GB", 60, "group_offload", "group_offload fp8"),
        ("8 GB", 18, "disk_offload", "group_offload fp8"),
        ("8 GB", 14, "disk_offload", "disk_offload"),
    ],
)
@pytest.mark.parametrize("frames", [13, 25, 49])
def test_cards_and_hosts(big, card, ram, exact, fast, frames):
    video, here = replace(big, frames=frames), machine_with(CARDS[card], ram)
    for speed, expected in (("exact", exact), ("fast", fast)):
        fitted = planner.plan_request(replace(video, speed=speed), here)
        assert " ".join((fitted.placement, fitted.quantized)).strip() == expected
        assert not fitted.tiled, "exact comes before tiles"
        assert fitted.peak_bytes <= CARDS[card] * GIB
        assert fitted.ram_bytes <= ram * GIB
        assert (fitted.device, fitted.dtype) == ("cuda:0", "bfloat16")
        assert set(fitted.seconds) >= {"text", "denoise", "decode"}
        assert fitted.offload.description in fitted.reasons


def test_tiles_come_last(big):
    fitted = planner.plan_request(big, machine_with(5.0))
    assert (fitted.placement, fitted.tiled) == ("group_offload", True)
    assert fitted.approximations == ["the VAE decodes in tiles"]


def test_memory_that_others_hold_is_not_planned_with(big):
    card = Gpu(0, "NVIDIA H100", int(80 * GIB), int(7.2 * GIB), (9, 0), True)
    here = replace(machine_with(79), gpus=(card,))
    assert planner.plan_request(big, here).placement == "group_offload"
    two = replace(here, gpus=(card, replace(card, index=1, free_bytes=int(79 * GIB))))
    assert planner.plan_request(big, two).device == "cuda:1"


def test_what_libraries_hold_sends_no_video_to_another_gpu(big):
    card = machine_with(78.5).gpus[0]
    used = replace(machine_with(79), gpus=(card, replace(card, index=1, free_bytes=79 * GIB)))
    assert planner.plan_request(big, used).device == "cuda:0"
    small = [replace(card, total_bytes=8 * GIB, free_bytes=int(n * GIB)) for n in (6.2, 7.6)]
    desktop = replace(used, gpus=(small[0], replace(small[1], index=1)))
    fitted = planner.plan_request(big, desktop)
    assert (fitted.device, fitted.tiled) == ("cuda:1", False), "the first is too full for that"


def test_the_best_attention_is_chosen_where_it_can_be_had(big):
    with_it, without = machine_with(79, flash="4.0.0"), machine_with(79)
    fitted, other = planner.plan_request(big, with_it), planner.plan_request(big, without)
    assert (fitted.attention, other.attention) == ("flash4", "sdpa")
    assert "FlashAttention 4, exact" in fitted.reasons
    assert fitted.seconds["denoise"] < 0.9 * other.seconds["denoise"]
    assert planner.predict_plan(big.model, with_it, 49).attention == "flash4"
    assert planner.plan_request(replace(big, attention="sdpa"), with_it).attention == "sdpa"
    ampere = replace(with_it.gpus[0], name="NVIDIA A100-SXM4-80GB", capability=(8, 0))
    assert planner.plan_request(big, replace(with_it, gpus=(ampere,))).attention == "sdpa", (
        "not measured"
    )
    assert planner.plan_request(replace(big, attention="flash4"), replace(with_it, gpus=(ampere,)))
    for other in (machine_with(None, ram=128), machine_with(79, bf16=False, flash="4.0.0")):
        with pytest.raises(RequestError, match=r"flash4'.* capability 8\.0 .*use sdpa"):
            planner.plan_request(replace(big, attention="flash4"), other)
    with pytest.raises(RequestError, match=r"flash4'.* flash-attn-4 .*pip install .*use sdpa"):
        planner.plan_request(replace(big, attention="flash4"), without)


@pytest.mark.parametrize(
    "here", [machine_with(79, compiler=False), machine_with(39, bf16=False, compiler=False)]
)
def test_nothing_is_compiled_without_a_compiler(big, here):
    for speed in speedups.SPEEDS:
        fitted = planner.plan_request(replace(big, speed=speed), here, videos=100)
        assert (fitted.compiled, fitted.quantized) == (False, "")


def test_old_gpus_compile_nothing(big):
    pascal = Gpu(0, "NVIDIA GeForce GTX 1080 Ti", 11 * GIB, int(10.5 * GIB), (6, 1), False)
    assert not planner.plan_request(
        big, replace(machine_with(79), gpus=(pascal,)), videos=100
    ).compiled


def test_compiling_has_to_pay(big):
    here = machine_with(79)
    short = replace(big, frames=13)
    assert not planner.plan_request(short, here).compiled
    assert any(
        "longer than it saves" in reason for reason in planner.plan_request(short, here).reasons
    )
    assert planner.plan_request(short, here, videos=10).compiled
    assert planner.plan_request(big, here).compiled
    assert planner.plan_request(big, here).seconds["compile"] > 10
    key = plan.compiled_key(planner.plan_request(short, here), here.gpus[0].name, "2.11.0")
    again = machine_with(79, compiled=(key,))
    assert planner.plan_request(short, again).compiled
    assert planner.plan_request(short, again).seconds["compile"] < 10


def test_what_combines_with_what(big):
    """No plan asks for what its placement can't have, on the way up and on the way down."""
    allowed = {
        "no_offload": {"compiled", "fp8"},
        "text_encoder_offload": {"compiled", "fp8"},
        "model_offload": {"compiled", "fp8"},
        "group_offload": {"compiled", "fp8"},
        "disk_offload": {"compiled"},
        "sequential_offload": set(),
    }
    assert set(allowed) == set(placements.PLACEMENTS)
    here = machine_with(79)
    start = planner.plan_request(replace(big, speed="fast"), here)
    assert (start.compiled, start.quantized) == (True, "fp8")
    for name, parts in allowed.items():
        fitted = planner.with_placement(start, name, here)
        assert fitted.compiled == ("compiled" in parts), name
        assert bool(fitted.quantized) == ("fp8" in parts), name
    while start is not None:
        assert not start.compiled or "compiled" in allowed[start.placement]
        assert not start.quantized or "fp8" in allowed[start.placement]
        start = planner.next_plan(start, "generate")


def test_speeds(big, tiny):
    here = machine_with(79)
    turbo = planner.plan_request(replace(big, speed="turbo"), here)
    assert (turbo.quantized, turbo.step_cache) == ("fp8", "guarded")
    assert (
        turbo.seconds["denoise"]
        < 0.5 * planner.plan_request(replace(big, speed="fast"), here).seconds["denoise"]
    )
    few = planner.plan_request(replace(replace(big, steps=6), speed="turbo"), here)
    assert not few.step_cache
    assert any("20 steps" in reason and "6 are too few" in reason for reason in few.reasons)
    old = planner.plan_request(replace(big, speed="fast"), machine_with(79, bf16=False))
    assert (old.dtype, old.quantized) == ("float16", "")
    on_cpu = planner.plan_request(
        replace(request.make_request(tiny, CIRCLE), speed="turbo"), machine_with(None)
    )
    assert (on_cpu.quantized, on_cpu.step_cache, on_cpu.compiled) == ("", "guarded", False)
    with pytest.raises(RequestError, match=r"torchao .*pip install -e \"\.\[fast\]\".*use exact"):
        planner.plan_request(replace(big, speed="fast"), machine_with(79, torchao=None))
    with pytest.raises(RequestError, match="use one of exact, fast, turbo"):
        request.make_request(tiny, CIRCLE, speed="warp")


def test_ram_counts_what_is_pinned_and_what_passes_through(big):
    def ram(gib: float, free: float, speed: str = "exact", **changes) -> float:
        fitted = planner.plan_request(
            replace(replace(big, **changes), speed=speed), machine_with(gib, free)
        )
        return fitted.ram_bytes / GIB

    # 10.38, 8.87 and 0.40 GiB; torch pins blocks of 1 GiB here, 20.5 GiB of them when measured.
    assert ram(11.2, 60) == pytest.approx(21.6, abs=0.1)
    assert ram(22.8, 60) == pytest.approx(10.4, abs=0.1)
    assert ram(79, 60, "fast") == ram(79, 60) == pytest.approx(10.4, abs=0.1)
    assert ram(11.2, 14) == pytest.approx(8.9, abs=0.1), "files that are mapped as they are"
    turing = machine_with(11.2, 14, bf16=False)
    with pytest.raises(DoesNotFit, match=r"needs 22\.1 GiB of RAM .* and 14\.0"):
        planner.plan_request(big, turing)  # the files' bfloat16 becomes float16, in RAM
    random = replace(big, model=replace(big.model, folder=None))
    with pytest.raises(DoesNotFit, match="of RAM besides GPU memory"):
        planner.plan_request(random, machine_with(11.2, 14))


def test_8_bit_weights_take_half_of_the_memory_and_of_the_transfers(big):
    """4.76 of 5.57 billion parameters are quantized: 10.38 GiB become 5.95."""
    here = machine_with(7.2, 60)
    exact, fast = (planner.plan_request(replace(big, speed=s), here) for s in ("exact", "fast"))
    sizes = [cost.weight_bytes(one)["transformer"] / GIB for one in (exact, fast)]
    assert sizes == pytest.approx([10.38, 5.95], abs=0.01)
    assert fast.ram_bytes / GIB == pytest.approx(1.1 * (8.87 + 5.95) + 0.40, abs=0.1)
    tile = replace(fast, tiled=True), replace(exact, tiled=True)  # a decode takes more than a step
    blocks = [cost.peak_bytes(one) for one in tile]
    assert blocks[0] <= blocks[1]
    # 13 frames are computed faster than an RTX's link brings 16-bit weights.
    slow = replace(here.gpus[0], name="NVIDIA GeForce RTX 5090", capability=(12, 0))
    short = [replace(one, frames=13) for one in (exact, fast)]
    steps = [cost.stage_seconds(one, slow, 50, warm=True)["denoise"] / 50 for one in short]
    assert steps == pytest.approx([sizes[0] * GIB / 20e9, sizes[1] * GIB / 20e9], rel=0.03)


def test_a_whole_transformer_of_8_bits_moves_to_a_card_that_has_room_for_the_text_encoder(big):
    """Which is then the largest part: no 8 GB card has that, so blocks stream to it."""
    fast = planner.plan_request(replace(big, speed="fast"), machine_with(11.2, 60))
    moved = planner.with_placement(fast, "model_offload", machine_with(11.2, 60))
    assert (moved.quantized, moved.placement) == ("fp8", "model_offload")
    assert plan.fits(moved, machine_with(11.2, 60))
    assert not plan.fits(moved, machine_with(7.2, 60))
    assert moved.ram_bytes / GIB == pytest.approx(8.87 + 5.95 + 0.40, abs=0.1)


@pytest.mark.parametrize(
    ("card", "ram", "speed", "expected"),
    [
        ("40 GB", 60, "fast", ("no_offload", "")),  # multiplied in 16 bits it is no faster
        ("16 GB", 60, "fast", ("text_encoder_offload", "int8_weights")),
        ("16 GB", 60, "exact", ("group_offload", "")),
        ("12 GB", 60, "fast", ("group_offload", "")),
        ("12 GB", 20, "fast", ("group_offload", "int8_weights")),
        ("12 GB", 20, "exact", None),
        ("8 GB", 20, "turbo", ("group_offload", "int8_weights")),
    ],
)
def test_cards_without_8_bit_products_store_8_bits_where_that_makes_room(
    big, card, ram, speed, expected
):
    turing = machine_with(CARDS[card], ram, bf16=False)
    wanted = replace(big, speed=speed)
    if expected is None:
        with pytest.raises(DoesNotFit):
            planner.plan_request(wanted, turing)
        return
    fitted = planner.plan_request(wanted, turing)
    assert (fitted.placement, fitted.quantized) == expected
    assert fitted.dtype == "float16"
    note = "8-bit weights, multiplied in 16 bits"
    assert (note in fitted.approximations) == bool(fitted.quantized)
    lost = requirements.missing_speed_ups(speed, fitted.speed_ups, fitted.reasons)
    assert bool(lost) == (speed == "turbo" or (speed == "fast" and not fitted.quantized)), (
        "turbo has sparse attention elsewhere"
    )
    again = planner.replay_plan(wanted, turing, fitted.choices)
    assert (again.placement, again.quantized) == expected


def test_8_bit_weights_need_no_compiler(big):
    here = machine_with(15, 60, compiler=False)
    fitted = planner.plan_request(replace(big, speed="fast"), here)
    assert (fitted.placement, fitted.quantized) == ("text_encoder_offload", "int8_weights")
    without = planner.plan_request(replace(big, speed="fast"), replace(here, versions={}))
    assert (without.placement, without.quantized) == ("group_offload", "")


def test_float16_keeps_layers_of_the_text_encoder_in_float32(big):
    half, brain = (planner.plan_request(big, machine_with(79, bf16=bf16)) for bf16 in (False, True))
    assert (half.dtype, brain.dtype) == ("float16", "bfloat16")
    more = cost.weight_bytes(half)["text_encoder"] - cost.weight_bytes(brain)["text_encoder"]
    assert more == 2 * 24 * 4096 * 10240


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA A100-SXM4-80GB", True),
        ("NVIDIA H100 PCIe", True),
        ("NVIDIA GeForce RTX 4090", True),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", False),
        ("NVIDIA RTX A1000", False),
    ],
)
def test_a_card_is_known_by_a_word_of_its_name(name, known):
    assert cost.is_known_gpu(machine_with(79, name=name).gpus[0]) == known


def test_nothing_is_predicted_for_an_unknown_card(big):
    fitted = planner.plan_request(big, machine_with(79, name="some card"))
    assert fitted.seconds == {}
    assert fitted.placement == "no_offload"


def test_a_plan_never_changes_the_request(big):
    for free_gib in (79, 23.5, 7.2):
        fitted = planner.plan_request(big, machine_with(free_gib))
        assert (fitted.frames, fitted.height, fitted.width) == (49, 480, 720)


def test_what_does_not_fit_says_what_would(big):
    with pytest.raises(
        DoesNotFit, match=r"CogVideoX-5b at 49 frames needs .* GiB are free: try 13"
    ):
        planner.plan_request(big, machine_with(2))
    with pytest.raises(DoesNotFit, match="of RAM besides GPU memory"):
        planner.plan_request(big, machine_with(79, ram=8))
    with pytest.raises(DoesNotFit, match="of RAM and"):
        planner.plan_request(big, machine_with(None, ram=24))


def test_precision_follows_the_card(big, tiny):
    assert planner.plan_request(big, machine_with(79, bf16=False)).dtype == "float16"
    assert planner.plan_request(big, machine_with(None, ram=128)).dtype == "bfloat16"
    small = request.make_request(tiny, CIRCLE)
    assert planner.plan_request(small, machine_with(79)).dtype == "float32"
    assert planner.plan_request(small, machine_with(None)).device == "cpu"


@pytest.mark.parametrize("frames", [13, 49])
def test_stepping_down_ends(big, frames):
    rungs, fitted = [], planner.plan_request(replace(big, frames=frames), machine_with(79))
    while fitted is not None:
        rungs.append((fitted.placement, fitted.tiled))
        last, fitted = fitted, planner.next_plan(fitted, "generate")
        smaller = fitted is None or fitted.peak_bytes < last.peak_bytes
        assert smaller or fitted.placement == "sequential_offload", "the last resort"
    assert rungs[0] == ("no_offload", False)
    assert rungs[-2:] == [("group_offload", True), ("sequential_offload", True)]
    assert last.peak_bytes < 4 * GIB
    assert sum("memory ran out" in reason for reason in last.reasons) == len(rungs) - 1


def test_stepping_down_keeps_to_the_ram_that_there_is(big):
    fitted, seen = planner.plan_request(big, machine_with(79, ram=14)), []
    while fitted is not None:
        assert fitted.ram_bytes <= 13 * GIB
        seen.append((fitted.placement, fitted.tiled))
        fitted = planner.next_plan(fitted, "generate")
    assert seen == [
        ("no_offload", False),
        ("text_encoder_offload", False),
        ("disk_offload", False),
        ("disk_offload", True),
    ]


def test_auto_takes_the_embedded_one_and_says_why(tmp_path, monkeypatch, tiny):
    (tmp_path / "cogvideox-tiny").symlink_to(tiny.folder)
    monkeypatch.setenv("COGVX_MODELS_DIR", str(tmp_path))
    model, why = model_choice.find_model("auto", lambda: machine_with(79))
    assert model.name == "cogvideox-tiny"
    assert "cogvx download CogVideoX-5b" in why
    (tmp_path / "CogVideoX-5b").mkdir()
    model, why = model_choice.find_model("auto", lambda: machine_with(79))
    assert model.name == "cogvideox-tiny"
    assert "incomplete" in why


@pytest.mark.parametrize("name", ["tiny", "cogvideox-tiny", " CogVideoX-Tiny "])
def test_a_named_model_is_taken_without_a_word(name):
    model, why = model_choice.find_model(name, lambda: machine_with(None))
    assert (model.name, why) == ("cogvideox-tiny", "")


def test_a_recorded_plan_comes_back(big):
    recorded = planner.plan_request(replace(big, speed="turbo"), machine_with(23.5))
    again = planner.replay_plan(big, machine_with(79), recorded.choices)
    for name in plan.RECORDED:
        assert getattr(again, name) == getattr(recorded, name), name
    assert again.quantized == "fp8"
    assert planner.replay_plan(big, machine_with(None, ram=128), recorded.choices).device == "cpu"


def test_a_recorded_plan_that_can_not_be_had_here_is_not_followed(big):
    recorded = planner.plan_request(
        replace(big, speed="fast"), machine_with(79, flash="4.0.0")
    ).choices
    a100 = replace(machine_with(79).gpus[0], name="NVIDIA A100 80GB", capability=(8, 0))
    for here, why in (
        (replace(machine_with(79, flash="4"), gpus=(a100,)), "int8 on NVIDIA A100 80GB, not fp8"),
        (machine_with(79, flash="4", torchao=None), "8-bit quantization needs the torchao package"),
        (machine_with(79), "FlashAttention 4 needs the flash-attn-4 package"),
        (machine_with(79, flash="4", compiler=False), "Triton and a C compiler"),
        (machine_with(11.2, flash="4"), "no_offload doesn't fit here"),
        (machine_with(39, bf16=False), "has no fast bfloat16"),
    ):
        again = planner.replay_plan(big, here, recorded)
        fitted = planner.plan_request(big, here)
        assert all(getattr(again, name) == getattr(fitted, name) for name in plan.RECORDED)
        assert again.reasons[-1].startswith("not as it was made before: ")
        assert why in again.reasons[-1]


def test_a_plan_recorded_under_former_names_comes_back(big):
    machine = machine_with(79)
    recorded = {"device": "cuda:0", "dtype": "bfloat16", "placement": "text_out", "tiled": False}
    replayed = planner.replay_plan(big, machine, recorded)
    assert (replayed.placement, replayed.attention) == ("text_encoder_offload", "sdpa")
    assert not replayed.speed_ups, "older than all of them"
    turbo = {"attention": "stock", "speed": "turbo", "compiled": True, "quantized": "fp8"}
    replayed = planner.replay_plan(big, machine, recorded | turbo | {"reuse": True})
    assert [row.name for row in replayed.speed_ups] == [
        "compiled",
        "quantized",
        "former_step_cache",
    ]
    assert planner.replay_plan(big, machine, recorded | {"step_cache": True}).step_cache == "steps"
    for former, name in placements.FORMER_PLACEMENTS.items():
        assert former_names.upgrade_choices({"placement": former})["placement"] == name
        assert planner.with_placement(replayed, former, machine).placement == name
    today = planner.plan_request(big, machine).choices
    assert former_names.upgrade_choices(today) == today


def test_an_unknown_placement_is_not_followed(big):
    recorded = planner.plan_request(big, machine_with(79)).choices | {"placement": "elsewhere"}
    replayed = planner.replay_plan(big, machine_with(79), recorded)
    assert replayed.placement == "no_offload"
    assert "not as it was made before: there is no placement 'elsewhere'" in replayed.reasons
    with pytest.raises(RequestError, match="'elsewhere': use one of no_offload"):
        planner.with_placement(replayed, "elsewhere", machine_with(79))


def test_idle_guidance_is_left_out_where_that_costs_no_compilation(big):
    machine = machine_with(79, flash="4.0.0")
    exact = planner.plan_request(replace(big, frames=49), machine)
    assert (exact.compiled, exact.idle_guidance, exact.idle_dtype) == (True, True, "bfloat16")
    assert exact.batches == exact.block_batches == (2,), "one clip alone isn't compiled for"
    shared = replace(exact, peers=("cuda:1",))
    assert shared.block_batches == (1,)
    fast = planner.plan_request(replace(big, speed="fast"), machine)
    assert not fast.idle_guidance
    assert not any("leaving out" in reason for reason in (*exact.reasons, *fast.reasons))
    assert str(exact).count(",") == str(replace(exact, idle_guidance=False)).count(",")
    older = {k: v for k, v in exact.choices.items() if k != "idle_guidance"}
    assert planner.replay_plan(replace(big, frames=49), machine, exact.choices).idle_guidance
    assert not planner.replay_plan(replace(big, frames=49), machine, older).idle_guidance
    less = replace(exact, idle_guidance=False)
    seconds = [cost.stage_seconds(p, machine.gpus[0], 50, True)["denoise"] for p in (exact, less)]
    assert 0.97 < seconds[0] / seconds[1] < 0.99
    assert paces.paced_steps(exact, 50) == 50
    assert paces.paced_steps(replace(exact, step_cache="halves"), 50) == 50 * 19 / 49


def consumer_card(capability: tuple[int, int], sage: str | None = "1.0.6", **changes) -> Machine:
    machine = machine_with(23, name="NVIDIA GeForce RTX 4090")
    card = replace(machine.gpus[0], capability=capability, **changes)
    return replace(machine, gpus=(card,), versions=machine.versions | {"sageattention": sage})


def test_8_bit_attention_is_for_consumer_cards_and_approximate_speeds(big):
    ada = consumer_card((8, 9))
    for speed, attention in (("exact", "sdpa"), ("fast", "sage1"), ("turbo", "sage1")):
        found = planner.plan_request(replace(big, speed=speed), ada)
        assert found.attention == attention
        assert any("8-bit attention" in note for note in found.approximations) == (speed != "exact")
    for capability in ((7, 5), (8, 0), (9, 0), (10, 0)):
        found = planner.plan_request(replace(big, speed="fast"), consumer_card(capability))
        assert found.attention == "sdpa"
        assert not any("8-bit attention" in reason for reason in found.reasons)
    asked = replace(big, speed="fast", attention="sdpa")
    assert planner.plan_request(asked, ada).attention == "sdpa"
    with pytest.raises(RequestError, match="attention = 'sage1': 8-bit attention needs a GeForce"):
        planner.plan_request(replace(big, attention="sage1"), machine_with(79))


def test_8_bit_attention_is_done_without_where_it_is_not_installed_or_fails(big):
    fast = replace(big, speed="fast")
    without = planner.plan_request(fast, consumer_card((8, 6), sage=None))
    assert (without.attention, without.quantized) == ("sdpa", "int8")
    assert any("sageattention" in r and "would be faster" in r for r in without.reasons)
    found = planner.plan_request(fast, consumer_card((8, 6)))
    assert found.seconds["denoise"] < 0.85 * without.seconds["denoise"]
    assert planner.next_plan(found, "sage1", "no kernel").attention == "sdpa"
    facts = registry.get_checkpoint("CogVideoX1.5-5B")
    card = consumer_card((12, 0))
    assert planner.predict_plan(facts, card, 81, "fast").attention == "sdpa", "known to fail"
    assert planner.predict_plan(big.model, card, 49, "fast").attention == "sage1"
    old = consumer_card((8, 6), bf16=False)
    assert planner.plan_request(fast, old).attention == "sdpa", "black frames in float16"


def test_sdpa_is_also_called_stock(big):
    with_it = machine_with(79, flash="4.0.0")
    assert planner.plan_request(replace(big, attention="stock"), with_it).attention == "sdpa"


def test_a_speed_up_that_fails_takes_along_what_is_slow_without_it(big):
    machine = machine_with(79, flash="4.0.0")
    start = planner.plan_request(replace(big, speed="turbo"), machine)
    others = "joined_tokens", "compact_weights", "former_step_cache", "idle_guidance", "sage1"
    assert [row.name for row in start.speed_ups] == [
        row.name for row in speedups.SPEED_UPS.values() if row.name not in others
    ]
    eager = planner.next_plan(start, "compiled", "no compiler")
    assert [row.name for row in eager.speed_ups] == ["flash4", "sparse_attention", "step_cache"]
    assert eager.reasons[-1] == "compiling the blocks failed: no compiler"
    default = planner.next_plan(start, "flash4", "no kernel")
    assert (default.attention, default.sparse_attention) == ("sdpa", False)
    assert "FlashAttention 4, exact" not in default.reasons
    assert default.reasons[-1] == "FlashAttention 4 failed: no kernel"


def test_tokens_are_joined_where_compiled_blocks_have_plain_weights(big):
    machine = machine_with(79, flash="4.0.0")
    exact = planner.plan_request(replace(big, frames=49), machine)
    assert (exact.compiled, exact.joined_tokens) == (True, True)
    assert not planner.plan_request(replace(big, frames=49, speed="fast"), machine).joined_tokens
    eager = planner.next_plan(exact, "compiled", "no compiler")
    assert (eager.compiled, eager.joined_tokens) == (False, False)
    split = planner.next_plan(exact, "joined_tokens", "a kernel failed")
    assert (split.compiled, split.joined_tokens) == (True, False)
    assert plan.compiled_key(exact, "H100", "2.11") != plan.compiled_key(split, "H100", "2.11")
    older = {name: value for name, value in exact.choices.items() if name != "joined_tokens"}
    assert not planner.replay_plan(replace(big, frames=49), machine, older).joined_tokens
    assert planner.replay_plan(replace(big, frames=49), machine, exact.choices).joined_tokens
    seconds = [cost.stage_seconds(p, machine.gpus[0], 50, True)["denoise"] for p in (exact, split)]
    assert 0.96 < seconds[0] / seconds[1] < 0.98
    short = planner.plan_request(replace(big, frames=13, steps=4), machine)
    assert (short.compiled, short.joined_tokens) == (False, False)
    assert not any("joining" in reason for reason in short.reasons)


def test_only_what_can_be_undone_is_changed_in_place(big):
    start = planner.plan_request(big, machine_with(79))
    moved = planner.next_plan(start, "move")
    assert moved.placement == "model_offload"
    assert planner.next_plan(moved, "move") is None
    tiled = planner.next_plan(start, "decode")
    assert (tiled.placement, tiled.tiled) == ("no_offload", True)
    assert planner.next_plan(tiled, "decode") is None


def test_an_encode_takes_memory_and_time_of_its_own():
    fitted = planner.predict_plan(registry.COGVIDEOX_5B, machine_with(79), 49)
    changed = replace(fitted, encoded_frames=49)
    gpu = machine_with(79).gpus[0]
    before, after = (cost.stage_seconds(p, gpu, 50, True) for p in (fitted, changed))
    assert {name: after[name] for name in before} == before
    assert 0.2 < after["encode"] / after["decode"] < 0.8
    assert cost.peak_bytes(changed) == cost.peak_bytes(fitted), "a decode takes more"


def test_it_is_planned_where_the_kernel_obeys_masks(big):
    turbo = replace(big, speed="turbo")
    hopper = machine_with(79, flash="4.0.0")
    start = planner.plan_request(turbo, hopper)
    assert start.sparse_attention
    assert any("hardly see" in text for text in start.approximations)
    assert not planner.plan_request(replace(big, speed="fast"), hopper).sparse_attention
    whole = planner.with_placement(start.without("sparse_attention"), start.placement, hopper)
    assert 0.7 < start.seconds["denoise"] / whole.seconds["denoise"] < 0.95
    assert 0.1 < (cost._step_bytes(start) - cost._step_bytes(whole)) / GIB < 0.5

    def with_capability(*numbers: int) -> Machine:
        return replace(hopper, gpus=(replace(hopper.gpus[0], capability=numbers),))

    refused = (
        (machine_with(79), "sparse attention needs FlashAttention 4"),
        (with_capability(8, 0), "needs a GPU of compute capability 9.0 or 10.0"),
        (with_capability(12, 0), "needs a GPU of compute capability 9.0 or 10.0"),
    )
    for machine, reason in refused:
        refusing = planner.plan_request(turbo, machine)
        assert not refusing.sparse_attention
        assert any(reason in text for text in refusing.reasons)
    sdpa = planner.plan_request(replace(turbo, attention="sdpa"), hopper)
    assert not sdpa.sparse_attention
    assert not planner.next_plan(start, "flash4", "no kernel").sparse_attention
    alone = planner.next_plan(start, "sparse_attention", "no kernel")
    assert (alone.attention, alone.sparse_attention) == ("flash4", False)
    choices = start.choices
    assert planner.replay_plan(turbo, hopper, choices).sparse_attention
    without = planner.replay_plan(turbo, machine_with(79), choices)
    assert "not as it was made before" in without.reasons[-1]
    shared = plan.drop_incompatible(replace(start, peers=("cuda:1", "cuda:2", "cuda:3")))
    assert shared.parts == 2
    assert not shared.sparse_attention, "no GPU has all tokens"
    assert plan.drop_incompatible(replace(start, peers=("cuda:1",))).sparse_attention
    odd = planner.replay_plan(turbo, hopper, choices | {"attention": "sdpa"})
    assert odd.reasons[-1].endswith("sparse attention needs FlashAttention 4")
