"""A finished video: made of a result's frames, written as a result of its own, never in place."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from .. import __version__, leftovers, settings
from ..errors import BadFrames, OutputExists
from ..media.ffmpeg import run_ffmpeg
from ..planning import probe
from ..planning.extension import find_source
from ..progress import CancelToken, FrameFinished, Listener, StageStarted
from ..results import video
from ..results.output import check_output, check_room, default_path, partial_pair, publish_pair
from ..results.records import RecordedFinish, Sidecar
from ..results.result import UNKNOWN_HASH, Result, read_result, replace_tag, tag_text
from . import networks
from .recipe import Recipe
from .source import check_cancelled, read_source
from .work import Work, made_frames, plan_work


def finish_result(
    source: Result | str | Path,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    on_event: Listener | None = None,
    cancel: CancelToken | None = None,
    **wanted: object,
) -> Result:
    """Make a smoother or larger video of a result: a new file, whose sidecar says of which frames.

    Frames are made between frames first, and enlarged then.

    Args:
        source: a video of this workbench, or its name in the outputs folder; it stays as it is.
        output: where; by default a new name in ``outputs/<date>/``.
        overwrite: replace a video of that name.
        on_event: called with each event of ``progress``, from this thread.
        cancel: takes effect at the next frame.
        **wanted: fields of ``recipe.Recipe``: ``fps`` or ``factor``, ``scale``, and the methods.

    Raises:
        CogvxError: with the value and the remedy; see ``errors``.
    """
    leftovers.begin(settings.outputs_dir())
    recipe = Recipe(**wanted)
    path = check_output(output, overwrite=overwrite)
    result = source if isinstance(source, Result) else _read(source)
    if path is not None and path.resolve() == result.path.resolve():
        raise OutputExists(f"{path} can't be finished in place: choose another name")
    video.try_ffmpeg()
    work = plan_work(read_source(result.path, result.settings, cancel), recipe)
    check_room(path, work.frames * work.height * work.width)
    described = describe_finish(work, recipe)
    path = path or _default_path(described)
    return _write(work, described, path, overwrite, not output, on_event, cancel)


def _read(source: str | Path) -> Result:
    return read_result(find_source(str(source), "video"))


def describe_finish(work: Work, recipe: Recipe) -> Sidecar:
    """The sidecar of a finished video, without what is known when it is written."""
    source = work.source
    opened = [one for one in (work.interpolation, work.upscaler) if one is not None]
    packages = sorted({name for one in opened for name in one.packages})
    tile_height, tile_width = (work.upscaler and work.upscaler.tile) or (None, None)
    finished = RecordedFinish(
        source=source.path.name,
        source_frames=source.settings.frame_hash,
        source_content=source.content,
        frames=work.frames,
        height=work.height,
        width=work.width,
        fps=work.fps,
        interpolation=recipe.interpolation if work.interpolation else "",
        # Of a file its name alone: settings say nothing of this machine's folders.
        upscaler=Path(recipe.upscaler).name if work.upscaler else "",
        scale=recipe.scale or 1,
        weights={name: digest for one in opened for name, digest in one.weights.items()},
        versions={"cogvx-nb": __version__, "ffmpeg": ffmpeg_version()}
        | {name: probe.installed_version(name) for name in packages}
        | ({"device": networks.device_name()} if "torch" in packages else {}),
        tile_height=tile_height,
        tile_width=tile_width,
    )
    return replace(
        source.settings,
        made=datetime.now().astimezone().isoformat(timespec="seconds"),
        seconds={},
        frame_hash=UNKNOWN_HASH,
        content_hash=UNKNOWN_HASH,
        finished=finished,
    )


def ffmpeg_version() -> str:
    """The version of the ffmpeg in use, as it says; empty if it says none."""
    words = run_ffmpeg(["-version"]).stdout.decode(errors="replace").split()
    return words[2][:80] if words[:2] == ["ffmpeg", "version"] and len(words) > 2 else ""


def _default_path(sidecar: Sidecar) -> Path:
    """The name of a new video, with what was done."""
    finished = sidecar.finished
    done = [f"{finished.fps}fps"] * bool(finished.interpolation)
    done += [f"x{finished.scale}"] * bool(finished.upscaler)
    path = default_path(sidecar.request.prompt, sidecar.request.seed)
    return path.with_stem("-".join([path.stem, *done]))


def _write(
    work: Work,
    sidecar: Sidecar,
    path: Path,
    overwrite: bool,
    numbered: bool,
    on_event: Listener | None,
    cancel: CancelToken | None,
) -> Result:
    emit, start, digest = on_event or (lambda event: None), time.perf_counter(), hashlib.sha256()
    emit(StageStarted("finish", work.seconds))
    with partial_pair(path) as (mp4, json_file):
        frames = _counted(made_frames(work, cancel), work.frames, digest, emit)
        size = work.height, work.width
        video.encode_frames(frames, size, mp4, work.fps, tag_text(sidecar))
        seconds, start = {"finish": round(time.perf_counter() - start, 3)}, time.perf_counter()
        emit(StageStarted("write"))
        _check_written(mp4, work, cancel)
        hashes = {"frame_hash": digest.hexdigest(), "content_hash": video.content_hash(mp4)}
        sidecar = replace(sidecar, **hashes)
        replace_tag(mp4, sidecar)
        sidecar = replace(
            sidecar, seconds=seconds | {"write": round(time.perf_counter() - start, 3)}
        )
        content = json.dumps(sidecar.as_json(), ensure_ascii=False, indent=2)
        json_file.write_text(content, encoding="utf-8")
        path = publish_pair(mp4, json_file, path, overwrite, numbered)
    return Result(path, sidecar)


def _counted(
    frames: Iterator[np.ndarray], count: int, digest: object, emit: Listener
) -> Iterator[np.ndarray]:
    """The frames as they are, hashed and reported.

    Raises:
        BadFrames: if they aren't as many as were planned.
    """
    number = 0
    for number, frame in enumerate(frames, 1):
        digest.update(np.ascontiguousarray(frame).data)
        yield frame
        emit(FrameFinished(number, count))
    if number != count:
        raise BadFrames(f"{number} frames were made instead of {count}: was the video changed?")


def _check_written(path: Path, work: Work, cancel: CancelToken | None) -> None:
    """Decode the new file: it must hold the frames, in their size."""
    count = 0
    with video.stream_frames(path) as frames:
        for frame in frames:
            check_cancelled(cancel)
            count += frame.shape == (work.height, work.width, 3)
    if count != work.frames:
        raise BadFrames(f"the video that was just written holds {count} frames of {work.frames}")
