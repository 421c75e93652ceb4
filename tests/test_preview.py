"""Previews: a colour map fitted to a result shows the next one without a decode."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
import world
from PIL import Image

from cogvx_nb import progress
from cogvx_nb.planning import request
from cogvx_nb.planning.plan import Plan
from cogvx_nb.results.generated import Generated
from cogvx_nb.workbench import previews, session

STAR = "a green star growing on a navy background"


@pytest.fixture(scope="module")
def star(tiny, here):
    """Clean latents (7, 16, 12, 18) and frames (25, 96, 144, 3) of a real video."""
    from cogvx_nb.pipeline import generate, loader
    from cogvx_nb.planning import planner

    asked, seen = request.make_request(tiny, STAR, frames=25, steps=20), []
    generated = generate.generate_frames(
        asked, loader.load_pipeline(planner.plan_request(asked, here)), seen.append
    )
    last = [event for event in seen if isinstance(event, progress.Step)][-1]
    return last.latents[0].float().numpy(), generated.frames


def small(frames: np.ndarray) -> np.ndarray:
    """Frames averaged over cells of 8 × 8, one for each latent frame."""
    cells = frames.reshape(len(frames), 12, 8, 18, 8, 3).mean(axis=(2, 4))
    return np.concatenate([cells[:1], cells[1:].reshape(-1, 4, 12, 18, 3).mean(axis=1)])


def test_a_fitted_map_shows_the_clip(star):
    latents, frames = star
    shown = previews.NEUTRAL.learn(latents, frames).frames(latents)
    assert shown.shape == (7, 12, 18, 3)
    assert shown.dtype == np.uint8
    assert np.abs(shown - small(frames)).mean() < 6


@pytest.mark.slow
def test_what_was_learnt_shows_another_clip(make):
    def clean(prompt: str) -> tuple[np.ndarray, np.ndarray]:
        seen = []
        generated = make(prompt, steps=10, on_event=seen.append)
        last = [event for event in seen if isinstance(event, progress.Step)][-1]
        return last.latents[0].float().numpy(), generated.frames

    colours = previews.NEUTRAL
    for colour, shape, paper in zip(
        world.COLOURS, world.SHAPES * 2, world.BACKGROUNDS, strict=False
    ):
        colours = colours.learn(*clean(f"a {colour} {shape} moving left on a {paper} background"))
    latents, frames = clean("a red star moving right on a gray background")
    shown = colours.frames(latents)
    assert np.abs(shown - small(frames)).mean() < 20
    large = np.repeat(np.repeat(shown, 8, axis=1), 8, axis=2)
    measured = world.measure(large)
    assert (measured.motion, measured.background) == ("right", "gray")


def test_without_a_result_it_is_gray(star):
    shown = previews.NEUTRAL.frames(star[0])
    assert (shown[..., 0] == shown[..., 1]).all()
    assert (shown[..., 0] == shown[..., 2]).all()
    assert shown.std() > 10


def test_an_animation_has_each_frame(star):
    frames = previews.NEUTRAL.learn(*star).frames(star[0])
    picture = Image.open(io.BytesIO(previews.preview_animation(frames, fps=2)))
    assert (picture.format, picture.n_frames, picture.size) == ("WEBP", 7, (180, 120))
    picture.seek(6)
    middle = np.asarray(picture.convert("RGB"), int)
    expected = np.asarray(Image.fromarray(frames[6]).resize((180, 120)), int)
    assert np.abs(middle - expected).mean() < 12


def test_a_map_is_kept(star, tmp_path):
    path = tmp_path / "new" / "tiny.json"
    fitted = previews.NEUTRAL.learn(*star)
    previews.store_colours(path, fitted)
    assert (previews.load_colours(path).frames(star[0]) == fitted.frames(star[0])).all()
    assert [p.name for p in path.parent.iterdir()] == ["tiny.json"]
    path.write_text("{")
    assert not previews.load_colours(path).fitted
    assert not previews.load_colours(tmp_path / "none").fitted


def test_colours_are_fitted_to_whole_clips_alone(tiny, star, outputs, caplog):
    """A chain's last latents are of one clip, its frames of all."""
    latents, frames = star
    last = progress.Step(20, 20, torch.from_numpy(latents)[None])
    asked = request.make_request(tiny, STAR, frames=25)
    plan = Plan(tiny, "cpu", "float32", "resident", False, 25, 96, 144, True)
    made = Generated(frames, asked, plan, {}, {}, 1)
    chain = replace(
        made, request=replace(asked, pieces=(25, 25)), frames=np.tile(frames, (2, 1, 1, 1))
    )
    one = session.Session()
    path = session._colours_path(tiny)
    one._fit_colours(last, progress.FramesDone(chain))
    assert not caplog.records
    assert not path.exists()
    one._fit_colours(last, progress.FramesDone(made))
    assert path.exists()
