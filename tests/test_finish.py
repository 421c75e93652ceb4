"""Finished videos: more frames, larger frames, as files of their own, and the same again."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from cogvx_nb import finish_result, reproduce
from cogvx_nb.cli.main import main
from cogvx_nb.errors import Cancelled, CogvxError, OutputExists, RequestError, ResultError
from cogvx_nb.finishing import timeline
from cogvx_nb.finishing.recipe import Recipe
from cogvx_nb.finishing.source import read_source
from cogvx_nb.finishing.timeline import CUT, MOVING, STILL
from cogvx_nb.finishing.work import made_frames, plan_work
from cogvx_nb.progress import FrameFinished, StageStarted, TimeLeft
from cogvx_nb.results import clips, recipe, result, stored, video
from cogvx_nb.results.catalogue import Catalogue
from cogvx_nb.results.formats import Options
from cogvx_nb.results.records import RecordedFinish

HEIGHT, WIDTH = 96, 144


def ball(moment: float, colour: tuple[int, int, int] = (220, 40, 30)) -> np.ndarray:
    """A frame of a ball that moves right by six pixels a frame, before a gradient."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    ground = np.stack([20 + columns / 4, 30 + rows / 4, 60 + columns / 8], 2)
    inside = np.clip(18 - np.hypot(columns - 30 - 6 * moment, rows - 48), 0, 1)[..., None]
    return (ground * (1 - inside) + inside * np.array(colour)).round().astype(np.uint8)


@pytest.fixture(scope="module")
def keep(generated, module_outputs):
    """Writes frames as a result, with the settings of a generated video."""

    def write(frames: list[np.ndarray], name: str) -> result.Result:
        path = module_outputs / name
        return result.save_result(replace(generated(), frames=np.stack(frames)), path)

    return write


