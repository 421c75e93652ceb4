"""The embedded checkpoint shows what prompts say that it was never trained on."""

from __future__ import annotations

import evaluate
import numpy as np
import pytest
import world
from conftest import CIRCLE

PROMPTS = 4
"""A language; ``evaluate.py`` measures all of the held-out combinations."""


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
def test_held_out_prompts(make, language):
    right = {name: [] for name in evaluate.NAMES}
    for prompt, said in evaluate.held_out_prompts(language, PROMPTS):
        shown = world.measure(make(prompt, steps=25).frames)
        for name, values in right.items():
            values.append(getattr(shown, name) == getattr(said, name))
    shares = {name: np.mean(values) for name, values in right.items()}
    assert min(shares.values()) >= 0.75, shares


@pytest.mark.slow
def test_the_prompt_of_the_readme(make):
    shown = world.measure(make(CIRCLE, steps=50).frames)
    assert shown == world.Attributes("red", "circle", "right", "black")


def test_measuring_is_right_on_what_the_recipe_draws():
    for seed, attributes in enumerate(world.EVERYTHING[::9]):
        assert world.measure(world.clip(attributes, 13, seed)) == attributes


def test_one_combination_in_eight_is_held_out():
    assert len(world.HELD_OUT) * 8 == len(world.EVERYTHING)
    assert not set(world.HELD_OUT) & set(world.TRAINED)
