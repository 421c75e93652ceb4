"""Benchmark files: written, read in every format, found; and the timings that ship with them."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from .. import files
from ..errors import OutputError, ResultError
from ..paths import read_json, user_path
from ..planning.former_names import rename_step_cache, upgrade_choices
from ..planning.placements import FORMER_PLACEMENTS
from ..results.fidelity import read_rows
from ..results.measured_fidelity import benchmarks_folder
from ..results.typed import FieldError, read_as
from .report import FULL_STEPS, STAGES, GpuUsage, Report, Row

FORMAT = 3
"""2 has other names, see ``_upgrade_report``. 1 has no speeds, peak throughput or baselines, and
isn't read."""


def resolve_output_path(output: str | Path | None = None) -> Path:
    """Where a report will be written, by default under a new name in ``outputs/benchmarks/``.

    Callers check this before the work, which can take hours. Its page gets the same name, see
    ``resolve_page_path``.

    Raises:
        OutputError: if it doesn't end in .json, or it or its page exists.
    """
    name = datetime.now().strftime("%Y-%m-%d-%H%M%S.json")
    path = user_path(output or benchmarks_folder() / name, "output", new=True)
    _check_suffix(path, ".json")
    for existing in (path, path.with_suffix(".html")):
        if existing.exists():
            raise OutputError(f"{existing} exists: choose another name")
    return path


def resolve_page_path(output: str | Path | None, first: Path) -> Path:
    """Where the page of some reports will be written, by default next to the first; a page there
    is replaced.

    Raises:
        OutputError: if it doesn't end in .html.
    """
    path = user_path(output or first.with_suffix(".html"), "output", new=True)
    _check_suffix(path, ".html")
    return path


def write_page(text: str, path: Path) -> None:
    """Write a text file atomically, with its folder; an existing one is replaced.

    Raises:
        OutputError: if it can't be written.
    """
    with files.translate_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, text.encode())


def save_report(report: Report, path: Path) -> None:
    """Write a report as JSON.

    Raises:
        OutputError: if it can't be written.
    """
    values = {"format": FORMAT} | asdict(report)
    write_page(json.dumps(values, indent=1, ensure_ascii=False), path)


