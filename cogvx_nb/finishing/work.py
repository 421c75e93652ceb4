"""The frames of a finished video: first more of them in time, then larger ones, as a stream."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..errors import DoesNotFit, RequestError, ResultError
from ..media.clips import MOST_PIXELS, MOST_SHOWN
from ..planning import probe
from ..progress import CancelToken
from ..results import video
from ..results.derived import MAX_FRAMES, MAX_SIDE
from ..text import format_bytes
from . import methods
from .needs import check_package
from .recipe import Recipe
from .source import Source, check_cancelled
from .timeline import Run, frame_count, nearest, runs

LONGEST_RUN = 8
"""Pairs of frames that are interpolated together."""

RUN_BYTES = 2**26
"""Of the frames of a run, so that large ones take no more memory. Both are fixed: ffmpeg's vectors
begin anew with each run, so the frames depend on where it begins."""

WRITE_SECONDS = 5e-8
"""Of encoding a pixel and decoding it twice, on two cores of a 2.9 GHz server."""

ENCODER_BYTES = 210
"""Memory of x264 for a pixel of a frame: it looks 40 frames ahead (measured with 4096 × 4096)."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done with a video; all that can be refused was refused."""

    source: Source
    frames: int  # of the finished video, as the following
    height: int
    width: int
    fps: int
    interpolation: methods.Opened | None
    upscaler: methods.Opened | None
    seconds: float  # predicted


def plan_work(source: Source, recipe: Recipe, tile: tuple[int, int] | None = None) -> Work:
    """Check what is asked for, and open the methods.

    Args:
        tile: height and width of the tiles of a network; by default those that fit.

    Raises:
        RequestError: if it can't be done with this video.
        DoesNotFit: if there isn't memory enough.
        CogvxError: if a method can't work here.
    """
    shape = source.count, source.height, source.width
    frames = check_work(*shape, source.fps, recipe)
    fps, scale = recipe.rate(source.fps), recipe.scale or 1
    height, width = source.height * scale, source.width * scale
    interpolation = upscaler = None
    if recipe.interpolates:
        row = methods.find_interpolation(recipe.interpolation)
        interpolation = row.open(source.height, source.width)
    if recipe.scale is not None:
        enlarging = methods.find_upscaler(recipe.upscaler, recipe.scale)
        upscaler = enlarging.open(source.height, source.width, recipe.scale, tile)
    seconds = predict_seconds(*shape, source.fps, recipe)
    return Work(source, frames, height, width, fps, interpolation, upscaler, seconds)


def check_work(count: int, height: int, width: int, fps: int, recipe: Recipe) -> int:
    """Check what is asked for with a video of so many frames, as far as that is possible without
    opening a method.

    Returns:
        The number of frames of the finished video.

    Raises:
        RequestError: if it can't be done.
        DoesNotFit: if there isn't memory enough.
        CogvxError: if a package is missing, or a file is a pickle.
    """
    made, scale, rate = count, recipe.scale or 1, recipe.rate(fps)
    if recipe.interpolates:
        methods.find_interpolation(recipe.interpolation)
        if count < 2:
            name = "fps" if recipe.factor is None else "factor"
            raise RequestError(
                name, recipe.fps or recipe.factor, "a video of one frame has none between"
            )
        made = frame_count(count, fps, rate)
        if made > MAX_FRAMES:
            raise RequestError("fps", rate, f"makes {made:,} frames; at most {MAX_FRAMES:,}")
    if recipe.scale is not None:
        row = methods.find_upscaler(recipe.upscaler, scale)
        _check_size(scale, height * scale, width * scale)
        check_package(row.package, recipe.upscaler)
    _check_memory(height * scale, width * scale)
    return made


