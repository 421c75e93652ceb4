"""Merged LoRAs against peft's live adapters: the same latents, from files that diffusers wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import CIRCLE, denoised
from diffusers import CogVideoXPipeline
from peft import LoraConfig, get_peft_model_state_dict

from cogvx_nb.pipeline import loader
from cogvx_nb.planning import planner, request

RANK, ALPHA = 4, 6
LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]

CASES = {
    "two": [(0.7, {}), (-0.4, {"alpha_pattern": {"to_k": 2.0}, "rank_pattern": {"to_v": 2}})],
    "DoRA": [(1.0, {"use_dora": True})],
}
"""Weight and peft's configuration of each adapter. With DoRA peft's weight scales the matrices
alone, so that at 0 the layer has the norms of the adapter still; here it scales the whole change,
as in ComfyUI, which is the same at 1."""


@pytest.fixture
def load(tiny, here):
    """Load a pipeline with LoRAs merged; what makes the latents of 9 frames on it."""

    def load(lora: str = "", dtype: str = "float32", **wanted):
        video = request.make_request(tiny, CIRCLE, frames=9, lora=lora, **wanted)
        loader.release_pipeline()
        loaded = loader.load_pipeline(replace(planner.plan_request(video, here), dtype=dtype))

        def latents() -> torch.Tensor:
            return denoised(video, loaded)[0]

        return loaded.pipe.transformer, latents

    yield load
    loader.release_pipeline()


def adapt(transformer: torch.nn.Module, adapters: list, folder: Path) -> str:
    """Give a transformer random adapters, saved as diffusers' training scripts do and as its
    models do, in turns; the text that names the files with their weights."""
    draw, named = torch.Generator().manual_seed(0), []
    for number, (weight, changed) in enumerate(adapters):
        name = f"adapter{number}"
        config = {"r": RANK, "lora_alpha": ALPHA, "target_modules": LAYERS} | changed
        transformer.add_adapter(LoraConfig(**config), name)
        for key, value in transformer.named_parameters():
            if f"magnitude_vector.{name}" in key:
                value.data *= 0.8 + 0.4 * torch.rand(value.shape, generator=draw)
            elif f".{name}." in key:
                value.data = 0.1 * torch.randn(value.shape, generator=draw)
        if number % 2:
            transformer.save_lora_adapter(folder / name, name)
        else:
            CogVideoXPipeline.save_lora_weights(
                folder / name,
                get_peft_model_state_dict(transformer, adapter_name=name),
                transformer_lora_adapter_metadata=transformer.peft_config[name].to_dict(),
            )
        (path,) = (folder / name).glob("*.safetensors")
        named.append(f"{path}:{weight}")
    names = [f"adapter{number}" for number in range(len(adapters))]
    transformer.set_adapters(names, [weight for weight, _ in adapters])
    return ", ".join(named)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return (torch.norm(a.double() - b.double()) / torch.norm(b.double())).item()


@pytest.mark.parametrize("case", CASES)
def test_latents_are_those_of_live_adapters(case, load, tmp_path):
    asked = {"steps": 2, "guidance": 1.0}
    transformer, latents = load(**asked)
    base = latents()
    text = adapt(transformer, CASES[case], tmp_path)
    live = latents()
    assert distance(live, base) > 0.1
    _, latents = load(text, **asked)
    assert distance(latents(), live) <= 1e-6


@pytest.mark.parametrize(("dtype", "most"), [("float32", 4e-6), ("float64", 1e-6)])
def test_guidance_enlarges_the_rounding_of_activations(dtype, most, load, tmp_path):
    """Guidance 6 takes 5 times one pass from 6 times another that is nearly the same: 2e-6 of
    float32's rounding, measured. With activations of float64, and weights that were merged in
    float32 all the same, the distance is 2e-7: the weights are what they should be."""
    asked = {"steps": 2, "guidance": 6.0, "dtype": dtype}
    transformer, latents = load(**asked)
    text = adapt(transformer, CASES["two"], tmp_path)
    transformer.to(getattr(torch, dtype))
    live = latents()
    _, latents = load(text, **asked)
    assert distance(latents(), live) <= most
