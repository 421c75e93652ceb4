"""The own block computes what diffusers' does, whatever the transformer and its weights are."""

from __future__ import annotations

import diffusers
import peft
import pytest
import torch
from test_conformance import COMMON, TRANSFORMERS

from cogvx_nb.pipeline import attention, block, compilation, positions, quantization


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def transformer(kind: str, **changes) -> torch.nn.Module:
    """One of few random weights, with all that may differ between two tokens differing."""
    torch.manual_seed(0)
    config = COMMON | TRANSFORMERS[kind] | {"in_channels": 4} | changes
    made = diffusers.CogVideoXTransformer3DModel(**config).eval()
    positions.cut_learned_positions(made)
    for parameter in made.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    attention.set_attention(made, "sdpa", compiled=True)
    return made


def velocity(model: torch.nn.Module) -> torch.Tensor:
    noise, config = torch.Generator().manual_seed(1), model.config
    frames, dtype = 4 if config.patch_size_t else 3, model.dtype
    latents = torch.randn(2, frames, 4, 4, 6, generator=noise).to(dtype)
    text = torch.randn(2, 6, config.text_embed_dim, generator=noise).to(dtype)
    return model(
        latents,
        text,
        torch.tensor([5, 5]),
        ofs=torch.ones(1) if config.ofs_embed_dim else None,
        image_rotary_emb=positions.rotary_positions(config, frames, 4, 6, "cpu"),
        return_dict=False,
    )[0].float()


def use_own(model: torch.nn.Module) -> None:
    """Run own blocks, not compiled."""
    for one in model.transformer_blocks:
        one.forward = block.compile_block(one, lambda function: function)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return (torch.norm(a - b) / torch.norm(b)).item()


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_it_equals_that_of_diffusers(kind, monkeypatch):
    model, copies = transformer(kind), []
    stock, join = velocity(model), block.joined

    def joined(parts: list[torch.Tensor], dim: int) -> torch.Tensor:
        whole = join(parts, dim)
        copies.append(whole.data_ptr() != parts[0].data_ptr())
        return whole

    monkeypatch.setattr(block, "joined", joined)
    use_own(model)
    assert distance(velocity(model), stock) < 1e-6
    assert copies == [False] * 2, "one for each block"
    monkeypatch.setattr(block, "_modulated", lambda norm, tokens, *given: (norm.norm(tokens), 1))
    assert distance(velocity(model), stock) > 0.1, "the own block was run"


@pytest.mark.parametrize("kind", ["2b", "5b"])
def test_layers_that_are_more_than_their_product_are_called(kind):
    model = transformer(kind)
    layers = ["to_q", "to_out.0", "ff.net.0.proj", "ff.net.2"]
    model.add_adapter(peft.LoraConfig(r=2, target_modules=layers, init_lora_weights=False))
    adapted = velocity(model)
    use_own(model)
    assert distance(velocity(model), adapted) < 1e-6
    model.disable_adapters()
    assert distance(velocity(model), adapted) > 0.01


def test_quantized_layers_are_called():
    pytest.importorskip("torchao")
    model = transformer("5b").bfloat16()
    quantization.quantize_transformer(model, "int8", "cpu")
    stock = velocity(model)
    use_own(model)
    assert not block.is_plain(model.transformer_blocks[0].ff.net[0].proj)
    assert distance(velocity(model), stock) < 1e-2


def test_gelu_of_a_product_is_that_of_diffusers():
    first = transformer("5b").transformer_blocks[0].ff.net[0]
    tokens = torch.randn(2, 5, 32)
    own = block.linear_gelu(tokens, first.proj.weight, first.proj.bias)
    assert distance(own, first(tokens)) < 1e-6


def test_only_neighbours_in_memory_are_joined_without_a_copy():
    whole = torch.randn(2, 7, 3)
    first, second = whole[:, :4], whole[:, 4:]
    view = block.joined([first, second], 1)
    assert torch.equal(view, whole)
    assert view.data_ptr() == whole.data_ptr()
    apart = ([second, first], [first, second.clone()], [first, whole[:, 5:]], [first, second + 1])
    for parts in apart:
        copied = block.joined(parts, 1)
        assert torch.equal(copied, torch.cat(parts, 1))
        assert copied.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr()
    with torch.enable_grad():
        parts = [part.requires_grad_() for part in (first, second)]
        block.joined(parts, 1).sum().backward()
    assert all(part.grad is not None for part in parts)


@pytest.mark.slow
def test_compiled_it_rounds_as_diffusers_and_is_compiled_once():
    model = transformer("5b", attention_head_dim=32).bfloat16()
    stock = velocity(model)
    compilation.wrap_blocks(model, exact=True)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    compilation.enable_compiled(model, True, joined_tokens=True)
    own = velocity(model)
    assert 0 < distance(own, stock) < 1e-2
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before == 1
    compilation.enable_compiled(model, True)
    assert distance(velocity(model), stock) < 1e-2
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs - before > 1, "diffusers' block is compiled too"
    compilation.enable_compiled(model, True, joined_tokens=True)
    assert torch.equal(velocity(model), own)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs, "and both are kept"
    compilation.enable_compiled(model, False)
    assert torch.equal(velocity(model), stock), "and diffusers' own comes back"
