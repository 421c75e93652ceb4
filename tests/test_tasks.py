"""From pictures and clips to videos: the tasks, what is refused, and what results give back."""

from __future__ import annotations

import json
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
import world
from conftest import CIRCLE
from PIL import Image

from cogvx_nb.checkpoints import registry, store
from cogvx_nb.errors import RequestError
from cogvx_nb.media import pixels
from cogvx_nb.pipeline import generate, loader
from cogvx_nb.planning import model_choice, planner, request
from cogvx_nb.reproduction import reproduce
from cogvx_nb.results import records, video
from cogvx_nb.results.result import read_result
from cogvx_nb.workflow import generate_video


@pytest.fixture(scope="session")
def tiny_i2v():
    return store.locate_checkpoint("cogvideox-tiny-i2v")


@pytest.fixture(scope="session")
def frames():
    """Frames of a red circle that moves right on black, uint8 (13, 96, 144, 3)."""
    return world.clip(world.Attributes("red", "circle", "right", "black"), 13)


@pytest.fixture
def picture(frames, tmp_path):
    path = tmp_path / "first.png"
    Image.fromarray(frames[0]).save(path)
    return path


@pytest.fixture
def last_picture(frames, tmp_path):
    path = tmp_path / "last.png"
    Image.fromarray(frames[-1]).save(path)
    return path


@pytest.fixture
def clip(frames, tmp_path):
    path = tmp_path / "clip.mp4"
    video.encode_video(frames, path, 8, "")
    return path


@pytest.fixture
def run(here):
    """Run a request of a checkpoint, from keywords to frames."""

    def run_request(model, **values):
        asked = request.make_request(model, CIRCLE, **{"steps": 2} | values)
        loaded = loader.load_pipeline(planner.plan_request(asked, here))
        return generate.generate_frames(asked, loaded), loaded.pipe

    return run_request


def test_what_is_given_makes_the_task(tiny, tiny_i2v, picture, last_picture, clip):
    def task(model, **given):
        values = {name: str(path) for name, path in given.items()}
        return request.make_request(model, CIRCLE, **values).task

    assert task(tiny) == registry.TEXT
    assert task(tiny, video=clip) == registry.CLIP
    assert task(tiny_i2v) == registry.TEXT
    assert task(tiny_i2v, image=picture) == registry.IMAGE
    assert task(tiny_i2v, image=picture, last_image=last_picture) == registry.FRAMES


def test_an_image_is_what_diffusers_makes_of_it(run, tiny_i2v, picture):
    generated, pipe = run(tiny_i2v, image=str(picture), frames=9)
    theirs = diffusers.CogVideoXImageToVideoPipeline(**pipe.components)
    theirs.set_progress_bar_config(disable=True)
    made = theirs(
        image=Image.open(picture),
        prompt=CIRCLE,
        height=96,
        width=144,
        num_frames=9,
        num_inference_steps=2,
        guidance_scale=6,
        use_dynamic_cfg=True,
        max_sequence_length=64,
        generator=torch.Generator().manual_seed(42),
        output_type="np",
    ).frames[0]
    assert np.array_equal(generated.frames, (made * 255).round().astype(np.uint8))


def test_a_clip_is_what_diffusers_makes_of_it(run, tiny, frames, clip):
    generated, pipe = run(tiny, video=str(clip), frames=9, strength=0.6, steps=5, guidance=1)
    fitted = pixels.clip_pixels(generated.request.video, 9, 8, 96, 144, "crop")
    given = [Image.fromarray(frame) for frame in fitted]
    theirs = diffusers.CogVideoXVideoToVideoPipeline(**pipe.components)
    theirs.set_progress_bar_config(disable=True)
    made = theirs(
        video=given,
        prompt=CIRCLE,
        height=96,
        width=144,
        strength=0.6,
        num_inference_steps=5,
        guidance_scale=1,
        max_sequence_length=64,
        generator=torch.Generator().manual_seed(42),
        output_type="np",
    ).frames[0]
    assert np.array_equal(generated.frames, (made * 255).round().astype(np.uint8))


