"""Going on from a clip: with weights for text, for an image, and with a mask; the doors to it."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import world
from conftest import CIRCLE
from test_page import Shown

from cogvx_nb import reproduction
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.cli.main import main
from cogvx_nb.errors import Cancelled, RequestError
from cogvx_nb.media import kept
from cogvx_nb.pipeline import extend, generate, hold, loader, schedulers
from cogvx_nb.planning import extension, extension_fit, inputs, planner, request, styles
from cogvx_nb.planning.step_cache import DENSE, GUARDED
from cogvx_nb.progress import StageStarted, Step
from cogvx_nb.results import result, video
from cogvx_nb.storyboard import make_storyboard
from cogvx_nb.sweep.driver import prepare_sweep
from cogvx_nb.workbench.grid_plan import request_of
from cogvx_nb.workflow import make_video, prepare_request

STAR = "a green star growing on a navy background"
SOURCE = world.clip(world.Attributes("red", "circle", "right", "black"), 13, seed=3)
CHECKPOINTS = {known.name: known for known in registry.CHECKPOINTS}


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("clip") / "circle.mp4"
    video.encode_video(SOURCE, path, 8, "")
    return str(path)


@pytest.fixture(scope="module")
def pictured():
    return store.locate_checkpoint("tiny-i2v")


# --- what can follow ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "frames", "pieces"),
    [
        ("CogVideoX-5b", 40, (49,)),
        ("CogVideoX-5b", 48, (49, 17)),
        ("CogVideoX-5b-I2V", 48, (49,)),
        ("CogVideoX-5b-I2V", 60, (49, 13)),
        ("CogVideoX1.5-5B", 72, (81,)),
        ("CogVideoX1.5-5B-I2V", 96, (81, 17)),
        ("CogVideoX-Fun-V1.5-5b-InP", 80, (85, 13)),
    ],
)
def test_new_frames_come_in_clips_that_the_checkpoint_makes(name, frames, pieces):
    checkpoint = CHECKPOINTS[name]
    assert extension.pieces(checkpoint, frames) == pieces
    assert set(pieces) <= set(checkpoint.frame_counts)
    assert sum(count - extension.overlap(checkpoint) for count in pieces) == frames


@pytest.mark.parametrize(("asked", "used"), [(1, 4), (14, 16), (41, 40), (47, 48), (9999, 10_000)])
def test_other_numbers_are_set_to_the_nearest_and_say_which_there_are(tiny, asked, used):
    found, changes = extension_fit.fit_new_frames(tiny, asked)
    assert found == used
    assert "goes on by 4, 8, 16, 24, 32, 40 frames, or 40 again and again" in changes[0].reason


def test_a_plan_is_of_the_longest_clip_of_the_chain(tiny, here, clip):
    asked = request.make_request(tiny, CIRCLE, extend=clip, frames=120)
    assert (asked.pieces, asked.clip_frames, asked.all_frames) == ((49,) * 3, 49, 133)
    alone = planner.plan_request(request.make_request(tiny, CIRCLE, frames=49), here)
    plan = planner.plan_request(asked, here)
    assert plan.peak_bytes == pytest.approx(alone.peak_bytes, rel=0.05)


def test_what_can_not_be_extended_is_one_line(tiny, tmp_path, clip):
    def refusal(**values: object) -> str:
        with pytest.raises(RequestError) as caught:
            request.make_request(tiny, CIRCLE, **values)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    short, large, empty = (str(tmp_path / name) for name in ("short.mp4", "large.mp4", "no.mp4"))
    video.encode_video(SOURCE[:5], tmp_path / "short.mp4", 8, "")
    video.encode_video(np.tile(SOURCE, (1, 2, 2, 1)), tmp_path / "large.mp4", 8, "")
    (tmp_path / "no.mp4").write_bytes((tmp_path / "short.mp4").read_bytes()[:200])
    assert "has 5 frames at 8 fps and cogvideox-tiny goes on from 9" in refusal(extend=short)
    line = refusal(extend=large)
    assert "has 192 × 288 pixels and the new frames would have 96 × 144" in line
    assert "has no frames that can be decoded" in refusal(extend=empty)
    assert "is no file" in refusal(extend="nowhere")
    assert "can't be given together with a video" in refusal(extend=clip, video=clip)
    with pytest.raises(RequestError, match="takes a video to follow, not a video to extend"):
        inputs.task_of(CHECKPOINTS["CogVideoX-Fun-V1.1-5b-Control"], ["extend"])


def test_the_usual_number_of_frames_is_adjusted_as_any_other(tiny, clip, outputs, capsys):
    line = "frames 13 → 16: cogvideox-tiny goes on by 4, 8, 16, 24, 32, 40 frames"
    made = request.make_request(tiny, CIRCLE, extend=clip)
    assert made.frames == 16
    assert str(made.adjustments[0]).startswith(line)
    with pytest.raises(RequestError, match=r"frames = 13: .*; use 16"):
        request.make_request(tiny, CIRCLE, extend=clip, strict=True)
    flags = ["--extend", clip, "--frames", "13", "--steps", "1", "--model", "tiny"]
    assert main(["generate", "--prompt", CIRCLE, *flags]) == 0
    printed = capsys.readouterr()
    assert f"adjusted: {line}" in printed.err
    assert main(["show", printed.out.strip()]) == 0
    assert f"adjusted   {line}" in capsys.readouterr().out


@pytest.fixture(scope="module")
def source(tmp_path_factory, tiny):
    """A result, one that was joined of it and of another, and a clip that is none."""
    folder = tmp_path_factory.mktemp("source")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGVX_OUTPUTS_DIR", str(folder))
        rows = [{"prompt": text, "frames": 9} for text in (CIRCLE, STAR)]
        board = make_storyboard(rows, folder / "joined.mp4", model="tiny", steps=1)
        shutil.copyfile(board.pieces[0].result.path, folder / "circle.mp4")
    video.encode_video(SOURCE, folder / "foreign.mp4", 8, "")
    return folder


def test_a_result_goes_on_with_its_prompt(tiny, source, outputs, capsys, monkeypatch):
    flags = ["--frames", "4", "--steps", "1", "--model", "tiny", "--strict"]
    note = "the prompt is that of circle.mp4, which it goes on from: " + CIRCLE
    assert main(["generate", "--extend", str(source / "circle.mp4"), *flags]) == 0
    printed = capsys.readouterr()
    assert f"note: {note}" in printed.err
    made = result.read_result(printed.out.strip())
    assert (made.settings.request.prompt, made.settings.notes[0]) == (CIRCLE, note)
    assert reproduction.reproduce(made).identical
    monkeypatch.chdir(source)
    small = {"steps": 1, "model": "tiny", "frames": 4}
    for values, used in (
        ({"extend": "circle.mp4", "prompt": " "}, CIRCLE),
        ({"extend": "circle.mp4", "prompt": STAR}, STAR),
        ({"extend": "joined.mp4"}, STAR),
    ):
        asked, _ = prepare_request(**small | values)
        assert asked.prompt == used
        assert any("the prompt is that of" in one for one in asked.notes) == (
            used not in values.values()
        )
    for values in ({"extend": "foreign.mp4"}, {"video": "circle.mp4"}, {"extend": "lost"}, {}):
        with pytest.raises(RequestError, match=r"^prompt = '': is empty; describe what"):
            prepare_request(**small | values)


def test_notebook_03_goes_on_with_the_prompt_of_a_result_where_its_own_is_empty(source, outputs):
    fixed = {"extend": str(source / "circle.mp4"), "steps": 1, "model": "tiny", "frames": 4}
    for prompt, used in (("", CIRCLE), (STAR, STAR)):
        (run,) = prepare_sweep({"parameters": fixed | {"prompt": prompt}})[2]
        assert run.expected.request["prompt"] == used


def test_a_style_is_put_around_the_prompt_of_the_source(source, outputs, capsys):
    styles.save_style(styles.Style("bold", "bold, {prompt}", ""))
    flags = ["--frames", "4", "--steps", "1", "--model", "tiny", "--style", "bold"]
    assert main(["generate", "--extend", str(source / "circle.mp4"), *flags]) == 0
    printed = capsys.readouterr()
    note = f"the prompt is that of circle.mp4, which it goes on from: {CIRCLE}"
    assert printed.err.count(note) == 1
    made = result.read_result(printed.out.strip())
    assert made.settings.notes[0] == note
    assert made.settings.request.prompt == f"bold, {CIRCLE}"


def test_the_page_goes_on_with_the_prompt_of_a_result(tiny, source, outputs):
    shown = Shown(tiny, {"steps": 1, "prompt": ""})
    shown.session.queue.pause()
    for name, notes in (
        ("foreign.mp4", []),
        ("circle.mp4", [f"circle.mp4, which it goes on from: {CIRCLE}"]),
    ):
        kept_name = kept.keep_file(source / name)
        values = {"extend": inputs.named_value(kept_name, name), "frames": 4, "prompt": ""}
        checked = shown.ask("form.edit", {"values": values})["data"]
        assert checked["problem"] is None
        told = [note.removeprefix("the prompt is that of ") for note in checked["notes"]]
        assert [note for note in told if note.startswith(name)] == notes
        answer = shown.submit(**values)
        if not notes:
            assert answer["error"]["text"].startswith("Prompt is empty")
    assert [job.request.prompt for job in shown.session.queue.waiting] == [CIRCLE]
    assert request_of(values | {"model": "tiny"}).prompt == CIRCLE, "of a grid's cell"
    shown.close()


def test_results_are_found_by_name_outside_of_the_trash(outputs, clip):
    here, gone = outputs / "2026-01-01" / "a.mp4", outputs / "trash" / "a.mp4"
    for path in (here, gone):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    assert extension.find_source("a") == str(here)
    here.unlink()
    assert extension.find_source("a") == "a"


# --- seams ----------------------------------------------------------------------------------------


def test_colours_are_matched_to_the_frames_that_are_repeated():
    known = SOURCE[4:]
    drifted = np.clip(known * 0.9 + 9, 0, 255).round().astype(np.uint8)
    after = world.clip(world.Attributes("red", "circle", "left", "black"), 13, 1)
    made = extend.matched(np.concatenate([drifted, after]), known)
    assert np.abs(made[: len(known)].astype(int) - known).max() <= 2
    assert made[len(known) :].mean() > after.mean(), "later frames are moved alike"
    black = np.zeros((2, 8, 8, 3), np.uint8)
    assert np.array_equal(extend.matched(black, black), black)
    white = extend.matched(
        np.full((3, 8, 8, 3), 50, np.uint8), np.full((1, 8, 8, 3), 250, np.uint8)
    )
    assert white.max() == 50 + extend.MOST_OFFSET, "another picture isn't made to fit"


def test_the_last_sharp_frame_is_taken():
    frames = SOURCE.astype(np.float32)
    blurred = (frames + np.roll(frames, 3, 1) + np.roll(frames, 3, 2) + np.roll(frames, 6, 2)) / 4
    assert extend.sharp_frame(SOURCE) == 12
    mixed = np.concatenate([SOURCE[:11], blurred[11:].astype(np.uint8)])
    assert extend.sharp_frame(mixed) == 10
    assert extend.sharp_frame(SOURCE[:1]) == 0


def test_each_clip_has_a_seed_of_its_own():
    seeds = [extension.seed_of(42, piece) for piece in range(50)]
    assert seeds[0] == 42
    assert len(set(seeds)) == 50
    assert extension.seed_of(42, 1) == 780_200_164


@pytest.mark.parametrize("name", ["dpm", "euler", "unipc"])
def test_known_latents_are_seen_with_less_noise_and_end_as_they_are(name):
    from test_conformance import Parts

    scheduler = schedulers.choose(Parts("2b", "DPM").scheduler, name)
    steps = schedulers.set_steps(scheduler, 5, 0, torch.device("cpu"))
    known, noise = torch.randn(1, 3, 4, 2, 2), torch.randn(1, 5, 4, 2, 2)
    held = hold.Hold(scheduler, known, noise)
    seen = torch.randn(1, 5, 4, 2, 2)
    told = held.noisy(seen, steps[0])
    kept_share, added = schedulers.levels(scheduler, hold.LEAD * steps[:1])
    wanted = kept_share.float() * known + added.float() * noise[:, :3]
    torch.testing.assert_close(told[:, :3], wanted)
    assert torch.equal(told[:, 3:], seen[:, 3:])
    assert kept_share > schedulers.levels(scheduler, steps[:1])[0]
    assert torch.equal(held.clean(seen)[:, :3], known)
    assert hold.Hold(scheduler, None, noise).noisy(seen, steps[0]) is seen


# --- whole videos ---------------------------------------------------------------------------------


def test_an_extended_clip_keeps_its_frames_and_is_made_again(tiny, clip, outputs, capsys):
    asked = request.make_request(tiny, CIRCLE, extend=clip, frames=4, steps=2)
    made = make_video(asked)
    assert made.settings.shown.frames == 17
    again = result.read_result(made.path)
    assert again.settings.inputs["extend"].name == "circle.mp4"
    assert kept.is_kept_name(again.settings.request.extend)
    frames = video.decode_video(made.path)
    assert frames.shape == (17, 96, 144, 3)
    assert np.abs(frames[:13].astype(int) - SOURCE).mean() < 2
    found = reproduction.reproduce(again)
    assert found.identical, str(found)
    capsys.readouterr()
    assert main(["show", str(made.path)]) == 0
    shown = capsys.readouterr().out
    assert "17 frames of 96 × 144" in shown
    assert "and 4 frames more" in shown
    longer = request.make_request(tiny, CIRCLE, extend=made.path.stem, frames=4)
    assert longer.all_frames == 21, "a result is named by its name alone"
    kept.locate(again.settings.request.extend).unlink()
    with pytest.raises(RequestError, match="is gone from"):
        reproduction.reproduce(again)


def test_a_chain_counts_its_steps_through_and_is_cancelled_in_any_clip(tiny, here, clip):
    small = replace(tiny, checkpoint=replace(tiny.checkpoint, frames=(13,)))
    asked = request.make_request(small, CIRCLE, extend=clip, frames=8, steps=2)
    assert asked.pieces == (13, 13)
    events = []
    loaded = loader.load_pipeline(planner.plan_request(asked, here))
    made = generate.generate_frames(asked, loaded, events.append)
    assert made.frames.shape == (21, 96, 144, 3)
    steps = [(event.step, event.steps) for event in events if isinstance(event, Step)]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    stages = [event.stage for event in events if isinstance(event, StageStarted)]
    assert stages == ["text", "encode", "denoise", "decode"]

    class AfterThree:
        done = 0

        def is_set(self) -> bool:
            return self.done >= 3

    cancel = AfterThree()

    def count(event: object) -> None:
        cancel.done += isinstance(event, Step)

    with pytest.raises(Cancelled):
        generate.generate_frames(asked, loaded, count, cancel)
    assert cancel.done == 3


def test_each_clip_of_a_chain_is_guarded_by_itself(tiny, here, clip, monkeypatch):
    class EverySecond:
        """A limit that the first clip's change is below and the second's above."""

        clips = 0

        def __lt__(self, change: float) -> bool:
            self.clips += 1
            return self.clips % 2 == 0

    small = replace(tiny, checkpoint=replace(tiny.checkpoint, frames=(13,)))
    asked = request.make_request(small, CIRCLE, extend=clip, frames=8, steps=3)
    plan = replace(planner.plan_request(asked, here), step_cache=GUARDED)

    def made():
        limit = EverySecond()
        monkeypatch.setattr("cogvx_nb.pipeline.step_cache.HARD_CHANGE", limit)
        return generate.generate_frames(asked, loader.load_pipeline(plan)), limit.clips

    first, looked = made()
    assert (looked, first.plan.step_cache) == (2, GUARDED)
    plan = replace(plan, step_cache=first.plan.step_cache)
    assert np.array_equal(made()[0].frames, first.frames), "what is recorded makes the same"
    alike = [replace(first, plan=replace(first.plan, step_cache=DENSE))] * 2
    assert extend._chain_cache(alike) == DENSE


def test_image_weights_go_on_from_the_last_sharp_frame(pictured, here, clip):
    asked = request.make_request(pictured, CIRCLE, extend=clip, frames=8, steps=2)
    assert (asked.pieces, asked.encoded_frames) == ((9,), 1)
    loaded = loader.load_pipeline(planner.plan_request(asked, here))
    made = generate.generate_frames(asked, loaded)
    assert made.frames.shape == (21, 96, 144, 3)
