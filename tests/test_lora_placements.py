"""A merged LoRA with each way in which a video is made, as far as there is one without a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import CIRCLE, denoised
from safetensors.torch import load_file
from test_lora_sweeps import make_lora

from cogvx_nb.checkpoints import registry, store
from cogvx_nb.pipeline import loader
from cogvx_nb.planning import cost, planner, request
from cogvx_nb.planning.machine import ITEM_BYTES
from cogvx_nb.planning.placements import PLACEMENTS

WEIGHT = 3.0


@pytest.fixture(scope="module")
def lora(tmp_path_factory) -> str:
    return str(make_lora(tmp_path_factory.mktemp("loras") / "ink.safetensors"))


@pytest.fixture
def run(tiny, here, lora):
    """The latents of 9 frames at a LoRA's weight, on a changed plan; None for no LoRA."""

    def run(weight: float | None, steps: int = 1, **changes) -> torch.Tensor:
        text = "" if weight is None else f"{lora}:{weight}"
        video = request.make_request(tiny, CIRCLE, frames=9, steps=steps, lora=text)
        loaded = loader.load_pipeline(replace(planner.plan_request(video, here), **changes))
        return denoised(video, loaded)[0]

    yield run
    loader.release_pipeline()


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return (torch.norm(a - b) / torch.norm(b)).item()


def test_without_it_and_at_weight_0_all_is_as_before(run):
    before = run(None)
    changed = run(WEIGHT)
    assert distance(changed, before) > 1e-3
    assert torch.equal(run(None), before)
    assert torch.equal(run(WEIGHT), changed)
    assert torch.equal(run(0.0), before)


def test_weights_are_what_is_merged_by_hand(run, tiny, lora):
    run(WEIGHT)
    merged = loader._loaded.pipe.transformer.state_dict()
    stock = {}
    for path in sorted((tiny.folder / "transformer").glob("*.safetensors")):
        stock |= load_file(path)
    content = load_file(lora)
    for name, value in stock.items():
        key = f"transformer.{name.removesuffix('.weight')}"
        expected = value.to(merged[name].dtype).float()
        if f"{key}.lora_A.weight" in content:
            up, down = content[f"{key}.lora_B.weight"], content[f"{key}.lora_A.weight"]
            expected = expected + WEIGHT * (up @ down)  # alpha is the rank
            assert not torch.equal(merged[name].float(), value.float()), name
        torch.testing.assert_close(merged[name].float(), expected, rtol=1e-5, atol=1e-6)


def test_with_a_step_cache(run):
    cached = run(WEIGHT, 12, step_cache="halves")
    assert distance(cached, run(None, 12, step_cache="halves")) > 1e-3


@pytest.mark.slow
def test_with_8_bit_weights(run):
    pytest.importorskip("torchao")
    near, exact = run(WEIGHT, quantized="int8"), run(WEIGHT)
    assert 0 < distance(near, exact) < 0.3
    assert distance(near, run(None, quantized="int8")) > 1e-3


@pytest.mark.slow
def test_with_compiled_blocks(run):
    exact, compiled = run(WEIGHT), run(WEIGHT, compiled=True)
    assert distance(compiled, exact) < 1e-4
    assert distance(compiled, run(None, compiled=True)) > 1e-3, "the same code, other weights"


def test_what_changes_leaves_the_file_that_disk_offload_streams_from(tiny, here, lora):
    """Of mapped files only the merged layers take RAM; all else is in RAM anyway."""
    merged = request.make_request(tiny, CIRCLE, lora=lora)
    large = store.locate_checkpoint("tiny")
    dtype = registry.TINY.gpu_dtype
    for name in PLACEMENTS:
        plan = replace(
            planner.plan_request(merged, here), device="cuda:0", dtype=dtype, placement=name
        )
        assert len(plan.loras) == 1
        more = cost.ram_bytes(plan) - cost.ram_bytes(replace(plan, loras=()))
        _, heads, head_width, _, _ = large.checkpoint.architecture
        changed = 2 * (heads * head_width) ** 2 * ITEM_BYTES[dtype]
        assert more == (changed if name == "disk_offload" else 0), name
