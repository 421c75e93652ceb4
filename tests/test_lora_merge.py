"""LoRAs merged into the embedded checkpoint's weights, and taken off again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cogvx_nb import reproduction
from cogvx_nb.checkpoints import registry
from cogvx_nb.errors import RequestError
from cogvx_nb.loras import entries, given, library
from cogvx_nb.loras.modules import linear_shapes
from cogvx_nb.pipeline import components, loader, lora_merge
from cogvx_nb.planning import planner, request
from cogvx_nb.results import result

TINY = registry.TINY
MODULES = [name for name in linear_shapes(TINY) if "attn1" in name]


def save_lora(path, seed=0, strength=0.02, rank=4, alpha=2.0, modules=MODULES, **changed):
    """A random LoRA of the attention; returns its path."""
    generator, content = torch.Generator().manual_seed(seed), {}
    for module in modules:
        outputs, inputs = linear_shapes(TINY)[module]
        name = f"transformer.{module}"
        content |= {
            f"{name}.lora_A.weight": torch.randn(rank, inputs, generator=generator),
            f"{name}.lora_B.weight": torch.randn(outputs, rank, generator=generator) * strength,
            f"{name}.alpha": torch.tensor(alpha),
        }
    save_file(content | changed, path)
    return path


def weights_with(tiny, here, lora: str) -> dict[str, torch.Tensor]:
    """The transformer's weights with LoRAs merged."""
    asked = request.make_request(tiny, "a red circle", lora=lora)
    part = components.load_part("transformer", planner.plan_request(asked, here))
    return dict(part.named_parameters())


def test_weights_are_the_base_and_the_weighted_changes(tiny, here, tmp_path):
    one, two = (
        save_lora(tmp_path / "one.safetensors", 1),
        save_lora(tmp_path / "two.safetensors", 2),
    )
    base = weights_with(tiny, here, "")
    merged = weights_with(tiny, here, f"{one}:0.6, {two}:-0.2@alpha=8")
    changes = []
    for path, factor in ((one, 0.6 * 2 / 4), (two, -0.2 * 8 / 4)):
        with lora_merge.safe_open(path, "pt") as file:
            name = f"transformer.{MODULES[5]}"
            up, down = (file.get_tensor(f"{name}.lora_{part}.weight") for part in "BA")
            changes.append(factor * up.double() @ down.double())
    key = f"{MODULES[5]}.weight"
    expected = base[key].double() + sum(changes)
    torch.testing.assert_close(merged[key].double(), expected, rtol=0, atol=1e-6)
    same = {name for name, value in merged.items() if torch.equal(value, base[name])}
    assert same == merged.keys() - {f"{module}.weight" for module in MODULES}


@pytest.mark.parametrize("shape", [(256,), (256, 1), (1, 256)])
def test_dora_gives_rows_or_columns_their_norms(shape, tiny, here, tmp_path):
    module = MODULES[0]
    norms = torch.linspace(0.5, 2, 256)
    path = save_lora(
        tmp_path / "a.safetensors",
        modules=[module],
        **{f"transformer.{module}.lora_magnitude_vector": norms.view(shape).contiguous()},
    )
    merged, key = weights_with(tiny, here, str(path)), f"{module}.weight"
    dim = 0 if shape == (1, 256) else 1
    torch.testing.assert_close(merged[key].norm(dim=dim), norms)
    half = weights_with(tiny, here, f"{path}:0.5")[key]
    base = weights_with(tiny, here, "")[key]
    torch.testing.assert_close(half, (base + merged[key]) / 2)


def test_weight_0_and_taken_off_are_the_base_and_it_is_reproduced(make, generated, tmp_path):
    path = save_lora(tmp_path / "a.safetensors", strength=0.05)
    base = generated().frames
    with_lora = make(lora=f"{path}:0.8")
    assert (with_lora.frames != base).mean() > 0.1
    assert np.array_equal(make(lora=f"{path}:0").frames, base)
    assert np.array_equal(make().frames, base)
    parts = loader._loaded.pipe.config
    assert parts["transformer"][0] == "diffusers", "it would be saved"
    saved = result.save_result(with_lora, tmp_path / "a.mp4")
    recorded = result.read_result(saved.path).settings
    (lora,) = recorded.loras
    assert (lora.weight, lora.alpha, lora.alpha_from, lora.rank) == (0.8, 2, "tensor", 4)
    assert recorded.request.lora == f"a#{lora.sha256}:0.8"
    path.rename(moved := tmp_path / "elsewhere.safetensors")
    with pytest.raises(RequestError, match=r"looked in .*put the file into"):
        reproduction.reproduce(saved)
    library.file_hash(moved)  # as any use of it does
    assert reproduction.reproduce(saved).identical


