"""Plans of the checkpoints whose patches span two latent frames, and of their sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_plan import CARDS, machine_with

from cogvx_nb.checkpoints.registry import CHECKPOINTS, SIZE_MULTIPLE, Model, get_checkpoint
from cogvx_nb.errors import DoesNotFit
from cogvx_nb.pipeline import components
from cogvx_nb.pipeline.vae import decode_latents
from cogvx_nb.planning import planner
from cogvx_nb.planning.plan import Plan


def plan_of(name: str, frames: int, size: tuple[int, int] | None = None) -> Plan:
    known = get_checkpoint(name)
    height, width = size or (known.height, known.width)
    model = Model(known, Path(known.name), {}, known.parameters)
    return Plan(model, "cuda:0", "bfloat16", "no_offload", True, frames, height, width, guided=True)


@pytest.mark.parametrize(
    ("name", "frames", "size", "tokens"),
    [
        ("5b", 49, None, 226 + 13 * 30 * 45),
        ("5b", 13, None, 226 + 4 * 30 * 45),
        ("1.5", 81, None, 224 + 11 * 48 * 85),  # 21 latent frames and one of padding
        ("1.5", 17, None, 224 + 3 * 48 * 85),
        ("1.5-5b-i2v", 161, (1360, 768), 224 + 21 * 48 * 85),
        ("CogVideoX-Fun-V1.5-5b-InP", 85, (384, 672), 226 + 11 * 24 * 42),  # 22 latent frames
    ],
)
def test_tokens_are_of_whole_patches(name, frames, size, tokens):
    assert plan_of(name, frames, size).tokens(frames) == tokens


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", ["1.5", "1.5-5b-i2v", "5b-i2v"])
def test_each_offered_length_fits_each_card(name, card):
    known = get_checkpoint(name)
    for frames in known.frames:
        plan = planner.predict_plan(known, machine_with(CARDS[card]), frames)
        assert plan.peak_bytes <= CARDS[card] * 2**30
        assert plan.tiled == (name != "5b-i2v" and CARDS[card] < 19)


def test_a_card_of_24_gb_takes_little_longer_for_cogvideox15():
    known = get_checkpoint("1.5")
    seconds = {
        card: sum(planner.predict_plan(known, machine_with(CARDS[card]), 81).seconds.values())
        for card in ("80 GB", "24 GB")
    }
    assert seconds["24 GB"] < 1.15 * seconds["80 GB"]


def test_twice_the_frames_of_cogvideox15_need_a_larger_card():
    known = get_checkpoint("1.5")
    assert planner.predict_plan(known, machine_with(CARDS["12 GB"]), 161).tiled
    with pytest.raises(DoesNotFit, match="161 frames needs"):
        planner.predict_plan(known, machine_with(CARDS["8 GB"]), 161)


@pytest.mark.parametrize("known", CHECKPOINTS, ids=lambda known: known.name)
def test_tiles_cover_every_size(known):
    sides = known.sizes or (range(known.height, known.height + 1), range(known.width, 4097))
    long = known.sizes.long if known.sizes else sides[1][::SIZE_MULTIPLE]
    for width in long:
        height, tile = plan_of(known.name, 49, (known.height, width)).tile
        assert (height // 8 % 6, tile // 8 % 5, height % 8, tile % 8) == (0, 0, 0, 0)
        assert not known.huggingface or width <= tile < width + 40


@pytest.mark.parametrize("size", [(176, 112), (96, 208)], ids=["upright", "wide"])
def test_tiles_add_up_at_any_size(tiny, size):
    torch.manual_seed(0)
    vae = components.COMPONENT_CLASSES["vae"].from_pretrained(tiny.folder / "vae").eval()
    latents = torch.randn(1, 1, 16, size[0] // 8, size[1] // 8)
    tile = plan_of("5b", 1, size).tile
    with torch.no_grad():
        whole = decode_latents(vae, latents, 1)
        vae.enable_tiling(min(tile[0], 48), tile[1])
        tiled = decode_latents(vae, latents, 1)
    assert tiled.shape == whole.shape == (1, 1, *size, 3)
    assert 0 < (tiled - whole).abs().mean() < 0.1


def test_configurations_of_scheduler_and_vae():
    hosted = [known for known in CHECKPOINTS if known.huggingface]
    configs = {known.name: components.random_configs(known) for known in hosted}
    shifts = {name: config["scheduler"]["snr_shift_scale"] for name, config in configs.items()}
    assert shifts == {name: 3.0 if "-2b" in name else 1.0 for name in configs}
    inverted = {name for name, config in configs.items() if config["vae"]["invert_scale_latents"]}
    assert inverted == {known.name for known in hosted if known.patch_frames == 2}
    scales = {(name.count("-2b"), c["vae"]["scaling_factor"]) for name, c in configs.items()}
    assert scales == {(0, 0.7), (1, 1.15258426)}
