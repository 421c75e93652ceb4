"""Files that are written whole or not at all, and found again as they were."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from . import hashes
from .errors import DiskFull, OutputError
from .follow import to_disk

VERIFIED = (".mp4", ".json")
"""Endings of results, whose content is compared; of other files it is the size."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a write fails with where there is no room."""


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what goes wrong on a disk into one line for a person."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(f"the disk of {path} is full: make room, and start again") from error
        raise OutputError(f"{path} can't be written: {error.strerror}") from error


def print_of(path: Path) -> list:
    """What tells whether a file is as it was: [bytes], and for a result [bytes, SHA-256]."""
    size = path.stat().st_size
    return [size, hashes.sha256(path)] if path.suffix in VERIFIED else [size]


def is_unchanged(path: Path, kept: list) -> bool:
    """Whether ``print_of`` still gives the same for a file."""
    return path.stat().st_size == kept[0] and print_of(path) == kept


def rename_within(notebook: Path, old: Path, new: Path) -> None:
    """Let an executed notebook name the folder that it will be found in."""
    names = [json.dumps(str(path), ensure_ascii=False)[1:-1].encode() for path in (old, new)]
    content = notebook.read_bytes()
    if names[0] in content:
        write(notebook, content.replace(*names))


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        to_disk(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def folder_to_disk(folder: Path) -> None:
    """Wait until new names in a folder would survive a power loss."""
    with contextlib.suppress(OSError):  # not every system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
