"""Results on disk: an mp4 that carries its settings, and a sidecar; written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from .. import __version__
from ..errors import BadFrames, CogvxError, OutputError, ResultError
from ..paths import user_path
from ..planning import probe
from ..progress import Listener, StageStarted
from ..text import error_line
from . import records, stored, unsaved, video
from .generated import Generated
from .mp4 import TAG, find_tag, overwrite_box
from .output import check_output, default_path, partial_pair, publish_pair
from .records import RecordedLora, Sidecar


@dataclass(frozen=True, slots=True)
class Result:
    """A video on disk with its settings."""

    path: Path  # the mp4
    settings: Sidecar = field(repr=False)
    note: str = ""  # where mp4 and sidecar don't agree about the settings

    @property
    def sidecar(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def frame_hash(self) -> str:
        return self.settings.frame_hash

    def sidecar_json(self) -> dict:
        """The settings as the JSON content of a sidecar."""
        return self.settings.as_json()


def save_result(
    generated: Generated,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    on_event: Listener | None = None,
) -> Result:
    """Write a video and its sidecar.

    The video is written to a temporary name, decoded and checked, and only then renamed, so that no
    partial file is ever left under its name. If it can't be written, its frames are kept in a file
    that ``save_frames`` and ``cogvx save`` take, and in ``generated`` of the exception.

    Args:
        output: path of the mp4, relative to the current directory. By default
            ``outputs/<date>/<time>-<slug>-<seed>.mp4``, with ``-2``, ``-3`` for name clashes.
        overwrite: replace a video of that name.

    Raises:
        OutputExists, DiskFull, OutputError, PathError: if it can't be written.
        BadFrames: if all frames are black, or the written file does not hold them.
        FfmpegError: if ffmpeg doesn't work any more.
    """
    if on_event is not None:
        on_event(StageStarted("write"))
    if video.is_black(generated.frames):
        raise BadFrames("all frames of the video are black")
    try:
        return write_or_keep(generated.frames, describe_video(generated), output, overwrite)
    except CogvxError as failure:
        failure.generated = generated
        raise


def write_or_keep(
    frames: np.ndarray, sidecar: Sidecar, output: str | Path | None, overwrite: bool
) -> Result:
    """Write frames with their settings, or keep them where that fails; see ``save_result``."""
    try:
        return write_result(frames, sidecar, output, overwrite)
    except Exception as error:  # a bug too: the work isn't lost
        reason = error if isinstance(error, CogvxError) else OutputError(error_line(error))
        raise unsaved.keep_frames(reason, frames, sidecar) from error


def save_frames(
    path: str | Path, output: str | Path | None = None, *, overwrite: bool = False
) -> Result:
    """Write the video of frames that ``save_result`` kept; their file is deleted then.

    Args:
        path: that file.
        output, overwrite: as for ``save_result``.

    Raises:
        ResultError: if it is no such file.
        CogvxError: as ``save_result``, if it can't be written.
    """
    path = user_path(path, "file")
    frames, sidecar = unsaved.read_frames(path)
    saved = write_result(frames, sidecar, output, overwrite)
    with contextlib.suppress(OSError):  # the video is there
        path.unlink()
    return saved


def write_result(
    frames: np.ndarray, sidecar: Sidecar, output: str | Path | None, overwrite: bool
) -> Result:
    """Write frames with their settings; see ``save_result``."""
    start, request = time.perf_counter(), sidecar.request
    path = check_output(output, overwrite=overwrite) or default_path(request.prompt, request.seed)
    with partial_pair(path) as (mp4, json_file):
        sidecar = _write_mp4(frames, sidecar, mp4)
        seconds = sidecar.seconds | {"write": round(time.perf_counter() - start, 3)}
        sidecar = replace(sidecar, seconds=seconds)
        content = json.dumps(sidecar.as_json(), ensure_ascii=False, indent=2)
        json_file.write_text(content, encoding="utf-8")
        path = publish_pair(mp4, json_file, path, overwrite, numbered=not output)
    return Result(path, sidecar)


def _write_mp4(frames: np.ndarray, sidecar: Sidecar, path: Path) -> Sidecar:
    """Write an mp4 with its settings, and check it; returns them with the hash of what it holds."""
    draft = replace(sidecar, content_hash=UNKNOWN_HASH)
    video.encode_video(frames, path, sidecar.request.fps, tag_text(draft))
    _check_written(path, frames)
    sidecar = replace(sidecar, content_hash=video.content_hash(path))
    replace_tag(path, sidecar)
    return sidecar


UNKNOWN_HASH = "0" * 64
"""In place of a hash that isn't known before the mp4 is written, but as long."""


