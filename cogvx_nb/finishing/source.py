"""The video that is finished: what its mp4 holds, looked at before the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import Cancelled, ResultError
from ..media.clips import read_clip
from ..media.kinds import Unusable, guess_kind
from ..progress import CancelToken
from ..results import video
from ..results.derived import MAX_FRAMES
from ..results.records import Sidecar
from .timeline import Pairs

TOLERANCE = 0.02
"""Of a rate: files round the times of their frames."""


@dataclass(frozen=True, slots=True)
class Source:
    """A result whose mp4 was looked at."""

    path: Path  # the mp4
    settings: Sidecar
    count: int  # frames of the mp4
    height: int
    width: int
    fps: int
    content: str  # SHA-256, see ``video.content_hash``
    pairs: tuple[str, ...]  # what happens from each frame to the next, see ``timeline``


def read_source(path: Path, settings: Sidecar, cancel: CancelToken | None = None) -> Source:
    """Look at all frames of a result's mp4, with one of them in memory.

    Raises:
        ResultError: if it can't be read as a video, or is shown at another rate than it was made
            for, such as an export with fewer frames.
        Cancelled: if it was cancelled.
        FfmpegError: if ffmpeg doesn't start.
    """
    pairs, size = Pairs(), None
    with video.stream_frames(path) as frames:
        for frame in frames:
            check_cancelled(cancel)
            if size not in (None, frame.shape):
                raise ResultError(f"{path} can't be finished: its frames change their size")
            if pairs.count == MAX_FRAMES:
                raise ResultError(f"{path} has more than {MAX_FRAMES:,} frames")
            size = frame.shape
            pairs.add(frame)
    content = video.content_hash(path)
    if size is None or not content:
        raise ResultError(f"{path} can't be read as a video")
    fps = settings.shown.fps
    _check_rate(path, fps)
    return Source(path, settings, pairs.count, *size[:2], fps, content, tuple(pairs.kinds()))


def _check_rate(path: Path, fps: int) -> None:
    try:
        rate = read_clip(path, guess_kind(path)).rate
    except Unusable as error:
        raise ResultError(f"{path} can't be finished: it {error}") from error
    if abs(rate - fps) > TOLERANCE * fps:
        raise ResultError(
            f"{path} can't be finished: it has {rate:g} frames a second, and {fps} when it was "
            "made: finish the video that it was exported from"
        )


def check_cancelled(*tokens: CancelToken | None) -> None:
    """Raise Cancelled if one of them is set."""
    if any(token is not None and token.is_set() for token in tokens):
        raise Cancelled("cancelled; nothing was written")
