"""8-bit weights that stay, stream or move: the same results, bit by bit, in half of the memory."""

from __future__ import annotations

import copy
from dataclasses import replace

import accelerate
import pytest
import torch
from conftest import CIRCLE

from cogvx_nb.pipeline import components, denoise, generate, loader, optimization, quantization
from cogvx_nb.pipeline.condition import from_text
from cogvx_nb.pipeline.positions import rotary_positions
from cogvx_nb.pipeline.quantization import PlainLinear
from cogvx_nb.planning import cost, planner, request
from cogvx_nb.planning.plan import Plan
from cogvx_nb.planning.speedups import SPEED_UPS
from cogvx_nb.results.records import BOUNDS

torchao = pytest.importorskip("torchao.quantization")

KINDS = [kind for kind in quantization.CONFIGS if kind != "fp8"]
"""Those that run on a CPU."""


@pytest.fixture(scope="module")
def plan(tiny, here) -> Plan:
    planned = planner.plan_request(request.make_request(tiny, CIRCLE, frames=5), here)
    return replace(planned, dtype="bfloat16")


@pytest.fixture(scope="module")
def stock(plan) -> torch.nn.Module:
    """The embedded model's transformer with its first two blocks."""
    part = components.make_part("transformer", plan.model, torch.bfloat16, "cpu")
    part.transformer_blocks = part.transformer_blocks[:2]
    return part


@pytest.fixture
def place(plan, stock):
    """A copy of the transformer where a plan of this kind keeps it, and that plan."""

    def place(**changes) -> tuple[torch.nn.Module, Plan]:
        part, changed = copy.deepcopy(stock), replace(plan, **changes)
        optimization.place_component(changed, "transformer", part)
        return part, changed

    return place


def velocity(transformer: torch.nn.Module) -> torch.Tensor:
    config, noise = transformer.config, torch.Generator().manual_seed(0)
    latents = torch.randn(1, 2, config.in_channels, 12, 12, generator=noise).bfloat16()
    text = torch.randn(2, 4, config.text_embed_dim, generator=noise).bfloat16()
    rotary = rotary_positions(config, 2, 12, 12, "cpu")
    with torch.no_grad():
        time = torch.tensor(500)
        return denoise.predict(transformer, latents, text, time, rotary, from_text(2, config))


@pytest.mark.parametrize("kind", KINDS)
def test_streamed_weights_give_what_resident_ones_give(place, kind):
    """By the hooks of diffusers that stream to a GPU, here from RAM to RAM."""
    (resident, _), (streamed, changed) = (
        place(quantized=kind, placement=name) for name in ("no_offload", "group_offload")
    )
    assert all(hasattr(block, "_diffusers_hook") for block in streamed.transformer_blocks)
    expected = velocity(resident)
    for _ in range(2):  # the second follows the order of the first
        assert torch.equal(velocity(streamed), expected)
    error = torch.norm(expected - velocity(place()[0])) / torch.norm(expected)
    assert 1e-4 < error < 0.1
    assert all(type(one) is torch.nn.Parameter for one in streamed.parameters())
    blocks = {parameter.untyped_storage().data_ptr() for parameter in streamed.parameters()}
    assert len(blocks) == 1, "in a shared block of pinned RAM"
    whole, compact = (
        sum(parameter.nbytes for parameter in part.parameters()) for part in (place()[0], streamed)
    )
    saved = (
        cost.weight_bytes(replace(changed, quantized=kind))["transformer"]
        - cost.weight_bytes(replace(changed, quantized=""))["transformer"]
    )
    layers = changed.model.checkpoint.architecture[0]
    assert compact - whole == pytest.approx(saved * 2 / layers, rel=0.05), "as plans count it"


