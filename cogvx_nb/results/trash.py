"""The trash: results moved to ``outputs/trash/``, back, or deleted."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

from .. import settings
from ..errors import ResultError
from ..files import numbered_paths
from ..paths import TRASH
from .catalogue import Catalogue
from .marks import marks_file


def move_to_trash(path: Path) -> Path:
    """Move a result, with sidecar and marks, to ``outputs/trash/``, keeping its relative path.

    Returns:
        The mp4's new path: in ``trash/.2/`` (``.3``, ...) if the trash holds one of its path.

    Raises:
        ResultError: if it doesn't exist, isn't in the outputs folder, is in the trash already or
            can't be moved.
    """
    outputs, path = settings.outputs_dir(), _normalized(path)
    if not path.is_relative_to(outputs) or path.is_relative_to(trash_folder()):
        raise ResultError(f"{path} is not among the results in {outputs}, which the trash is for")
    within = path.relative_to(outputs)
    more = (trash_folder() / f".{number}" for number in itertools.count(2))
    targets = (folder / within for folder in itertools.chain([trash_folder()], more))
    return _move_result(path, next(filter(_is_unused, targets)))


def restore(path: Path) -> Path:
    """Move a result back to where it was, with ``-2``, ``-3``, ... if the name is taken.

    Returns:
        The mp4's path.

    Raises:
        ResultError: if it is not in the trash, or can't be moved.
    """
    path = _normalized(path)
    if not path.is_relative_to(trash_folder()):
        raise ResultError(f"{path} is not in {trash_folder()}, so it can't be taken out of it")
    within = path.relative_to(trash_folder())
    if within.parts[0].startswith("."):
        within = within.relative_to(within.parts[0])
    targets = numbered_paths(settings.outputs_dir() / within)
    return _move_result(path, next(filter(_is_unused, targets)))


def _normalized(path: Path) -> Path:
    """A path without ``..``; links aren't resolved, since results may be in a linked folder."""
    return Path(os.path.normpath(path))


def trash_folder() -> Path:
    """Where results are moved to."""
    return settings.outputs_dir() / TRASH


def empty_trash(expected: int) -> int:
    """Delete all results in the trash, with their sidecars and marks. Other files stay, and so
    does what a linked folder holds.

    Args:
        expected: how many there are, as was shown to whoever decided it.

    Returns:
        How many were deleted.

    Raises:
        ResultError: if there is another number of them, or one can't be deleted.
    """
    trashed = Catalogue(trash_folder())
    trashed.refresh()
    root = trash_folder().resolve()
    paths = [path for path in trashed.paths() if path.parent.resolve().is_relative_to(root)]
    if len(paths) != expected:
        raise ResultError(
            f"the trash holds {len(paths):,} results by now, not {expected:,}: look again"
        )
    folders = set()
    for path in paths:
        try:
            for file in _files_of(path):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise ResultError(f"{path} can't be deleted: {error.strerror}") from error
        folders |= {folder for folder in path.parents if folder.is_relative_to(trash_folder())}
    for folder in sorted(folders - {trash_folder()}, reverse=True):  # the innermost first
        with contextlib.suppress(OSError):  # it holds something else
            folder.rmdir()
    return len(paths)


def _files_of(path: Path) -> tuple[Path, Path, Path]:
    """Sidecar, marks and mp4 of a result."""
    return path.with_suffix(".json"), marks_file(path), path


def _is_unused(path: Path) -> bool:
    """Whether none of a result's files has that name."""
    return not any(map(os.path.lexists, _files_of(path)))


def _move_result(path: Path, target: Path) -> Path:
    """Move the files of a result, all or none."""
    if not path.is_file():
        raise ResultError(f"there is no file {path}")
    moved: list[tuple[Path, Path]] = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for old, new in zip(_files_of(path), _files_of(target), strict=True):
            if os.path.lexists(old):
                old.rename(new)
                moved.append((old, new))
    except OSError as error:
        for old, new in moved:
            with contextlib.suppress(OSError):
                new.rename(old)
        raise ResultError(f"{path} can't be moved to {target}: {error.strerror}") from error
    return target
