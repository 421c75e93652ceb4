"""Frames to an mp4 and back, through the ffmpeg that imageio-ffmpeg brings."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from .errors import OutputError, ResultError

TAG = "cogvx"
"""Name of the mp4 metadata tag that holds the settings as JSON."""

QUALITY = 14
"""x264's constant rate factor; 18 is called visually lossless, and small clips cost little."""


BLACK = 4
"""Of 255. Frames that are nowhere brighter are what an overflow in float16 looks like."""


def is_black(frames: np.ndarray) -> bool:
    """Whether uint8 frames are black all over."""
    return bool(frames.max() <= BLACK)


def encode(frames: np.ndarray, path: Path, fps: int, tag: str) -> None:
    """Write an H.264, yuv420p, faststart mp4.

    Args:
        frames: uint8 (frames, height, width, 3), RGB, height and width even.
        tag: text kept in the file's metadata; ASCII.

    Raises:
        OutputError: if ffmpeg fails, with its last line.
    """
    _, height, width, _ = frames.shape
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)]
    command += ["-i", "pipe:", "-c:v", "libx264", "-crf", str(QUALITY), "-pix_fmt", "yuv420p"]
    # All of it said outright, or players guess the colours from the picture's size.
    said = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    command += ["-vf", f"scale=out_color_matrix=bt709:out_range=tv,{said}"]
    # Without use_metadata_tags the mp4 muxer drops tags that it doesn't know.
    command += ["-movflags", "+faststart+use_metadata_tags", "-metadata", f"{TAG}={tag}"]
    command += ["-f", "mp4", f"file:{path}"]
    done = subprocess.run(command, input=frames.tobytes(), capture_output=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise OutputError(f"ffmpeg could not write {path}: {lines[-1] if lines else 'no reason'}")


def decode(path: Path) -> np.ndarray:
    """All frames of a video, uint8 (frames, height, width, 3), RGB.

    Raises:
        ResultError: if it is missing or no video.
    """
    if not path.is_file():
        raise ResultError(f"there is no file {path}")
    try:
        reader = imageio_ffmpeg.read_frames(str(path.absolute()))
        width, height = next(reader)["size"]
        frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    except (OSError, RuntimeError, ValueError, StopIteration) as error:
        raise ResultError(f"{path} can't be read as a video") from error
    if not frames:
        raise ResultError(f"{path} holds no frames")
    return np.stack(frames)


def poster(path: Path, seconds: float, width: int) -> bytes:
    """One frame of a video as a WebP of that width, in pixels.

    Args:
        seconds: which one; the first frame where the video is shorter.

    Raises:
        ResultError: if there is no video to read.
    """
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-ss", f"{seconds:.3f}"]
    command += ["-i", f"file:{path}", "-frames:v", "1", "-vf", f"scale={width}:-2,format=bgra"]
    command += ["-c:v", "libwebp", "-f", "webp", "pipe:"]
    done = subprocess.run(command, capture_output=True, check=False)
    if not done.stdout and seconds:
        return poster(path, 0, width)
    if not done.stdout:
        raise ResultError(f"{path} can't be read as a video")
    return done.stdout


def shrink(path: Path, most_bytes: int, height: int = 240) -> bytes:
    """A copy of a video, as mp4, of at most so many bytes.

    Args:
        height: in pixels; halved until the copy is small enough.

    Raises:
        ResultError: if there is no video to read, or no copy is small enough.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "small.mp4"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
        command += ["-i", f"file:{path}", "-vf", f"scale=-2:{height}", "-c:v", "libx264"]
        command += ["-crf", "26", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(copy)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            raise ResultError(f"{path} can't be read as a video")
        data = copy.read_bytes()
    return data if len(data) <= most_bytes else shrink(path, most_bytes, height // 2)


def read_tag(path: Path) -> dict | None:
    """The settings that a video carries; None if it carries none.

    Raises:
        ResultError: if the file is missing.
    """
    if not path.is_file():
        raise ResultError(f"there is no file {path}")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", f"file:{path}"]
    done = subprocess.run([*command, "-f", "ffmetadata", "-"], capture_output=True, check=False)
    text = done.stdout.decode("utf-8", errors="replace")
    found = re.search(rf"^{TAG}=((?:\\.|[^\\\n])*)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        return None
    try:
        # The format escapes = ; # \ and line ends with a backslash.
        return json.loads(re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL))
    except ValueError:
        return None