def test_the_last_image_changes_how_a_video_ends(run, tiny_i2v, picture, last_picture):
    first, _ = run(tiny_i2v, image=str(picture))
    both, _ = run(tiny_i2v, image=str(picture), last_image=str(last_picture))
    assert not np.array_equal(first.frames[-1], both.frames[-1])
    assert set(both.input_hashes) == {"image", "last_image"}
    assert list(both.seconds) == ["load", "text", "encode", "denoise", "decode"]


def test_results_come_back_bit_for_bit_once_their_files_are_gone(
    picture, last_picture, clip, outputs
):
    image, last, moving = map(str, (picture, last_picture, clip))
    made = [
        generate_video(CIRCLE, steps=2, frames=9, image=image),
        generate_video(CIRCLE, steps=2, frames=9, image=image, last_image=last),
        generate_video(CIRCLE, steps=3, video=moving, strength=0.5),
    ]
    for path in (picture, last_picture, clip):
        path.unlink()
    for result in made:
        again = reproduce(read_result(result.path))
        assert again.identical, str(again)
    sidecar = made[0].settings
    assert sidecar.inputs["image"].name == "first.png"
    assert (outputs / sidecar.request.image).is_file()
    assert sidecar.checkpoint.name == "cogvideox-tiny-i2v"
    assert records.read_settings(json.loads(json.dumps(sidecar.as_json()))) == sidecar


def test_other_pixels_of_an_input_are_told(picture):
    found = read_result(generate_video(CIRCLE, steps=1, frames=9, image=str(picture)).path)
    other = {"image": replace(found.settings.inputs["image"], pixels="0" * 64)}
    then = replace(found.settings, inputs=other, frame_hash="0" * 64, content_hash="")
    told = str(reproduce(replace(found, settings=then)))
    assert "image has other pixels" in told
    assert "not identical" in told


def test_auto_takes_a_checkpoint_for_what_is_given(here):
    def name(*given):
        return model_choice.find_model("auto", lambda: here, 13, given)[0].name

    assert name() == name("video") == "cogvideox-tiny"
    assert name("image") == name("image", "last_image") == "cogvideox-tiny-i2v"


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (
            ("image",),
            "takes text alone, a video to change or .*, not an image: use .*tiny-i2v",
        ),
        (("last_image",), "needs an image before it"),
        (("image", "video"), "can't be given together"),
    ],
)
def test_what_a_checkpoint_does_not_take_is_refused(tiny, picture, names, remedy):
    with pytest.raises(RequestError, match=remedy):
        request.make_request(tiny, CIRCLE, **dict.fromkeys(names, str(picture)))


def test_values_without_effect_are_told(tiny):
    asked = request.make_request(tiny, CIRCLE, strength=0.5, fit="pad", video_start=1.0)
    told = [note for note in asked.notes if "no effect without" in note]
    assert [note.split()[0] for note in told] == ["strength", "video_start", "fit"]


@pytest.mark.parametrize("value", [0, 1.01, float("nan"), "much"])
def test_strengths_out_of_bounds_are_refused(tiny, clip, value):
    with pytest.raises(RequestError, match="strength"):
        request.make_request(tiny, CIRCLE, video=str(clip), strength=value)


def test_a_shorter_clip_makes_a_shorter_video(tiny, tmp_path, frames):
    path = tmp_path / "short.mp4"
    video.encode_video(frames[:12], path, 8, "")
    asked = request.make_request(tiny, CIRCLE, video=str(path))
    assert asked.frames == 9
    assert "no more at 8 fps" in str(asked.adjustments[0])
    video.encode_video(frames[:5], path, 8, "")
    with pytest.raises(RequestError, match=r"5 frames at 8 fps and .* at least 9"):
        request.make_request(tiny, CIRCLE, video=str(path))


def test_steps_that_are_done(tiny, clip):
    def done(**values):
        return request.make_request(tiny, CIRCLE, **values).done_steps

    assert done(steps=20, strength=0.3) == 20, "strength is of a clip"
    given = {"video": str(clip)}
    assert [done(steps=20, strength=share, **given) for share in (0.01, 0.3, 1)] == [1, 6, 20]


def test_where_a_picture_was_is_not_told(tiny_i2v, picture, outputs):
    made = generate_video(CIRCLE, steps=1, frames=9, image=str(picture))
    written = made.sidecar.read_text(encoding="utf-8") + made.path.read_bytes().decode("latin-1")
    assert "first.png" in written
    assert str(picture.parent) not in written