def read_report(path: str | Path) -> Report:
    """Read a report of format 2 or 3.

    Raises:
        ResultError: if it can't be read, or isn't a report.
    """
    path = user_path(path, "benchmark")
    try:
        values = read_json(path)
    except OSError as error:
        raise ResultError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ResultError(f"{path} is no benchmark: it isn't JSON, or nested too deeply") from error
    if not isinstance(values, dict) or not isinstance(values.get("rows"), list):
        raise ResultError(f"{path} is no benchmark of this workbench")
    if values.get("format") not in (2, FORMAT):
        number = values.get("format")
        raise ResultError(f"{path} has format {number}, not 2 or {FORMAT}: measure again")
    try:
        return _parse_report(_upgrade_report(values) if values["format"] == 2 else values)
    except FieldError as error:
        raise ResultError(f"{path} is no benchmark of this workbench: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ResultError(f"{path} is no benchmark of this workbench ({reason})") from error


def newest_report() -> Path:
    """The report that was written last.

    Raises:
        ResultError: if there is none.
    """
    reports = sorted(benchmarks_folder().glob("[!.]*.json"), key=lambda path: path.stat().st_mtime)
    if not reports:
        raise ResultError(f"{benchmarks_folder()} holds no benchmark: make one with 'cogvx bench'")
    return reports[-1]


def _check_suffix(path: Path, suffix: str) -> None:
    if path.suffix.lower() != suffix:
        raise OutputError(f"output {path.name!r} must end in {suffix}")


@dataclass(frozen=True, slots=True)
class _Gpu:
    name: str


@dataclass(frozen=True, slots=True)
class _Machine:
    """What is shown of a report's machine."""

    system: str
    threads: int
    gpus: tuple[_Gpu, ...]
    versions: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class _Head:
    """A report without its rows."""

    made: str
    machine: _Machine
    fingerprint: str
    peak_tflops: dict[str, float]


def _parse_report(values: Mapping) -> Report:
    head = read_as(_Head, values)
    rows = tuple(map(_parse_row, values["rows"]))
    measured = (head.made, values["machine"], head.fingerprint, head.peak_tflops, rows)
    return Report(*measured, fidelity=read_rows(values))


def _parse_row(values: object) -> Row:
    """A row; its plan, which also holds lists, is checked by what is shown of it."""
    measured, plan = values["measured"], {}
    if measured is not None:
        plan = rename_step_cache(measured["plan"])
        seconds = measured["seconds"]
        if "encode" not in seconds:  # before there were pictures and clips
            seconds = seconds | {"encode": {"median": 0.0, "spread": 0.0, "values": []}}
        values = values | {"measured": measured | {"plan": {}, "seconds": seconds}}
    row = read_as(Row, values)
    if row.measured is not None:
        row = replace(row, measured=replace(row.measured, plan=plan))
        _ = row.setup  # raises KeyError where the plan lacks a choice
        for name in (*STAGES, *row.measured.predicted_seconds):
            if name not in row.measured.seconds:
                raise FieldError("is missing", dataclasses.MISSING, name, "seconds", "measured")
    return row


def _upgrade_report(values: Mapping) -> dict:
    """Format 2 in the names of format 3."""
    rows = [_upgrade_row(row) for row in values["rows"]]
    return {**values, "peak_tflops": values["ceiling"], "rows": rows}


def _upgrade_row(row: Mapping) -> dict:
    names = ("model", "frames", "steps", "height", "width", "speed", "error")
    placement = FORMER_PLACEMENTS.get(row["placement"], row["placement"])
    upgraded = {name: row[name] for name in names} | {"placement": placement, "measured": None}
    if row["error"]:
        return upgraded
    same = ("load_seconds", "compile_seconds", "predicted_bytes", "predicted_seconds")
    measured = {name: row[name] for name in same} | {
        "plan": upgrade_choices(row["plan"]),
        "seconds": {name: _upgrade_timing(timing) for name, timing in row["seconds"].items()},
        "video_seconds": _upgrade_timing(row["video_seconds"]),
        "step_seconds": _upgrade_timing(row["step_seconds"]),
        "gpu": {name: row[name] for name in GpuUsage.__dataclass_fields__},
        "decodes": row["vae"]
        and {
            name: decode and {"seconds": _upgrade_timing(decode), "bytes": decode["bytes"]}
            for name, decode in row["vae"].items()
        },
        "mfu": row["share_of_ceiling"],
    }
    return upgraded | {"measured": measured}


def _upgrade_timing(timing: Mapping) -> dict:
    return {"median": timing["median"], "spread": timing["spread"], "values": timing["all"]}


REFERENCES = tuple(f"reference_h100{kind}.json" for kind in ("", "_turbo", "_seed", "_cudnn"))
"""Reports of this workbench on H100s that ship with it; all but the last with FlashAttention 4. The
first two are of one machine, in the first the rows of two runs, and the last two are older: their
``exact`` has the blocks of diffusers, in the last rounded otherwise."""


@dataclass(frozen=True, slots=True)
class ReferenceTime:
    """How long a video takes on some machine."""

    gpu: str  # or another device
    frames: int
    low: float | None  # seconds of a video of FULL_STEPS; None if only a step is known
    high: float | None  # the same as low if no range is given
    step_seconds: float | None
    setup: str  # model and configuration
    source: str


def measured_times(report: Report, source: str) -> list[ReferenceTime]:
    """Times of a report's rows, extrapolated to ``FULL_STEPS`` and marked so where needed."""
    times = []
    for row in report.measured_rows:
        video, step = row.full_video_seconds, row.measured.step_seconds.median
        setup = f"{row.model}, {row.setup}"
        if row.steps != FULL_STEPS:
            setup += f", extrapolated from {row.steps} steps"
        times.append(ReferenceTime(report.device, row.frames, video, video, step, setup, source))
    return times


def reference_times(exclude: Sequence[Report] = ()) -> list[ReferenceTime]:
    """Times of the reports that ship, except those in ``exclude``, and published ones of others."""
    excluded, times = [report.made for report in exclude], []
    for report in shipped_reports():
        if report.made not in excluded:
            times += measured_times(report, "measured with this workbench")
    published = published_timings()
    for row in published["rows"]:
        seconds, step = row.get("seconds"), row.get("seconds_per_step")
        setup = f"CogVideoX-5b, {row['config']}"
        times.append(
            ReferenceTime(row["gpu"], row["frames"], seconds, seconds, step, setup, row["source"])
        )
    minutes = dict(published["seed_table_minutes"])
    source = minutes.pop("source")
    for gpu, by_frames in minutes.items():
        for frames, (low, high) in by_frames.items():
            setup = "CogVideoX-5b, estimated"
            times.append(
                ReferenceTime(gpu, int(frames), 60.0 * low, 60.0 * high, None, setup, source)
            )
    return times


def published_timings() -> dict:
    """Timings published by others, with sources, as they ship with the package."""
    return json.loads(_data_file("published_timings.json").read_text(encoding="utf-8"))


def published_fidelity() -> dict:
    """How far others' accelerated videos lie from their own reference, for other models than
    CogVideoX-5b, with sources."""
    return json.loads(_data_file("published_fidelity.json").read_text(encoding="utf-8"))


def shipped_reports() -> list[Report]:
    """The reports named in ``REFERENCES``.

    Raises:
        ResultError: if one can't be read.
    """
    return [read_report(_data_file(name)) for name in REFERENCES]


def _data_file(name: str):
    return importlib.resources.files("cogvx_nb").joinpath(f"data/{name}")
