"""A video that is made of others made again, and compared."""

from __future__ import annotations

from dataclasses import dataclass

from .result import Result


@dataclass(frozen=True, slots=True)
class MadeAgain:
    """A finished or joined video made again."""

    original: Result
    same_frames: bool  # whether its frames are, bit by bit, those that were made then
    same_file: bool  # whether the mp4 decodes to what it did when it was written
    differences: tuple[str, ...] = ()  # in versions and weights
    unlike: str = "other frames than those of"  # what comes before the path where frames differ

    @property
    def identical(self) -> bool:
        """Whether the new frames are those of then, and the mp4 still shows them."""
        return self.same_frames and self.same_file

    def __str__(self) -> str:
        path, count = self.original.path, self.original.settings.shown.frames
        if self.identical:
            return f"identical: all {count} frames of {path} came out the same"
        if self.same_frames:
            return (
                f"changed: all {count} frames came out as they were made then, but {path} holds "
                "others: it was cut, encoded again or replaced since"
            )
        reasons = self.differences or ("nothing that was recorded differs",)
        return "\n  ".join([f"not identical: {self.unlike} {path}", *reasons])
