"""What trainers write into LoRA files besides the plain matrices, and files that are none."""

from __future__ import annotations

import json
import math
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from cogvx_nb.checkpoints import registry
from cogvx_nb.cli.main import main
from cogvx_nb.errors import RequestError
from cogvx_nb.loras import given, library, norms, reader
from cogvx_nb.sweep import given_loras
from cogvx_nb.workbench import lora_rows

TINY = registry.TINY
LAYER = "transformer_blocks.3.attn1.to_q"
NAME = f"transformer.{LAYER}"
DOWN, UP = f"{NAME}.lora_A.weight", f"{NAME}.lora_B.weight"


def pair(name: str = NAME, middle: str = "", rank: int = 4) -> dict[str, torch.Tensor]:
    return {
        f"{name}.lora_A{middle}.weight": torch.ones(rank, 256),
        f"{name}.lora_B{middle}.weight": torch.ones(256, rank),
    }


def read(folder, content, **config):
    header = {"lora_adapter_metadata": json.dumps(config)} if config else None
    save_file(content, path := folder / "a.safetensors", metadata=header)
    return reader.read_lora(path, TINY).layers


def test_an_adapter_of_any_name_is_read(tmp_path):
    assert read(tmp_path, pair(middle=".my_adapter"))[0].down == f"{NAME}.lora_A.my_adapter.weight"


def test_rank_stabilized_scales(tmp_path):
    (layer,) = read(tmp_path, pair(), lora_alpha=8, use_rslora=True)
    assert layer.scale == 8 / math.sqrt(4)
    content = pair() | {f"{NAME}.alpha": torch.tensor(8)}
    assert read(tmp_path, content, use_rslora=True)[0].scale == 2  # the tensor's own convention


def test_alpha_of_the_configuration_beside_is_kept_with_the_content(tmp_path, monkeypatch):
    """The text alone gives the same scale where that file isn't, and another's isn't taken."""
    monkeypatch.setattr(library, "loras_folder", lambda: tmp_path / "library")
    for folder in ("mine", "library"):
        (tmp_path / folder).mkdir()
    save_file(pair(), path := tmp_path / "mine" / "a.safetensors")
    config = path.with_name("adapter_config.json")
    config.write_text(json.dumps({"lora_alpha": 8, "use_rslora": True}))
    (used,) = given.read_loras(str(path), TINY)
    assert [layer.scale for layer in used.layers] == [4]
    kept = given.kept_text([used])
    swept = given_loras.LoraFiles({}).read(str(path), [])
    assert kept == lora_rows.kept_loras(str(path)) == swept.kept
    assert kept.endswith(":1@alpha=16")
    path.rename(tmp_path / "library" / "a.safetensors")
    config.rename(tmp_path / "library" / config.name)
    (again,) = given.read_loras(kept, TINY)
    assert again.layers == used.layers
    assert again.key == used.key
    assert given.read_loras("a", TINY)[0].alpha is None


def test_several_scales_of_the_configuration_beside_are_refused(tmp_path):
    content = pair() | pair(NAME.replace("to_q", "to_k"))
    save_file(content, path := tmp_path / "a.safetensors")
    config = {"lora_alpha": 8, "alpha_pattern": {"to_k": 2}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match=r"several scales.*write that file's content into"):
        given.read_loras(str(path), TINY)


@pytest.mark.parametrize(
    "pattern",
    ["to_q", "attn1.to_q", r"attn1\.to_q", f"^{LAYER}", LAYER, "_q", "1.to_q", "^to_q", "to_k"],
)
def test_patterns_match_as_in_peft(pattern, tmp_path):
    from peft.utils.other import get_pattern_key

    theirs = get_pattern_key([pattern], LAYER) == pattern
    layers = read(tmp_path, pair(), lora_alpha=4, alpha_pattern={pattern: 2})
    assert layers[0].alpha == (2 if theirs else 4)


@pytest.mark.parametrize(
    ("shape", "by_column"), [((256,), False), ((256, 1), False), ((1, 256), True)]
)
def test_norms_of_dora_are_of_rows_or_columns(shape, by_column, tmp_path):
    (layer,) = read(tmp_path, pair() | {f"{NAME}.dora_scale": torch.ones(shape)})
    assert (layer.magnitude, layer.by_column) == (f"{NAME}.dora_scale", by_column)


def test_ranks_and_types_may_differ(tmp_path):
    other = pair("transformer.transformer_blocks.3.attn1.to_k", rank=2)
    eight_bits = {name: value.to(torch.float8_e4m3fn) for name, value in other.items()}
    assert [layer.rank for layer in read(tmp_path, pair() | eight_bits)] == [4, 2]


def test_the_patches_projection_may_be_a_convolution(tmp_path):
    channels, width = 16, TINY.architecture[1] * TINY.architecture[2]
    name = "transformer.patch_embed.proj"
    down, up = torch.ones(4, channels, 2, 2), torch.ones(width, 4, 1, 1)
    content = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    assert read(tmp_path, content)[0].module == "patch_embed.proj"


