"""Results on disk: round trips, names, and what is never left behind."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from conftest import CIRCLE

from cogvx_nb import progress, reproduction
from cogvx_nb.cli.main import main
from cogvx_nb.errors import (
    BadFrames,
    DiskFull,
    ModelError,
    OutputError,
    OutputExists,
    RequestError,
    ResultError,
)
from cogvx_nb.media import ffmpeg
from cogvx_nb.reports import display
from cogvx_nb.results import output, pictures, records, result, unsaved, video
from cogvx_nb.results.typed import FieldError

NASTY = (
    'a "red" circle; = # \\ {braces} <script>alert(1)</script> ../x 一只红色的圆 \u202eright\nline'
)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def probe(path: Path) -> str:
    """What ffmpeg says of a file."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.slow
def test_a_large_video_is_embedded_smaller(tmp_path, capsys):
    noise = np.random.default_rng(1).integers(0, 256, (49, 480, 720, 3), np.uint8)
    path = tmp_path / "a.mp4"
    video.encode_video(noise, path, 8, "")
    assert path.stat().st_size > 10_000_000
    shown = display.show_player(result.Result(path, settings=None))
    assert len(base64.b64decode(shown.data)) <= display.MOST_EMBEDDED_BYTES
    assert str(path) in capsys.readouterr().out
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(pictures.shrink_video(path, 1_000_000))
    assert len(video.decode_video(copy)) == 49


def test_the_file_is_what_players_expect(generated, tmp_path):
    saved = result.save_result(generated(frames=25), tmp_path / "a.mp4")
    stream = next(line for line in probe(saved.path).splitlines() if "Video:" in line)
    assert "h264" in stream
    assert "yuv420p(tv, bt709, progressive)" in stream, "matrix, primaries and transfer"
    assert "144x96" in stream
    assert " 8 fps" in stream
    data = saved.path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "faststart"
    assert names(tmp_path) == ["a.json", "a.mp4"]


def test_pixels_survive_the_file(generated, tmp_path):
    made = generated(steps=10)
    found = video.decode_video(result.save_result(made, tmp_path / "a.mp4").path)
    assert found.shape == made.frames.shape
    assert np.abs(found.astype(float) - made.frames).mean() < 4


@pytest.mark.parametrize("sidecar", ["kept", "deleted", "garbage"])
def test_settings_come_back(generated, tmp_path, sidecar):
    made = generated(f"{CIRCLE} {NASTY}", negative_prompt=NASTY, seed=3, allow_unknown=True)
    saved = result.save_result(made, tmp_path / "a.mp4")
    if sidecar == "deleted":
        saved.sidecar.unlink()
    if sidecar == "garbage":
        saved.sidecar.write_text("{")
    found = result.read_result(tmp_path / "a.mp4").sidecar_json()
    assert found["request"] == made.request.settings
    assert found["request"]["negative_prompt"] == NASTY
    assert found["frame_hash"] == video.frame_hash(made.frames)
    assert found["checkpoint"]["sha256"] == made.hashes
    assert found["asked"]["seed"] == 3
    assert found["allowed"] == list(made.request.allowed)
    for part in ("plan", "versions", "machine", "seconds", "made", "adjustments", "notes"):
        assert part in found


