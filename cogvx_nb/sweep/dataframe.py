"""A sweep as a table: what varied, how each run ended, how long it took, what its video shows."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CogvxError, OutputError, ResultError
from ..files import translate_errors, write_whole
from ..planning import machine
from ..results import export, result, video
from .folder import SweepFolder
from .runs import VIDEO

if TYPE_CHECKING:
    import pandas


FLOW_WIDTH = 240
"""Pixels to which wider frames are scaled for the flow: a second for 49 frames of 480 × 720."""

PRINT_FRAMES, PRINT_SIZE = 8, 16
"""Frames of a fingerprint, and their height and width."""

ALIKE = 3.0
"""Root mean square, in levels of 0 … 255, up to which fingerprints count as of the same video."""


@dataclass(frozen=True, slots=True)
class VideoMeasures:
    """What a video's frames show.

    Attributes:
        motion: mean length of the optical flow (DIS, arXiv 1603.03590) from each frame to the next,
            in pixels; 0 for a single frame. The flow spreads from what moves into plain
            surroundings, so compare videos that are alike in this.
        flicker: mean of half the second difference of the frames' mean brightness, in levels of
            0 … 255: 0 for a steady clip or an even fade, d for one that jumps by d and back; 0 for
            less than three frames.
        sharpness: variance of the Laplacian of each grey frame (Pech-Pacheco and others, 2000), in
            the mean; 0 for a plain one.
        fingerprint: uint8 (8, 16, 16, 3), frames spread over the clip, scaled down by area.
    """

    motion: float
    flicker: float
    sharpness: float
    fingerprint: np.ndarray = field(repr=False, compare=False)


def measure_result(frames: np.ndarray) -> VideoMeasures:
    """Measure a clip.

    Args:
        frames: uint8 (frames, height, width, 3), RGB; one frame or more.

    Raises:
        CogvxError: if OpenCV is missing.
    """
    cv2 = import_opencv()
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    brightness = np.array([one.mean() for one in grey])
    jumps = np.abs(np.diff(brightness, n=2)) / 2
    sharp = [cv2.Laplacian(one, cv2.CV_64F).var() for one in grey]
    chosen = np.linspace(0, len(frames) - 1, PRINT_FRAMES).round().astype(int)
    size = (PRINT_SIZE, PRINT_SIZE)
    small = [cv2.resize(frames[n], size, interpolation=cv2.INTER_AREA) for n in chosen]
    return VideoMeasures(
        motion=_motion(cv2, grey),
        flicker=float(jumps.mean()) if len(jumps) else 0.0,
        sharpness=float(np.mean(sharp)),
        fingerprint=np.stack(small),
    )


def near_duplicates(fingerprints: Sequence[np.ndarray]) -> list[int]:
    """Which videos are near-duplicates: the number of a group for each, from 1; 0 for none.

    Two are when their fingerprints differ by no more than ``ALIKE``; a group is all that hang
    together in this way.
    """
    if not fingerprints:
        return []
    flat = np.stack(fingerprints).reshape(len(fingerprints), -1).astype(np.float32)
    group = list(range(len(flat)))
    for number, one in enumerate(flat):
        apart = np.sqrt(np.mean((flat[:number] - one) ** 2, axis=1))
        for other in np.flatnonzero(apart <= ALIKE):
            old, new = group[other], group[number]
            group = [new if name == old else name for name in group]
    shared = [name for name in dict.fromkeys(group) if group.count(name) > 1]
    return [shared.index(name) + 1 if name in shared else 0 for name in group]


def import_opencv():
    """OpenCV's module.

    Raises:
        CogvxError: if it is missing.
    """
    try:
        import cv2
    except ImportError:
        raise CogvxError(
            'measuring videos needs OpenCV: pip install -e ".[measure]" in the workbench\'s folder'
        ) from None
    return cv2


def _motion(cv2, grey: list[np.ndarray]) -> float:
    """Mean length of the flow between frames (height, width) of 0 … 255, in their pixels."""
    height, width = grey[0].shape
    scale = min(1.0, FLOW_WIDTH / width)
    if scale < 1:
        size = (round(width * scale), round(height * scale))
        grey = [cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in grey]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    pairs = itertools.pairwise(grey)
    lengths = [np.linalg.norm(flow.calc(a, b, None), axis=2).mean() for a, b in pairs]
    return float(np.mean(lengths)) / scale if lengths else 0.0


MEASURED = ".measures.json"
"""In the sweep's folder: measures by the SHA-256 of their video. It can be deleted any time."""

