"""Videos that are joined of others: their frames, their settings, and the same again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from ..errors import ResultError
from ..planning.transitions import CONTINUE, FADE
from ..text import format_bytes, plain_line
from . import video
from .found import find_video
from .made_again import MadeAgain
from .records import RecordedPiece, Sidecar
from .result import Result

FADE_SECONDS = 0.5
"""Over which a piece fades into the next."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A result that is a part of a joined video."""

    result: Result
    transition: str  # of ``planning.transitions.TRANSITIONS``


def join_frames(clips: Iterable[np.ndarray], fading: Sequence[bool], fps: int) -> np.ndarray:
    """The frames of clips one after another.

    Args:
        clips: uint8 (frames, height, width, 3) of one size; made one by one, and copied with but
            one of them in memory twice.
        fading: whether the one before fades into each; that of the first doesn't count.
    """
    joined: list[np.ndarray] = []
    for clip, fades in zip(clips, fading, strict=True):
        if joined and fades:
            before = joined.pop()
            count = min(round(FADE_SECONDS * fps), len(before) - 1, len(clip) - 1)
            kept = len(before) - count
            joined += [before[:kept], _faded(before[kept:], clip[:count])]
            clip = clip[count:]
        joined.append(clip)
    whole = np.empty((sum(map(len, joined)), *joined[0].shape[1:]), np.uint8)
    place = 0
    while joined:
        part = joined.pop(0)
        whole[place : place + len(part)] = part
        place += len(part)
    return whole


def _faded(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    share = (np.arange(1, len(after) + 1, dtype=np.float32) / (len(after) + 1))[:, None, None, None]
    return np.rint((1 - share) * before + share * after).astype(np.uint8)


def joined_frames(paths: Sequence[Path], transitions: Sequence[str], fps: int) -> np.ndarray:
    """The same of mp4s, as they decode. One that goes on has the frames of the one before it too,
    and takes its place.

    Args:
        transitions: how each follows the one before it, of ``planning.transitions.TRANSITIONS``.

    Raises:
        ResultError: if one can't be read or has another size, or all are too long for RAM.
    """
    runs: list[tuple[Path, bool]] = []
    for path, transition in zip(paths, transitions, strict=True):
        if transition == CONTINUE and runs:
            runs[-1] = (path, runs[-1][1])
        else:
            runs.append((path, transition == FADE))
    clips = _decoded([path for path, _ in runs])
    return join_frames(clips, [fades for _, fades in runs], fps)


def _decoded(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """The frames of mp4s of one size, the same on every processor: they are compared again."""
    total, size = 0, None
    for path in paths:
        frames = []
        with video.stream_frames(path) as stream:
            for frame in stream:
                total, size = total + frame.nbytes, size or frame.shape
                if frame.shape != size:
                    raise ResultError(f"{path} can't be joined: its size isn't that of the others")
                if total > video.MAX_DECODED_BYTES:
                    most = format_bytes(video.MAX_DECODED_BYTES)
                    raise ResultError(f"{path} can't be joined: the whole has more than {most}")
                frames.append(frame)
        if not frames:
            raise ResultError(f"{path} can't be read as a video")
        yield np.stack(frames)


def describe_joined(pieces: Sequence[Piece], frames: np.ndarray) -> Sidecar:
    """The sidecar of a joined video: that of its first piece, with the list of all."""
    first = pieces[0].result.settings
    recorded = tuple(
        RecordedPiece(
            name=piece.result.path.name,
            frames=piece.result.frame_hash,
            content=piece.result.settings.content_hash,
            transition=piece.transition,
            prompt=piece.result.settings.request.prompt,
        )
        for piece in pieces
    )
    return replace(
        first,
        made=datetime.now().astimezone().isoformat(timespec="seconds"),
        seconds={},
        all_frames=len(frames),
        frame_hash=video.frame_hash(frames),
        content_hash="",
        pieces=recorded,
    )


def join_again(original: Result) -> MadeAgain:
    """Join the pieces of a video once more, and compare.

    Raises:
        ResultError: if one is gone or was changed, in one line.
    """
    pieces = original.settings.pieces
    paths = []
    for piece in pieces:
        found, why = find_video(original.path, piece.name, piece.frames, piece.content)
        if found is None:
            what = f"{plain_line(piece.name)[:80]}, a piece of it, {why}"
            raise ResultError(f"{original.path} can't be made again: {what}")
        paths.append(found)
    transitions = [piece.transition for piece in pieces]
    frames = joined_frames(paths, transitions, original.settings.shown.fps)
    return MadeAgain(
        original,
        video.frame_hash(frames) == original.frame_hash,
        video.content_hash(original.path) == original.settings.content_hash,
        unlike="its pieces decode to other frames than those of",
    )
