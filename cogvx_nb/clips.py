"""Small copies of videos for a page, as many as a number of bytes has room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import machine, markup, video
from .errors import ResultError

WIDTH = 216
"""Pixels of a still picture, where a copy has no room."""

BATCH = 16
"""Copies that are made at once: more than fit are thrown away."""

LARGEST = 2_000_000
"""Bytes of a copy; one that is larger is made smaller."""

COPIES = 0.9
"""Share of the bytes that copies may take where not all fit; the rest is for stills."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What there is to be shown of a video.

    Attributes:
        moving, still: addresses with data in them; one of them is empty, or both where there was
            no room.
    """

    moving: str = ""
    still: str = ""


def of(videos: Sequence[Path], most_bytes: int, height: int = 240) -> dict[Path, Clip]:
    """A copy of each video, in their order, until there is no room; then stills; then nothing.

    Args:
        most_bytes: of all together, in base64.
        height: of a copy, in pixels.
    """
    found: dict[Path, Clip] = {}
    for_copies = int(COPIES * most_bytes)
    room = _take(videos, lambda path: _copy(path, height), "moving", for_copies, found)
    rest = [path for path in videos if path not in found]
    _take(rest, _still, "still", room + most_bytes - for_copies, found)
    return {path: found.get(path, Clip()) for path in videos}


def _take(
    videos: Sequence[Path],
    make: Callable[[Path], str],
    name: str,
    room: int,
    found: dict[Path, Clip],
) -> int:
    """Make what has room; returns how much of it is left."""
    with ThreadPoolExecutor(machine.cores()) as pool:
        for start in range(0, len(videos), BATCH):
            batch = videos[start : start + BATCH]
            for path, address in zip(batch, pool.map(make, batch), strict=True):
                if len(address) > room:
                    return room
                if address:
                    room -= len(address)
                    found[path] = Clip(**{name: address})
    return room


def _copy(path: Path, height: int) -> str:
    try:
        return markup.embedded("video/mp4", video.shrink(path, LARGEST, height))
    except ResultError:  # no video by now
        return ""


def _still(path: Path) -> str:
    try:
        return markup.embedded("image/webp", video.poster(path, 0, WIDTH))
    except ResultError:
        return ""