def test_whole_models_move_between_ram_and_a_gpu(place):
    """By the hook of accelerate, here from RAM to RAM."""
    moved, _ = place(quantized="int8", placement="model_offload")
    moved, hook = accelerate.cpu_offload_with_hook(moved, "cpu")
    assert torch.equal(velocity(moved), velocity(place(quantized="int8")[0]))
    hook.offload()


@pytest.mark.slow
def test_a_streamed_video_is_the_resident_one(tiny, here):
    video, found = request.make_request(tiny, CIRCLE, frames=5, steps=1), []
    for name in ("no_offload", "group_offload"):
        changed = replace(planner.plan_request(video, here), quantized="int8", placement=name)
        generated = generate.generate_frames(video, loader.load_pipeline(changed))
        assert generated.plan.choices == changed.choices, "no fallback"
        found.append(generated.frames)
    loader.release_pipeline()
    assert (found[0] == found[1]).all()


def test_compiled_code_is_shared_by_blocks_and_survives_a_move(place):
    """Compiled again, 42 blocks would take minutes."""
    noise, found = torch.Generator().manual_seed(0), []
    graphs = torch._dynamo.utils.counters["stats"]
    for placement in ("no_offload", "model_offload"):
        part, _ = place(quantized="int8", placement=placement)
        width = part.config.num_attention_heads * part.config.attention_head_dim
        x = torch.randn(2, 32, width, generator=noise.manual_seed(0)).bfloat16()
        torch._dynamo.reset()
        graphs.clear()
        with torch.no_grad():
            for block in part.transformer_blocks:
                code = torch.compile(block.ff.forward, backend="aot_eager", fullgraph=True)
                found.append(code(x))
                assert torch.equal(found[-1], block.ff(x))
                for parameter in block.parameters():  # as hooks do
                    parameter.data = parameter.data.clone()
                assert torch.equal(code(x), found[-1])
        assert graphs["unique_graphs"] == 1, placement
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])
    torch._dynamo.reset()


def test_a_float8_weight_is_held_as_plain_tensors_too():
    """Quantizing to float8 needs a GPU, its weights don't."""
    from torchao.quantization import Float8Tensor, PerRow

    linear = torch.nn.Linear(64, 32).bfloat16().requires_grad_(False)
    weight = Float8Tensor.from_hp(linear.weight.data, granularity=PerRow())
    linear.weight = torch.nn.Parameter(weight, requires_grad=False)
    held = PlainLinear(linear)
    optimization.pin_parameters(held)
    assert {one.dtype for one in held.parameters()} == {
        torch.float8_e4m3fn,
        torch.float32,
        torch.bfloat16,
    }
    rebuilt = held.weight
    assert torch.equal(rebuilt.dequantize(), weight.dequantize())
    assert rebuilt._quantization_type() == weight._quantization_type()
    assert " at 0x" not in held.format, "equal for all blocks"


def test_compact_layers_compute_what_torchao_does_and_are_one_operator():
    linear = torch.nn.Linear(64, 32).bfloat16().requires_grad_(False)
    holder, x = torch.nn.Sequential(linear), torch.randn(2, 5, 64).bfloat16()
    torchao.quantize_(holder, quantization.CONFIGS["int8_weights"](torchao))
    by_torchao = holder(x)
    quantization._replace_layers(holder, quantization.CompactLinear)
    assert type(holder[0]) is quantization.CompactLinear
    assert torch.equal(holder(x), by_torchao)
    with torch.no_grad():
        traced = torch.fx.experimental.proxy_tensor.make_fx(holder)(x)
    called = [str(node.target) for node in traced.graph.nodes if node.op == "call_function"]
    assert called == ["cogvx_nb.compact_linear.default"]


def test_each_format_of_a_plan_has_a_configuration():
    formats = [
        kind for row in SPEED_UPS.values() if row.field == "quantized" for kind in row.values
    ]
    assert sorted(formats) == sorted(quantization.CONFIGS)
    assert sorted(BOUNDS["quantized"].choices) == sorted(["", *formats]), "in sidecars"
