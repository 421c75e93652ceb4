"""Plans: pure arithmetic, so every card and host can be tried without one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import CIRCLE

from cogvx_nb import checkpoints, plan, request
from cogvx_nb.errors import DoesNotFit
from cogvx_nb.machine import Gpu, Machine
from cogvx_nb.weights import Model

GIB = plan.GIB
# From the checkpoint's configs: 5.57, 4.76 and 0.216 billion parameters.
PARAMETERS = {
    "transformer": 5_570_283_072,
    "text_encoder": 4_762_310_656,
    "vae": 215_583_907,
}


@pytest.fixture
def big(tiny) -> request.VideoRequest:
    """A request for the 5B at its native size."""
    model = Model(checkpoints.COGVIDEOX_5B, tiny.folder, PARAMETERS, PARAMETERS)
    wanted = request.make(tiny, CIRCLE)
    return replace(wanted, model=model, height=480, width=720, frames=49)


def machine_with(gib: float | None = None, ram: float = 64, bf16: bool = True) -> Machine:
    """A host with ``ram`` GiB free, and one GPU with ``gib`` free unless that is None."""
    capability = (8, 0) if bf16 else (7, 5)
    gpus = (
        ()
        if gib is None
        else (Gpu(0, "test card", int(80 * GIB), int(gib * GIB), capability, bf16),)
    )
    return Machine("test", 8, 8, int(ram * GIB), int(ram * GIB), gpus, {})


@pytest.mark.parametrize(
    ("free_gib", "placement", "tiled"),
    [
        (79, "resident", False),
        (37, "model_offload", False),
        (23.5, "model_offload", False),
        (16, "model_offload", True),
        (7.2, "streamed", True),
    ],
)
def test_the_largest_placement_that_fits(big, free_gib, placement, tiled):
    fitted = plan.fit(big, machine_with(free_gib))
    assert (fitted.placement, fitted.tiled) == (placement, tiled)
    assert fitted.peak_bytes <= free_gib * GIB
    assert (fitted.device, fitted.dtype) == ("cuda:0", "bfloat16")
    assert fitted.reasons


def test_a_plan_never_changes_the_request(big):
    for free_gib in (79, 23.5, 7.2):
        fitted = plan.fit(big, machine_with(free_gib))
        assert (fitted.frames, fitted.height, fitted.width) == (49, 480, 720)


def test_what_does_not_fit_says_what_would(big):
    with pytest.raises(
        DoesNotFit, match=r"CogVideoX-5b at 49 frames needs .* GiB are free: try 13"
    ):
        plan.fit(big, machine_with(2))
    with pytest.raises(DoesNotFit, match="of RAM to load it through"):
        plan.fit(big, machine_with(79, ram=16))
    with pytest.raises(DoesNotFit, match="of RAM and"):
        plan.fit(big, machine_with(None, ram=24))


def test_precision_follows_the_card(big, tiny):
    assert plan.fit(big, machine_with(79, bf16=False)).dtype == "float16"
    assert plan.fit(big, machine_with(None, ram=128)).dtype == "bfloat16"
    small = request.make(tiny, CIRCLE)
    assert plan.fit(small, machine_with(79)).dtype == "float32"
    assert plan.fit(small, machine_with(None)).device == "cpu"


def test_stepping_down_ends(big):
    rungs, fitted = [], plan.fit(big, machine_with(79))
    while fitted is not None:
        rungs.append((fitted.placement, fitted.tiled))
        last, fitted = fitted, plan.step_down(fitted)
    assert rungs == list(plan.GPU_LADDER)
    assert last.peak_bytes < 8 * GIB
    assert sum("memory ran out" in reason for reason in last.reasons) == len(rungs) - 1


def test_auto_takes_the_embedded_one_and_says_why(tmp_path, monkeypatch, tiny):
    (tmp_path / "cogvideox-tiny").symlink_to(tiny.folder)
    monkeypatch.setenv("COGVX_MODELS_DIR", str(tmp_path))
    model, why = plan.find_model("auto", machine_with(79))
    assert model.name == "cogvideox-tiny"
    assert "cogvx download CogVideoX-5b" in why
    (tmp_path / "CogVideoX-5b").mkdir()
    model, why = plan.find_model("auto", machine_with(79))
    assert model.name == "cogvideox-tiny"
    assert "incomplete" in why


@pytest.mark.parametrize("name", ["tiny", "cogvideox-tiny", " CogVideoX-Tiny "])
def test_a_named_model_is_taken_without_a_word(name):
    model, why = plan.find_model(name, machine_with(None))
    assert (model.name, why) == ("cogvideox-tiny", "")


def test_a_recorded_plan_comes_back(big):
    made = plan.fit(big, machine_with(23.5))
    again = plan.again(big, machine_with(79), made.choices)
    assert (again.placement, again.tiled, again.dtype) == (made.placement, made.tiled, made.dtype)
    assert plan.again(big, machine_with(None, ram=128), made.choices).device == "cpu"
