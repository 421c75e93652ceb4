"""mp4 files: encoding, decoding, and whether this machine can."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..errors import OutputError, ResultError
from ..files import partial_file, temporary_folder
from ..media import pixmaps
from ..media.ffmpeg import (
    broken_ffmpeg,
    failure_reason,
    feed_ffmpeg,
    ffmpeg_output,
    find_ffmpeg,
    input_file,
    run_ffmpeg,
)
from ..text import first_line, format_bytes
from .mp4 import TAG, find_tag

QUALITY = 14
"""x264's constant rate factor; 18 is called visually lossless, and short clips stay small."""

LARGEST_ERROR = 8
"""Mean absolute error of a smooth picture after H.264, of 255."""

MAX_DECODED_BYTES = 2**32
"""Of frames that are decoded at once: 4,000 of 480 × 720."""

MAX_BLACK = 4
"""Largest uint8 value of a black frame. An overflow in float16 makes all frames black."""


def is_black(frames: np.ndarray) -> bool:
    """Whether no pixel of uint8 frames is brighter than black."""
    return bool(frames.max() <= MAX_BLACK)


def frame_hash(frames: np.ndarray) -> str:
    """SHA-256 of uint8 RGB frames (frames, height, width, 3), before encoding."""
    return hashlib.sha256(np.ascontiguousarray(frames, np.uint8)).hexdigest()


def encode_video(frames: np.ndarray, path: Path, fps: int, tag: str) -> None:
    """``encode_frames`` of an array (frames, height, width, 3)."""
    encode_frames(frames, frames.shape[1:3], path, fps, tag)


def encode_frames(
    frames: Iterable[np.ndarray], size: tuple[int, int], path: Path, fps: int, tag: str
) -> None:
    """Write an H.264, yuv420p, faststart mp4, of frames that may be made meanwhile.

    Args:
        frames: uint8 (height, width, 3), RGB, height and width even.
        size: (height, width) in pixels.
        tag: ASCII text of any length for the file's metadata; none if empty.

    Raises:
        OutputError: if ffmpeg fails, with its last line.
        FfmpegError: if it doesn't start.
    """
    height, width = size
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)]
    source += ["-i", "pipe:"]
    # Without explicit parameters players guess the colour space from the picture's size.
    colours = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    target = ["-vf", f"scale=out_color_matrix=bt709:out_range=tv,{colours}"]
    target += ["-c:v", "libx264", "-crf", str(QUALITY), "-pix_fmt", "yuv420p"]
    # Without use_metadata_tags the mp4 muxer drops unknown tags.
    target += ["-movflags", "+faststart+use_metadata_tags", "-f", "mp4", f"file:{path.absolute()}"]
    with partial_file(path, ".txt") as metadata:
        if tag:
            # A file, since the system bounds the length of an argument: 128 KiB on Linux.
            escaped = re.sub(r"([=;#\\\n])", r"\\\1", tag)
            metadata.write_text(f";FFMETADATA1\n{TAG}={escaped}\n", encoding="ascii")
            source += ["-f", "ffmetadata", "-i", f"file:{metadata.absolute()}"]
            target = ["-map", "0:v", "-map_metadata", "1", *target]
        pixels = (memoryview(np.ascontiguousarray(frame, np.uint8)).cast("B") for frame in frames)
        done = feed_ffmpeg(["-y", *source, *target], pixels)
    if done.returncode != 0:
        raise OutputError(f"ffmpeg could not write {path}: {failure_reason(done)}")


def decode_video(path: Path, most_frames: int | None = None) -> np.ndarray:
    """Frames of a video, uint8 (frames, height, width, 3), RGB.

    Args:
        most_frames: no more than so many, the first; by default all.

    Raises:
        ResultError: if it is missing, no video, or too large.
        FfmpegError: if ffmpeg doesn't start.
    """
    arguments = [*input_file(path), "-map", "0:v:0", "-pix_fmt", "rgb24", *pixmaps.ARGUMENTS]
    with ffmpeg_output(arguments) as stream:
        decoded = _bounded(pixmaps.read_pixmaps(stream), path)
        frames = list(itertools.islice(decoded, most_frames))
    if not frames:
        raise ResultError(f"{path} can't be read as a video")
    if any(frame.shape != frames[0].shape for frame in frames):
        raise ResultError(f"{path} can't be read as a video: the size of its frames changes")
    return np.stack(frames)