COLUMNS = ("motion", "flicker", "sharpness")
RESERVED_COLUMNS = ("run", "state", "error", "seconds", "predicted_gib", "alike", "video", "sha256")

MOST_THREADS = 8
"""Videos that are measured at once, on as many cores; each takes 0.1 GB where it is large."""


def sweep_dataframe(name: str) -> pandas.DataFrame:
    """A sweep as a pandas DataFrame, a run a row, in the order of its rows.

    Columns: ``run``, its id; those parameters that vary, by name; ``state``, which is ``done``,
    ``failed`` or ``waiting``; ``error``, why it failed; ``seconds`` of the notebook, and
    ``..._seconds`` of the video's stages; ``predicted_gib`` of its plan; ``motion``, ``flicker``
    and ``sharpness``, see ``dataframe.VideoMeasures``; ``near_duplicates``, the number of its group of
    near-duplicates, 0 for none; ``video``, its path. What there is none of is NaN or empty.

    Raises:
        ResultError: if no such sweep was started.
        CogvxError: if pandas or OpenCV is missing.
    """
    export.check_packages("pandas")
    import_opencv()
    import pandas

    folder = SweepFolder(name)
    return pandas.DataFrame(sweep_rows(folder, folder.listed()))


def sweep_rows(folder: SweepFolder, listed: dict[str, dict[str, object]]) -> list[dict]:
    """A row for each run that is listed; see ``sweep_dataframe``."""
    kept = _kept(folder.root / MEASURED)
    with ThreadPoolExecutor(min(MOST_THREADS, machine.usable_cores())) as pool:
        made = list(pool.map(lambda one: _row(folder, *one, kept), listed.items()))
    found = [row for row, _ in made]
    measured = {sha256: one for _, by_hash in made for sha256, one in by_hash.items()}
    groups = near_duplicates([one.fingerprint for one in measured.values()])
    by_hash = dict(zip(measured, groups, strict=True))
    for row in found:
        row["alike"] = by_hash.get(row.pop("sha256"), 0)
    with (
        contextlib.suppress(OutputError),
        translate_errors(folder.root),
    ):  # to be measured again, then
        write_whole(folder.root / MEASURED, json.dumps(_told(measured)).encode())
    return found


def _row(
    folder: SweepFolder, run_id: str, varied: dict, kept: dict[str, VideoMeasures]
) -> tuple[dict, dict[str, VideoMeasures]]:
    """(a row, the measures of its video by its hash, if it has one)."""
    told = {_column(name): value for name, value in varied.items()}
    row = {"run": run_id, **told, "state": "waiting", "error": folder.failure(run_id)}
    row |= dict.fromkeys(("seconds", "denoise_seconds", "predicted_gib", *COLUMNS), np.nan)
    row |= {"video": "", "sha256": ""}
    marker = folder.marker(run_id)
    if marker is None:
        return row | ({"state": "failed"} if row["error"] else {}), {}
    row |= {"state": "done", "error": "", "seconds": marker.get("seconds", np.nan)}
    path = folder.root / run_id / VIDEO
    try:
        settings, sha256 = result.read_result(path).settings, marker["files"][VIDEO][1]
        row |= {f"{stage}_seconds": value for stage, value in settings["seconds"].items()}
        row["predicted_gib"] = settings["plan"].get("peak_bytes", np.nan) / 2**30
        found = kept.get(sha256) or measure_result(video.decode_video(path))
    except (ResultError, LookupError, TypeError):  # a notebook that makes none
        return row, {}
    row |= {name: getattr(found, name) for name in COLUMNS}
    return row | {"video": str(path), "sha256": sha256}, {sha256: found}


def _column(parameter: str) -> str:
    """What a parameter's column is called."""
    taken = parameter in (*COLUMNS, *RESERVED_COLUMNS) or parameter.endswith("_seconds")
    return f"parameter_{parameter}" if taken else parameter


def _kept(path: Path) -> dict[str, VideoMeasures]:
    shape = (PRINT_FRAMES, PRINT_SIZE, PRINT_SIZE, 3)
    try:
        return {
            sha256: VideoMeasures(
                *map(float, values),
                np.frombuffer(bytes.fromhex(told), np.uint8).reshape(shape),
            )
            for sha256, (*values, told) in json.loads(path.read_text(encoding="utf-8")).items()
        }
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or something else
        return {}


def _told(measured: dict[str, VideoMeasures]) -> dict[str, list]:
    return {
        sha256: [*(getattr(one, name) for name in COLUMNS), one.fingerprint.tobytes().hex()]
        for sha256, one in measured.items()
    }
