"""Results on disk: an mp4 that carries its settings, and a sidecar; written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from .. import __version__, settings
from ..errors import BadFrames, DiskFull, OutputError, OutputExists, ResultError
from ..files import nearest_existing_folder, numbered_paths, partial_file, publish, translate_errors
from ..paths import user_path
from ..planning import probe
from ..planning.plan import Plan
from ..planning.request import VideoRequest
from ..progress import Listener, StageStarted
from . import records, video
from .records import Sidecar

SLUG_LENGTH = 40
"""Characters of the prompt in a default file name."""

MIN_FREE_BYTES = 64 * 1024
"""If ffmpeg fails with less than this free, the disk counts as full: it doesn't always say why."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A generated video that is not yet written."""

    frames: np.ndarray  # uint8 (frames, height, width, 3), RGB
    request: VideoRequest  # as it was run
    plan: Plan  # as it was run
    hashes: dict[str, str]  # SHA-256 of the checkpoint's files
    seconds: dict[str, float]  # of each stage: load, text, denoise, decode
    threads: int  # of torch on the CPU; they can change the last bit


@dataclass(frozen=True, slots=True)
class Result:
    """A video on disk with its settings."""

    path: Path  # the mp4
    settings: Sidecar = field(repr=False)

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
    partial file is ever left under its name.

    Args:
        output: path of the mp4, relative to the current directory. By default
            ``outputs/<date>/<time>-<slug>-<seed>.mp4``, with ``-2``, ``-3`` for name clashes.
        overwrite: replace a video of that name.

    Raises:
        OutputExists, DiskFull, OutputError: if it can't be written.
        BadFrames: if the written file does not hold the frames.
    """
    if on_event is not None:
        on_event(StageStarted("write"))
    start = time.perf_counter()
    path = check_output(output, overwrite=overwrite) or _default_path(generated)
    sidecar = describe_video(generated)
    with _translate_write_errors(path), _partial_pair(path) as (mp4, json_file):
        path.parent.mkdir(parents=True, exist_ok=True)
        tag = json.dumps(sidecar.as_json(), ensure_ascii=True, separators=(",", ":"))
        video.encode_video(generated.frames, mp4, generated.request.fps, tag)
        _check_written(mp4, generated.frames)
        seconds = sidecar.seconds | {"write": round(time.perf_counter() - start, 3)}
        sidecar = replace(sidecar, seconds=seconds)
        content = json.dumps(sidecar.as_json(), ensure_ascii=False, indent=2)
        json_file.write_text(content, encoding="utf-8")
        path = _publish_pair(mp4, json_file, path, overwrite, numbered=not output)
    return Result(path, sidecar)


def check_output(output: str | Path | None, *, overwrite: bool = False) -> Path | None:
    """The absolute path that a video would be written to, if it can be.

    Called before the video is generated, and again by ``save_result``. Creates nothing.

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
    if path.is_dir():
        raise OutputError(f"output {path} is a folder: name a file in it")
    if path.exists() and not overwrite:
        raise OutputExists(
            f"output {path} exists: choose another name, or overwrite it (--overwrite)"
        )
    sidecar = path.with_suffix(".json")
    if sidecar.exists() and (not overwrite or records.read_sidecar(sidecar) is None):
        raise OutputExists(
            f"{sidecar}, where the settings of {path.name} would go, exists: choose another name"
        )
    _check_folder(path.parent)
    return path


def describe_video(generated: Generated) -> Sidecar:
    """The sidecar of a video: the request as given and as run, the plan, the checkpoint and its
    file hashes, versions, machine, seconds of the stages and the hash of the frames."""
    request, local_machine = generated.request, probe.probe_machine()
    return Sidecar(
        made=datetime.now().astimezone().isoformat(timespec="seconds"),
        request=records.RecordedRequest(**request.settings),
        asked={name: value for name, value in request.asked.items() if value is not None},
        enriched_from=request.enriched_from,
        adjustments=tuple(request.adjustments),
        notes=tuple(request.notes),
        allowed=tuple(request.allowed),
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
        frame_hash=frame_hash(generated.frames),
    )


def read_result(path: str | Path) -> Result:
    """A video with its settings: from its sidecar, or from the mp4 alone where that is missing.

    Raises:
        ResultError: if there is no such file, or it carries no settings.
    """
    path = user_path(path, "video")
    if not path.is_file():
        raise ResultError(f"there is no file {path}")
    sidecar = records.read_sidecar(path.with_suffix(".json"))
    sidecar = sidecar or records.parse_sidecar(video.read_tag(path))
    if sidecar is None:
        raise ResultError(f"{path} carries no settings: it was not made with this workbench")
    return Result(path, sidecar)


def frame_hash(frames: np.ndarray) -> str:
    """SHA-256 of uint8 RGB frames (frames, height, width, 3), before encoding."""
    return hashlib.sha256(np.ascontiguousarray(frames, np.uint8)).hexdigest()


def slug(text: str) -> str:
    """A short, safe part of a file name for any text: letters, digits and single hyphens."""
    text = unicodedata.normalize("NFKC", text).lower()
    return re.sub(r"[\W_]+", "-", text)[:SLUG_LENGTH].strip("-") or "video"


def _default_path(generated: Generated) -> Path:
    now = datetime.now()
    request = generated.request
    name = f"{now:%H%M%S}-{slug(request.prompt)}-{request.seed}.mp4"
    return settings.outputs_dir() / f"{now:%Y-%m-%d}" / name


def _check_folder(folder: Path) -> None:
    """Raise OutputError if no file can be created in a folder, which needn't exist yet."""
    existing = nearest_existing_folder(folder)
    if not existing.is_dir():
        raise OutputError(f"output folder {folder} can't be made: {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"output folder {folder} can't be written: no permission in {existing}")


@contextlib.contextmanager
def _partial_pair(path: Path) -> Iterator[tuple[Path, Path]]:
    """Temporary names of mp4 and sidecar in the folder of ``path``. They are deleted afterwards,
    and so are folders that were created for ``path`` and are empty."""
    new_folders = [folder for folder in path.parents if not folder.exists()]
    try:
        with partial_file(path, ".mp4") as mp4, partial_file(path, ".json") as sidecar:
            yield mp4, sidecar
    finally:
        for folder in new_folders:
            with contextlib.suppress(OSError):  # it holds the video
                folder.rmdir()


@contextlib.contextmanager
def _translate_write_errors(path: Path) -> Iterator[None]:
    """``translate_errors``, and DiskFull where ffmpeg failed for want of room without saying so."""
    remedy = "make room, or choose another folder"
    with translate_errors(path, full_remedy=remedy):
        try:
            yield
        except OutputExists:
            raise
        except (OutputError, BadFrames) as error:
            free = shutil.disk_usage(nearest_existing_folder(path.parent)).free
            if free < MIN_FREE_BYTES or "No space left" in str(error):
                raise DiskFull(f"the disk of {path} is full: {remedy}") from error
            raise


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


def _publish_pair(mp4: Path, sidecar: Path, path: Path, overwrite: bool, numbered: bool) -> Path:
    """Give both files their names; returns the mp4's.

    Args:
        overwrite: replace a video of that name.
        numbered: take the next free number if the name is taken.

    Raises:
        OutputExists: if the name is taken, and neither of the two.
    """
    for target in numbered_paths(path):
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
    return target