@contextlib.contextmanager
def stream_frames(path: Path) -> Iterator[Iterator[np.ndarray]]:
    """The frames of a video one after another, uint8 (height, width, 3), RGB, the same on every
    processor; they end where the file does or is damaged.

    Raises:
        ResultError: if it is missing.
        FfmpegError: if ffmpeg doesn't start.
    """
    exact = [
        "-vf",
        f"scale=flags={pixmaps.SCALING}",
        "-pix_fmt",
        "rgb24",
        "-fps_mode",
        "passthrough",
    ]
    with ffmpeg_output([*input_file(path), "-map", "0:v:0", *exact, *pixmaps.ARGUMENTS]) as stream:
        yield pixmaps.read_pixmaps(stream)


def _bounded(frames: Iterator[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    """Frames of a file up to ``MAX_DECODED_BYTES``."""
    total = 0
    for frame in frames:
        total += frame.nbytes
        if total > MAX_DECODED_BYTES:
            most = format_bytes(MAX_DECODED_BYTES)
            raise ResultError(f"{path} is too long to be read as a whole: more than {most}")
        yield frame


def content_hash(path: Path) -> str:
    """SHA-256 of a video's decoded frames, of the yuv420p planes that H.264 defines bit for bit;
    RGB depends on the processor. Empty if it can't be read.

    Raises:
        FfmpegError: if ffmpeg doesn't start.
    """
    arguments = [*input_file(path), "-map", "0:v:0", "-c:v", "rawvideo", "-pix_fmt", "yuv420p"]
    done = run_ffmpeg([*arguments, "-f", "hash", "-hash", "sha256", "pipe:"])
    return done.stdout.decode().strip().removeprefix("SHA256=") if done.returncode == 0 else ""


@functools.cache
def _trial_frames() -> np.ndarray:
    """Five frames of a ramp from black to white, uint8 (5, 64, 96, 3)."""
    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    return np.broadcast_to(ramp[None, None, :, None], (5, 64, 96, 3)).copy()


def try_ffmpeg() -> int:
    """Encode a few frames and decode them, as a video will be: before the work, not after it.

    Returns:
        The number of frames.

    Raises:
        FfmpegError: if ffmpeg doesn't work, with the remedy.
    """
    program = find_ffmpeg()
    with contextlib.suppress(OSError):  # else running it says why
        program = f"{program} {Path(program).stat().st_mtime_ns}"
    return _try_program(program)


@functools.lru_cache(maxsize=4)
def _try_program(identity: str) -> int:
    """``try_ffmpeg``, once for each program."""
    frames = _trial_frames()
    try:
        with temporary_folder() as folder:
            path = folder / "trial.mp4"
            encode_video(frames, path, 8, "{}")
            decoded, tag = decode_video(path), find_tag(path, TAG)
    except OSError as error:
        raise OutputError(
            f"the temporary folder {tempfile.gettempdir()} can't be written: {error.strerror}"
        ) from error
    except OutputError as error:
        raise broken_ffmpeg(first_line(error), find_ffmpeg()) from error
    except ResultError as error:
        raise broken_ffmpeg("it can't decode what it encoded", find_ffmpeg()) from error
    if tag is None:
        raise broken_ffmpeg("it writes no settings into an mp4", find_ffmpeg())
    if decoded.shape != frames.shape:
        reason = f"frames of shape {frames.shape} were decoded as {decoded.shape}"
        raise broken_ffmpeg(reason, find_ffmpeg())
    error = float(np.abs(decoded.astype(int) - frames).mean())
    if error > LARGEST_ERROR:
        raise broken_ffmpeg(f"decoded frames differ by {error:.0f} of 255", find_ffmpeg())
    return len(decoded)
