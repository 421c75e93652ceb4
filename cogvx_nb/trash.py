"""Results that are thrown away, and back again: nothing is ever deleted."""

from __future__ import annotations

import itertools
from pathlib import Path

from . import settings
from .errors import ResultError


def put(path: Path) -> Path:
    """Move a result, mp4 and sidecar, to ``outputs/trash/`` under the path that it had.

    Returns:
        The mp4's new place: in ``trash/.2/`` where one of its path was thrown away before.

    Raises:
        ResultError: if there is none, it lies elsewhere, or can't be moved.
    """
    outputs, trash = settings.outputs_dir(), settings.outputs_dir() / "trash"
    if not path.is_relative_to(outputs):
        raise ResultError(f"{path} is not in {outputs}, so the trash there is not for it")
    within = path.relative_to(outputs)
    places = itertools.chain([trash], (trash / f".{number}" for number in itertools.count(2)))
    target = next(place / within for place in places if not (place / within).exists())
    return _move(path, target)


def restore(path: Path) -> Path:
    """Move a result back to where it was; under another number where its name is taken by now.

    Returns:
        The mp4's place.

    Raises:
        ResultError: if it is not in the trash any more, or can't be moved.
    """
    within = path.relative_to(settings.outputs_dir() / "trash")
    if within.parts[0].startswith("."):
        within = within.relative_to(within.parts[0])
    first = settings.outputs_dir() / within
    names = itertools.chain(
        [first], (first.with_stem(f"{first.stem}-{number}") for number in itertools.count(2))
    )
    free = (name for name in names if not name.exists() and not name.with_suffix(".json").exists())
    return _move(path, next(free))


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
