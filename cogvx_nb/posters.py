"""Small still pictures of results, kept so that a page of them opens at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from . import settings, video
from .catalogue import Entry
from .errors import ResultError
from .planning import machine

WIDTH = 180
"""Pixels of a poster's width."""


def of(entries: Iterable[Entry]) -> list[bytes]:
    """A WebP of each result's middle frame; empty where a video can't be read."""
    with ThreadPoolExecutor(machine.cores()) as pool:
        return list(pool.map(_poster, entries))


def _poster(entry: Entry) -> bytes:
    name = "".join(one for one in entry.frame_hash if one.isalnum())  # whatever a sidecar says
    kept = settings.outputs_dir() / ".posters" / f"{name}.webp"
    with contextlib.suppress(OSError):
        return kept.read_bytes()
    try:
        data = video.poster(entry.path, entry.frames / entry.fps / 2, WIDTH)
    except ResultError:
        return b""
    with contextlib.suppress(OSError):  # a folder that can't be written costs time, nothing else
        kept.parent.mkdir(exist_ok=True)
        temporary = kept.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(data)
        temporary.replace(kept)
    return data
