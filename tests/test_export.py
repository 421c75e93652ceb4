"""A video in other formats, and what makes it again, from real files."""

from __future__ import annotations

import io
import json
import shlex
import zipfile

import numpy as np
import pytest
from conftest import CIRCLE
from PIL import Image

from cogvx_nb import workflow
from cogvx_nb.cli.main import build_parser, main
from cogvx_nb.errors import CogvxError, RequestError, ResultError
from cogvx_nb.planning.fields import FIELDS
from cogvx_nb.results import clips, pictures, recipe, result, stored, video
from cogvx_nb.results.catalogue import Catalogue
from cogvx_nb.results.formats import CODECS, FORMATS, Options, available_formats

PLAIN = Options(without_settings=True)


@pytest.fixture
def moving(tmp_path):
    """A video of 13 frames in which a white bar moves, with a tag of settings."""
    frames = np.zeros((13, 64, 96, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[:, number * 6 : number * 6 + 10] = 255
    path = tmp_path / "moving.mp4"
    video.encode_video(frames, path, 8, "{}")
    return path


def test_every_format_shows_every_frame(moving):
    decoded = video.decode_video(moving)
    assert clips.clip_bytes(moving, "mp4") == moving.read_bytes()
    for name in ("gif", "webp"):
        picture = Image.open(io.BytesIO(clips.clip_bytes(moving, name)))
        assert (picture.n_frames, picture.size, picture.info["loop"]) == (13, (96, 64), 0)
        picture.seek(12)
        shown = np.asarray(picture.convert("RGB")).astype(int)
        assert np.abs(shown - decoded[12]).mean() < 8
    with zipfile.ZipFile(io.BytesIO(clips.clip_bytes(moving, "frames"))) as archive:
        assert archive.namelist() == [f"{number:03d}.png" for number in range(1, 14)]
        last = np.asarray(Image.open(io.BytesIO(archive.read("013.png"))).convert("RGB"))
        assert np.array_equal(last, decoded[12])
        assert Image.open(io.BytesIO(archive.read("001.png"))).text == {"cogvx": "{}"}


def test_a_percent_sign_in_the_temporary_folder(moving, tmp_path, monkeypatch):
    (tmp_path / "50%d").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "50%d"))
    path = clips.export_clip(moving, tmp_path / "frames.zip")
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 13


def test_without_settings_the_pictures_are_the_same(moving, tmp_path):
    assert stored.read_tag(moving) == {}
    plain = clips.export_clip(moving, tmp_path / "new" / "plain.mp4", "", PLAIN)
    assert stored.read_tag(plain) is None
    assert video.content_hash(plain) == video.content_hash(moving)
    data = plain.read_bytes()
    assert not any(word in data for word in (b"cogvx", b"Lavf"))


def test_codecs_fps_quality_and_loops(moving, tmp_path):
    assert CODECS == ("h264", "h265", "av1")
    for name, codec in (("h265", b"hvc1"), ("av1", b"av01")):
        if name not in available_formats():  # another ffmpeg
            continue
        coded = clips.export_clip(moving, tmp_path / f"{name}.mp4", name)
        assert codec in coded.read_bytes()
        assert stored.read_tag(coded) == {}
        shown = video.decode_video(coded)
        assert np.abs(shown.astype(int) - video.decode_video(moving)).mean() < 8
        plain = clips.export_clip(moving, tmp_path / f"{name}-plain.mp4", name, PLAIN)
        assert stored.read_tag(plain) is None
    for name, loop, kept in (("gif", 1, None), ("gif", 3, 2), ("webp", 3, 3)):
        data = clips.clip_bytes(moving, name, Options(fps=4, loop=loop))
        picture = Image.open(io.BytesIO(data))
        assert (picture.n_frames, picture.info.get("loop")) == (7, kept)
        total = 0
        for number in range(picture.n_frames):
            picture.seek(number)
            picture.load()
            total += picture.info["duration"]
        assert abs(total - 13 / 8 * 1000) <= 250, "as fast as before"
    sizes = [len(clips.clip_bytes(moving, "webp", Options(quality=q))) for q in (5, 95)]
    assert sizes[0] < sizes[1]
    assert (
        len(video.decode_video(clips.export_clip(moving, tmp_path / "4.mp4", how=Options(fps=4))))
        == 7
    )
    bare = clips.clip_bytes(moving, "frames", PLAIN)
    with zipfile.ZipFile(io.BytesIO(bare)) as archive:
        assert Image.open(io.BytesIO(archive.read("001.png"))).text == {}


