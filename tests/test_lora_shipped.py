"""The LoRAs that ship with the embedded model do what their card says, seen in pixels."""

from __future__ import annotations

import evaluate_loras
import pytest

from cogvx_nb.checkpoints import headers, registry
from cogvx_nb.loras.reader import read_lora
from cogvx_nb.loras.scales import HEADER
from cogvx_nb.pipeline import loader
from cogvx_nb.training.preview import sample_frames

FILES = {name: evaluate_loras.LORAS / f"{name}.safetensors" for name in ("large", "shadow")}


@pytest.fixture(scope="module")
def seen():
    """(pixels of the shape, of a shadow) of a prompt, by weights."""
    prompt, said = evaluate_loras.prompts(5)[4]
    found = {}
    for weights in ({}, {"large": 1.0}, {"shadow": 1.0}, {"large": 1.0, "shadow": 1.0}):
        loras = {FILES[name]: weight for name, weight in weights.items()}
        frames = sample_frames(prompt, loras, frames=13, steps=10, seed=4)
        found[tuple(weights)] = evaluate_loras.look(frames, said)
    loader.release_pipeline()
    return found


@pytest.mark.slow
def test_shapes_are_larger_and_have_shadows(seen):
    (area, shadow), large, shaded, both = seen.values()
    assert (area > 200, shadow) == (True, 0)
    assert large[0] > 1.5 * area
    assert large[1] == 0
    for each in (shaded, both):
        assert each[1] >= evaluate_loras.LEAST_SHADOW


@pytest.mark.parametrize("name", FILES)
def test_their_headers_tell_what_they_are(name):
    assert FILES[name].stat().st_size <= 200_000
    file, metadata = read_lora(FILES[name], registry.TINY), headers.read_tensors(FILES[name], "")[1]
    assert metadata["ss_base_model_version"] == "cogvideox-tiny"
    assert metadata["modelspec.license"] == "Apache-2.0"
    assert {(layer.rank, layer.alpha, layer.alpha_from) for layer in file.layers} == {
        (3, 3.0, HEADER)
    }
