"""A sweep as a DataFrame: parameters, state, times, and OpenCV measures of each video."""

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

from ..errors import OutputError, ResultError, optional_import
from ..files import translate_errors, write_whole
from ..planning import probe
from ..planning.fields import RANDOM_SEED, SEEDS
from ..results import video
from ..results.stored import stored_settings
from ..text import GIB
from .folder import VIDEO, SweepFolder

if TYPE_CHECKING:
    import pandas


FLOW_WIDTH = 240
"""Wider frames are scaled to so many pixels for the optical flow, which takes 1 s for 49 frames."""

FLOW_HEIGHT = 64
"""Flatter frames are padded to so many pixels for the optical flow: its coarsest level, an eighth
of ``FLOW_WIDTH``, must hold a patch of 8 pixels, or OpenCV reads beyond its end."""

PRINT_FRAMES, PRINT_SIZE = 8, 16
"""Number of frames of a fingerprint, and their height and width in pixels."""

DUPLICATE_RMS = 3.0
"""Largest root mean square difference, in levels of 0 … 255, of near-duplicates' fingerprints."""


@dataclass(frozen=True, slots=True)
class VideoMeasures:
    """Measures of a video's frames.

    The optical flow spreads from what moves into plain surroundings, so ``motion`` compares only
    videos with similar backgrounds.
    """

    # Mean length of the optical flow (DIS, arXiv 1603.03590) between consecutive frames, in pixels.
    motion: float  # 0 for a single frame
    # Mean of |second difference| / 2 of the frames' mean brightness, in levels of 0 … 255: 0 for an
    # even fade, d for brightness that jumps by d and back.
    flicker: float  # 0 for fewer than three frames
    # Mean variance of the Laplacian of the grey frames (Pech-Pacheco and others, 2000).
    sharpness: float  # 0 for plain frames
    # uint8 (8, 16, 16, 3): frames at equal distances, scaled down by area.
    fingerprint: np.ndarray = field(repr=False, compare=False)


def measure_result(frames: np.ndarray) -> VideoMeasures:
    """Measure a clip.

    Args:
        frames: uint8 (frames, height, width, 3), RGB; at least one frame.

    Raises:
        CogvxError: if OpenCV is missing.
    """
    cv2 = import_opencv()
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    brightness = np.array([frame.mean() for frame in grey])
    jumps = np.abs(np.diff(brightness, n=2)) / 2
    sharp = [cv2.Laplacian(frame, cv2.CV_64F).var() for frame in grey]
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
    """The group of near-duplicates of each video, from 1; 0 for a video without any.

    Videos whose fingerprints differ by at most ``DUPLICATE_RMS`` are in one group, directly or
    through others.
    """
    if not fingerprints:
        return []
    flat = np.stack(fingerprints).reshape(len(fingerprints), -1).astype(np.float32)
    group = list(range(len(flat)))
    for number, pixels in enumerate(flat):
        distances = np.sqrt(np.mean((flat[:number] - pixels) ** 2, axis=1))
        for other in np.flatnonzero(distances <= DUPLICATE_RMS):
            old, new = group[other], group[number]
            group = [new if name == old else name for name in group]
    shared = [name for name in dict.fromkeys(group) if group.count(name) > 1]
    return [shared.index(name) + 1 if name in shared else 0 for name in group]


def import_opencv():
    """Import OpenCV, or raise a CogvxError with the command to install it."""
    return optional_import("cv2", "measure", "measuring videos", package="OpenCV")


def _motion(cv2, grey: list[np.ndarray]) -> float:
    """Mean length of the optical flow between frames (height, width) of 0 … 255, in pixels."""
    height, width = grey[0].shape
    scale = min(1.0, FLOW_WIDTH / width)
    if scale < 1:
        size = (round(width * scale), max(1, round(height * scale)))
        grey = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in grey]
    rows = len(grey[0])
    below = ((0, max(0, FLOW_HEIGHT - rows)), (0, 0))
    pairs = itertools.pairwise(np.pad(frame, below, mode="edge") for frame in grey)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    lengths = [np.linalg.norm(flow.calc(a, b, None)[:rows], axis=2).mean() for a, b in pairs]
    return float(np.mean(lengths)) / scale if lengths else 0.0


MEASURED = ".measures.json"
"""Cache in the sweep's folder: measures by the SHA-256 of their video."""

MEASURES = ("motion", "flicker", "sharpness")
"""Columns with the fields of ``VideoMeasures``."""

RESERVED_COLUMNS = ("run", "state", "error", "seconds", "predicted_gib", "alike", "video", "sha256")
"""Further columns; parameters of these names get the prefix ``parameter_``."""

MAX_THREADS = 8
"""Videos measured at once; each takes up to 0.1 GB."""


