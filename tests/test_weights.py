"""Damaged checkpoints are refused by name before anything is loaded."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace

import pytest

from cogvx_nb.checkpoints import registry, store
from cogvx_nb.errors import ModelCorrupt, ModelError, ModelIncomplete, ModelMissing, PickledWeights
from cogvx_nb.planning import planner, request

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


def test_the_embedded_checkpoint(tiny):
    assert tiny.name == "cogvideox-tiny"
    stored = sum(path.stat().st_size for path in tiny.folder.rglob("*") if path.is_file())
    assert stored <= 24_000_000
    assert not [path for kind in store.PICKLES for path in tiny.folder.rglob(kind)]
    assert 8e6 < sum(tiny.parameters.values()) < 13e6


def test_a_folder_is_recognised_by_its_config(copy_of_tiny, tiny):
    model = store.locate_checkpoint(str(copy_of_tiny))
    assert model.name == "cogvideox-tiny"
    assert store.file_hashes(model) == store.file_hashes(tiny)


def test_a_missing_checkpoint_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("COGVX_MODELS_DIR", str(tmp_path))
    with pytest.raises(ModelMissing, match="cogvx download CogVideoX-5b"):
        store.locate_checkpoint("5b")
    with pytest.raises(ModelMissing, match=r"none of: CogVideoX-5b, .*cogvideox-tiny"):
        store.locate_checkpoint("no-such-model")


@pytest.mark.parametrize(
    "name",
    ["model_index.json", "transformer/config.json", TRANSFORMER, "scheduler/scheduler_config.json"],
)
def test_a_missing_file_is_named(copy_of_tiny, name):
    (copy_of_tiny / name).unlink()
    with pytest.raises(ModelIncomplete, match=name):
        store.locate_checkpoint(str(copy_of_tiny))


def test_a_truncated_shard_is_named(copy_of_tiny):
    path = copy_of_tiny / TRANSFORMER
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelCorrupt, match=TRANSFORMER):
        store.locate_checkpoint(str(copy_of_tiny))


@pytest.mark.parametrize(
    "content",
    [b"", b"1234", b"\xff" * 100, struct.pack("<Q", 4) + b"{}{}", struct.pack("<Q", 2) + b"[]"],
    ids=["empty", "short", "huge header", "no JSON", "no table"],
)
def test_a_corrupt_shard_is_named(copy_of_tiny, content):
    (copy_of_tiny / TRANSFORMER).write_bytes(content)
    with pytest.raises(ModelCorrupt, match=TRANSFORMER):
        store.locate_checkpoint(str(copy_of_tiny))


def test_a_missing_shard_of_an_index_is_named(copy_of_tiny):
    shard = copy_of_tiny / TRANSFORMER
    names = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    shard.rename(shard.with_name(names[0]))
    shard.with_suffix(".safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelIncomplete, match=names[1]):
        store.locate_checkpoint(str(copy_of_tiny))


def test_pickles_are_refused(copy_of_tiny):
    shard = copy_of_tiny / TRANSFORMER
    shard.rename(shard.with_suffix(".bin"))
    with pytest.raises(PickledWeights, match=r"diffusion_pytorch_model\.bin is a pickle"):
        store.locate_checkpoint(str(copy_of_tiny))


def test_an_unknown_architecture_is_refused(copy_of_tiny):
    path = copy_of_tiny / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_layers": 7}))
    with pytest.raises(ModelError, match="none of: CogVideoX-5b"):
        store.locate_checkpoint(str(copy_of_tiny))


def test_checkpoints_are_recognised_by_their_transformer(copy_of_tiny):
    from cogvx_nb.pipeline import components  # late: it loads torch

    path, rows = copy_of_tiny / "transformer" / "config.json", {}
    for known in registry.CHECKPOINTS:
        path.write_text(json.dumps(components.random_configs(known)["transformer"]))
        model = store.locate_checkpoint(str(copy_of_tiny))
        assert model.checkpoint.kind == known.kind
        rows.setdefault(known.kind, []).append(known.name)
    alike = [names for names in rows.values() if len(names) > 1]
    assert alike == [["CogVideoX-5b-I2V", "CogvideoX-Interpolation"]], "a fine-tune of the other"


def test_the_folder_decides_between_checkpoints_of_one_kind(tiny, monkeypatch):
    from cogvx_nb.pipeline import components  # late: it loads torch

    config = components.random_configs(tiny.checkpoint)["transformer"]
    other = replace(tiny.checkpoint, name="fine-tuned", aliases=())
    monkeypatch.setattr(registry, "CHECKPOINTS", (tiny.checkpoint, other))
    assert registry.checkpoint_of_config(config) is tiny.checkpoint
    assert registry.checkpoint_of_config(config, "fine-tuned") is other
    assert registry.checkpoint_of_config(config | {"sample_height": 7}) is tiny.checkpoint


@pytest.mark.parametrize("known", registry.CHECKPOINTS, ids=lambda known: known.name)
def test_a_transformer_has_the_parameters_of_its_row(known):
    import diffusers
    import torch

    from cogvx_nb.pipeline import components

    config = components.random_configs(known)["transformer"]
    with torch.device("meta"):
        transformer = diffusers.CogVideoXTransformer3DModel(**config)
    assert sum(p.numel() for p in transformer.parameters()) == known.parameters["transformer"]
    patches = transformer.patch_embed.proj.weight
    assert patches[0].numel() == known.in_channels * 2 * 2 * known.patch_frames
    learned = "patch_embed.pos_embedding" in transformer.state_dict()
    assert learned == known.learned_positions


def test_random_weights_take_their_shapes_from_the_registry():
    from cogvx_nb.pipeline import components  # late: it loads torch

    configs = {c.name: components.random_configs(c) for c in registry.CHECKPOINTS}
    vaes = {name: config["vae"]["scaling_factor"] for name, config in configs.items()}
    assert vaes == {c.name: c.vae_scaling_factor for c in registry.CHECKPOINTS}
    rotary = "use_rotary_positional_embeddings"
    assert {n: c["transformer"][rotary] for n, c in configs.items()} == {
        c.name: c.rotary_embeddings for c in registry.CHECKPOINTS
    }
    assert (vaes["CogVideoX-5b"], vaes["CogVideoX-2b"]) == (0.7, 1.15258426)


def test_hashes_follow_the_files(copy_of_tiny):
    before = store.file_hashes(store.locate_checkpoint(str(copy_of_tiny)))
    path = copy_of_tiny / TRANSFORMER
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    after = store.file_hashes(store.locate_checkpoint(str(copy_of_tiny)))
    assert {name for name in before if before[name] != after[name]} == {TRANSFORMER}


CONFIGURATIONS = [
    ("transformer/config.json", {"sample_frames": 10**7}, "sample_frames = 10000000"),
    ("transformer/config.json", {"text_embed_dim": "4096"}, "text_embed_dim = '4096'"),
    ("transformer/config.json", {"norm_eps": float("nan")}, "norm_eps = nan"),
    ("transformer/config.json", {"patch_size": -2}, "patch_size = -2"),
    ("transformer/config.json", {"attention_bias": "yes"}, "attention_bias = 'yes'"),
    ("transformer/config.json", {"quantization_config": {"bits": 4}}, "of quantized weights"),
    ("vae/config.json", {"block_out_channels": [8] * 10**5}, "block_out_channels = .8, 8, "),
    ("vae/config.json", {"layers_per_block": 10**9}, "layers_per_block = 1000000000"),
    ("vae/config.json", {"scaling_factor": "1"}, "scaling_factor = '1'"),
    ("vae/config.json", {"temporal_compression_ratio": 3}, "temporal_compression_ratio = 3"),
    ("text_encoder/config.json", {"num_layers": 10**9}, "num_layers = 1000000000"),
    ("text_encoder/config.json", {"vocab_size": 600}, "fewer tokens than its tokenizer"),
    ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}, "num_train_timesteps"),
    ("scheduler/scheduler_config.json", {"prediction_type": "x"}, "prediction_type = 'x'"),
    ("scheduler/scheduler_config.json", {"trained_betas": [0.1]}, "trained_betas = .0.1., unlike"),
    ("scheduler/scheduler_config.json", {"_class_name": "Euler"}, "of 'Euler': the model was made"),
    ("model_index.json", {"tokenizer": ["transformers", "AutoTokenizer"]}, "no known tokenizer"),
    ("model_index.json", {"tokenizer": ["os", "system"]}, "no known tokenizer"),
    ("model_index.json", {"tokenizer": 5}, "can't be read: fetch it again"),
    ("tokenizer/tokenizer_config.json", {"pad_token": None}, "has no token for padding"),
]
"""What would run code, take terabytes or hours, or make another video than the weights' own."""


