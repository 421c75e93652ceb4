"""Damaged checkpoints are refused by name before anything is loaded."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import pytest

from cogvx_nb.checkpoints import registry, store
from cogvx_nb.errors import ModelCorrupt, ModelError, ModelIncomplete, ModelMissing, PickledWeights

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


def test_an_image_model_of_the_same_architecture_is_another_one(copy_of_tiny, tiny, monkeypatch):
    known = tiny.checkpoint
    with_image = replace(
        known,
        name="with-image",
        pipeline_class="CogVideoXImageToVideoPipeline",
        in_channels=32,
        cannot_run="it starts from an image",
    )
    config = dict(zip(registry.ARCHITECTURE_KEYS, known.architecture, strict=True))
    both = (
        (config | {"in_channels": 16}, "CogVideoXPipeline", known),
        (config | {"in_channels": 32}, "CogVideoXImageToVideoPipeline", with_image),
    )
    for order in ((with_image, known), (known, with_image)):
        monkeypatch.setattr(registry, "CHECKPOINTS", order)
        for transformer, pipeline_class, checkpoint in both:
            assert registry.checkpoint_of_config(transformer, pipeline_class) is checkpoint
    assert registry.checkpoint_of_config(config, "CogVideoXVideoToVideoPipeline") is None
    path = copy_of_tiny / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"in_channels": 32}))
    with pytest.raises(ModelError, match="none of: "):
        store.locate_checkpoint(str(copy_of_tiny))
    index = copy_of_tiny / "model_index.json"
    index.write_text(index.read_text().replace('"CogVideoXPipeline"', f'"{both[1][1]}"'))
    assert store.locate_checkpoint(str(copy_of_tiny)).checkpoint is with_image


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
