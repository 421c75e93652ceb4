"""The recipe of the embedded image-to-video model, and what its folder holds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import scenes
import torch
import train_i2v
import world
from diffusers import CogVideoXTransformer3DModel

MODELS = Path(__file__).parents[1] / "models"
TEXT, PICTURE = MODELS / "cogvideox-tiny", MODELS / "cogvideox-tiny-i2v"


@pytest.mark.parametrize("frames", world.FRAMES)
def test_measuring_is_right_on_what_the_recipe_draws(frames):
    rng = random.Random(frames)
    for attributes in world.EVERYTHING[:: 3 * frames]:
        one = scenes.scene(attributes, frames, rng)
        video = world.to_uint8(scenes.draw([one], frames)[0].permute(0, 2, 3, 1))
        motion, kept = scenes.measure(video, one)
        assert motion == attributes.motion
        assert kept > 32


def test_another_shape_or_colour_is_not_kept():
    one = scenes.scene(world.Attributes("red", "star", "still", "black"), 13, random.Random(1))
    for other in (world.Attributes("red", "circle", "still", "black"),
                  world.Attributes("green", "star", "still", "black")):  # fmt: skip
        ink = world.COLOURS[other.colour]
        drawn = scenes.draw([scenes.replace(one, attributes=other, ink=ink)], 13)[0]
        _, kept = scenes.measure(world.to_uint8(drawn.permute(0, 2, 3, 1)), one)
        assert kept < 28


def test_widening_changes_no_prediction():
    narrow = CogVideoXTransformer3DModel.from_pretrained(TEXT / "transformer").eval()
    wide = train_i2v.widened(narrow).eval()
    noisy, picture = torch.randn(2, 1, 2, 16, 12, 18, generator=torch.Generator().manual_seed(0))
    asked = {
        "encoder_hidden_states": torch.zeros(1, 4, 128),
        "timestep": torch.tensor([500]),
        "return_dict": False,
    }
    with torch.no_grad():
        (before,) = narrow(noisy, **asked)
        (after,) = wide(torch.cat([noisy, picture], dim=2), **asked)
    torch.testing.assert_close(before, after, rtol=1e-5, atol=1e-5)


def test_the_folder_holds_a_transformer_and_nothing_that_the_text_model_has():
    transformer = CogVideoXTransformer3DModel.from_pretrained(PICTURE / "transformer")
    assert (transformer.config.in_channels, transformer.config.out_channels) == (32, 16)
    assert sum(path.stat().st_size for path in PICTURE.rglob("*")) < 13e6
    assert not [*PICTURE.glob("vae*"), *PICTURE.glob("text_encoder*"), *PICTURE.glob("tokenizer*")]