@pytest.mark.parametrize("sidecar", ["kept", "deleted"])
def test_a_result_of_format_1_is_read(generated, tmp_path, sidecar):
    made = generated(frames=15)
    content = result.describe_video(made).as_json() | {"format": 1}
    for name in ("speed", "compiled", "quantized"):  # older ones had none of these
        del content["plan"][name]
    plan = content["plan"] | {"placement": "resident", "attention": "stock"}  # former names
    plan["reuse"] = plan.pop("step_cache")
    path, written = tmp_path / "a.mp4", json.dumps(content | {"plan": plan})
    video.encode_video(made.frames, path, 8, written)
    if sidecar == "kept":
        path.with_suffix(".json").write_text(written)
    found = result.read_result(path)
    assert found.settings.request.frames == 13
    assert found.settings.adjustments == made.request.adjustments
    assert (found.settings.plan.device, found.settings.plan.speed) == ("cpu", None)
    assert found.sidecar_json() == content | {"format": records.FORMAT}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", 3),
        ("format", None),
        ("made", 5),
        ("request", []),
        ("request.prompt", None),
        ("request.frames", "13"),
        ("request.seed", True),
        ("request.guidance", float("nan")),
        ("plan", "cpu"),
        ("plan.device", 0),
        ("checkpoint.name", {}),
        ("seconds", {"text": 1}),
        ("seconds.denoise", "long"),
        ("seconds.text", None),
        ("frame_hash", 1),
    ],
)
def test_wrong_types_make_no_result(generated, tmp_path, path, value):
    content = result.describe_video(generated()).as_json()
    *sections, name = path.split(".")
    (content[sections[0]] if sections else content)[name] = value
    for strict in (True, False):
        with pytest.raises(FieldError):
            records.read_settings(content, strict)
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ResultError, match="carries no settings"):
        result.read_result(tmp_path / "a.mp4")


def test_the_same_request_has_the_same_settings_but_for_times(make):
    first, second, other = (result.describe_video(make(seed=seed)) for seed in (3, 3, 4))
    assert first.without_times() == second.without_times() != other.without_times()
    assert records.read_settings(json.loads(json.dumps(first.as_json()))) == first


def test_adjustments_are_kept(generated, tmp_path):
    saved = result.save_result(generated(frames=15), tmp_path / "a.mp4")
    (change,) = json.loads(saved.sidecar.read_text())["adjustments"]
    assert (change["field"], change["asked"], change["used"]) == ("frames", 15, 13)


def test_the_default_name(generated, outputs):
    made = generated(seed=5)
    first, second = result.save_result(made), result.save_result(made)
    assert first.path != second.path
    assert first.path.parent.parent == outputs
    assert "-a-red-circle-moving-right-on-a-black-bac-5" in first.path.name
    assert len(names(first.path.parent)) == 4


def test_name_clashes_get_a_number(generated, tmp_path):
    made = generated()
    taken = result.save_result(made, tmp_path / "a.mp4").path
    copy = tmp_path / ".copy"
    copy.write_bytes(b"video")
    sidecar = tmp_path / ".sidecar"
    sidecar.write_text("{}")
    target = output.publish_pair(copy, sidecar, taken, overwrite=False, numbered=True)
    assert target.name == "a-2.mp4"
    assert target.read_bytes() == b"video"
    with pytest.raises(OutputExists):
        output.publish_pair(target, sidecar, taken, overwrite=False, numbered=False)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A red  circle!", "a-red-circle"),
        ("灰色背景上一颗红色的星星", "灰色背景上一颗红色的星星"),
        ("../../etc/passwd", "etc-passwd"),
        ("<script>", "script"),
        ("\u202e\x00\n", "video"),
        ("x" * 300, "x" * 40),
    ],
)
def test_slugs_are_safe(prompt, expected):
    assert output.slug(prompt) == expected


def test_an_existing_file_is_kept(generated, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"mine")
    with pytest.raises(OutputExists, match="overwrite"):
        result.save_result(generated(), path)
    assert path.read_bytes() == b"mine"
    result.save_result(generated(), path, overwrite=True)
    assert result.read_result(path).sidecar_json()["format"] == 2
    result.save_result(generated(seed=2), path, overwrite=True)
    assert result.read_result(path).settings.request.seed == 2
    assert names(tmp_path) == ["a.json", "a.mp4"]


def test_somebody_elses_json_is_never_replaced(generated, tmp_path):
    other = tmp_path / "package.json"
    other.write_text('{"name": "mine"}')
    with pytest.raises(OutputExists, match=r"package\.json"):
        result.save_result(generated(), tmp_path / "package.mp4", overwrite=True)
    assert names(tmp_path) == ["package.json"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.avi", "must end in .mp4"),
        ("file/a.mp4", "is a file"),
        ("x" * 250 + ".mp4", "too long"),
        ("x/" * 1950 + "a.mp4", "too long a path"),
    ],
)
def test_bad_outputs_are_refused(generated, tmp_path, name, words):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=words):
        result.save_result(generated(), tmp_path / name)
    assert names(tmp_path) == ["file"]