@pytest.mark.parametrize(("name", "values", "reason"), CONFIGURATIONS)
def test_configurations_are_checked_before_anything_is_made_of_them(
    copy_of_tiny, here, name, values, reason
):
    path = copy_of_tiny / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(ModelCorrupt, match=reason) as caught:
        assemble(copy_of_tiny, here)
    assert str(copy_of_tiny) in str(caught.value)
    assert "\n" not in str(caught.value)


def assemble(folder, here):
    """Load all parts of a checkpoint without keeping them."""
    from cogvx_nb.pipeline import components  # late: it loads torch

    video = request.make_request(store.locate_checkpoint(str(folder)), "a circle", strict=False)
    plan = planner.plan_request(video, here)
    return components.assemble_pipeline(plan, lambda name, part: None)


@pytest.mark.parametrize(
    ("component", "name", "change", "reason"),
    [
        ("transformer", "proj_out.bias", None, "lacks 1 weights, such as proj_out.bias"),
        ("transformer", "proj_out.more", "zeros", "has no place for 1 weights, such as proj_out"),
        ("transformer", "proj_out.bias", "int32", "is no safetensors file of weights"),
        ("transformer", "proj_out.bias", "longer", "can't be loaded: fetch it again .ValueError"),
        ("text_encoder", "encoder.final_layer_norm.weight", None, "lacks 1 weights"),
        ("vae", "decoder.conv_in.conv.bias", "nan", "holds NaN or infinity in decoder.conv_in"),
    ],
)
def test_weights_are_whole_and_numbers(copy_of_tiny, here, component, name, change, reason):
    import torch
    from safetensors.torch import load_file, save_file

    (path,) = (copy_of_tiny / component).glob("*.safetensors")
    weights = load_file(path)
    stored = weights.pop(name, torch.zeros(3))
    changes = {
        "zeros": stored,
        "int32": stored.int(),
        "longer": torch.cat([stored, stored]),
        "nan": stored * float("nan"),
    }
    save_file(weights | ({name: changes[change]} if change else {}), path)
    with pytest.raises(ModelCorrupt, match=reason) as caught:
        assemble(copy_of_tiny, here)
    assert "\n" not in str(caught.value)


def test_weights_that_two_shards_hold_are_refused(copy_of_tiny):
    shard = copy_of_tiny / TRANSFORMER
    names = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for name in names:
        shard.with_name(name).write_bytes(shard.read_bytes())
    header = shard.read_bytes()
    (length,) = struct.unpack("<Q", header[:8])
    tensors = json.loads(header[8 : 8 + length]).keys() - {"__metadata__"}
    index = {"weight_map": dict.fromkeys(tensors, names[0]) | {min(tensors): names[1]}}
    shard.with_suffix(".safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelCorrupt, match="lists fewer weights than its files hold"):
        store.locate_checkpoint(str(copy_of_tiny))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("no")])
def test_what_is_no_file_is_not_hashed(copy_of_tiny, make):
    make(copy_of_tiny / "extra.json")
    with pytest.raises(ModelCorrupt, match=r"extra\.json is no file: remove it"):
        store.file_hashes(store.locate_checkpoint(str(copy_of_tiny)))
