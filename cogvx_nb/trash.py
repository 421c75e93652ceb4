"""Results that are thrown away, and back again: nothing is ever deleted."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from . import settings
from .errors import ResultError


def put(path: Path) -> Path:
    """Move a result, mp4 and sidecar, to ``outputs/trash/`` under the path that it had.

    Returns:
        The mp4's new place: in ``trash/.2/`` where one of its path was thrown away before.

    Raises:
        ResultError: if there is none, it lies elsewhere or in the trash, or can't be moved.
    """
    outputs, path = settings.outputs_dir(), _plain(path)
    if not path.is_relative_to(outputs) or path.is_relative_to(_trash()):
        raise ResultError(f"{path} is not among the results in {outputs}, which the trash is for")
    within = path.relative_to(outputs)
    folders = itertools.chain([_trash()], (_trash() / f".{n}" for n in itertools.count(2)))
    return _move(path, next(folder / within for folder in folders if _is_free(folder / within)))


def restore(path: Path) -> Path:
    """Move a result back to where it was; under another number where its name is taken by now.

    Returns:
        The mp4's place.

    Raises:
        ResultError: if it is not in the trash, or can't be moved.
    """
    path = _plain(path)
    if not path.is_relative_to(_trash()):
        raise ResultError(f"{path} is not in {_trash()}, so it can't be taken out of it")
    within = path.relative_to(_trash())
    if within.parts[0].startswith("."):
        within = within.relative_to(within.parts[0])
    first = settings.outputs_dir() / within
    more = (first.with_stem(f"{first.stem}-{number}") for number in itertools.count(2))
    return _move(path, next(name for name in itertools.chain([first], more) if _is_free(name)))


def _plain(path: Path) -> Path:
    """A path without ``..``; links in it stay, for results may be in a linked folder."""
    return Path(os.path.normpath(path))


def _trash() -> Path:
    return settings.outputs_dir() / "trash"


def _is_free(path: Path) -> bool:
    """Whether neither an mp4 nor a sidecar has that name."""
    return not path.exists() and not path.with_suffix(".json").exists()


def _move(path: Path, target: Path) -> Path:
    """Move mp4 and sidecar, both or neither."""
    if not path.is_file():
        raise ResultError(f"there is no file {path}")
    sidecar, to = path.with_suffix(".json"), target.with_suffix(".json")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if sidecar.exists():
            sidecar.rename(to)
        try:
            path.rename(target)
        except OSError:
            if to.exists():
                to.rename(sidecar)
            raise
    except OSError as error:
        raise ResultError(f"{path} can't be moved to {target}: {error.strerror}") from error
    return target
