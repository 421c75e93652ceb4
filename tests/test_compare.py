"""Comparisons: what differs, and one video in which all play in step."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np
import pytest
from conftest import CIRCLE, everything

from cogvx_nb.errors import RequestError, ResultError
from cogvx_nb.results import result, side_by_side, video
from cogvx_nb.workbench import gallery_tab

XSS = f'{CIRCLE}, {CIRCLE}, {CIRCLE} <script>alert(1)</script> "><img src=x onerror=alert(2)>'


def test_what_differs(samples):
    found = side_by_side.differing_settings(samples)
    assert found["prompt"] == (CIRCLE, "a blue circle moving left", CIRCLE)
    assert found["seed"] == ("42", "7", "42")
    assert found["frames"] == ("13", "13", "25")
    assert not {"model", "guidance", "steps", "plan", "size"} & set(found)
    assert set(side_by_side.differing_settings([samples[0], samples[0]])) == set()


def test_long_seeds_are_told_apart(place):
    found = [
        result.read_result(place(name, seed=seed))
        for name, seed in (("a", 2**53 - 1), ("b", 2**53))
    ]
    assert side_by_side.differing_settings(found) == {
        "seed": ("9007199254740991", "9007199254740992")
    }


def test_words_that_differ_are_marked(samples):
    page = side_by_side.comparison_table(samples)
    marked = [part.split("</mark>")[0].split(">")[1] for part in page.split("<mark")[1:]]
    assert "blue" in marked
    assert "red" in marked
    assert "7" in marked
    assert not any("circle" in words.split() for words in marked)


def test_they_play_in_step(samples, tmp_path):
    shown = gallery_tab.Compare([one.path for one in samples])
    (player,) = [one for one in everything(shown) if isinstance(one, widgets.Video)]
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(bytes(player.value))
    frames = video.decode_video(copy)
    assert len(frames) == 25
    assert frames.shape[2] > 3 * 144
    third = frames.shape[2] // 3
    held = frames[20, :, :third].astype(int) - frames[13, :, :third]
    assert np.abs(held).mean() < 3, "the shorter one stays at its last frame"


def test_two_to_six(samples):
    shown = gallery_tab.Compare()
    for paths in ([samples[0].path], [samples[0].path] * 7):
        with pytest.raises(RequestError, match="choose two to 6"):
            shown.show(paths)
    with pytest.raises(ResultError, match="there is no file"):
        shown.show([samples[0].path, samples[0].path.with_name("none.mp4")])
    shown.show([one.path for one in samples] * 2)
    assert [one for one in everything(shown) if isinstance(one, widgets.Video)]


def test_text_of_users_is_inert(place):
    hostile = [
        result.read_result(place("a", prompt=XSS)),
        result.read_result(place("b", prompt=f"{XSS} no", negative_prompt="<b>\u202eno")),
    ]
    page = side_by_side.comparison_table(hostile)
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
