"""What a sidecar records of a video that was made of results: finished, or joined of pieces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from ..planning.transitions import TRANSITIONS
from .typed import OneOf, Range

MAX_FRAMES, MAX_SIDE = 10**6, 2**14
"""Of a video; H.264 has no longer side (libx264)."""


@dataclass(frozen=True, slots=True)
class RecordedFinish:
    """What was made of a result's frames: more of them in time, then larger ones."""

    source: str  # name of the result's mp4
    source_frames: str  # its ``frame_hash``, by which it is found again
    source_content: str  # its ``content_hash``: what its mp4 decoded to
    frames: Annotated[int, Range(1, MAX_FRAMES)]
    height: Annotated[int, Range(1, MAX_SIDE)]  # pixels
    width: Annotated[int, Range(1, MAX_SIDE)]
    fps: Annotated[int, Range(1, 1000)]
    interpolation: str = ""  # a name of ``finishing.methods.INTERPOLATIONS``; empty: none
    upscaler: str = ""  # of ``UPSCALERS``
    scale: Annotated[int, Range(1, 16)] = 1
    weights: dict[str, str] = field(default_factory=dict)  # SHA-256 of files of networks, by name
    versions: dict[str, str | None] = field(default_factory=dict)  # of what decides the frames
    # Of the tiles of a network, which decide the last bits; None: none, or made before they were
    # recorded.
    tile_height: Annotated[int, Range(1, MAX_SIDE)] | None = None
    tile_width: Annotated[int, Range(1, MAX_SIDE)] | None = None

    @property
    def tile(self) -> tuple[int, int] | None:
        return (self.tile_height, self.tile_width) if self.tile_height and self.tile_width else None

    def __str__(self) -> str:
        parts = [f"{self.interpolation} to {self.fps} fps"] * bool(self.interpolation)
        parts += [f"{self.upscaler} ×{self.scale}"] * bool(self.upscaler)
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class RecordedPiece:
    """A result that is a piece of a joined video."""

    name: str  # of its mp4
    frames: str  # its ``frame_hash``, by which it is found again
    content: str  # its ``content_hash``
    transition: Annotated[str, OneOf(tuple(TRANSITIONS))]  # how it follows the one before
    prompt: str = ""