def test_new_folders_are_made_and_gone_after_a_failure(generated, tmp_path):
    made = generated()
    black = replace(made, frames=np.zeros_like(made.frames))
    with pytest.raises(BadFrames, match="black"):
        result.save_result(black, tmp_path / "new" / "deep" / "a.mp4")
    assert names(tmp_path) == []
    result.save_result(made, tmp_path / "new" / "deep" / "a.mp4")
    assert "new/deep/a.mp4" in names(tmp_path)


def test_a_full_disk_leaves_nothing(generated, small_disk):
    disk = small_disk(64)
    made = generated()
    noise = np.random.default_rng(0).integers(0, 255, made.frames.shape, np.uint8)
    with pytest.raises(DiskFull, match="make room"):
        result.save_result(replace(made, frames=noise), disk / "new" / "a.mp4")
    assert names(disk) == []


def test_frames_that_cannot_be_saved_are_kept(generated, tmp_path, outputs):
    made = generated()
    (tmp_path / "taken.mp4").write_bytes(b"mine")
    with pytest.raises(OutputExists, match=r"taken\.mp4 exists.*the frames are kept") as failed:
        result.save_result(made, tmp_path / "taken.mp4")
    (frames_file,) = (outputs / "unsaved").iterdir()
    assert f"'cogvx save {frames_file} --output FILE'" in str(failed.value)
    assert main(["save", str(frames_file), "--output", str(tmp_path / "taken.mp4")]) == 1
    assert frames_file.exists(), "until it is saved"
    assert main(["save", str(frames_file), "--output", str(tmp_path / "a.mp4")]) == 0
    saved, direct = result.read_result(tmp_path / "a.mp4"), result.save_result(made)
    assert saved.settings.without_times() == direct.settings.without_times()
    assert np.array_equal(video.decode_video(saved.path), video.decode_video(direct.path))
    assert not frames_file.exists()


def test_frames_are_kept_where_there_is_room(generated, small_disk, tmp_path, monkeypatch):
    made, disk = generated(), small_disk(64)
    noise = np.random.default_rng(0).integers(0, 255, made.frames.shape, np.uint8)
    made = replace(made, frames=noise)
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(disk))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(DiskFull, match="the frames are kept"):
        result.save_result(made)
    assert names(disk) == []
    (frames_file,) = tmp_path.glob("cogvx-unsaved/*.frames")
    assert np.array_equal(unsaved.read_frames(frames_file)[0], noise)
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    with pytest.raises(DiskFull, match="nor could the frames be kept"):
        result.save_result(made)
    assert names(disk) == []


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "settings", "missing"])
def test_a_damaged_file_of_frames_is_refused(generated, tmp_path, damage):
    made = generated()
    path = unsaved._write_frames(tmp_path, made.frames, result.describe_video(made))
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 255
    if damage == "missing":
        path.unlink()
    elif damage == "settings":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(unsaved.SETTINGS, '{"format": 7}')
    else:
        path.write_bytes({"empty": b"", "cut": content[:-100]}.get(damage, bytes(content)))
    with pytest.raises(ResultError, match=rf"{path}"):
        result.save_frames(path, tmp_path / "a.mp4")
    assert "a.mp4" not in names(tmp_path)


def test_folders_may_be_deep(generated, tmp_path):
    path = tmp_path / ("d/" * 1500 + "a.mp4")
    assert result.save_result(generated(), path).path.is_file()
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # Python's own recurses


def test_frames_outlive_a_bug(generated, tmp_path, outputs, monkeypatch):
    monkeypatch.setattr(video, "content_hash", lambda path: 1 / 0)
    with pytest.raises(OutputError, match=r"ZeroDivisionError.*the frames are kept"):
        result.save_result(generated(), tmp_path / "a.mp4")
    assert names(tmp_path) == []
    assert len(list((outputs / "unsaved").iterdir())) == 1


def test_room_is_looked_for_before_the_work(small_disk):
    disk = small_disk(64)
    with pytest.raises(DiskFull, match=r"has .* free, and the video needs about"):
        output.check_room(disk / "new" / "a.mp4", 13 * 96 * 144)


