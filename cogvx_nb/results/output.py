"""Where a video is written to: tried before the work, both files or neither after it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from .. import settings
from ..errors import BadFrames, DiskFull, OutputError, OutputExists
from ..files import (
    disk_error,
    is_disk_full,
    nearest_existing_folder,
    numbered_paths,
    partial_file,
    publish,
    translate_errors,
)
from ..paths import PATH_BYTES, read_json, user_path
from ..text import format_bytes
from .marks import marks_file

MIN_FREE_BYTES = 64 * 1024
"""If ffmpeg fails where not even so much can be written, the disk is full: it doesn't always say
why."""

SLUG_LENGTH = 40
"""Characters of the prompt in a default file name."""

TEMPORARY_BYTES = 255
"""Of the name of a temporary file beside a video."""

COMPRESSION = 20
"""A video takes less than one of so many parts of its pixels; noise takes more."""

FULL_REMEDY = "make room, or choose another folder"


def check_output(output: str | Path | None, *, overwrite: bool = False) -> Path | None:
    """The absolute path that a video would be written to, if it can be.

    Called before the video is generated, and again by ``save_result``. Leaves nothing there.

    Returns:
        The path; None where ``output`` is None or empty: a new name in the outputs folder.

    Raises:
        OutputExists, OutputError: with the reason.
    """
    if not output:
        _check_folder(settings.outputs_dir())
        return None
    path = user_path(output, "output", new=True)
    if path.suffix.lower() != ".mp4":
        raise OutputError(f"output {str(output)!r} must end in .mp4")
    if len(path.name.encode()) > 200:
        raise OutputError(
            f"output {path.name[:40]!r}... has too long a file name: use a shorter one"
        )
    if len(os.fsencode(path.parent)) > PATH_BYTES - TEMPORARY_BYTES:
        raise OutputError(f"output {str(path)[:40]!r}... is in too long a path: use a shorter one")
    if path.is_dir():
        raise OutputError(f"output {path} is a folder: name a file in it")
    if path.exists() and not path.is_file():
        raise OutputError(f"output {path} is no regular file: choose another name")
    if os.path.lexists(path) and not overwrite:
        raise OutputExists(
            f"output {path} exists: choose another name, or overwrite it (--overwrite)"
        )
    sidecar = path.with_suffix(".json")
    if os.path.lexists(sidecar) and not (overwrite and _is_sidecar(sidecar)):
        raise OutputExists(
            f"{sidecar}, where the settings of {path.name} would go, exists: choose another name"
        )
    _check_folder(path.parent)
    return path


def _is_sidecar(path: Path) -> bool:
    """Whether a file is a video's sidecar, which may be replaced; another may be somebody's."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"format", "request", "frame_hash"} <= content.keys()


def default_path(prompt: str, seed: int) -> Path:
    """A name in the outputs folder: ``<date>/<time>-<slug>-<seed>.mp4``."""
    now = datetime.now()
    name = f"{now:%H%M%S}-{slug(prompt)}-{seed}.mp4"
    return settings.outputs_dir() / f"{now:%Y-%m-%d}" / name


def slug(text: str) -> str:
    """A short, safe part of a file name for any text: letters, digits and single hyphens."""
    encoding = sys.getfilesystemencoding()  # in the locale POSIX, names can't be Chinese
    text = unicodedata.normalize("NFKC", text).lower().encode(encoding, "ignore").decode(encoding)
    return re.sub(r"[\W_]+", "-", text)[:SLUG_LENGTH].strip("-") or "video"


def check_room(output: Path | None, pixels: int) -> None:
    """Raise DiskFull if there is less room than a video usually takes.

    Args:
        output: its path; None for a new name in the outputs folder.
        pixels: of all its frames.
    """
    folder = nearest_existing_folder(output.parent if output else settings.outputs_dir())
    free, needed = shutil.disk_usage(folder).free, MIN_FREE_BYTES + 3 * pixels // COMPRESSION
    if free < needed:
        raise DiskFull(
            f"{folder} has {format_bytes(free)} free, and the video needs about "
            f"{format_bytes(needed)}: {FULL_REMEDY}"
        )


def _check_folder(folder: Path) -> None:
    """Raise OutputError if no file can be created in a folder, which needn't exist yet: one without
    a name is."""
    existing = nearest_existing_folder(folder)
    if not existing.is_dir():
        raise OutputError(f"output folder {folder} can't be made: {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"output folder {folder} can't be written: no permission in {existing}")
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise disk_error(error, f"output folder {folder}", full_remedy=FULL_REMEDY) from error


@contextlib.contextmanager
def new_folders(folder: Path) -> Iterator[None]:
    """Make a folder; those that were made are deleted after the block where they are empty."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        for parent in reversed(missing):  # not by mkdir(parents=True), which recurses
            parent.mkdir(exist_ok=True)
        yield
    finally:
        for parent in missing:
            with contextlib.suppress(OSError):  # it holds the file
                parent.rmdir()


@contextlib.contextmanager
def partial_pair(path: Path) -> Iterator[tuple[Path, Path]]:
    """Temporary names of mp4 and sidecar in the folder of ``path``; what is left is deleted
    afterwards.

    Raises:
        DiskFull, OutputError: if they can't be written. DiskFull also where ffmpeg failed for want
            of room without saying so.
    """
    with (
        translate_errors(path, full_remedy=FULL_REMEDY),
        new_folders(path.parent),
        partial_file(path, ".mp4") as mp4,
        partial_file(path, ".json") as sidecar,
    ):
        try:
            yield mp4, sidecar
        except (OutputError, BadFrames) as error:
            if not isinstance(error, OutputExists) and _is_full(path.parent):
                raise DiskFull(f"the disk of {path} is full: {FULL_REMEDY}") from error
            raise


def _is_full(folder: Path) -> bool:
    """Whether a folder has no room, or no quota, for another small file."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\1" * MIN_FREE_BYTES)
    except OSError as error:
        return is_disk_full(error)
    return False


def publish_pair(mp4: Path, sidecar: Path, path: Path, overwrite: bool, numbered: bool) -> Path:
    """Give both files their names; returns the mp4's.

    Args:
        overwrite: replace a video of that name.
        numbered: take the next free number if the name is taken.

    Raises:
        OutputExists: if the name is taken, and neither of the two.
    """
    for target in numbered_paths(path):
        if numbered and os.path.lexists(target.with_suffix(".json")):
            continue  # somebody's file, or the sidecar of a video that is gone
        try:
            if overwrite:
                mp4.replace(target)
            else:
                publish(mp4, target)
            break
        except OutputExists:
            if not numbered:
                raise
    sidecar.replace(target.with_suffix(".json"))
    if overwrite:
        with contextlib.suppress(OSError):  # they name other frames, so they count no more
            marks_file(target).unlink(missing_ok=True)
    return target