def test_the_precision_keeps_what_it_can_of_a_change(tiny, here, tmp_path):
    strong = save_lora(tmp_path / "strong.safetensors", strength=0.02)
    weak = save_lora(tmp_path / "weak.safetensors", strength=2e-6)
    asked = request.make_request(tiny, "a red circle", lora=f"{strong}, {weak}:1")
    plan = dataclasses.replace(planner.plan_request(asked, here), dtype="bfloat16")
    shares = components.load_part("transformer", plan).kept_shares
    assert shares[0] > 0.99
    alone = dataclasses.replace(plan, loras=plan.loras[1:])
    assert components.load_part("transformer", alone).kept_shares[0] < 0.7


def test_what_cannot_be_merged_is_one_line(tiny, here, tmp_path):
    name = f"transformer.{MODULES[0]}.lora_B.weight"
    nan = save_lora(tmp_path / "nan.safetensors", **{name: torch.full((256, 4), torch.nan)})
    strong = save_lora(tmp_path / "strong.safetensors", strength=1.0, alpha=64.0)
    for path, words in ((nan, "NaN or infinity"), (strong, r"times their own norm.*@alpha=1")):
        with pytest.raises(RequestError, match=words) as caught:
            weights_with(tiny, here, str(path))
        assert "\n" not in str(caught.value)
    asked = request.make_request(tiny, "a red circle", lora=str(strong))
    save_lora(strong, seed=9)
    with pytest.raises(RequestError, match="was changed since it was read"):
        components.load_part("transformer", planner.plan_request(asked, here))


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("", []),
        (" , ", []),
        ("a", [("a", 1, None)]),
        ("a:0.5,b:-2", [("a", 0.5, None), ("b", -2, None)]),
        ('"a, b.safetensors":.5@alpha=16', [("a, b.safetensors", 0.5, 16)]),
        ('"say ""hi""", c:1e-1', [('say "hi"', 1, None), ("c", 0.1, None)]),
        ("./x:y.safetensors@alpha=4", [("./x:y.safetensors", 1, 4)]),
    ],
)
def test_texts_are_parsed_and_written(text, parsed):
    found = entries.parse_loras(text)
    assert [(one.file, one.weight, one.alpha) for one in found] == parsed
    assert entries.parse_loras(entries.write_loras(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "a:11",
        "a:-10.5",
        "a@alpha=0",
        "a@alpha=x",
        "a, a:2",
        ":",
        "a:1e999",
        ", ".join("abcdefghijklmnopq"),
    ],
)
def test_texts_that_name_none_are_one_line(text, tiny):
    with pytest.raises(RequestError) as caught:
        request.make_request(tiny, "a red circle", lora=text)
    assert "\n" not in str(caught.value)


def test_lists_and_names_of_the_library(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(library, "loras_folder", lambda: tmp_path)
    save_lora(tmp_path / "out, line.safetensors")
    save_lora(tmp_path / "other.safetensors", 1)
    monkeypatch.chdir(tmp_path)
    asked = request.make_request(tiny, "a red circle", lora=["out, line.safetensors", "other:0.5"])
    assert [str(one) for one in asked.loras] == ["out, line 1", "other 0.5"]
    assert entries.is_kept(asked.lora)
    again = request.make_request(tiny, "a red circle", lora=asked.lora)
    assert again.lora == asked.lora
    several = ", ".join(f"lora{number}#{number:064x}:0.5" for number in range(16))  # no file's name
    assert entries.join_loras([several]) == several
    with pytest.raises(RequestError, match="did you mean 'other'"):
        given.read_loras("otter", TINY)
