"""The embedded checkpoint shows what prompts say that it was never trained on."""

from __future__ import annotations

import pytest

HELD_OUT = 3
"""Combinations a language; ``evaluate.py`` measures all of them."""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_held_out_prompts(make, world, language):
    right = []
    for prompt, wanted in world.held_out_prompts(language)[:HELD_OUT]:
        found = world.measure(make(prompt, steps=25).frames)
        right += [found[name] == value for name, value in wanted.items()]
    assert len(right) >= 4 * HELD_OUT
    assert sum(right) / len(right) >= 0.9