def test_a_fast_gif_has_no_more_frames_than_browsers_show(tmp_path):
    frames = np.zeros((61, 64, 96, 3), np.uint8)
    frames[:, :, ::7] = np.arange(61)[:, None, None, None] * 4
    path = tmp_path / "fast.mp4"
    video.encode_video(frames, path, 60, "{}")
    picture = Image.open(io.BytesIO(clips.clip_bytes(path, "gif")))
    assert 50 <= picture.n_frames <= 52
    assert picture.info["duration"] == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.zip", "--fps", "4"], "fps = 4: frames as PNG, in a zip: there is none, drop it"),
        (["a.gif", "--quality", "4"], "quality = 4: GIF, 256 colours: there is none"),
        (["a.mp4", "--loop", "2"], "loop = 2: MP4 with its settings: there is none"),
        (["a.gif", "--fps", "24"], "fps = 24: the video has 8: give less; cogvx finish makes more"),
        (["a.webp", "--quality", "101"], "quality = 101: give a whole number from 1 to 100"),
        (["a.gif", "--codec", "av1"], "codec = 'av1': is of an .mp4"),
        (["a.mp4", "--codec", "vp8"], "codec = 'vp8': use one of h264, h265, av1"),
    ],
)
def test_what_a_format_has_not_is_said(moving, tmp_path, capsys, arguments, message):
    assert main(["export", str(moving), str(tmp_path / arguments[0]), *arguments[1:]]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["moving.mp4"]


def test_an_ffmpeg_without_an_encoder(moving, tmp_path, monkeypatch):
    monkeypatch.setattr("cogvx_nb.results.formats.known_encoders", lambda: frozenset({"libx265"}))
    assert [name for name in FORMATS if name not in available_formats()] == ["av1"]
    with pytest.raises(RequestError, match="lacks libsvtav1 or libaom-av1: use h264, h265"):
        clips.export_clip(moving, tmp_path / "a.mp4", "av1")


def test_the_command(moving, tmp_path, capsys):
    target = tmp_path / "out.GIF"
    assert main(["export", str(moving), str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert target.read_bytes()[:6] == b"GIF89a"
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "cut.mp4").write_bytes(moving.read_bytes()[:40])
    for code, words, arguments in [
        (1, "out.GIF exists", [moving, target]),
        (2, "end it in .mp4, .gif, .webp, .zip", [moving, tmp_path / "a.avi"]),
        (1, "there is no file", [tmp_path / "none.mp4", tmp_path / "a.gif"]),
        (1, "broken.mp4 can't be exported", [tmp_path / "broken.mp4", tmp_path / "a.gif"]),
        (1, "broken.mp4 can't be exported", [tmp_path / "broken.mp4", tmp_path / "a.zip"]),
        (1, "can't be exported: it is no video", [tmp_path / "broken.mp4", tmp_path / "a.mp4"]),
        (1, "has no frames that can be", [tmp_path / "cut.mp4", tmp_path / "a.mp4"]),
        (1, "can't be exported: it is GIF: give an mp4", [target, tmp_path / "a.gif"]),
        (1, "can't be written: Not a directory", [moving, target / "a.gif"]),
    ]:
        assert main(["export", *map(str, arguments)]) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["broken.mp4", "cut.mp4", "moving.mp4", "out.GIF"], "nothing half-written"


def test_a_download_is_bounded(moving, monkeypatch):
    monkeypatch.setattr(clips, "MAX_DOWNLOAD", 100)
    with pytest.raises(ResultError, match="use cogvx export"):
        clips.clip_bytes(moving, "gif")
    with pytest.raises(RequestError, match="use one of mp4, plain, gif, webp, frames"):
        clips.clip_bytes(moving, "avi")


# --- small pictures -----------------------------------------------------------------------------


def test_a_thumbnail_moves_and_is_kept(moving, place, outputs):
    path = place()
    catalogue = Catalogue()
    catalogue.refresh()
    path.write_bytes(moving.read_bytes())
    (data,) = pictures.moving_thumbnails(catalogue.find())
    assert Image.open(io.BytesIO(data)).n_frames == 13
    path.write_bytes(b"gone")
    assert pictures.moving_thumbnails(catalogue.find()) == [data]
    for kept in (outputs / ".posters").iterdir():
        kept.unlink()
    assert pictures.moving_thumbnails(catalogue.find()) == [b""]


# --- recipes ------------------------------------------------------------------------------------

REQUESTS = [
    {},
    {"prompt": "a red 'circle' moving \"right\" $HOME `id` \\ 圆形\n; rm -rf /", "seed": 2**53 - 1},
    {"prompt": "--help me, red circle", "allow_unknown": True, "negative_prompt": "-x"},
    {"steps": 5, "guidance": 7.25, "frames": 25, "speed": "turbo"},
    {"height": 64, "width": 96, "allow_untrained_size": True},
    {"seed": -1, "variation_seed": 3, "variation_strength": 0.125, "fallback": "reduce"},
    {"attention": "sdpa"},
]


@pytest.mark.parametrize("wanted", REQUESTS)
def test_a_recipe_gives_the_same_request(samples, wanted):
    prepared, _ = workflow.prepare_request(**{"prompt": CIRCLE, "model": "tiny"} | wanted)
    content = samples[0].sidecar_json()
    content |= {"request": prepared.settings, "asked": prepared.asked}
    sidecar = result.records.read_settings(content | {"allowed": list(prepared.allowed)})
    words = shlex.split(recipe.command_line(sidecar))
    assert words[:2] == ["cogvx", "generate"]
    options = build_parser().parse_args(words[1:])
    by_command, _ = workflow.prepare_request(**{name: getattr(options, name) for name in FIELDS})
    given = []
    cell = recipe.notebook_cell(sidecar).replace("from cogvx_nb import generate_video", "")
    exec(cell, {"generate_video": lambda **values: given.append(values)})
    by_cell, _ = workflow.prepare_request(**given[0])
    for again in (by_command, by_cell):
        assert again.settings == prepared.settings
        names = ("speed", "attention", "fallback", "model")
        assert [getattr(again, n) for n in names] == [getattr(prepared, n) for n in names]


def test_a_recipe_is_short(samples):
    assert recipe.command_line(samples[0].settings) == (
        f"cogvx generate --prompt '{CIRCLE}' --frames 13 --steps 2 --seed 42 --model cogvideox-tiny"
    )
    assert recipe.notebook_cell(samples[0].settings).splitlines()[:4] == [
        "from cogvx_nb import generate_video",
        "",
        "video = generate_video(",
        f"    prompt={CIRCLE!r},",
    ]


def test_what_no_command_line_can_hold(samples):
    content = json.loads(samples[0].sidecar.read_text())
    content["request"]["prompt"] = "a\0b"
    content["asked"] = {"speed": "warp", "attention": 7}
    sidecar = result.records.read_settings(content)
    with pytest.raises(CogvxError, match="prompt holds a NUL character"):
        recipe.command_line(sidecar)
    assert "prompt='a\\x00b'" in recipe.notebook_cell(sidecar)
    assert "warp" not in recipe.notebook_cell(sidecar)
