"""Small copies of videos for a page, as many as a number of bytes has room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import text, video
from .errors import ResultError
from .planning import machine

WIDTH = 216
"""Pixels of a still."""

BATCH = 16
"""Copies that are made at once: more than fit are thrown away."""

LARGEST = 2_000_000
"""Bytes of a copy; one that is larger is made smaller."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What there is to be shown of a video.

    Attributes:
        still, moving: addresses with data in them, of its first frame and of a small copy; empty
            where there was no room.
    """

    still: str = ""
    moving: str = ""


def of(videos: Sequence[Path], most_bytes: int, height: int = 240) -> dict[Path, Clip]:
    """A still of each video, and then a copy of each, in their order, until there is no room.

    Stills too, since browsers hold no more than some dozens of players at once.

    Args:
        most_bytes: of all together, in base64.
        height: of a copy, in pixels.
    """
    stills = _that_fit(videos, _still, most_bytes)
    room = most_bytes - sum(map(len, stills.values()))
    copies = _that_fit(videos, lambda path: _copy(path, height), room)
    return {path: Clip(stills.get(path, ""), copies.get(path, "")) for path in videos}


def _that_fit(videos: Sequence[Path], make: Callable[[Path], str], room: int) -> dict[Path, str]:
    found: dict[Path, str] = {}
    with ThreadPoolExecutor(machine.cores()) as pool:
        for start in range(0, len(videos), BATCH):
            batch = videos[start : start + BATCH]
            for path, address in zip(batch, pool.map(make, batch), strict=True):
                if len(address) > room:
                    return found
                found[path] = address
                room -= len(address)
    return found


def _copy(path: Path, height: int) -> str:
    try:
        return text.embedded("video/mp4", video.shrink(path, LARGEST, height))
    except ResultError:  # no video by now
        return ""


def _still(path: Path) -> str:
    try:
        return text.embedded("image/webp", video.poster(path, 0, WIDTH))
    except ResultError:
        return ""