def predict_seconds(count: int, height: int, width: int, fps: int, recipe: Recipe) -> float:
    """What finishing a video of so many frames is expected to take.

    Raises:
        RequestError: if there is no such method.
    """
    made, pixels, scale = count, height * width, recipe.scale or 1
    seconds = 0.0
    if recipe.interpolates:
        made = frame_count(count, fps, recipe.rate(fps))
        row = methods.find_interpolation(recipe.interpolation)
        seconds += (made - count) * row.seconds(pixels)
    if recipe.scale is not None:
        enlarging = methods.find_upscaler(recipe.upscaler, scale)
        seconds += made * enlarging.seconds(pixels, scale)
    return seconds + made * pixels * scale**2 * WRITE_SECONDS


def _check_size(scale: int, height: int, width: int) -> None:
    if height * width > MOST_PIXELS or max(height, width) > MAX_SIDE:
        raise RequestError(
            "scale", scale, f"makes {height:,} × {width:,} pixels; H.264 has at most {MOST_SHOWN}"
        )


def _check_memory(height: int, width: int) -> None:
    needed, free = height * width * ENCODER_BYTES, probe.ram_free_bytes(probe.process_limits())
    if free and needed > free:
        raise DoesNotFit(
            f"encoding {height:,} × {width:,} pixels takes about {format_bytes(needed)} of memory, "
            f"and {format_bytes(free)} are free: choose a smaller scale"
        )


def made_frames(work: Work, cancel: CancelToken | None = None) -> Iterator[np.ndarray]:
    """The frames of a finished video, uint8 (height, width, 3), RGB, one after another.

    Args:
        cancel: takes effect at the next frame.

    Raises:
        Cancelled: if it was cancelled.
        ResultError: if the source can't be read any more.
    """
    with video.stream_frames(work.source.path) as frames:
        if work.interpolation is not None:
            frames = _interpolated(frames, work, cancel)
        if work.upscaler is not None:
            frames = work.upscaler.run(frames)
        for frame in frames:
            check_cancelled(cancel)
            yield frame


def _interpolated(
    frames: Iterator[np.ndarray], work: Work, cancel: CancelToken | None
) -> Iterator[np.ndarray]:
    """A clip's frames with others between them, some runs ahead where a method allows it."""
    opened, pairs = work.interpolation, work.source.pairs
    longest = max(1, min(LONGEST_RUN, RUN_BYTES // (work.source.height * work.source.width * 3)))
    ahead = probe.usable_cores() if opened.parallel else 1
    stopped = threading.Event()
    tokens = [stopped, *filter(None, [cancel])]
    pool, waiting = ThreadPoolExecutor(ahead, thread_name_prefix="cogvx finish"), deque()
    try:
        for run, inside in _with_frames(frames, runs(pairs, work.frames, longest)):
            waiting.append(pool.submit(_filled, run, inside, opened.run, tokens))
            if len(waiting) > ahead:
                yield from _result(waiting)
        while waiting:
            yield from _result(waiting)
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _result(waiting: deque[Future]) -> list[np.ndarray]:
    return waiting.popleft().result()


def _with_frames(
    frames: Iterator[np.ndarray], planned: Iterator[Run]
) -> Iterator[tuple[Run, list[np.ndarray]]]:
    """Runs with their frames; the last one of a run is the first of the next."""
    inside = list(islice(frames, 1))
    for run in planned:
        inside = inside[-1:] + list(islice(frames, run.last - run.first))
        if len(inside) <= run.last - run.first:
            raise ResultError("the video became shorter while it was finished: start again")
        yield run, inside


def _filled(
    run: Run, frames: list[np.ndarray], fill: methods.Fill, tokens: list[CancelToken]
) -> list[np.ndarray]:
    """All frames of a run: those that are there already as they are."""
    check_cancelled(*tokens)
    between = [place for place in run.positions if place.denominator > 1]
    made = {}
    if between:
        filled = fill(frames, between) if run.moving else nearest(frames, between)
        for place, frame in zip(between, filled, strict=True):
            check_cancelled(*tokens)
            made[place] = frame
    return [made[place] if place in made else frames[int(place)] for place in run.positions]
