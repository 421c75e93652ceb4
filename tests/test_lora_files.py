"""LoRA files of every trainer: which layers they change, at what scale, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from cogvx_nb.checkpoints import registry
from cogvx_nb.cli.main import main
from cogvx_nb.errors import RequestError
from cogvx_nb.loras import entries, given, library, modules, reader, scales

TINY = registry.TINY
BLOCK = "transformer_blocks.3"
LAYERS = {
    f"{BLOCK}.attn1.to_q": (256, 256),
    f"{BLOCK}.attn1.to_out.0": (256, 256),
    f"{BLOCK}.ff.net.0.proj": (1024, 256),
    f"{BLOCK}.ff.net.2": (256, 1024),
}
RANK = 4
COMFYUI = {
    f"{BLOCK}.attn1.to_q": "blocks.3.q",
    f"{BLOCK}.attn1.to_out.0": "blocks.3.attn_out",
    f"{BLOCK}.ff.net.0.proj": "blocks.3.ff_proj",
    f"{BLOCK}.ff.net.2": "blocks.3.ff_out",
}


def matrices(module: str) -> tuple[torch.Tensor, torch.Tensor]:
    outputs, inputs = LAYERS[module]
    draw = torch.Generator().manual_seed(len(module))
    return (
        torch.randn(RANK, inputs, generator=draw),
        torch.randn(outputs, RANK, generator=draw) / 50,
    )


def tensors(name, down: str, up: str, alpha: str = "") -> dict[str, torch.Tensor]:
    """A file's content; ``name`` makes a layer's name in it."""
    content = {}
    for module in LAYERS:
        a, b = matrices(module)
        content |= {f"{name(module)}.{down}": a, f"{name(module)}.{up}": b}
        if alpha:
            content[f"{name(module)}.{alpha}"] = torch.tensor(2.0)
    return content


PEFT = ("lora_A.weight", "lora_B.weight")
KOHYA = ("lora_down.weight", "lora_up.weight", "alpha")
FORMATS = {
    "diffusers": (lambda m: f"transformer.{m}", *PEFT),
    "old diffusers": (lambda m: f"transformer.{m}", "lora.down.weight", "lora.up.weight"),
    "raw peft": (lambda m: f"base_model.model.{m}", *PEFT),
    "raw peft of a pipeline": (lambda m: f"base_model.model.transformer.{m}", *PEFT),
    "peft's default adapter": (
        lambda m: f"base_model.model.{m}",
        "lora_A.default.weight",
        "lora_B.default.weight",
    ),
    "no prefix": (lambda m: m, *PEFT),
    "alpha beside": (lambda m: f"transformer.{m}", *PEFT, "alpha"),
    "ComfyUI": (lambda m: f"diffusion_model.{m}", *PEFT, "alpha"),
    "ComfyUI's own": (lambda m: f"diffusion_model.{COMFYUI[m]}", *KOHYA),
    "kohya": (lambda m: "lora_unet_" + m.replace(".", "_"), *KOHYA),
    "VideoX-Fun": (lambda m: "lora_unet__" + m.replace(".", "_"), *KOHYA),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_changes_the_same_layers(form, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(content := tensors(*FORMATS[form]), path)
    found = reader.read_lora(path, TINY)
    assert [layer.module for layer in found.layers] == [m for m in SHAPES if m in LAYERS]
    for layer in found.layers:
        down, up = matrices(layer.module)
        assert torch.equal(content[layer.down], down)
        assert torch.equal(content[layer.up], up)
        told = (2.0, scales.TENSOR) if len(FORMATS[form]) == 4 else (4.0, scales.NONE)
        assert (layer.rank, layer.alpha, layer.alpha_from) == (RANK, *told)


SHAPES = modules.linear_shapes(TINY)


@pytest.fixture(scope="module")
def merge(tiny, here):
    """Merge a file into the embedded transformer; the weights that it changes, by layer."""
    from cogvx_nb.pipeline import components, lora_merge
    from cogvx_nb.planning import planner, request

    plan = planner.plan_request(request.make_request(tiny, "a red circle"), here)
    transformer = components.load_part("transformer", plan)
    stock = {name: part.data for name, part in transformer.named_parameters()}

    def merge(path, alpha: float | None = None) -> dict[str, torch.Tensor]:
        entry = entries.LoraEntry(str(path), weight=0.7, alpha=alpha)
        lora_merge.merge_loras(transformer, [given.read_entry(entry, TINY)], "cpu")
        changed = {}
        for name, part in transformer.named_parameters():
            if part.data_ptr() != stock[name].data_ptr():
                changed[name.removesuffix(".weight")], part.data = part.data, stock[name]
        return changed

    return merge


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_weights(form, merge, tmp_path):
    save_file(tensors(*FORMATS["diffusers"]), first := tmp_path / "first.safetensors")
    save_file(tensors(*FORMATS[form]), path := tmp_path / "a.safetensors")
    told = None if len(FORMATS[form]) == 4 else 2.0
    wanted, found = merge(first, 2.0), merge(path, told)
    assert wanted.keys() == found.keys() == LAYERS.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    other = merge(first)
    assert not any(torch.equal(found[name], other[name]) for name in wanted)


def test_the_shapes_are_those_of_diffusers():
    import diffusers

    from cogvx_nb.pipeline import components

    for known in registry.CHECKPOINTS:
        config = components.random_configs(known)["transformer"]
        with torch.device("meta"):
            transformer = diffusers.CogVideoXTransformer3DModel(**config)
        kinds = (torch.nn.Linear, torch.nn.Conv2d)
        theirs = {
            name: (len(part.weight), part.weight[0].numel())
            for name, part in transformer.named_modules()
            if isinstance(part, kinds)
        }
        assert modules.linear_shapes(known) == theirs, known.name


def test_projections_of_sat_are_parts_of_one_layer(merge, tmp_path):
    content, layer = {}, "model.diffusion_model.transformer.layers.3.attention"
    draw = torch.Generator().manual_seed(0)
    for index in range(3):
        content[f"{layer}.query_key_value.matrix_A.{index}"] = torch.randn(4, 256, generator=draw)
        content[f"{layer}.query_key_value.matrix_B.{index}"] = torch.randn(256, 4, generator=draw)
    content[f"{layer}.dense.matrix_A.0"] = torch.randn(4, 256, generator=draw)
    content[f"{layer}.dense.matrix_B.0"] = torch.randn(256, 4, generator=draw)
    content = {name: value / 8 for name, value in content.items()}
    save_file(content, path := tmp_path / "sat.safetensors")
    found = reader.read_lora(path, TINY)
    names = [layer.module.removeprefix(f"{BLOCK}.attn1.") for layer in found.layers]
    assert names == ["to_q", "to_k", "to_v", "to_out.0"]
    assert {(layer.scale, layer.alpha_from) for layer in found.layers} == {(0.25, scales.FORMAT)}
    assert found.layers[1].down.endswith("query_key_value.matrix_A.1")
    names = {f"{BLOCK}.attn1.to_{name}": number for number, name in enumerate("qkv")}
    parts = {module: f"query_key_value.matrix_{{}}.{at}" for module, at in names.items()}
    parts[f"{BLOCK}.attn1.to_out.0"] = "dense.matrix_{}.0"
    plain = {
        f"transformer.{module}.lora_{matrix}.weight": content[f"{layer}.{part.format(matrix)}"]
        for module, part in parts.items()
        for matrix in "AB"
    }
    save_file(plain, plain_path := tmp_path / "plain.safetensors")
    theirs, ours = merge(plain_path, 1.0), merge(path)
    assert theirs.keys() == ours.keys() == parts.keys()
    assert all(torch.equal(theirs[module], ours[module]) for module in parts)


def test_alpha_of_the_header_and_of_the_file_beside(tmp_path):
    plain = tensors(*FORMATS["diffusers"])
    settings = {"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"ff.net.2": 1}}
    header = {"lora_adapter_metadata": json.dumps(settings)}
    save_file(plain, path := tmp_path / "a.safetensors", metadata=header)
    layers = {layer.module: layer for layer in reader.read_lora(path, TINY).layers}
    assert layers[f"{BLOCK}.attn1.to_q"].scale == 2
    assert layers[f"{BLOCK}.ff.net.2"].scale == 0.25
    assert layers[f"{BLOCK}.ff.net.2"].alpha_from == scales.HEADER
    save_file(tensors(*FORMATS["raw peft"]), path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 2, "r": 4}))
    layer = reader.read_lora(path, TINY).layers[0]
    assert (layer.scale, layer.alpha_from) == (0.5, library.CONFIG)
    (tmp_path / "adapter_config.json").write_text("[" * 10_000)
    assert reader.read_lora(path, TINY).layers[0].alpha_from == scales.NONE


def test_magnitudes_of_dora_are_found(merge, tmp_path):
    merged, module = [], f"{BLOCK}.attn1.to_q"
    for name, kind in (("lora_magnitude_vector", PEFT), ("dora_scale", KOHYA)):
        content = tensors(lambda m: f"transformer.{m}", *kind[:2])
        content[f"transformer.{module}.{name}"] = torch.linspace(0.5, 1, 256)
        save_file(content, path := tmp_path / "a.safetensors")
        marked = [layer.module for layer in reader.read_lora(path, TINY).layers if layer.magnitude]
        assert marked == [module]
        merged.append(merge(path)[module])
    assert torch.equal(*merged)


def wide(outputs: int, inputs: int, module: str) -> dict[str, torch.Tensor]:
    parts = torch.zeros(8, inputs), torch.zeros(outputs, 8)
    return {f"transformer.{module}.{end}": part for end, part in zip(PEFT, parts, strict=True)}


@pytest.mark.parametrize("shape", [None, (256,), (1, 256)])
def test_the_relative_change_is_that_of_merged_weights(shape, merge, tiny, tmp_path, capsys):
    content = tensors(*FORMATS["diffusers"]) | tensors(
        lambda m: f"transformer.{m}".replace(".3.", ".4."), *FORMATS["alpha beside"][1:]
    )
    if shape:
        norms = torch.linspace(0.5, 1, 256).view(shape)
        content[f"transformer.{BLOCK}.attn1.to_q.lora_magnitude_vector"] = norms
    save_file(content, path := tmp_path / "a.safetensors")
    merged = merge(path)
    stock = load_file(tiny.folder / "transformer/diffusion_pytorch_model.safetensors")
    wanted = {}
    for name, blocks in {"3": ["3"], "4": ["4"], "all": ["3", "4"]}.items():
        modules = [module for module in merged if module.split(".")[1] in blocks]
        base = torch.cat([stock[f"{module}.weight"].double().flatten() for module in modules])
        change = torch.cat([merged[module].double().flatten() for module in modules]) - base
        wanted[name] = pytest.approx((change.norm() / base.norm() / 0.7).item(), rel=1e-5)
    assert main(["lora", "inspect", "--json", str(path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["relative_to"], told["relative"]) == ("cogvideox-tiny", wanted)
    assert main(["lora", "inspect", str(path)]) == 0
    assert f"to cogvideox-tiny: 3: {told['relative']['3']:.3g}, 4: " in capsys.readouterr().out


def test_without_the_checkpoint_there_is_no_relative_change(tmp_path, capsys):
    save_file(wide(3072, 3072, f"{BLOCK}.attn1.to_q"), path := tmp_path / "a.safetensors")
    assert main(["lora", "inspect", "--json", str(path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["relative_to"], told["relative"]) == (None, {})


REFUSED = {
    "for CogVideoX-5b": (
        wide(3072, 3072, f"{BLOCK}.attn1.to_q"),
        "3072 × 3072 for transformer_blocks.3.attn1.to_q, and cogvideox-tiny 256 × 256: it is for "
        "CogVideoX-5b",
    ),
    "more blocks": (
        wide(256, 256, "transformer_blocks.40.attn1.to_q"),
        "changes 1 of 1 layers that cogvideox-tiny doesn't have, such as transformer_blocks.40",
    ),
    "no LoRA": ({"model.weight": torch.zeros(2, 2)}, "which no LoRA of CogVideoX has"),
    "of Wan": (
        wide(256, 256, "blocks.0.self_attn.q"),
        "changes blocks.0.self_attn.q, as a LoRA for Wan: use one for CogVideoX",
    ),
    "LoKr": ({f"transformer.{BLOCK}.attn1.to_q.lokr_w1": torch.zeros(2, 2)}, "LoKr, which isn't"),
    "text encoder": (
        {"text_encoder.block.0.q.lora_A.weight": torch.zeros(2, 2)},
        "of a text encoder, which CogVideoX keeps frozen",
    ),
    "half": (
        {f"transformer.{BLOCK}.attn1.to_q.lora_A.weight": torch.zeros(4, 256)},
        "lacks the up matrix of transformer_blocks.3.attn1.to_q",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_one_line(case, tmp_path):
    content, told = REFUSED[case]
    save_file(content, path := tmp_path / "a.safetensors")
    with pytest.raises(RequestError) as caught:
        reader.read_lora(path, TINY)
    assert told in caught.value.remedy
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    (pickle := tmp_path / "a.bin").write_bytes(b"\x80\x04.")
    (text := tmp_path / "a.safetensors").write_text("hello")
    for path, told in ((pickle, "a pickle"), (text, "no safetensors"), (tmp_path / "b", "no file")):
        with pytest.raises(RequestError, match=told):
            reader.read_lora(path, TINY)


def test_inspect_tells_what_a_file_is(tmp_path, capsys):
    save_file(tensors(*FORMATS["kohya"]), path := tmp_path / "a.safetensors")
    assert main(["lora", "inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "fits      cogvideox-tiny, cogvideox-tiny-i2v" in shown
    assert "4 layers of 1 block" in shown
    assert "scale     0.5 (alpha 2 from tensor, rank 4)" in shown
    assert main(["lora", "inspect", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["rank"] == RANK
    header = {"format": "pt", "fits": "CogVideoX-5b", "a\nSHA-256": "0" * 1000}
    save_file(tensors(*FORMATS["kohya"]), path, metadata=header)
    assert main(["lora", "inspect", str(path)]) == 0
    own, told = capsys.readouterr().out.split("header\n")
    assert own.startswith("format    kohya, VideoX-Fun\nfits      cogvideox-tiny, ")
    assert own.count("SHA-256") == 1
    lines = told.splitlines()
    assert {"  format: pt", "  fits: CogVideoX-5b"} < set(lines)
    assert len(lines) == 3
    assert all(line.startswith("  ") and len(line) < 250 for line in lines)
    assert main(["lora", "inspect", str(tmp_path / "none")]) == 2
    assert "is no file" in capsys.readouterr().err
