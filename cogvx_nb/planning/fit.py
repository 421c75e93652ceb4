"""Frames and sizes of a request, fitted to what a checkpoint was trained for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..checkpoints.registry import MAX_STEPS, SIZE_MULTIPLE, Checkpoint, Model
from ..errors import RequestError
from .fields import FIELDS
from .schedulers import Scheduler

if TYPE_CHECKING:
    from ..media.given import Given

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A value that was changed to one that the checkpoint supports."""

    field: str
    asked: object
    used: object
    reason: str

    def __str__(self) -> str:
        return f"{self.field} {self.asked} → {self.used}: {self.reason}"


def nearest(value: float, choices: Iterable[int]) -> int:
    """The choice nearest to ``value``, the lower one of two equally near."""
    return min(choices, key=lambda choice: (abs(choice - value), choice))


def fit_frames(
    model: Model, frames: int, *, text_alone: bool = False
) -> tuple[int, list[Adjustment]]:
    """The number of frames that a checkpoint makes nearest to one, and how that was changed.

    Args:
        text_alone: whether it may be made by windows, as videos of text alone are.
    """
    checkpoint = model.checkpoint
    longer = checkpoint.window_counts
    used = nearest(frames, (*checkpoint.frame_counts, *(longer if text_alone else ())))
    if used == frames:
        return used, []
    reason = f"{model.name} makes {checkpoint.frame_rule} frames"
    if longer and frames > used:
        reason += f", and up to {longer[-1]} by windows, of text alone"
    return used, [Adjustment("frames", frames, used, reason)]


def fit_size(
    model: Model, asked: Mapping[str, object], picture: Given | None = None
) -> tuple[Size, list[Adjustment]]:
    """The size of a video, and how that was changed from what was asked for.

    Args:
        asked: ``height``, ``width`` (None where left open) and ``allow_untrained_size``.
        picture: that the video begins with, or the clip that it follows; its aspect decides what
            was left open where the checkpoint was trained for several.
    """
    checkpoint = model.checkpoint
    names, changes = ("height", "width"), []
    used = [checkpoint.height, checkpoint.width]
    wanted = _wanted_size(checkpoint, asked["height"], asked["width"], picture)
    if asked["allow_untrained_size"]:
        used = [_multiple(side) for side in wanted]
        _refuse_other_positions(checkpoint, used)
        reason = f"the model works in multiples of {SIZE_MULTIPLE} pixels"
    elif checkpoint.sizes is not None:
        used = list(_nearest_trained(checkpoint, *wanted))
        reason = (
            f"{model.name} was trained at {checkpoint.sizes}, upright too, in multiples of "
            f"{SIZE_MULTIPLE}; others only with allow_untrained_size"
        )
    else:
        reason = (
            f"{model.name} was trained at {used[0]} × {used[1]}; other multiples of "
            f"{SIZE_MULTIPLE} only with allow_untrained_size"
        )
    for name, side in zip(names, used, strict=True):
        value = asked[name]
        if value is not None and value != side:
            odd = value % SIZE_MULTIPLE and not asked["allow_untrained_size"]
            why = f"not a multiple of {SIZE_MULTIPLE}, and {reason}" if odd else reason
            changes.append(Adjustment(name, value, side, why))
    return (used[0], used[1]), changes


def _refuse_other_positions(checkpoint: Checkpoint, size: list[int]) -> None:
    """Raise RequestError where a checkpoint has learned the positions of its native size only."""
    native = [checkpoint.height, checkpoint.width]
    if checkpoint.learned_positions and size != native:
        raise RequestError(
            "height",
            size[0],
            f"{checkpoint.name} has learned positions for {native[0]} × {native[1]} only: use that",
        )


def is_trained(checkpoint: Checkpoint, size: Size) -> bool:
    """Whether a checkpoint was trained at a size."""
    native = size == (checkpoint.height, checkpoint.width)
    return native or (checkpoint.sizes is not None and size in checkpoint.sizes)


def _wanted_size(
    checkpoint: Checkpoint, height: int | None, width: int | None, picture: Given | None
) -> tuple[float, float]:
    """A size with what was left open (None): native, or of the picture's aspect where several were
    trained; then its shorter side is the native one if both were left open.

    So do the authors of CogVideoX1.5 (``sat/sample_video.py``).
    """
    native = checkpoint.height, checkpoint.width
    if checkpoint.sizes is None or picture is None or (height and width):
        return height or native[0], width or native[1]
    if height or width:
        scale = height / picture.height if height else width / picture.width
        return height or picture.height * scale, width or picture.width * scale
    scale = min(native) / min(picture.height, picture.width)
    return _nearest_trained(checkpoint, picture.height * scale, picture.width * scale)


def _nearest_trained(checkpoint: Checkpoint, height: float, width: float) -> Size:
    sizes = checkpoint.sizes
    if (height, width) == (checkpoint.height, checkpoint.width):
        return checkpoint.height, checkpoint.width
    short, long = sorted((height, width))
    sides = nearest(short, sizes.short), nearest(long, sizes.long)
    return sides if height <= width else (sides[1], sides[0])


def _multiple(side: float) -> int:
    most = FIELDS["width"].most  # a long picture can ask for more
    below = min(max(int(side) // SIZE_MULTIPLE, 1) * SIZE_MULTIPLE, most)
    return nearest(side, (below, min(below + SIZE_MULTIPLE, most)))


def steps_notes(steps: int, scheduler: Scheduler) -> tuple[str, ...]:
    """A note where the schedule of so many steps doesn't end at zero noise."""
    if MAX_STEPS % steps == 0 or not scheduler.divides:
        return ()
    return (
        f"{steps} steps do not divide {MAX_STEPS}, so the last step leaves some noise: "
        f"{_nearest_divisor(steps)} steps end cleanly",
    )


def _nearest_divisor(steps: int) -> int:
    divisors = tuple(n for n in range(1, MAX_STEPS + 1) if MAX_STEPS % n == 0)
    return nearest(steps, divisors)
