"""Whether a clip can be gone on from, and by how many frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..checkpoints.registry import Model
from ..errors import RequestError
from ..text import format_bytes
from .extension import FIELD, overlap
from .fit import Adjustment, Size, fit_size, nearest

if TYPE_CHECKING:
    from ..media.given import Given

MOST_BYTES = 2**32
"""Of the frames of an extended clip, the most that is decoded at once (``results.video``)."""


def fit_new_frames(model: Model, frames: int) -> tuple[int, list[Adjustment]]:
    """The number of new frames that a checkpoint makes nearest to one, and how that was changed."""
    checkpoint = model.checkpoint
    known, longest = overlap(checkpoint), checkpoint.frames[-1]
    most = longest - known
    rests = [count - known for count in checkpoint.frame_counts if known < count <= longest]
    whole = frames // most
    choices = {whole * most + rest for rest in (0, *rests)} - {0}
    used = nearest(frames, choices)
    if used == frames:
        return used, []
    counts = ", ".join(map(str, rests))
    reason = f"{model.name} goes on by {counts} frames, or {most} again and again before these"
    return used, [Adjustment("frames", frames, used, reason)]


def fit_source(
    model: Model, clip: Given, asked: dict[str, object], frames: int
) -> tuple[Size, int]:
    """(size, number of frames at the checkpoint's rate) of a clip that so many are to follow.

    Raises:
        RequestError: if the checkpoint doesn't make its size, or it is too short or too long.
    """
    from ..media import pixels  # late: ``cogvx check`` runs where no package is

    checkpoint, own = model.checkpoint, (clip.height, clip.width)
    open_size = {"height": asked["height"] or own[0], "width": asked["width"] or own[1]}
    size, _ = fit_size(model, asked | open_size)
    if size != own:
        pair = f"has {own[0]} × {own[1]} pixels and the new frames would have {size[0]} × {size[1]}"
        raise RequestError(FIELD, clip.name, f"{pair}: scale the clip first, or use another model")
    count, least = pixels.frames_available(clip, checkpoint.fps, 0.0), overlap(checkpoint)
    if count < least:
        short = f"has {count} frames at {checkpoint.fps} fps and {model.name} goes on from {least}"
        raise RequestError(FIELD, clip.name, f"{short}: use a longer clip")
    size_bytes = (count + frames) * own[0] * own[1] * 3
    if size_bytes > MOST_BYTES:
        most = f"{format_bytes(size_bytes)} of frames, more than {format_bytes(MOST_BYTES)}"
        raise RequestError(FIELD, clip.name, f"would come to {most}: cut the clip's end out first")
    return size, count
