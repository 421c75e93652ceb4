"""Results that are there already: by the frames that they hold, and by what they were made from."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints import store
from ..errors import CogvxError, ResultError
from ..planning.field import PLAN
from ..planning.fields import FIELDS, names_deciding
from . import records, video
from .catalogue import Catalogue
from .filters import Condition
from .result import Result, read_result

if TYPE_CHECKING:
    from ..planning.request import VideoRequest

MOST_SEARCHED = 500
"""Newest results of a seed that are looked at."""


def find_video(beside: Path, name: str, frames: str, content: str) -> tuple[Path | None, str]:
    """(an mp4 that another was made of, why there is none).

    Args:
        beside: the other one; in its folder it is looked for first.
        name: of the mp4.
        frames, content: its ``frame_hash`` and ``content_hash``.
    """
    there = []
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        near = beside.with_name(Path(name).name)
        there = [near] if near != beside and near.is_file() else []
    catalogue = Catalogue()
    catalogue.refresh()
    same = Condition("frame_hash", "=", frames)
    there += [entry.path for entry in catalogue.find(where=(same,)) if entry.path != beside]
    for candidate in there:
        with contextlib.suppress(ResultError):
            if video.content_hash(candidate) == content:
                return candidate, ""
    return None, "was changed since" if there else "is not there any more"


def find_made(request: VideoRequest, catalogue: Catalogue) -> Result | None:
    """A result of the same request, input files, checkpoint and speed, whose mp4 is whole; None if
    there is none.

    Args:
        catalogue: refreshed.
    """
    wanted = records.RecordedRequest(**request.settings)
    hashes = store.file_hashes(request.model)
    for entry in catalogue.find(seed=request.seed, limit=MOST_SEARCHED):
        if entry.prompt != request.prompt:
            continue
        with contextlib.suppress(CogvxError, OSError):
            found = read_result(entry.path)
            settings = found.settings
            if settings.derived or settings.request != wanted:
                continue
            if settings.checkpoint.sha256 != hashes or not _asked_alike(settings.asked, request):
                continue
            if video.content_hash(found.path) == settings.content_hash:
                return found
    return None


def _asked_alike(asked: dict[str, object], request: VideoRequest) -> bool:
    names = [name for name in names_deciding(PLAN) if name not in ("gpus", "fallback")]
    return all(asked.get(name, FIELDS[name].default) == getattr(request, name) for name in names)
