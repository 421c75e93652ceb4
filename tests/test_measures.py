"""Measures of synthetic clips with known answers."""

from __future__ import annotations

import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from cogvx_nb.errors import CogvxError
from cogvx_nb.results import pictures, video
from cogvx_nb.sweep import dataframe
from cogvx_nb.workbench import previews

TEXTURE = np.random.default_rng(0).integers(0, 255, (60, 90)).astype(np.uint8)


def moving(pixels: float, frames: int = 9, size: tuple[int, int] = (480, 720)) -> np.ndarray:
    """A pattern that moves to the right as a whole."""
    large = cv2.resize(TEXTURE, size[::-1], interpolation=cv2.INTER_CUBIC)
    shifted = []
    for n in range(frames):
        shift = np.float32([[1, 0, pixels * n], [0, 1, 0]])
        shifted.append(cv2.warpAffine(large, shift, size[::-1], borderMode=cv2.BORDER_WRAP))
    return np.repeat(np.stack(shifted)[..., None], 3, axis=3)


def plain(*levels: float) -> np.ndarray:
    return np.stack([np.full((96, 144, 3), level, np.uint8) for level in levels])


@pytest.mark.parametrize(("pixels", "size"), [(3, (480, 720)), (1.5, (480, 720)), (2, (96, 144))])
def test_motion_is_in_pixels_of_the_video(pixels, size):
    assert dataframe.measure_result(moving(pixels, size=size)).motion == pytest.approx(
        pixels, rel=0.2
    )


def test_a_still_clip_has_no_motion():
    measures = dataframe.measure_result(moving(0))
    assert (measures.motion, measures.flicker) == (pytest.approx(0, abs=0.02), 0)


def test_flicker_is_of_jumps_and_not_of_fades():
    assert dataframe.measure_result(plain(100, 110, 100, 110, 100)).flicker == pytest.approx(10)
    assert dataframe.measure_result(plain(100, 110, 120, 130, 140)).flicker == 0


def test_what_is_blurred_is_less_sharp():
    clip = moving(1, frames=3)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in clip])
    assert (
        dataframe.measure_result(blurred).sharpness < dataframe.measure_result(clip).sharpness / 4
    )
    assert dataframe.measure_result(plain(9, 9, 9)).sharpness == 0


@pytest.mark.parametrize("frames", [1, 2])
def test_clips_of_a_frame_or_two_have_numbers_too(frames):
    measures = dataframe.measure_result(moving(1, frames=frames))
    assert np.isfinite([measures.motion, measures.flicker, measures.sharpness]).all()
    assert measures.fingerprint.shape == (8, 16, 16, 3)


def test_near_duplicates_are_grouped():
    clip, mirrored = moving(2), moving(2)[:, :, ::-1]
    noise = np.random.default_rng(1).integers(-9, 10, clip.shape)
    noisy = (clip.astype(int) + noise).clip(0, 255)
    prints = [
        dataframe.measure_result(frames.astype(np.uint8)).fingerprint
        for frames in (clip, mirrored, noisy, plain(1, 2), mirrored)
    ]
    assert dataframe.near_duplicates(prints) == [1, 2, 1, 0, 2]
    assert dataframe.near_duplicates([]) == []


def test_without_opencv_the_message_has_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(CogvxError, match=r'OpenCV.*pip install -e "\.\[measure\]"'):
        dataframe.measure_result(plain(1))


@pytest.mark.parametrize("size", [(16, 4096), (4096, 16)], ids=str)
def test_flat_and_narrow_clips_have_measures_and_pictures(tmp_path, size):
    frames = np.random.default_rng(0).integers(0, 255, (2, *size, 3), np.uint8)
    assert dataframe.measure_result(frames).motion > 0
    path = tmp_path / "a.mp4"
    video.encode_video(frames, path, 8, "")
    copy = tmp_path / "b.mp4"
    copy.write_bytes(pictures.shrink_video(path, 20_000_000))
    pages = [
        video.decode_video(copy)[0].shape[1::-1],
        Image.open(io.BytesIO(pictures.still_image(path, 0, 216))).size,
        Image.open(io.BytesIO(pictures.filmstrip_png(frames))).size,
        Image.open(io.BytesIO(previews.preview_animation(frames, 8))).size,
    ]
    assert all(min(page) > 0 and max(page) <= 8200 for page in pages), pages