def replace_tag(path: Path, sidecar: Sidecar) -> None:
    """Replace the settings in an mp4 by others that are as long.

    Raises:
        BadFrames: if it doesn't hold such.
    """
    box, tag = find_tag(path, TAG), tag_text(sidecar).encode()
    if box is None or box.end - box.start != len(tag):
        raise BadFrames("the video that was just written doesn't hold its settings")
    overwrite_box(path, box, tag)


def tag_text(sidecar: Sidecar) -> str:
    """The settings as an mp4 carries them."""
    return json.dumps(sidecar.as_json(), ensure_ascii=True, separators=(",", ":"))


def describe_video(generated: Generated) -> Sidecar:
    """The sidecar of a video: the request as given and as run, the plan, the checkpoint and its
    file hashes, versions, machine, seconds of the stages and the hash of the frames."""
    request, local_machine = generated.request, probe.probe_machine()
    return Sidecar(
        made=datetime.now().astimezone().isoformat(timespec="seconds"),
        request=records.RecordedRequest(**request.settings),
        asked={name: value for name, value in request.asked.items() if value is not None},
        enriched_from=request.enriched_from,
        templates=request.templates,
        adjustments=tuple(request.adjustments),
        notes=tuple(request.notes),
        allowed=tuple(request.allowed),
        inputs={
            name: records.RecordedInput(request.input_names[name], pixels)
            for name, pixels in generated.input_hashes.items()
        },
        loras=_recorded_loras(generated),
        attention_share=round(generated.attention_share, 4),
        all_frames=len(generated.frames) if request.pieces else 0,
        plan=records.RecordedPlan(**generated.plan.choices),
        checkpoint=records.RecordedCheckpoint(
            name=request.model.name,
            folder=str(request.model.folder),
            licence=request.model.checkpoint.licence,
            sha256=generated.hashes,
        ),
        versions={"cogvx-nb": __version__, **local_machine.versions},
        machine=records.RecordedMachine(
            system=local_machine.system,
            cores=local_machine.cores,
            threads=generated.threads,
            ram_bytes=local_machine.ram_bytes,
            gpus=tuple(gpu.name for gpu in local_machine.gpus),
        ),
        seconds={stage: round(value, 3) for stage, value in generated.seconds.items()},
        frame_hash=video.frame_hash(generated.frames),
    )


def _recorded_loras(generated: Generated) -> tuple[RecordedLora, ...]:
    shares = dict(zip(generated.plan.loras, generated.kept_shares, strict=True))
    recorded = []
    for one in generated.request.loras:
        first, share = one.layers[0], shares.get(one, 1.0)  # one of weight 0 isn't in the plan
        recorded.append(
            RecordedLora(
                one.name,
                one.sha256,
                one.weight,
                first.alpha,
                first.alpha_from,
                first.rank,
                one.format,
                round(share, 4),
            )
        )
    return tuple(recorded)


def read_result(path: str | Path) -> Result:
    """A video with its settings: those in the mp4 itself, or of its sidecar where it has none.

    ``note`` says where the two don't agree, or which one can't be used.

    Raises:
        ResultError: if there is no such file, or it has no settings that can be used: with the
            field, its value and what it must be.
        PathError: if there can be no file of that name.
    """
    path = user_path(path, "video")
    return Result(path, *stored.stored_settings(path))


def _check_written(path: Path, frames: np.ndarray) -> None:
    """Decode the new file: it must hold the frames, in their size, and not be black."""
    try:
        decoded = video.decode_video(path)
    except ResultError as error:
        raise BadFrames(f"the video that was just written can't be read back: {error}") from error
    if decoded.shape != frames.shape:
        shapes = f"{decoded.shape} instead of {frames.shape}"
        raise BadFrames(f"the video holds {shapes} frames × pixels")
    if video.is_black(decoded):
        raise BadFrames("all frames of the written video are black")
