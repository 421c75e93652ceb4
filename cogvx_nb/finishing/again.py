"""A finished video made again from the same frames, and compared."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ..errors import ResultError
from ..progress import CancelToken, FrameFinished, Listener, StageStarted
from ..results import video
from ..results.found import find_video
from ..results.made_again import MadeAgain
from ..results.recipe import finish_values
from ..results.records import RecordedFinish
from ..results.result import Result, read_result
from ..text import plain_line
from . import networks
from .finish import describe_finish
from .needs import is_file
from .recipe import Recipe
from .source import read_source
from .work import made_frames, plan_work


def finish_again(
    original: Result, on_event: Listener | None = None, cancel: CancelToken | None = None
) -> MadeAgain:
    """Make the frames of a finished video once more, from the video that it was made of.

    Raises:
        ResultError: if that is gone or was changed, in one line.
        CogvxError: whatever finishing can raise.
    """
    then, emit = original.settings.finished, on_event or (lambda event: None)
    video.try_ffmpeg()
    path = find_source(original.path, then)
    source = read_source(path, read_result(path).settings, cancel)
    recipe = _recorded_recipe(original.path, then)
    work = plan_work(source, recipe, then.tile)
    now = describe_finish(work, recipe).finished
    emit(StageStarted("finish", work.seconds))
    digest = hashlib.sha256()
    for number, frame in enumerate(made_frames(work, cancel), 1):
        digest.update(np.ascontiguousarray(frame).data)
        emit(FrameFinished(number, work.frames))
    return MadeAgain(
        original,
        digest.hexdigest() == original.frame_hash,
        video.content_hash(original.path) == original.settings.content_hash,
        _differences(then, now),
    )


def _recorded_recipe(path: Path, finished: RecordedFinish) -> Recipe:
    """What was asked for then.

    Raises:
        ResultError: if it was enlarged by a network of a file that isn't there any more.
    """
    values, name = finish_values(finished), finished.upscaler
    if is_file(name):
        found = networks.find_file(name, finished.weights.get(name, ""))
        if found is None:
            raise ResultError(
                f"{path} was enlarged by {name[:80]}, whose file is neither in this folder "
                "nor in models/upscalers: put it there"
            )
        values["upscaler"] = str(found)
    return Recipe(**values)


def find_source(path: Path, finished: RecordedFinish) -> Path:
    """The mp4 whose frames a finished one was made of: beside it, or any result of these frames.

    Raises:
        ResultError: if it is gone, or was changed since.
    """
    hashes = finished.source_frames, finished.source_content
    found, why = find_video(path, finished.source, *hashes)
    if found is None:
        source = f"{plain_line(finished.source)[:80]}, which it was made of, {why}"
        raise ResultError(f"{path} can't be made again: {source}")
    return found


def _differences(then: RecordedFinish, now: RecordedFinish) -> tuple[str, ...]:
    found = []
    if now.tile and not then.tile:
        found.append(f"tiles: not recorded then, {now.tile_height} × {now.tile_width} now")
    for part in ("versions", "weights"):
        before, after = getattr(then, part), getattr(now, part)
        found += [
            f"{part} {name}: {before.get(name)} then, {after.get(name)} now"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]
    return tuple(found)
