"""Seeds that are drawn, and noise between that of two seeds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import CIRCLE

from cogvx_nb import reproduction
from cogvx_nb.errors import RequestError
from cogvx_nb.pipeline.noise import Noise, slerp
from cogvx_nb.planning.request import make_request
from cogvx_nb.results.result import read_result, save_result

SMALL = {"height": 32, "width": 48, "allow_untrained_size": True}


def test_a_random_seed_is_drawn_and_recorded(tiny, generated, outputs):
    first, second = (make_request(tiny, CIRCLE, seed=-1, variation_seed=-1) for _ in range(2))
    seeds = {*first.seeds.values(), *second.seeds.values()}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert first.asked["seed"] == -1
    assert f"seed {first.seed}" in str(first)
    saved = save_result(generated(seed=-1, **SMALL))
    kept = read_result(saved.path).settings
    assert kept.request.seed >= 0
    assert kept.asked["seed"] == -1
    assert saved.path.stem.endswith(f"-{kept.request.seed}")
    assert reproduction.request_of(kept).seed == kept.request.seed
    assert reproduction.reproduce(saved).identical


@pytest.mark.parametrize("field", ["seed", "variation_seed"])
def test_no_other_negative_seed_is_one(tiny, field):
    with pytest.raises(RequestError, match=f"{field} = -2: must be between -1 and"):
        make_request(tiny, CIRCLE, **{field: -2})


def test_a_recorded_seed_is_never_drawn(place):
    with pytest.raises(RequestError, match="seed = -1: is that of no video"):
        reproduction.request_of(read_result(place(seed=-1)).settings)


def distance(first, second) -> float:
    return float(np.square(first.frames.astype(float) - second.frames).mean())


def test_strength_goes_from_one_seed_to_the_other(generated):
    here = generated(seed=42, **SMALL)
    there = generated(seed=7, **SMALL)
    varied = {
        strength: generated(seed=42, variation_seed=7, variation_strength=strength, **SMALL)
        for strength in (0.0, 0.1, 0.6, 1.0)
    }
    assert np.array_equal(varied[0.0].frames, here.frames)
    assert np.array_equal(varied[1.0].frames, there.frames)
    distances = [distance(here, one) for one in varied.values()]
    assert 0 == distances[0] < distances[1] < distances[2]
    assert distance(there, varied[0.6]) < distance(there, varied[0.1])


def test_a_variation_is_recorded_and_made_again(tiny, generated, outputs):
    asked = {"variation_seed": 9, "variation_strength": 0.25}
    saved = save_result(generated(seed=5, **asked, **SMALL))
    recorded = json.loads(saved.sidecar.read_text())["request"]
    assert recorded["seed"] == 5
    assert {name: recorded[name] for name in asked} == asked
    assert "seed 5 varied by 0.25 towards seed 9" in str(
        make_request(tiny, CIRCLE, seed=5, **asked)
    )
    assert reproduction.reproduce(read_result(saved.path)).identical


def test_sidecars_from_before_have_no_variation(place):
    path = place()
    content = json.loads(path.with_suffix(".json").read_text())
    for part in ("request", "asked"):
        del content[part]["variation_seed"], content[part]["variation_strength"]
    path.with_suffix(".json").write_text(json.dumps(content))
    kept = read_result(path).settings
    assert (kept.request.variation_seed, kept.request.variation_strength) == (0, 0.0)
    assert reproduction.request_of(kept).variation_strength == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_noise_between_two_seeds_is_standard_normal(dtype):
    shape = (1, 4, 16, 60, 90)
    drawn = {}
    for strength in (0, 0.5, 1):
        noise = Noise(42, 7, strength)
        drawn[strength], again = noise.draw(shape, dtype), noise.draw(shape, dtype)
        assert not torch.equal(drawn[strength], again), "each step has noise of its own"
    middle = drawn[0.5]
    assert middle.dtype == dtype
    assert abs(middle.double().mean()) < 0.01
    assert abs(middle.double().std() - 1) < 0.01
    ends = [
        torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
        for seed in (42, 7)
    ]
    assert torch.equal(drawn[0], ends[0])
    assert torch.equal(drawn[1], ends[1])


def test_the_arc_between_equal_noise_is_that_noise():
    noise = torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(slerp(noise, noise, 0.3), noise)
    assert torch.equal(slerp(noise, -noise, 0.3), noise)
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert torch.allclose(slerp(a, b, 0.5), torch.tensor([0.5**0.5, 0.5**0.5]))
