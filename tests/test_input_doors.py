"""Pictures and clips at the command line and in what it shows: files by their names."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import CIRCLE
from PIL import Image

from cogvx_nb import workflow
from cogvx_nb.cli.main import build_parser, main
from cogvx_nb.planning import inputs
from cogvx_nb.planning.fields import FIELDS
from cogvx_nb.reproduction import request_of
from cogvx_nb.results import recipe, records, result, video
from cogvx_nb.results.catalogue import Catalogue
from cogvx_nb.results.inputs import first_frame
from cogvx_nb.results.records import used_inputs
from cogvx_nb.results.typed import FieldError
from cogvx_nb.workflow import generate_video

KEPT = f"inputs/{'a1' * 32}.png"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with a picture, a clip and a text."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (288, 96), "red").save("cat.png")
    video.encode_video(np.full((9, 96, 144, 3), 99, np.uint8), tmp_path / "clip.mp4", 8, "")
    (tmp_path / "notes.txt").write_text("hello")
    return tmp_path


BAD = [
    ("--image lost.png", "image = 'lost.png': is no file"),
    ("--image .", "image = '.': is a folder"),
    ("--image notes.txt", "image = 'notes.txt': is neither a picture nor a clip: PNG, JPEG"),
    ("--image clip.mp4", "image = 'clip.mp4': is a clip (mp4): give it as video"),
    ("--video cat.png", "video = 'cat.png': is a picture (PNG): give it as image"),
    ("--video clip.mp4 --image cat.png", "video = 'clip.mp4': can't be given together with an"),
    ("--last-image cat.png", "image = '': is missing: a last_image needs an image before it"),
    (
        "--image cat.png --model tiny",
        "takes text alone, a video to change or a video to extend, not an image: use ",
    ),
    ("--video clip.mp4 --strength 1.5", "strength = 1.5: must be between 0.01 and 1"),
    ("--video clip.mp4 --video-start 9", "video = 'clip.mp4': has 0 frames at 8 fps after 9 s"),
    ("--image cat.png --fit squash", "argument --fit: invalid choice: 'squash'"),
    ("--image", "argument --image: expected one argument"),
    (f"--image {KEPT}#cat.png", ": is gone from "),
]


@pytest.mark.parametrize(("flags", "words"), BAD, ids=[row[0] for row in BAD])
def test_what_can_not_be_used_is_one_line(folder, capsys, flags, words):
    assert main(["generate", "--prompt", CIRCLE, "--steps", "1", *flags.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_result_says_what_it_was_made_from_and_is_made_again(folder, outputs, capsys):
    flags = ["--image", "cat.png", "--fit", "pad", "--steps", "1", "--output", "a.mp4"]
    assert main(["generate", "--prompt", CIRCLE, *flags]) == 0
    made = result.read_result("a.mp4")
    value = made.settings.request.image
    (folder / "cat.png").unlink()
    capsys.readouterr()
    assert main(["show", "a.mp4"]) == 0
    shown = capsys.readouterr().out
    assert f"image      cat.png, kept as {value}, latents scaled as trained, fit pad" in shown
    again = recipe.command_line(made.settings)
    assert f"again:  {again}" in shown
    assert f"--image '{value}#cat.png'" in again

    (folder / "elsewhere").mkdir()
    words = shlex.split(again)
    options = build_parser().parse_args(words[1:])
    prepared, _ = workflow.prepare_request(**{name: getattr(options, name) for name in FIELDS})
    assert (*prepared.settings,) == records.REQUEST_NAMES
    assert {name: getattr(made.settings.request, name) for name in prepared.settings} == (
        prepared.settings
    )
    assert prepared.input_names == {"image": "cat.png"}
    assert request_of(made.settings).input_names == {"image": "cat.png"}
    (used,) = used_inputs(made.settings)
    frame = first_frame(made.settings, used)
    assert frame.shape == (96, 144, 3)
    assert (frame[0] == 0).all(), "padded"
    (outputs / value).unlink()
    assert first_frame(made.settings, used) is None
    assert main(["reproduce", "a.mp4"]) == 2
    assert ".png': is gone from " in capsys.readouterr().err
    content = json.loads(json.dumps(made.sidecar_json()))
    for path in ("/etc/passwd", "cat.png", "inputs/../x.png"):
        content["request"]["image"] = path
        with pytest.raises(FieldError, match=r"request.image = .*must be what a file is kept as"):
            records.read_settings(content)


def test_lists_and_exports_name_the_files(folder, outputs, capsys):
    generate_video(CIRCLE, steps=1, frames=9, video="clip.mp4", strength=0.5)
    made = generate_video(CIRCLE, steps=1, frames=9)
    (folder / "own.mp4").write_bytes(made.path.read_bytes())
    generate_video(CIRCLE, steps=2, frames=9, video="own.mp4", strength=0.5)
    capsys.readouterr()
    assert main(["list", "--search", "clip.mp4"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[6:8] == ["from", "prompt"]
    assert row.split()[7] == "clip.mp4"
    assert main(["list", "--where", "inputs = own.mp4", "--export", "all.csv"]) == 0
    (outputs / "sweeps").mkdir()
    catalogue = Catalogue()
    catalogue.refresh()
    assert catalogue.count() == 3, "a kept clip is no result, though it carries the settings of one"
    names, row = (folder / "all.csv").read_text("utf-8-sig").splitlines()
    values = dict(zip(names.split(","), row.split(","), strict=True))
    assert values["inputs"] == "own.mp4"
    assert values["video"].startswith("inputs/")


def test_names_travel_with_what_is_kept():
    value = inputs.named_value(KEPT, "cat #1.png")
    assert inputs.split_name(value) == (KEPT, "cat #1.png")
    assert inputs.split_name("a#b.png") == ("a#b.png", "")
    assert inputs.split_name(f"{KEPT}#../../\x1b[31m/x.png") == (KEPT, "x.png")
    assert inputs.split_name(KEPT) == (KEPT, "")
    assert len(inputs.split_name(f"{KEPT}#{'x' * 999}")[1]) == inputs.MOST_NAME
    assert inputs.shown_value("image", value) == "cat #1.png"
    assert inputs.shown_value("image", "a.png") == "a.png"
    assert inputs.shown_value("prompt", value) == value