@pytest.fixture(scope="module")
def module_outputs(tmp_path_factory):
    """An outputs folder that the tests of this file share."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(autouse=True)
def outputs(module_outputs, monkeypatch):
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(module_outputs))
    return module_outputs


@pytest.fixture(scope="module")
def moving(keep):
    """Seven frames of the ball."""
    return keep([ball(number) for number in range(7)], "moving.mp4")


def frames_of(source: result.Result, **wanted) -> list[np.ndarray]:
    """The frames of a finished video, before they are encoded."""
    looked_at = read_source(source.path, source.settings)
    return list(made_frames(plan_work(looked_at, Recipe(**wanted))))


def decibels(frame: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((frame.astype(float) - other) ** 2)))


@pytest.mark.parametrize(
    ("count", "fps", "wanted", "made"),
    [(49, 8, 16, 97), (13, 8, 24, 37), (49, 8, 30, 181), (5, 8, 25, 14), (2, 16, 17, 2)],
)
def test_first_and_last_frame_stay_at_any_rate(count, fps, wanted, made):
    assert timeline.frame_count(count, fps, wanted) == made
    places = timeline.positions(count, made)
    assert (len(places), places[0], places[-1]) == (made, 0, count - 1)
    kinds = [MOVING] * (count - 1)
    for longest in (1, 3, 8):
        found = [
            run.first + place
            for run in timeline.runs(kinds, made, longest)
            for place in run.positions
        ]
        assert found == places


@pytest.mark.parametrize("wanted", [{"factor": 2}, {"factor": 3}, {"fps": 30}])
def test_frames_between_are_nearer_to_the_truth_than_a_blend(moving, wanted):
    made, given = frames_of(moving, **wanted), list(read(moving))
    places = timeline.positions(7, len(made))
    for frame, place in zip(made, places, strict=True):
        before = int(place)
        if place == before:
            assert np.array_equal(frame, given[before]), "frames that were there stay"
            continue
        share = float(place - before)
        if not 0.25 <= share <= 0.75:
            continue
        blend = (1 - share) * given[before].astype(float) + share * given[before + 1]
        assert decibels(frame, ball(float(place))) > decibels(blend, ball(float(place))) + 2


def read(kept: result.Result) -> np.ndarray:
    with video.stream_frames(kept.path) as frames:
        return np.stack(list(frames))


def test_nothing_is_invented_over_a_cut_or_where_all_stands_still(keep):
    green = [ball(12 + number)[::-1, :, ::-1] // 2 + 120 for number in range(3)]
    shown = [ball(0), ball(1), ball(1), ball(2), *green]
    kept = keep(shown, "cut.mp4")
    kinds = read_source(kept.path, kept.settings).pairs
    assert kinds == (MOVING, STILL, MOVING, CUT, MOVING, MOVING)
    given, made = read(kept), frames_of(kept, factor=3)
    assert len(made) == 19
    assert np.array_equal(made[4], given[1])
    assert np.array_equal(made[10], given[3])
    assert np.array_equal(made[11], given[4])


def test_a_run_does_not_depend_on_other_runs(moving):
    """So that threads, and their number, change nothing."""
    from cogvx_nb.finishing import smooth

    frames = [ball(number) for number in range(4)]
    halves = [Fraction(1, 2), Fraction(3, 2), Fraction(5, 2)]
    first = next(smooth.fill(frames, halves[:1]))
    assert np.array_equal(first, next(smooth.fill(frames, halves)))
    assert len(list(smooth.fill(frames[:2], [Fraction(1, 7), Fraction(5, 7)]))) == 2


def test_a_finished_video_is_a_result_of_its_own(moving, module_outputs):
    before = moving.path.read_bytes()
    made = finish_result(moving, fps=20, scale=2)
    assert moving.path.read_bytes() == before
    decoded = read(made)
    assert decoded.shape == (16, 2 * HEIGHT, 2 * WIDTH, 3)
    expected = np.stack(frames_of(moving, fps=20, scale=2))
    assert made.frame_hash == video.frame_hash(expected)
    assert np.abs(decoded.astype(int) - expected).mean() < 4
    for missing in ("nothing", "sidecar"):
        if missing == "sidecar":
            made.sidecar.unlink()
        again = result.read_result(made.path)
        assert again.note == ""
        assert again.settings.finished == made.settings.finished
        assert again.settings.request == moving.settings.request
    finished = made.settings.finished
    assert (finished.source, finished.source_frames) == ("moving.mp4", moving.frame_hash)
    assert finished.source_content == moving.settings.content_hash
    assert str(finished) == "smooth to 20 fps, lanczos ×2"
    catalogue = Catalogue()
    catalogue.refresh()
    entry = catalogue.find(where=("finished ~ lanczos",))[0]
    assert (entry.frames, entry.height, entry.width, entry.fps) == (16, 192, 288, 20)
    assert "cogvx finish --fps 20" in recipe.command_line(made.settings)
    assert "finish_result('moving.mp4', fps=20" in recipe.notebook_cell(made.settings)
    assert len(clips.clip_bytes(made.path, "gif")) > 1000


def test_times_of_videos_are_not_learned_from_finished_ones(moving):
    catalogue = Catalogue()
    catalogue.refresh()
    model, device = moving.settings.checkpoint.name, moving.settings.plan.device
    known = catalogue.paces(model, device)
    finish_result(moving, scale=2)
    catalogue.refresh()
    assert catalogue.paces(model, device) == known
    assert set(known) == {moving.settings.request.frames}


def test_it_is_reproduced_while_its_source_is_there(moving, keep, module_outputs, capsys):
    source = keep(list(read(moving)), "source.mp4")
    made = finish_result(source, module_outputs / "made.mp4", factor=2)
    again = reproduce(made)
    assert again.identical
    assert str(again) == f"identical: all 13 frames of {made.path} came out the same"
    elsewhere = module_outputs / "elsewhere"
    elsewhere.mkdir()
    source.path.rename(elsewhere / "renamed.mp4")
    source.sidecar.rename(elsewhere / "renamed.json")
    assert main(["reproduce", str(made.path)]) == 0, "found by the hash of its frames"
    (elsewhere / "renamed.mp4").rename(module_outputs / "gone")
    capsys.readouterr()
    assert main(["reproduce", str(made.path)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "source.mp4, which it was made of, is not there any more" in line
    source.path.write_bytes(moving.path.read_bytes()[:5000])
    with pytest.raises(ResultError, match="was changed since"):
        reproduce(made)
    source.path.unlink()


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "a\0b", "x" * 9000])
def test_settings_from_anywhere_lead_to_no_other_file(moving, name):
    finished = RecordedFinish(name, "0" * 64, "0" * 64, 5, 96, 144, 16, "smooth")
    hostile = replace(moving, settings=replace(moving.settings, finished=finished))
    with pytest.raises(ResultError, match="is not there any more") as caught:
        reproduce(hostile)
    assert str(caught.value).isprintable()
    with contextlib.suppress(ResultError):
        assert "\0" not in recipe.command_line(hostile.settings)


def test_the_time_left_follows_the_frames():
    now = [0.0]
    left = TimeLeft(clock=lambda: now[0])
    left.record(StageStarted("finish", 10.0))
    shares = []
    for frame in range(1, 21):
        now[0] += 1.0  # twice as slow as predicted
        left.record(FrameFinished(frame, 20))
        shares.append(left.share)
        if frame == 10:
            assert 8 < left.seconds_left < 13
    assert shares == sorted(shares)
    assert shares[9] == pytest.approx(0.5, abs=0.05)
    assert shares[-1] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, "nothing to do: give fps, factor or scale"),
        ({"fps": 8}, "the video has 8 already"),
        ({"fps": 24, "factor": 3}, "drop one"),
        ({"fps": 24.5}, "give a whole number"),
        ({"factor": 7}, "is one of 2, 3, 4"),
        ({"fps": 24, "upscaler": "nope"}, "upscaler = 'nope': needs a scale"),
        ({"scale": 2, "interpolation": "smooth"}, "interpolation = 'smooth': needs fps or factor"),
        ({"scale": 5}, "lanczos enlarges by 2, 3, 4"),
        ({"scale": 2, "upscaler": "lanzcos"}, "did you mean 'lanczos'"),
        ({"factor": 2, "interpolation": "rife"}, "is unknown; use one of smooth"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(moving, wanted, message):
    with pytest.raises(RequestError, match=message) as caught:
        finish_result(moving, **wanted)
    assert "\n" not in str(caught.value)


def test_one_frame_and_the_limits_of_the_codec(keep, monkeypatch):
    still = keep([ball(0)], "still.mp4")
    with pytest.raises(RequestError, match="one frame has none between"):
        finish_result(still, factor=2)
    large = replace(read_source(still.path, still.settings), height=4096, width=4096)
    with pytest.raises(RequestError, match=r"makes 16,384 × 16,384 pixels; H.264 has at most"):
        plan_work(large, Recipe(scale=4))
    monkeypatch.setattr("cogvx_nb.planning.probe.ram_free_bytes", lambda limits: 10**6)
    with pytest.raises(CogvxError, match=r"takes about .* of memory, and .* are free"):
        plan_work(replace(large, width=1024), Recipe(scale=2))


def test_an_export_at_another_rate_is_not_taken_for_its_source(moving, module_outputs):
    same = clips.export_clip(moving.path, module_outputs / "same.mp4", how=Options(quality=50))
    assert finish_result(same, factor=2).settings.shown.fps == 16
    slow = clips.export_clip(moving.path, module_outputs / "slow.mp4", how=Options(fps=4))
    with pytest.raises(ResultError, match="it has 4 frames a second, and 8 when it was made"):
        finish_result(slow, factor=2)


def test_a_cancelled_one_leaves_nothing(moving, module_outputs):
    cancel, seen = threading.Event(), []

    def listen(event):
        if isinstance(event, FrameFinished):
            seen.append((event.frame, event.frames))
            if event.frame == 3:
                cancel.set()

    def kept_files():
        return sorted(path for path in module_outputs.rglob("*") if path.is_file())

    before = kept_files()
    with pytest.raises(Cancelled):
        finish_result(moving, "never.mp4", factor=4, scale=2, on_event=listen, cancel=cancel)
    assert seen == [(1, 25), (2, 25), (3, 25)]
    cancel.clear()

    def stop_when_written(event):
        if event == StageStarted("write"):
            cancel.set()

    with pytest.raises(Cancelled):
        finish_result(moving, scale=2, on_event=stop_when_written, cancel=cancel)
    assert kept_files() == before


def test_several_are_made_one_after_another_and_fail_alone(moving, keep, module_outputs, capsys):
    folder = module_outputs / "several"
    first = keep([ball(0), ball(1)], "several/first.mp4")
    still = keep([ball(0)], "several/still.mp4")
    (folder / "other.mp4").write_bytes(b"no video")
    with pytest.raises(OutputExists, match="in place"):
        finish_result(first, first.path, overwrite=True, factor=2)
    capsys.readouterr()
    assert main(["finish", "several", "--factor", "2"]) == 2, "a folder in the outputs folder"
    output = capsys.readouterr()
    (made,) = output.out.splitlines()
    assert result.read_result(made).settings.finished.source == "first.mp4"
    failed = [line for line in output.err.splitlines() if line.startswith("cogvx:")]
    assert len(failed) == 1
    assert str(still.path) in failed[0]
    assert main(["finish", "first.mp4", "--scale", "2"]) == 0, "as cogvx show names its source"
    assert main(["finish", "lost", "--scale", "2"]) == 1
    assert "there is no file" in capsys.readouterr().err
    assert main(["finish", "--where", "frames = 1000", "--scale", "2"]) == 2
    assert "no video to finish" in capsys.readouterr().err
    assert main(["show", "--json", made]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["finished"]["frames"] == 3
    assert shown == stored.read_tag(result.Path(made)) | {"seconds": shown["seconds"]}


def test_a_video_by_a_network_names_its_weights_and_is_made_again(keep, tmp_path, monkeypatch):
    source = keep([ball(n)[:48, :64] for n in range(2)], "small.mp4")
    made = finish_result(source, tmp_path / "made.mp4", scale=2, upscaler="animevideo")
    assert made.settings.finished.tile == (48, 64)
    # Memory has become small since: the tiles stay as recorded.
    monkeypatch.setattr("cogvx_nb.finishing.tiles.free_bytes", lambda device: 2**20)
    assert list(made.settings.finished.weights) == ["REALESRGAN_ANIMAVIDEOV3_UP2X.bin"]
    assert made.settings.finished.versions["torch"]
    assert reproduce(made).identical
