"""The frames of a clip and their times, by ffmpeg."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ResultError
from .ffmpeg import ffmpeg_output


@dataclass(frozen=True, slots=True)
class Clip:
    """Decoded frames."""

    frames: np.ndarray  # uint8 (frames, height, width, 3), RGB
    fps: float


def read_frames(path: Path, fps: float = 8.0) -> Clip:
    """The frames of a clip, at so many a second.

    Raises:
        ResultError: if it has none.
    """
    arguments = ["-i", f"file:{path.absolute()}", "-map", "0:v:0", "-vf", f"fps={fps}"]
    arguments += ["-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "pipe:"]
    frames = []
    with ffmpeg_output(arguments) as stream:
        while stream.readline(16) == b"P6\n":
            width, height = map(int, stream.readline(32).split())
            stream.readline(16)
            data = stream.read(width * height * 3)
            frames.append(np.frombuffer(data, np.uint8).reshape(height, width, 3))
    if not frames:
        raise ResultError(f"{path} has no frames")
    return Clip(np.stack(frames), fps)
