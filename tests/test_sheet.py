"""Clips beside each other: in step, in place, labelled, and within what can be encoded."""

from __future__ import annotations

import numpy as np
import pytest

from cogvx_nb.errors import OutputError
from cogvx_nb.results.sheet import MAX_BYTES, MAX_SIDE, Sheet, common_pace, plan_sheet


def plain(frames: int, colour: tuple[int, int, int], size=(96, 144)) -> np.ndarray:
    return np.full((frames, *size, 3), colour, np.uint8)


def pages_of(cells, columns, rows, width: int = 240, across: int = 0) -> np.ndarray:
    first = next(clip for row in cells for clip in row if clip is not None)
    layout = plan_sheet(columns, rows, first.shape[1:3], len(first), width, across)
    sheet = Sheet(layout, len(first), 8)
    for y, row in enumerate(cells):
        for x, clip in enumerate(row):
            if clip is not None:
                sheet.paste(y, x, clip, 8)
    return sheet.pages


def test_clips_come_to_one_length_and_pace():
    count, pace = common_pace([13, 81], [8, 16])
    assert (count, pace) == (81, 16)
    sheet = Sheet(plan_sheet("AB", [""], (2, 2), count, width=8), count, pace)
    slow, fast = (np.arange(n, dtype=np.uint8).repeat(12).reshape(n, 2, 2, 3) for n in (13, 81))
    sheet.paste(0, 0, slow, 8)
    sheet.paste(0, 1, fast, 16)
    first, second = sheet.pages[:, 34, 4, 0], sheet.pages[:, 34, 18, 0]
    assert first[:6].tolist() == [0, 0, 1, 1, 2, 2]
    assert set(first[26:].tolist()) == {12}, "the last frame stays"
    assert (second == np.arange(81)).all()


def test_each_clip_is_in_its_place():
    red, green = plain(3, (200, 0, 0)), plain(3, (0, 200, 0), (48, 72))
    page = pages_of([[red, None], [None, green]], ["one", "two"], ["a", "b"], width=144)
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
    page = pages_of([[clip]], [""], [""], width=144)
    assert page.shape == (2, 102, 150, 3)
    assert (page[0, 40, 40, 0], page[1, 40, 40, 0]) == (10, 250)


def test_any_label_can_be_drawn():
    labels = ["红色的圆形", "שלום " * 40, "<script>\n" * 30, "", "x" * 500]
    page = pages_of([[plain(1, (0, 0, 0))] * 5], labels, ["行"], width=120)
    assert page.shape[2] >= 5 * 126


def test_a_row_goes_on_in_a_band_below():
    colours = [(40 * n, 0, 0) for n in range(5)]
    page = pages_of([[plain(1, c, (10, 20)) for c in colours]], "ABCDE", [""], 20, across=3)[0]
    assert page.shape == (2 * (30 + 10 + 6), 3 * 26, 3)
    at = [page[30 + 46 * (n // 3) + 5, 26 * (n % 3) + 10, 0] for n in range(5)]
    assert at == [0, 40, 80, 120, 160]
    assert page[46 + 30 + 5, 52 + 10, 0] == 255, "there is no sixth"


@pytest.mark.parametrize(
    ("columns", "rows", "picture"),
    [
        (70, 1, (96, 144)),
        (100, 1, (480, 720)),
        (50, 2, (480, 720)),
        (2, 50, (720, 480)),
        (10, 10, (480, 720)),
        (6, 1, (4096, 16)),
        (6, 1, (16, 4096)),
    ],
    ids=str,
)
def test_a_sheet_of_any_grid_can_be_encoded(columns, rows, picture):
    layout = plan_sheet([""] * columns, [""] * rows, picture, 49)
    assert max(layout.size) <= MAX_SIDE
    assert 49 * 3 * layout.size[0] * layout.size[1] <= MAX_BYTES
    corners = {layout.corner(y, x) for y in range(rows) for x in range(columns)}
    assert len(corners) == columns * rows
    assert max(x for x, _ in corners) + layout.cell[0] <= layout.size[0]
    assert max(y for _, y in corners) + layout.cell[1] <= layout.size[1]


def test_a_sheet_that_cannot_be_is_refused():
    with pytest.raises(OutputError, match="a sheet of 100 × 100 videos of 10000 frames is too"):
        plan_sheet([""] * 100, [""] * 100, (480, 720), 10_000)


def test_long_labels_are_cut_but_never_alike():
    labels = [f"{'a red circle ' * 20}{end}" for end in ("left", "right")]
    page = pages_of([[plain(1, (0, 0, 0))] * 2], labels, [""], width=120)[0]
    left, right = page[:45, :120], page[:45, 126:246]
    assert (left != right).any(), "they are numbered"


@pytest.mark.parametrize("height", [30, 96, 300])
def test_a_whole_prompt_beside_a_row_stays_beside_it(height):
    prompt = "a red circle moving right on a black background, slowly, " * 8
    layout = plan_sheet(["x"], [prompt, ""], (height, 240), 1)
    page = Sheet(layout, 1, 8).pages[0]
    assert layout.left == 240, "as wide as a cell"
    second = layout.corner(1, 0)[1]
    assert page[layout.top : second, : layout.left].min() < 60
    assert page[second:, : layout.left].min() == 255, "none of it beside the next row"