WHOLE = {
    "two adapters": (
        pair(middle=".a") | pair("transformer.transformer_blocks.3.attn1.to_k", ".b"),
        "adapters a and b",
    ),
    "twice": (pair() | pair(LAYER), "a second time"),
    "bias": (pair() | {f"{NAME}.lora_B.bias": torch.ones(256)}, "a bias, which isn't merged"),
    "alpha 0": (pair() | {f"{NAME}.alpha": torch.tensor(0.0)}, "an alpha of 0"),
    "alpha NaN": (pair() | {f"{NAME}.alpha": torch.tensor(math.nan)}, "an alpha of nan"),
    "alpha -1": (pair() | {f"{NAME}.alpha": torch.tensor(-1.0)}, "an alpha of -1"),
    "alphas": (pair() | {f"{NAME}.alpha": torch.ones(2)}, "2 numbers"),
    "rank 0": (pair(rank=0), "a rank of 0"),
    "no matrix": ({DOWN: torch.tensor(1.0), UP: torch.ones(256, 4)}, "a rank of 0"),
    "two ranks": ({DOWN: torch.ones(4, 256), UP: torch.ones(256, 2)}, "the ranks 4 and 2"),
    "whole numbers": ({DOWN: torch.ones(4, 256).byte(), UP: torch.ones(256, 4)}, "(U8)"),
    "norms": (pair() | {f"{NAME}.dora_scale": torch.ones(3)}, "norms of 3"),
    "single norm": (pair() | {f"{NAME}.dora_scale": torch.tensor(1.0)}, "norms of"),
    "difference": ({f"{NAME}.diff": torch.ones(2)}, "a whole difference"),
    "checkpoint": ({f"{LAYER}.weight": torch.ones(2, 2)}, "a model's whole weights"),
    "long name": ({"a" * 1000: torch.ones(2)}, "no LoRA of CogVideoX"),
    "LTX": (pair("transformer.transformer_blocks.0.attn2.to_q"), "LTX-Video"),
    "FLUX": (pair("transformer.single_transformer_blocks.0.attn.to_q"), "FLUX"),
    "Wan": (pair("diffusion_model.blocks.0.cross_attn.k"), "a LoRA for Wan"),
}


@pytest.mark.parametrize("case", WHOLE)
def test_what_is_not_read_is_one_line(case, tmp_path):
    content, told = WHOLE[case]
    with pytest.raises(RequestError) as caught:
        read(tmp_path, content)
    assert told in caught.value.remedy
    assert "\n" not in str(caught.value)


def test_regular_expressions_of_a_file_are_not_run(tmp_path):
    with pytest.raises(RequestError, match="isn't a layer's name"):
        read(tmp_path, pair(), alpha_pattern={"(a+)+$": 2})


def test_folders_pipes_and_empty_files_are_named(tmp_path):
    (empty := tmp_path / "empty.safetensors").touch()
    os.mkfifo(pipe := tmp_path / "pipe.safetensors")
    cases = {tmp_path: "is a folder", empty: "no safetensors file", pipe: "is no file"}
    for path, told in cases.items():
        with pytest.raises(RequestError, match=told):
            reader.read_lora(path, TINY)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_norms_are_those_of_the_product(dtype, tmp_path):
    draw = torch.Generator().manual_seed(0)
    content = {name: torch.randn(part.shape, generator=draw) for name, part in pair().items()}
    content = {name: part.to(dtype) for name, part in content.items()}
    save_file(content | {f"{NAME}.alpha": torch.tensor(2.0)}, path := tmp_path / "b.safetensors")
    wanted = (0.5 * content[UP].double() @ content[DOWN].double()).norm().item()
    assert norms.change_norms(reader.read_lora(path, TINY)) == {"3": pytest.approx(wanted)}


def test_inspect_tells_of_nan(tmp_path, capsys):
    save_file(pair() | {UP: torch.full((256, 4), math.nan)}, path := tmp_path / "b.safetensors")
    assert main(["lora", "inspect", str(path)]) == 0
    assert "or infinity in 3: fetch it again" in capsys.readouterr().out
    assert main(["lora", "inspect", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["norms"] == {"3": None}


class Blocks(torch.nn.Module):
    """Layers of a transformer's block by their names, for peft."""

    def __init__(self) -> None:
        super().__init__()
        block = torch.nn.Module()
        block.attn1 = torch.nn.Module()
        block.attn1.to_q, block.attn1.to_k = (torch.nn.Linear(256, 256) for _ in range(2))
        empty = (torch.nn.Module() for _ in range(3))
        self.transformer_blocks = torch.nn.ModuleList([*empty, block])


@pytest.mark.parametrize(
    "settings",
    [
        {"lora_alpha": 3},
        {"lora_alpha": 3, "use_rslora": True},
        {"lora_alpha": 3, "alpha_pattern": {"to_k": 5}, "rank_pattern": {"attn1.to_q": 2}},
    ],
    ids=str,
)
def test_a_file_of_peft_changes_weights_as_peft_does(settings, tmp_path):
    import peft

    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules=["to_q", "to_k"], init_lora_weights=False)
    for name, value in settings.items():
        setattr(config, name, value)
    adapted = peft.get_peft_model(Blocks(), config)
    adapted.save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    content = load_file(path)
    layers = reader.read_lora(path, TINY).layers
    assert [layer.module.rpartition(".")[2] for layer in layers] == ["to_q", "to_k"]
    for layer in layers:
        theirs = adapted.base_model.model.get_submodule(layer.module).get_delta_weight("default")
        ours = layer.scale * content[layer.up] @ content[layer.down]
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
