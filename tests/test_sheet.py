"""Clips beside each other: in step, in place, labelled."""

from __future__ import annotations

import numpy as np

from cogvx_nb.results import side_by_side


def plain(frames: int, colour: tuple[int, int, int], size=(96, 144)) -> np.ndarray:
    return np.full((frames, *size, 3), colour, np.uint8)


def test_clips_come_to_one_length_and_pace():
    slow = np.arange(13, dtype=np.uint8).reshape(13, 1, 1, 1)
    fast = np.arange(81, dtype=np.uint8).reshape(81, 1, 1, 1)
    (first, second), fps = side_by_side.clips_in_step([slow, fast], [8, 16])
    assert (len(first), len(second), fps) == (81, 81, 16)
    assert first[:6].ravel().tolist() == [0, 0, 1, 1, 2, 2]
    assert set(first[26:].ravel().tolist()) == {12}, "the last frame stays"
    assert (second.ravel() == np.arange(81)).all()


def test_each_clip_is_in_its_place():
    red, green = plain(3, (200, 0, 0)), plain(3, (0, 200, 0), (48, 72))
    page = side_by_side.compose_sheet(
        [[red, None], [None, green]], ["one", "two"], ["a", "b"], width=144
    )
    assert page.shape[0] == 3
    assert page.shape[1] % 2 == page.shape[2] % 2 == 0
    left, top = 72, 30
    at = page[1]
    assert tuple(at[top + 48, left + 72]) == (200, 0, 0)
    assert tuple(at[top + 102 + 48, left + 150 + 72]) == (0, 200, 0)
    assert tuple(at[top + 48, left + 150 + 72]) == (0xDD,) * 3, "there is no such clip"
    for label in (at[:top, left : left + 144], at[:top, left + 150 :], at[top : top + 96, :left]):
        assert label.min() < 60, "a label in dark letters"
        assert label.max() == 255


def test_the_frames_move():
    clip = np.stack([np.full((96, 144, 3), value, np.uint8) for value in (10, 250)])
    page = side_by_side.compose_sheet([[clip]], [""], [""], width=144)
    assert page.shape == (2, 102, 150, 3)
    assert (page[0, 40, 40, 0], page[1, 40, 40, 0]) == (10, 250)


def test_any_label_can_be_drawn():
    labels = ["红色的圆形", "שלום " * 40, "<script>\n" * 30, "", "x" * 500]
    page = side_by_side.compose_sheet([[plain(1, (0, 0, 0))] * 5], labels, ["行"], width=120)
    assert page.shape[2] >= 5 * 126


def test_bands_of_unequal_width_stack():
    pages = [plain(2, (1, 2, 3), (10, 20)), plain(2, (4, 5, 6), (10, 30))]
    assert side_by_side.stack_bands(pages).shape == (2, 20, 30, 3)
