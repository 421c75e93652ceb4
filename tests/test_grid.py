"""Grids: what is written becomes values, values become requests, results become a sheet."""

from __future__ import annotations

import functools
import json
import subprocess

import imageio_ffmpeg
import ipywidgets as widgets
import numpy as np
import pytest
from conftest import CIRCLE, everything
from PIL import Image

from cogvx_nb.errors import RequestError
from cogvx_nb.planning import request
from cogvx_nb.results import trash, video
from cogvx_nb.workbench import form, grid, grid_tab, jobs
from cogvx_nb.workbench.session import Session

VALUES = {"prompt": CIRCLE, "steps": 2, "frames": 13}


@pytest.fixture
def make(tiny):
    return functools.partial(request.make_request, tiny)


@pytest.fixture
def shown(tiny):
    session = Session()
    fields = form.Form(tiny, session.predict, **VALUES)
    yield grid_tab.GridTab(fields, session)
    session.queue.clear()
    assert session.queue.wait(60)


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("seed", "1, 2,5-8", (1, 2, 5, 6, 7, 8)),
        ("guidance", "1,4.5", (1.0, 4.5)),
        ("frames", "13，49", (13, 49)),
        ("prompt words", " red, blue,dark green ", ("red", "blue", "dark green")),
        (
            "prompt words",
            'red, "blue, dark" ,"a ""b""", 5" pipe',
            ("red", "blue, dark", 'a "b"', '5" pipe'),
        ),
        ("prompt words", '红，"蓝，深"，绿', ("红", "蓝，深", "绿")),
        ("seed", "5–7", (5, 6, 7)),
        ("none", "ignored", (None,)),
    ],
)
def test_lists_as_people_write_them(name, text, values):
    assert grid.parse_axis(name, text).values == values


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("seed", "1, two", "seed = 'two': is no number"),
        ("steps", " , ", "name its values"),
        ("guidance", "1-", "guidance = '1-': is no number"),
        ("seed", "7-5", "seed = '7-5': the lower number comes first"),
        ("seed", "1, 2-4, 3", "seed = 3: is there twice"),
        ("prompt words", "red, blue, red", "prompt words = 'red': is there twice"),
        ("prompt words", 'red, "blue, dark', "close its quotes"),
        ("prompt words", 'red, ""', "is empty"),
        ("seed", "5-", None),
    ],
)
def test_what_is_no_list_is_said(name, text, message):
    if message is None:
        assert grid.parse_axis(name, text).values == (5,)
        return
    with pytest.raises(RequestError, match=message):
        grid.parse_axis(name, text)


def test_every_cell_is_a_request(make):
    words, seeds = grid.parse_axis("prompt words", "red, blue"), grid.parse_axis("seed", "1-3")
    requests = grid.expand_requests(make, VALUES, words, seeds)
    assert [[(cell.prompt.split()[1], cell.seed) for cell in row] for row in requests] == [
        [(colour, seed) for colour in ("red", "blue")] for seed in (1, 2, 3)
    ]
    assert (words.labels, seeds.labels) == (("red", "blue"), ("seed 1", "seed 2", "seed 3"))


def test_labels_show_all_digits():
    seeds, scales = (
        grid.parse_axis("seed", "1234567, 1234568"),
        grid.parse_axis("guidance", "6,6.05"),
    )
    assert seeds.labels == ("seed 1234567", "seed 1234568")
    assert scales.labels == ("guidance 6", "guidance 6.05")