def sweep_dataframe(name: str) -> pandas.DataFrame:
    """A sweep as a pandas DataFrame with one row per run, in their order.

    Columns: ``run``, the id; the parameters that vary, by name; ``state``, which is ``done``,
    ``failed`` or ``waiting``; ``error``, why it failed; ``seconds`` of the notebook, and
    ``..._seconds`` of the video's stages; ``predicted_gib``, the peak that its plan predicts;
    ``motion``, ``flicker`` and ``sharpness``, see ``VideoMeasures``; ``alike``, the number of its
    group of near-duplicates, 0 for none; ``video``, the path. Missing values are NaN or empty.

    Raises:
        ResultError: if no such sweep was started.
        CogvxError: if pandas or OpenCV is missing.
    """
    optional_import("pandas", "frame", "a DataFrame")
    import_opencv()
    import pandas

    folder = SweepFolder(name)
    return pandas.DataFrame(sweep_rows(folder, folder.listed_runs()))


def sweep_rows(folder: SweepFolder, listed: dict[str, dict[str, object]]) -> list[dict]:
    """The rows of ``sweep_dataframe`` for the runs that are listed."""
    cached = _read_cache(folder.root / MEASURED)
    with ThreadPoolExecutor(min(MAX_THREADS, probe.usable_cores())) as pool:
        results = list(pool.map(lambda item: _row(folder, *item, cached), listed.items()))
    rows = [row for row, _ in results]
    measured = {sha256: measures for _, by_hash in results for sha256, measures in by_hash.items()}
    groups = near_duplicates([measures.fingerprint for measures in measured.values()])
    group_of = dict(zip(measured, groups, strict=True))
    for row in rows:
        row["alike"] = group_of.get(row.pop("sha256"), 0)
    path = folder.root / MEASURED
    with contextlib.suppress(OutputError), translate_errors(path):  # then it is measured again
        write_whole(path, json.dumps(_cache_content(measured)).encode())
    return rows


def _row(
    folder: SweepFolder, run_id: str, varied: dict, cached: dict[str, VideoMeasures]
) -> tuple[dict, dict[str, VideoMeasures]]:
    """(a row, the measures of its video by the video's hash)."""
    parameters = {_column(name): value for name, value in varied.items()}
    row = {"run": run_id, **parameters, "state": "waiting", "error": folder.failure_line(run_id)}
    row |= dict.fromkeys(("seconds", "denoise_seconds", "predicted_gib", *MEASURES), np.nan)
    row |= {"video": "", "sha256": ""}
    marker = folder.read_marker(run_id)
    if marker is None:
        return row | ({"state": "failed"} if row["error"] else {}), {}
    row |= {"state": "done", "error": "", "seconds": marker.get("seconds", np.nan)}
    path = folder.root / run_id / VIDEO
    try:
        settings, sha256 = stored_settings(path)[0], marker["files"][VIDEO][1]
        drawn = [name for name in SEEDS if parameters.get(name) == RANDOM_SEED]
        row |= {name: getattr(settings.request, name) for name in drawn}
        row |= {f"{stage}_seconds": value for stage, value in settings.seconds.items()}
        if settings.plan.peak_bytes is not None:
            row["predicted_gib"] = settings.plan.peak_bytes / GIB
        measures = cached.get(sha256) or measure_result(video.decode_video(path))
    except (ResultError, LookupError, TypeError):  # its notebook makes no video
        return row, {}
    row |= {name: getattr(measures, name) for name in MEASURES}
    return row | {"video": str(path), "sha256": sha256}, {sha256: measures}


def _column(parameter: str) -> str:
    """Name of a parameter's column."""
    reserved = parameter in (*MEASURES, *RESERVED_COLUMNS) or parameter.endswith("_seconds")
    return f"parameter_{parameter}" if reserved else parameter


def _read_cache(path: Path) -> dict[str, VideoMeasures]:
    shape = (PRINT_FRAMES, PRINT_SIZE, PRINT_SIZE, 3)
    try:
        return {
            sha256: VideoMeasures(
                *map(float, values),
                np.frombuffer(bytes.fromhex(fingerprint), np.uint8).reshape(shape),
            )
            for sha256, (*values, fingerprint) in json.loads(path.read_text("utf-8")).items()
        }
    except (OSError, ValueError, TypeError, AttributeError):  # missing or damaged
        return {}


def _cache_content(measured: dict[str, VideoMeasures]) -> dict[str, list]:
    content = {}
    for sha256, measures in measured.items():
        fingerprint = measures.fingerprint.tobytes().hex()
        content[sha256] = [*(getattr(measures, name) for name in MEASURES), fingerprint]
    return content
