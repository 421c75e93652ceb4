"""A sweep as a table: what varied, how each run ended, how long it took, what its video shows."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import measures
from .errors import OutputError, ResultError
from .files import translated, write
from .measures import Measures
from .planning import machine
from .results import export, result, video
from .sweep_folder import SweepFolder
from .sweep_runs import VIDEO

if TYPE_CHECKING:
    import pandas


MEASURED = ".measures.json"
"""In the sweep's folder: measures by the SHA-256 of their video. It can be deleted any time."""

COLUMNS = ("motion", "flicker", "sharpness")
OTHERS = ("run", "state", "error", "seconds", "predicted_gib", "alike", "video", "sha256")

MOST_THREADS = 8
"""Videos that are measured at once, on as many cores; each takes 0.1 GB where it is large."""


def frame(name: str) -> pandas.DataFrame:
    """A sweep as a pandas DataFrame, a run a row, in the order of its rows.

    Columns: ``run``, its id; those parameters that vary, by name; ``state``, which is ``done``,
    ``failed`` or ``waiting``; ``error``, why it failed; ``seconds`` of the notebook, and
    ``..._seconds`` of the video's stages; ``predicted_gib`` of its plan; ``motion``, ``flicker``
    and ``sharpness``, see ``measures.Measures``; ``alike``, the number of its group of
    near-duplicates, 0 for none; ``video``, its path. What there is none of is NaN or empty.

    Raises:
        ResultError: if no such sweep was started.
        CogvxError: if pandas or OpenCV is missing.
    """
    export.check_packages("pandas")
    measures.opencv()
    import pandas

    folder = SweepFolder(name)
    return pandas.DataFrame(rows(folder, folder.listed()))


def rows(folder: SweepFolder, listed: dict[str, dict[str, object]]) -> list[dict]:
    """A row for each run that is listed; see ``frame``."""
    kept = _kept(folder.root / MEASURED)
    with ThreadPoolExecutor(min(MOST_THREADS, machine.cores())) as pool:
        made = list(pool.map(lambda one: _row(folder, *one, kept), listed.items()))
    found = [row for row, _ in made]
    measured = {sha256: one for _, by_hash in made for sha256, one in by_hash.items()}
    groups = measures.alike([one.fingerprint for one in measured.values()])
    by_hash = dict(zip(measured, groups, strict=True))
    for row in found:
        row["alike"] = by_hash.get(row.pop("sha256"), 0)
    with contextlib.suppress(OutputError), translated(folder.root):  # to be measured again, then
        write(folder.root / MEASURED, json.dumps(_told(measured)).encode())
    return found


def _row(
    folder: SweepFolder, run_id: str, varied: dict, kept: dict[str, Measures]
) -> tuple[dict, dict[str, Measures]]:
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
        settings, sha256 = result.read(path).settings, marker["files"][VIDEO][1]
        row |= {f"{stage}_seconds": value for stage, value in settings["seconds"].items()}
        row["predicted_gib"] = settings["plan"].get("peak_bytes", np.nan) / 2**30
        found = kept.get(sha256) or measures.measure(video.decode(path))
    except (ResultError, LookupError, TypeError):  # a notebook that makes none
        return row, {}
    row |= {name: getattr(found, name) for name in COLUMNS}
    return row | {"video": str(path), "sha256": sha256}, {sha256: found}


def _column(parameter: str) -> str:
    """What a parameter's column is called."""
    taken = parameter in (*COLUMNS, *OTHERS) or parameter.endswith("_seconds")
    return f"parameter_{parameter}" if taken else parameter


def _kept(path: Path) -> dict[str, Measures]:
    shape = (measures.PRINT_FRAMES, measures.PRINT_SIZE, measures.PRINT_SIZE, 3)
    try:
        return {
            sha256: Measures(
                *map(float, values),
                np.frombuffer(bytes.fromhex(told), np.uint8).reshape(shape),
            )
            for sha256, (*values, told) in json.loads(path.read_text(encoding="utf-8")).items()
        }
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or something else
        return {}


def _told(measured: dict[str, Measures]) -> dict[str, list]:
    return {
        sha256: [*(getattr(one, name) for name in COLUMNS), one.fingerprint.tobytes().hex()]
        for sha256, one in measured.items()
    }