CHANGES = {
    "nothing": ([], "identical: all 13 frames of"),
    "copied": (["-c", "copy"], "identical: all 13 frames of"),
    "encoded again": (["-crf", "30"], "changed: all 13 frames came out as they were made then"),
    "cut": (["-c", "copy", "-frames:v", "5"], "holds others (5 frames of 96 × 144)"),
    "scaled": (["-vf", "scale=72:48"], "holds others (13 frames of 48 × 72)"),
    "repeated": (["-vf", "loop=1:13"], "holds others (more than 13 frames of 96 × 144)"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("hashed", [True, False])
def test_a_video_made_again_is_compared_with_the_file(generated, tmp_path, change, hashed):
    made, (arguments, words) = generated(steps=10), CHANGES[change]
    saved = result.save_result(made, tmp_path / "a.mp4")
    if not hashed:  # as in older results
        content = saved.settings.as_json()
        del content["content_hash"]
        video.encode_video(made.frames, saved.path, 8, json.dumps(content))
        saved.sidecar.unlink()
    path = tmp_path / "b.mp4"
    command = [ffmpeg.find_ffmpeg(), "-loglevel", "error", "-i", str(saved.path), *arguments]
    tagged = ["-movflags", "use_metadata_tags", str(path)]
    subprocess.run([*command, *tagged] if arguments else ["cp", saved.path, path], check=True)
    original = result.read_result(path)
    assert original.note == ""
    again = reproduction._compare(original, made, video.decode_video(path, 14))
    assert words in str(again)
    assert again.same_frames
    assert again.identical == words.startswith("identical")
    other = reproduction._compare(original, generated(seed=2), video.decode_video(path, 14))
    assert str(other).startswith("not identical: ")
    also = "the file itself was changed since it was made, too"
    assert (also in str(other)) == (hashed and not again.identical)


def test_what_older_sidecars_do_not_mention_is_no_difference(generated, tmp_path):
    made, path = generated(), tmp_path / "a.mp4"
    content = json.loads(json.dumps(result.describe_video(made).as_json()))
    for name in ("peers", "sparse_attention"):
        del content["plan"][name]

    def reasons(**changes):
        kept = content | {"plan": content["plan"] | changes}
        video.encode_video(made.frames, path, 8, json.dumps(kept))
        original, other = result.read_result(path), generated(seed=2)
        return reproduction._compare(original, other, made.frames).differences

    assert reasons() == ()
    assert reasons(step_cache=False) == ()
    assert reasons(peers=["cuda:3"]) == ("plan gpus: 2 then, 1 now",)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("frames", 9000, "frames = 9000: cogvideox-tiny makes 8 N"),
        ("height", 112, "height = 112: cogvideox-tiny was trained at 96 × 144"),
        ("prompt", " ", "prompt = ' ': is empty"),
        ("seed", -1, "seed = -1: is that of no video"),
    ],
)
def test_settings_that_would_be_adjusted_are_not_made_again(samples, name, value, words):
    settings = samples[0].settings
    wrong = replace(settings, request=replace(settings.request, **{name: value}))
    with pytest.raises(RequestError, match=words):
        reproduction.request_of(wrong)
    assert reproduction.request_of(replace(settings, allowed=("seed", "model", "prompt")))
    nameless = replace(settings, checkpoint=records.RecordedCheckpoint(name=""))
    with pytest.raises(ModelError, match="no checkpoint is recorded"):
        reproduction.request_of(nameless)


def test_a_write_is_announced(generated, tmp_path):
    seen = []
    saved = result.save_result(generated(), tmp_path / "a.mp4", on_event=seen.append)
    assert seen == [progress.StageStarted("write")]
    assert saved.settings.seconds["write"] > 0


def test_foreign_files_are_refused(tmp_path):
    with pytest.raises(ResultError, match="there is no file"):
        result.read_result(tmp_path / "missing.mp4")
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(ResultError, match="carries no settings"):
        result.read_result(tmp_path / "text.mp4")
    with pytest.raises(ResultError, match="can't be read as a video"):
        video.decode_video(tmp_path / "text.mp4")
