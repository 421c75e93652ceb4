"""What the interpolation network is trained on, and that it learns."""

from __future__ import annotations

import argparse
import importlib.util
import sys

import pytest
import torch
from conftest import ROOT


@pytest.fixture(scope="module")
def recipe():
    """``models/interpolation/train.py``, whose name other recipes have too."""
    path = ROOT / "models" / "interpolation" / "train.py"
    spec = importlib.util.spec_from_file_location("train_interpolation", path)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_layers_move_as_they_say(recipe):
    network, dice = sys.modules["network"], recipe.layers.Dice("cpu", 0)
    scenes = recipe.layers.draw(dice, 8, 96, 3)
    time = scenes.time.view(-1, 1, 1, 1)
    first = network.warp(scenes.first, scenes.velocity[:, :2] * time, "bilinear")
    last = network.warp(scenes.last, scenes.velocity[:, 2:] * (1 - time), "bilinear")
    error = torch.minimum((first - scenes.wanted).abs(), (last - scenes.wanted).abs())
    blend = (torch.lerp(scenes.first, scenes.last, time) - scenes.wanted).abs()
    assert error.median() < 0.01  # but for what neither shows, and light that changes
    assert error.mean() < 0.4 * blend.mean()


def test_a_step_of_training_changes_all_weights(recipe):
    network = recipe.InterpolationNetwork()
    before = [value.clone() for value in network.parameters()]
    options = argparse.Namespace(device="cpu", rate=1e-3, start=None)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    scenes = recipe.layers.draw(recipe.layers.Dice("cpu", 0), 2, 64, 2)
    for step in (300, 301):  # heads start near zero: the second reaches what is before them
        loss, _ = recipe.descend(network, scenes, optimizer, options, step, 0.0)
    assert loss.isfinite()
    changed = zip(before, network.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in changed)
