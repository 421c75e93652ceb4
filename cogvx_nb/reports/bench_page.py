"""Benchmarks as HTML tables, and as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..benchmark import storage
from ..benchmark.comparison import speedups
from ..benchmark.report import BASELINES, BUSY_SPREAD, FULL_STEPS, STAGES, Report, Row
from ..benchmark.storage import ReferenceTime
from ..text import GIB, data_url, format_duration, format_number, render_template
from . import plots
from .fidelity import fidelity_section, published_fidelity
from .tables import Table

BUSY, BUSY_WORDS = " !", " (not to be trusted: the machine was busy)"

BUSY_NOTE = (
    f"A spread over {100 * BUSY_SPREAD:.0f} %, marked by an exclamation mark: the machine was busy "
    "with something else. Don't trust these times; measure again when it is idle."
)

ROW_HEAD = ("model", "frames", "setup")
"""First columns of the tables with a line for each row of a report."""


def bench_verdict(report: Report) -> str:
    """What a video takes here at its fastest, a line for each number of frames."""
    best: dict[tuple, Row] = {}
    for row in report.measured_rows:
        kept = best.setdefault(row.video, row)
        if row.full_video_seconds < kept.full_video_seconds:
            best[row.video] = row
    lines = [
        f"{row.model}: {format_duration(row.full_video_seconds)} for {row.frames} frames "
        f"and {FULL_STEPS} steps, with {row.setup}"
        + f", extrapolated from {row.steps} steps" * (row.steps != FULL_STEPS)
        + BUSY_WORDS * row.busy
        for row in best.values()
    ]
    return "\n".join(lines) or "Nothing could be measured."


def bench_tables(report: Report) -> str:
    """A report as HTML: times; memory and energy with predictions; decoders; and how many times
    as fast as each baseline."""
    times = _times(report)
    if any(row.busy for row in report.rows):
        times = replace(times, caption=BUSY_NOTE)
    tables = [times, _memory(report), _decoders(report)]
    tables += [_speedups(report, name) for name in BASELINES]
    return render_template("tables.html", tables=[table for table in tables if table.rows])


def reference_table(*reports: Report) -> str:
    """This machine and others as an HTML table, each with its source."""
    ours = [time for report in reports for time in storage.measured_times(report, "this machine")]
    others = storage.reference_times(reports)
    head = ("GPU", "frames", f"s per video of {FULL_STEPS} steps", "s per step", "setup", "source")
    about = storage.published_timings()["about"]
    own, theirs = ([_reference_cells(time) for time in times] for times in (ours, others))
    folded = Table(head, theirs, (1, 2, 3), about, f"{len(theirs)} times of other machines")
    return render_template("tables.html", tables=[Table(head, own, (1, 2, 3)), folded])


def bench_page(*reports: Report) -> str:
    """A whole HTML page.

    Reports with the same fingerprint are merged, so that rows of one are compared with a baseline
    in another.
    """
    merged: dict[str, Report] = {}
    for report in reports:
        known = merged.setdefault(report.fingerprint, replace(report, rows=()))
        merged[report.fingerprint] = replace(known, rows=known.rows + report.rows)
    timed, compared = (any(getattr(r, name) for r in reports) for name in ("rows", "fidelity"))
    return render_template(
        "bench_page.html",
        reports=[
            {
                "title": report.device,
                "verdict": bench_verdict(report) if report.rows else "",
                "facts": _facts(report),
                "tables": bench_tables(report),
                "pictures": [
                    data_url("image/png", plots.figure_png(figure))
                    for figure in plots.bench_figures(report)
                ],
                "fidelity": [
                    fidelity_section(one)
                    for one in reports
                    if one.fidelity and one.fingerprint == report.fingerprint
                ],
            }
            for report in merged.values()
        ],
        references=reference_table(*merged.values()) if timed else "",
        published=published_fidelity() if compared else "",
    )


def _facts(report: Report) -> list[str]:
    machine = report.machine
    found = {name: value for name, value in machine["versions"].items() if value}
    versions = ", ".join(f"{name} {value}" for name, value in found.items())
    peaks = [f"peak matmul throughput, TFLOP/s: {report.peaks}"] * bool(report.peak_tflops)
    return [machine["system"], versions, *peaks, report.made]


def _times(report: Report) -> Table:
    head = ("steps", "s per step", "MFU", *(f"{name}, s" for name in STAGES))
    return _rows_table(report.rows, (*head, "video, s", "load, s", "compile, s"), _time_cells)


def _time_cells(row: Row) -> tuple:
    measured = row.measured
    step, video = measured.step_seconds, measured.video_seconds
    return (
        row.steps,
        f"{step.median:.3f} ± {step.spread:.0%}",
        f"{measured.mfu:.0%}" if measured.mfu else "–",
        *(f"{measured.seconds[stage].median:.2f}" for stage in STAGES),
        f"{video.median:.2f} ± {video.spread:.0%}" + BUSY * row.busy,
        format_number(measured.load_seconds, 2),
        format_number(measured.compile_seconds, 2),
    )


def _memory(report: Report) -> Table:
    rows = [row for row in report.measured_rows if row.measured.gpu.reserved_bytes]
    head = ("GiB predicted", "reserved", "allocated", "s predicted", "measured")
    return _rows_table(rows, (*head, "J per video", "MHz", "throttled by"), _memory_cells, text=1)


def _memory_cells(row: Row) -> tuple:
    measured, gpu = row.measured, row.measured.gpu
    predicted = measured.predicted_seconds
    seconds = sum(measured.seconds[name].median for name in predicted)
    return (
        _gib(measured.predicted_bytes),
        _gib(gpu.reserved_bytes),
        _gib(gpu.allocated_bytes),
        format_number(sum(predicted.values()) if predicted else None, 2),
        format_number(seconds if predicted else None, 2),
        format_number(gpu.joules, 0),
        format_number(gpu.sm_mhz, 0),
        "–" if gpu.throttled is None else ", ".join(gpu.throttled) or "nothing",
    )


def _decoders(report: Report) -> Table:
    rows = [row for row in report.measured_rows if row.measured.decodes]
    head = ("decode whole, s", "GiB", "decode in tiles, s", "GiB")
    return _rows_table(rows, head, _decoder_cells)


def _decoder_cells(row: Row) -> tuple:
    cells = []
    for name in ("whole", "tiled"):
        decode = row.measured.decodes.get(name)
        cells += [f"{decode.seconds.median:.2f}", _gib(decode.bytes)] if decode else ["–", "–"]
    return tuple(cells)


def _speedups(report: Report, name: str) -> Table:
    head = (*ROW_HEAD, "step", "video", "decode whole", "decode in tiles", "memory")
    rows = []
    for speedup in speedups(report.rows, name):
        row = speedup.row
        factors = (speedup.step, speedup.video, speedup.whole, speedup.tiled, speedup.memory)
        rows.append((row.model, row.frames, row.setup, *map(_factor, factors)))
    baseline = BASELINES[name]
    caption = (
        f"How many times as fast as {baseline.title} ({baseline.description}), and memory "
        "relative to it:"
    )
    return Table(head, rows, (1, *range(len(ROW_HEAD), len(head))), caption)


def _rows_table(rows: Iterable[Row], head: Sequence[str], cells, text: int = 0) -> Table:
    """A line for each row, with its error if it failed.

    Args:
        cells: function of a measured row.
        text: how many of the last columns are text.
    """
    lines = [
        (row.model, row.frames, row.setup, *((row.error,) if row.error else cells(row)))
        for row in rows
    ]
    head = (*ROW_HEAD, *head)
    return Table(head, lines, (1, *range(len(ROW_HEAD), len(head) - text)))


def _reference_cells(time: ReferenceTime) -> tuple:
    seconds = format_number(time.low, 1)
    if time.low != time.high:
        seconds = f"{time.low:.0f} – {time.high:.0f}"
    step = format_number(time.step_seconds, 2)
    return (time.gpu, time.frames, seconds, step, time.setup, time.source)


def _gib(count: int | None) -> str:
    return format_number(None if count is None else count / GIB, 1)


def _factor(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f} ×"
