"""mp4 files: what ffmpeg is given and what is read back, whatever texts are in the file."""

from __future__ import annotations

import json
import os
import socket
import subprocess

import numpy as np
import pytest

from cogvx_nb import settings
from cogvx_nb.errors import FfmpegError, ResultError
from cogvx_nb.media import ffmpeg
from cogvx_nb.results import pictures, stored, video

CONFUSING = [
    "Duration: 00:00:05,000 a red circle",
    "Duration: 00:00:00.05, start: 0.000000, bitrate: 1 kb/s",
    "a\n  Stream #0:0[0x1](und): Video: h264, yuv420p, 8x8, 999 fps, 999 tbr",
    "Video: rawvideo (RGB[24]), 8x8\rframe= 99 fps=0.0",
    ";FFMETADATA1\n[CHAPTER]\ntitle=x\ncogvx={}",
    "a = b ; c # d \\ e \" f ' g %03d {} ${HOME} \x00\x1b[31m\x7f",
    "🟥 \u202e 红",
]


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (5, 96, 144, 3), np.uint8)


@pytest.mark.parametrize("text", [*CONFUSING, "x" * 300_000], ids=lambda text: repr(text[:20]))
def test_texts_in_a_file_confuse_nothing(frames, tmp_path, text):
    tag = json.dumps({"prompt": text})
    path = tmp_path / "a.mp4"
    video.encode_video(frames, path, 8, tag)
    assert video.decode_video(path).shape == frames.shape
    assert stored.read_tag(path) == {"prompt": text}
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_frames_are_those_that_ffmpeg_decodes(frames, tmp_path):
    path = tmp_path / "a.mp4"
    video.encode_video(frames, path, 8, "")
    command = [ffmpeg.find_ffmpeg(), "-loglevel", "error", "-i", str(path), "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    expected = np.frombuffer(raw.stdout, np.uint8).reshape(frames.shape)
    assert np.array_equal(video.decode_video(path), expected)
    assert np.array_equal(video.decode_video(path, 2), expected[:2])


def test_the_hash_is_of_the_decoded_frames(frames, tmp_path):
    paths = [tmp_path / f"{name}.mp4" for name in ("a", "b", "c")]
    for path, tag, shown in zip(paths, ("x", "y", "x"), (frames, frames, frames[:4]), strict=True):
        video.encode_video(shown, path, 8, tag)
    first, second, shorter = map(video.content_hash, paths)
    assert first == second != shorter
    assert len(first) == 64
    paths[0].write_bytes(b"hello")
    assert video.content_hash(paths[0]) == ""


def make_special(path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder"])
def test_only_regular_files_are_read(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    path = tmp_path / "a.mp4"
    make_special(path, kind)
    for read in (video.decode_video, video.content_hash, lambda p: pictures.still_image(p, 0, 90)):
        with pytest.raises(ResultError, match=r"a\.mp4 is no regular file"):
            read(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", b"ffconcat version 1.0\n"]
)
def test_other_files_are_no_videos(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(ResultError, match="can't be read as a video"):
        video.decode_video(path)


def test_a_video_is_not_read_beyond_the_limit(frames, tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    video.encode_video(frames, path, 8, "")
    monkeypatch.setattr(video, "MAX_DECODED_BYTES", 3 * frames[0].nbytes)
    with pytest.raises(ResultError, match="too long"):
        video.decode_video(path)
    assert len(video.decode_video(path, 3)) == 3


@pytest.mark.parametrize("script", ["exit 3", "exit 0", "echo Unknown encoder >&2; exit 1", None])
def test_an_ffmpeg_that_does_not_work_is_named(tmp_path, monkeypatch, script):
    program = tmp_path / "ffmpeg"
    if script:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv(settings.FFMPEG_VARIABLE, str(program))
    with pytest.raises(FfmpegError, match=rf"{program}, which IMAGEIO_FFMPEG_EXE names.*unset it"):
        video.try_ffmpeg()
    monkeypatch.delenv(settings.FFMPEG_VARIABLE)
    assert video.try_ffmpeg() == 5