@pytest.mark.parametrize(
    ("words", "prompt", "changed"),
    [
        (
            "cat, dog",
            "a cat in a catalogue, the cat's tail",
            "a dog in a catalogue, the dog's tail",
        ),
        ("red, blue", "a red-hot bored redred RED", "a blue-hot bored redred RED"),
        ("红, 蓝", "一个红色的圆", "一个蓝色的圆"),
        ("cat, dog", "一只cat在catalogue上", "一只dog在catalogue上"),
        ("5, 6", "5 of 50 in 1.5 s", "6 of 50 in 1.6 s"),
        (r"a.b, \1\g<0>", "a.b aXb", r"\1\g<0> aXb"),
        ("café, bar", "café cafés", "bar cafés"),
    ],
)
def test_words_are_replaced_whole(words, prompt, changed):
    axis = grid.parse_axis("prompt words", words)
    assert axis.change({"prompt": prompt}, axis.values[1]) == {"prompt": changed}


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (("seed", "1"), ("none", ""), "make it of 2 to 100 videos"),
        (("seed", "1-11"), ("steps", "1-10"), "make it of 2 to 100 videos"),
        (("seed", "1-999999999"), ("none", ""), "make it of 2 to 100 videos"),
        (("seed", "1-2"), ("seed", "3-4"), "vary another parameter"),
        (("prompt words", "green, blue"), ("none", ""), "must stand in the prompt"),
        (("prompt words", "circ, blue"), ("none", ""), "in the prompt, as a whole word"),
        (("frames", "13, 14"), ("none", ""), "grid = '14': frames = 14: .* makes 13 / 25 / 49 fra"),
        (("guidance", "1, 200"), ("none", ""), "grid = '200.0': guidance = 200.0: must be"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_whole(make, x, y, message):
    with pytest.raises(RequestError, match=message):
        grid.expand_requests(make, VALUES, grid.parse_axis(*x), grid.parse_axis(*y))


@pytest.mark.slow
def test_the_sheet_fills_in_and_is_saved(shown, outputs):
    shown.x.value, shown.x_values.value = "prompt words", "red, blue"
    shown.y.value, shown.y_values.value = "seed", "1-2"
    shown.make.click()
    session = shown._session
    assert session.queue.wait(120)
    assert {job.state for row in session.grid.jobs for job in row} == {jobs.DONE}
    moving = [widget for widget in everything(shown.sheet) if isinstance(widget, widgets.Image)]
    assert len({bytes(widget.value) for widget in moving}) == 4

    png, mp4 = session.grid.saved
    assert png.parent == outputs / "grids"
    assert sorted(path.suffix for path in png.parent.iterdir()) == [".mp4", ".png"]
    picture = np.asarray(Image.open(png).convert("RGB")).astype(int)
    frames = video.decode_video(mp4)
    assert frames.shape == (13, *picture.shape)
    _, height, width, _ = frames.shape
    left, right = picture[:, width // 4 : width * 5 // 8], picture[:, width * 5 // 8 :]
    assert height > 2 * 160
    assert (left[..., 0] - left[..., 2]).max() > 80, "red on the left"
    assert (right[..., 2] - right[..., 0]).max() > 80, "blue on the right"
    probe = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(mp4)]
    tags = subprocess.run([*probe, "-f", "ffmetadata", "-"], capture_output=True, text=True)
    described = json.loads(tags.stdout.split("cogvx=")[1].splitlines()[0].replace("\\", ""))
    assert described["grid"]["rows"] == ["seed 1", "seed 2"]

    trash.move_to_trash(session.grid.jobs[0][0].result.path)
    another = grid_tab.GridTab(shown._form, session)
    assert [widget for widget in everything(another) if isinstance(widget, widgets.Video)]
    moving = [widget for widget in everything(another.sheet) if isinstance(widget, widgets.Image)]
    assert len(moving) == 3


def test_a_long_row_is_wrapped_and_shown_before_a_video_is_made(shown):
    shown._form.inputs["steps"].value = 100
    shown.x_values.value = "1-70"
    shown.make.click()
    shown.cancel.click()
    session = shown._session
    assert session.queue.wait(60)
    layout = session.grid.plan_layout()
    assert (layout.across, len(layout.bands), layout.left) == (14, 5, 0)
    assert shown.sheet.layout.grid_template_columns == "auto repeat(14, auto)"
    assert len(shown.sheet.children) == 5 * 2 * 15


def test_a_grid_is_cancelled_and_what_was_made_is_kept(shown, outputs):
    shown._form.inputs["steps"].value = 100
    shown.x_values.value = "1-4"
    shown.make.click()
    shown.cancel.click()
    session = shown._session
    assert session.queue.wait(60)
    assert {job.state for job in session.grid.jobs[0]} == {jobs.CANCELLED}
    assert session.grid.saved == ()
    assert not (outputs / "grids").exists()
    assert "cancelled" in " ".join(
        widget.value for widget in everything(shown.sheet) if isinstance(widget, widgets.HTML)
    )
    shown.x_values.value = "one"
    shown.make.click()
    assert "is no number" in shown.message.value
