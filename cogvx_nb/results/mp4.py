"""A text tag in an mp4, found by its boxes without starting ffmpeg.

ffmpeg writes tags with names of their own (``use_metadata_tags``) as QuickTime's metadata: ``keys``
holds the names and ``ilst`` the values, in ``moov/udta/meta`` (developer.apple.com, QuickTime File
Format, "Metadata Structure"; ISO/IEC 14496-12 for the boxes).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

TAG = "cogvx"
"""Name of the tag that holds a video's settings as JSON."""

MOST_BOXES = 1000
"""Boxes of a level that are looked at; a video has about ten."""

MOST_KEYS = 64 * 1024
"""Bytes of the names of tags that are read."""

PLACES = ((b"moov", b"udta", b"meta"), (b"moov", b"meta"))
"""Where programs put QuickTime's metadata."""


class Box(NamedTuple):
    """The content of a box."""

    kind: bytes
    start: int  # offset in the file
    end: int


def find_tag(path: Path, name: str) -> Box | None:
    """Where the value of a text tag is in a file; None if it has none, or is no mp4.

    Raises:
        OSError: if the file can't be read.
    """
    with path.open("rb") as file:
        whole = Box(b"", 0, file.seek(0, 2))
        for place in PLACES:
            meta = whole
            for kind in place:
                meta = meta and _child(file, meta, kind)
            if meta and (value := _value_of(file, meta, name)):
                return value
    return None


def read_box(path: Path, box: Box) -> bytes:
    """The content of a box."""
    with path.open("rb") as file:
        file.seek(box.start)
        return file.read(box.end - box.start)


def overwrite_box(path: Path, box: Box, content: bytes) -> None:
    """Replace the content of a box by one of the same length."""
    if len(content) != box.end - box.start:
        raise ValueError(f"{len(content)} bytes for a box of {box.end - box.start}")
    with path.open("r+b") as file:
        file.seek(box.start)
        file.write(content)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """The boxes between two offsets, up to the first that is damaged."""
    for _ in range(MOST_BOXES):
        file.seek(start)
        header = file.read(16)
        if end - start < 8 or len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        content = start + 8
        if size == 1:  # the size follows in 64 bits
            size, content = int.from_bytes(header[8:]), start + 16
        elif size == 0:  # up to the end
            size = end - start
        if not content - start <= size <= end - start:
            return
        yield Box(kind, content, start + size)
        start += size


def _child(file: BinaryIO, parent: Box, kind: bytes) -> Box | None:
    start = parent.start
    if parent.kind == b"meta":
        file.seek(start + 4)
        # In an ISO file, unlike in QuickTime's, four bytes of version and flags come first.
        start += 0 if file.read(4) == b"hdlr" else 4
    return next((box for box in _boxes(file, start, parent.end) if box.kind == kind), None)


def _value_of(file: BinaryIO, meta: Box, name: str) -> Box | None:
    keys, values = _child(file, meta, b"keys"), _child(file, meta, b"ilst")
    if keys is None or values is None:
        return None
    number = _number_of(file, keys, name.encode())
    item = _child(file, values, number.to_bytes(4)) if number else None
    data = item and _child(file, item, b"data")
    if data is None or data.end - data.start < 8:
        return None
    return Box(data.kind, data.start + 8, data.end)  # after type and locale


def _number_of(file: BinaryIO, keys: Box, name: bytes) -> int:
    """The number of a name, from 1; 0 if it isn't there."""
    end = min(keys.end, keys.start + MOST_KEYS)
    for number, box in enumerate(_boxes(file, keys.start + 8, end), 1):  # after version and count
        file.seek(box.start)
        if box.kind == b"mdta" and file.read(box.end - box.start) == name:
            return number
    return 0
