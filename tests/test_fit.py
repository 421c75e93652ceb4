"""Frame counts and sizes, by the rules of each checkpoint's training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from cogvx_nb.checkpoints.registry import CHECKPOINTS, Model, find_checkpoint
from cogvx_nb.errors import RequestError
from cogvx_nb.planning.fit import fit_frames, fit_size, is_trained

FUN_15 = "CogVideoX-Fun-V1.5-5b-InP"


def model_named(name: str) -> Model:
    checkpoint = find_checkpoint(name)
    return Model(checkpoint, Path(checkpoint.name), {}, checkpoint.parameters)


def size_of(name, height=None, width=None, picture=None, untrained=False):
    """((height, width), fields that were changed) for a picture of that (height, width)."""
    asked = {"height": height, "width": width, "allow_untrained_size": untrained}
    given = picture and SimpleNamespace(height=picture[0], width=picture[1])
    size, changes = fit_size(model_named(name), asked, given)
    used = dict(zip(("height", "width"), size, strict=True))
    for change in changes:
        assert change.asked == asked[change.field] != change.used == used[change.field]
    return size, [change.field for change in changes]


@pytest.mark.parametrize(
    ("name", "asked", "used"),
    [
        *(("5b", n, n) for n in (9, 13, 17, 25, 33, 41, 49)),
        *(("1.5", n, n) for n in (17, 33, 49, 65, 81, 161)),
        *((FUN_15, n, n) for n in (13, 53, 85)),
        ("5b", 10, 9),
        ("5b", 81, 49),
        ("tiny-i2v", 40, 41),
        ("1.5", 13, 17),
        ("1.5", 25, 17),
        ("1.5", 26, 33),
        ("1.5", 500, 161),
        (FUN_15, 49, 45),
        (FUN_15, 81, 77),
        (FUN_15, 500, 85),
    ],
)
def test_frames_are_fitted_to_the_counts_of_the_checkpoint(name, asked, used):
    model = model_named(name)
    got, changes = fit_frames(model, asked)
    assert got == used
    assert [(c.field, c.asked, c.used) for c in changes] == [("frames", asked, used)] * (
        asked != used
    )
    assert all(f"makes {model.checkpoint.frame_rule} frames" in c.reason for c in changes)


@pytest.mark.parametrize(
    ("name", "asked", "used"),
    [
        ("5b", 49, 49),
        ("5b", 54, 57),
        ("5b", 193, 193),
        ("5b", 9999, 961),
        ("1.5", 168, 161),
        ("1.5", 9999, 961),
        (FUN_15, 100, 101),
        ("5b-i2v", 193, 49),
    ],
)
def test_more_frames_are_made_of_text_alone(name, asked, used):
    model = model_named(name)
    got, changes = fit_frames(model, asked, text_alone=True)
    assert (got, bool(changes)) == (used, asked != used)
    _, (change,) = fit_frames(model, 193)
    assert ("by windows, of text alone" in change.reason) == (name != "5b-i2v")


def test_the_rule_in_words():
    rules = {name: find_checkpoint(name).frame_rule for name in ("5b", "1.5", FUN_15)}
    assert rules == {
        "5b": "8 N + 1 from 9 to 49, or 13",
        "1.5": "16 N + 1 from 17 to 161",
        FUN_15: "8 N + 5 from 13 to 85",
    }


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda known: known.name)
def test_what_is_offered_is_made(checkpoint):
    assert set(checkpoint.frames) <= set(checkpoint.frame_counts)
    assert checkpoint.frames == tuple(sorted(checkpoint.frames))
    assert all(count % 4 == 1 for count in checkpoint.frame_counts), "whole latent frames"
    assert is_trained(checkpoint, (checkpoint.height, checkpoint.width))


@pytest.mark.parametrize("name", ["5b", "2b", "5b-i2v", "tiny-i2v", "1.5"])
def test_a_checkpoint_of_one_size_keeps_it(name):
    checkpoint = find_checkpoint(name)
    native = (checkpoint.height, checkpoint.width)
    for picture in (None, (1000, 700), (1, 5000)):
        assert size_of(name, picture=picture) == (native, [])
        assert size_of(name, 512, 512, picture) == (native, ["height", "width"])
        assert size_of(name, width=320, picture=picture) == (native, ["width"])
    if not checkpoint.learned_positions:
        assert size_of(name, 250, 264, untrained=True) == ((256, 256), ["height", "width"])


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        (None, (768, 1360)),
        ((1080, 1920), (768, 1360)),
        ((1920, 1080), (1360, 768)),
        ((3000, 4000), (768, 1024)),
        ((4000, 3000), (1024, 768)),
        ((500, 500), (768, 768)),
        ((100, 4000), (768, 1360)),
        ((640, 700), (768, 832)),  # 840, between 832 and 848
    ],
)
def test_the_size_of_cogvideox15_i2v_follows_the_picture(picture, size):
    assert size_of("1.5-5b-i2v", picture=picture) == (size, [])


@pytest.mark.parametrize(
    ("asked", "picture", "size", "changed"),
    [
        ((768, 1000), None, (768, 992), ["width"]),
        ((1008, 768), None, (1008, 768), []),
        ((480, 720), None, (768, 768), ["height", "width"]),
        ((2000, 3000), None, (768, 1360), ["height", "width"]),
        ((768, None), (300, 400), (768, 1024), []),
        ((None, 768), (400, 300), (1024, 768), []),
        ((None, 1024), None, (768, 1024), []),
    ],
)
def test_sizes_asked_of_cogvideox15_i2v(asked, picture, size, changed):
    assert size_of("1.5-5b-i2v", *asked, picture) == (size, changed)


@pytest.mark.parametrize(
    ("asked", "picture", "size", "changed"),
    [
        ((None, None), None, (384, 672), []),
        ((256, 1024), None, (256, 1024), []),
        ((1024, 1024), None, (1024, 1024), []),
        ((240, 2000), None, (256, 1024), ["height", "width"]),
        ((None, None), (1000, 1000), (384, 384), []),
        ((None, None), (1600, 900), (688, 384), []),  # 682.7
        ((None, None), (100, 4000), (384, 1024), []),
        ((512, None), (1000, 1000), (512, 512), []),
        ((None, 512), (1600, 800), (1024, 512), []),
    ],
)
def test_fun_takes_any_size_within_its_buckets(asked, picture, size, changed):
    assert size_of(FUN_15, *asked, picture) == (size, changed)


@pytest.mark.parametrize(
    ("name", "height", "width", "trained"),
    [
        (FUN_15, 512, 768, True),
        (FUN_15, 768, 512, True),
        (FUN_15, 512, 770, False),
        (FUN_15, 128, 512, False),
        ("1.5-5b-i2v", 1360, 768, True),
        ("1.5-5b-i2v", 1360, 1360, False),
        ("1.5", 1360, 768, False),
    ],
)
def test_a_size_within_the_training_needs_no_permission(name, height, width, trained):
    assert is_trained(find_checkpoint(name), (height, width)) == trained


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("1.5-5b-i2v", (768, 1360)),
        ("1.5-5b-i2v", (1000, 1000)),
        ("CogVideoX-Fun-V1.1-5b-InP", (96, 144)),
        (FUN_15, (400, 700)),
    ],
)
def test_sizes_are_whole_numbers_whatever_the_picture(name, picture):
    assert all(type(side) is int for side in size_of(name, picture=picture)[0])


def test_a_long_picture_asks_for_no_more_than_the_largest_size():
    wanted = {"height": 512, "picture": (200, 8000), "untrained": True}
    assert size_of("CogVideoX-Fun-V1.1-5b-InP", **wanted)[0] == (512, 4096)


@pytest.mark.parametrize("name", ["5b-i2v", "interpolation"])
def test_learned_positions_are_of_one_size(name):
    with pytest.raises(RequestError, match="learned positions for 480 × 720 only"):
        size_of(name, 320, 480, untrained=True)
    assert size_of(name, 480, 720, untrained=True)[0] == (480, 720)
