"""Matplotlib figures of benchmarks and sweeps."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..benchmark import storage
from ..benchmark.report import FULL_STEPS, STAGES, Report, Row
from ..benchmark.storage import ReferenceTime
from ..planning.fields import SEEDS
from ..text import GIB, data_url, render_template
from .experiment import RunView, SweepView

if TYPE_CHECKING:
    from matplotlib.figure import Figure


WIDTH, HEIGHT = 7.5, 3.4
"""Inches of a figure of a benchmark; one with bars is as high as they need."""

BAR_HEIGHT = 0.36
"""Inches of each line of a figure with horizontal bars."""

VIDEO_SECONDS = f"seconds per video of {FULL_STEPS} steps"
"""Axis title; extrapolated for rows with another number of steps."""

SMALL_LABEL = 95
"""Characters from which on a label is set smaller, so that it fits the figure."""

OURS, THEIRS = "#4a8ad4", "#8a8a8a"

RANDOM = " (random weights)"
"""End of the name of a model without its checkpoint's weights, which is as fast."""


def bench_figures(report: Report) -> list[Figure]:
    """Seconds of a video by frames, if there are several; its stages; predicted and reserved memory
    (on a GPU); and times of other machines with the same checkpoint. Titles name the models,
    including random weights. All can be read on white and on black."""
    rows = report.measured_rows
    if not rows:
        return []
    several = len({row.frames for row in rows}) > 1
    figures = [*([_frames_figure(rows)] if several else []), _stages_figure(rows)]
    if any(row.measured.gpu.reserved_bytes for row in rows):
        figures.append(_memory_figure(rows))
    return figures + _reference_figures(report, max(row.frames for row in rows))


def figure_png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()


def _frames_figure(rows: Sequence[Row]) -> Figure:
    figure, axes = _figure(rows, "frames", VIDEO_SECONDS)
    for name in dict.fromkeys(_series_name(row, rows) for row in rows):
        series = [row for row in rows if _series_name(row, rows) == name]
        series.sort(key=lambda row: row.frames)
        seconds = [row.full_video_seconds for row in series]
        axes.plot([row.frames for row in series], seconds, marker="o", label=name)
    axes.set_xticks(sorted({row.frames for row in rows}))
    axes.set_ylim(0, HEADROOM * max(row.full_video_seconds for row in rows))
    axes.legend(fontsize="small", frameon=False, labelcolor=INK)
    return figure


def _stages_figure(rows: Sequence[Row]) -> Figure:
    figure, axes = _figure(rows, VIDEO_SECONDS, "", len(rows))
    left = [0.0] * len(rows)
    for stage in STAGES:
        widths = [row.full_video_stages[stage] for row in rows]
        axes.barh(range(len(rows)), widths, left=left, label=stage)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    _name_bars(axes, [_bar_name(row, rows) for row in rows])
    figure.legend(loc="outside lower center", ncols=4, frameon=False, labelcolor=INK)
    return figure


def _memory_figure(rows: Sequence[Row]) -> Figure:
    figure, axes = _figure(rows, "GiB", "", 2 * len(rows))
    bars = {
        "predicted": (-0.2, [row.measured.predicted_bytes for row in rows]),
        "reserved": (0.2, [row.measured.gpu.reserved_bytes for row in rows]),
    }
    for label, (shift, sizes) in bars.items():
        widths = [(size or 0) / GIB for size in sizes]
        axes.barh([y + shift for y in range(len(rows))], widths, 0.4, label=label)
    _name_bars(axes, [_bar_name(row, rows) for row in rows])
    figure.legend(loc="outside lower center", ncols=4, frameon=False, labelcolor=INK)
    return figure


def _reference_figures(report: Report, frames: int) -> list[Figure]:
    """Videos of one length on this machine and on others, on a log scale; a range is a line. The
    names are long, so each is written above its point. None for a checkpoint that nobody else
    measured: another one says nothing about it."""
    ours = storage.measured_times(report, "this machine")
    models = {row.model.removesuffix(RANDOM) for row in report.measured_rows}
    others = [t for t in storage.reference_times([report]) if t.setup.startswith((*models,))]
    times = [time for time in (*ours, *others) if time.frames == frames]
    if len(times) == len(ours):
        return []
    times.sort(key=lambda time: _low_and_high(time)[0])
    title = f"seconds per video of {frames} frames and {FULL_STEPS} steps"
    figure, axes = _figure([], title, "", len(times))
    axes.set_xscale("log")
    for y, time in enumerate(times):
        low, high = _low_and_high(time)
        colour = OURS if time in ours else THEIRS
        axes.plot([low, high], [y + 0.2] * 2, "o-", color=colour, linewidth=3)
        axes.text(1.04 * high, y + 0.2, f"{high:.4g}", va="center", fontsize="small", color=INK)
        name = f"{time.gpu}: {time.setup}" + (", steps only" if time.low is None else "")
        left = axes.get_yaxis_transform()
        size = "small" if len(name) < SMALL_LABEL else "x-small"
        axes.text(0.01, y - 0.2, name, va="center", fontsize=size, transform=left, color=INK)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(lambda x, position: "")  # they would overlap
    axes.grid(axis="x", alpha=0.4)
    axes.set_yticks([])
    axes.set_ylim(len(times) - 0.5, -0.6)
    highest = max(_low_and_high(time)[1] for time in times)
    axes.set_xlim(_low_and_high(times[0])[0] / 1.5, 1.5 * highest)
    return [figure]


def _low_and_high(time: ReferenceTime) -> tuple[float, float]:
    if time.low is None:
        return (FULL_STEPS * time.step_seconds,) * 2
    return time.low, time.high


def _figure(rows: Sequence[Row], x_title: str, y_title: str, bars: int = 0):
    from matplotlib.figure import Figure

    size = (WIDTH, 1.3 + BAR_HEIGHT * bars if bars else HEIGHT)
    figure = Figure(figsize=size, layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    _ink_axes(axes, ", ".join(_models(rows)))
    axes.set_xlabel(x_title, color=INK)
    axes.set_ylabel(y_title, color=INK)
    return figure, axes


def _name_bars(axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.invert_yaxis()


def _models(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.model for row in rows))


def _series_name(row: Row, rows: Sequence[Row]) -> str:
    """Name of a line over several frame counts."""
    name = row.title + (f", {row.placement}" if row.placement != "auto" else "")
    return name if len(_models(rows)) == 1 else f"{row.model}, {name}"


def _bar_name(row: Row, rows: Sequence[Row]) -> str:
    name = f"{row.frames}: {row.setup}"
    return name if len(_models(rows)) == 1 else f"{row.model}, {name}"


COLUMNS = {
    "seconds": "seconds of the notebook",
    "denoise_seconds": "seconds denoising",
    "decode_seconds": "seconds decoding",
    "predicted_gib": "GiB at the peak, predicted",
    "motion": "motion, pixels a frame",
    "flicker": "flicker, of 255",
    "sharpness": "sharpness, grey levels²",
}
"""Columns of a sweep that are drawn, with their titles."""

MOST_PARAMETERS = 6
"""Only the first parameters of a sweep are drawn against."""

MOST_LISTED_VALUES = 24
"""Values of a text parameter that are listed above its plots."""

MOST_TICKS = 8
"""With at most this number of values, each gets a tick."""

SWEEP_FIGURE_INCHES = (3.3, 2.3)

HEADROOM = 1.08
"""Upper end of an axis over its highest value."""

INK = "#7b7b7b"
"""Readable on white and on black: the background of the plots is transparent."""


@dataclass(frozen=True, slots=True)
class PlotSection:
    """Plots against one parameter."""

    parameter: str
    values: list[str]  # texts that stand at 1, 2, …; empty for a numeric parameter
    pictures: list[tuple[str, str]]  # title and data URL


def sweep_plots(view: SweepView) -> str:
    """Plots of measured columns against each varied parameter, as HTML with embedded PNGs; empty
    if no run has ended."""
    values = {column: _column_values(view, column) for column in COLUMNS}
    sections = [
        PlotSection(parameter, _listed_values(view, parameter), _pictures(view, parameter, values))
        for parameter in view.varying[:MOST_PARAMETERS]
        if len(view.values(parameter)) > 1
    ]
    constant = {name: next(iter(column)) for name, column in values.items() if len(column) == 1}
    return render_template(
        "sweep_plots.html",
        sections=[section for section in sections if section.pictures],
        most_values=MOST_LISTED_VALUES,
        constant=[(COLUMNS[name], f"{value:.4g}") for name, value in constant.items()]
        if len(view.runs) > 1
        else [],
        omitted=view.varying[MOST_PARAMETERS:],
    )


def sweep_figure(view: SweepView, parameter: str, column: str) -> Figure:
    """One plot: a point for each run, and the mean of each value of the parameter.

    Parameters that aren't numeric are drawn at 1, 2, … in the order of the sweep.
    """
    from matplotlib.figure import Figure

    numeric = _is_numeric(view, parameter)
    order = {value: position for position, value in enumerate(view.values(parameter), 1)}
    points: dict[float, list[float]] = {}
    for run in view.runs:
        if (y := run.number(column)) is not None:
            x = float(run.varied[parameter]) if numeric else order[run.value(parameter)]
            points.setdefault(x, []).append(y)
    figure = Figure(figsize=SWEEP_FIGURE_INCHES, layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    pairs = [(x, y) for x, column_values in points.items() for y in column_values]
    axes.plot(*zip(*pairs, strict=True), "o", color=OURS, alpha=0.75, markersize=5)
    means = [(x, statistics.fmean(points[x])) for x in sorted(points)]
    # Seeds have no order, so nothing leads from one to the next.
    style = "-" if numeric and parameter not in SEEDS else "_"
    axes.plot(*zip(*means, strict=True), style, color="tab:orange", markersize=14)
    _style_axes(axes, COLUMNS[column], max(y for _, y in pairs))
    if not numeric:
        axes.set_xlim(0.5, len(order) + 0.5)
    if len(means) <= MOST_TICKS:
        axes.set_xticks([x for x, _ in means])
    return figure


def _pictures(
    view: SweepView, parameter: str, values: dict[str, set[float]]
) -> list[tuple[str, str]]:
    """Title and data URL of each column that varies."""
    return [
        (COLUMNS[name], data_url("image/png", figure_png(sweep_figure(view, parameter, name))))
        for name, column in values.items()
        if len(column) > 1
    ]


def _listed_values(view: SweepView, parameter: str) -> list[str]:
    """Values to list by number, where the axis shows only numbers from 1."""
    return [] if _is_numeric(view, parameter) else view.values(parameter)


def _column_values(view: SweepView, column: str) -> set[float]:
    return {run.number(column) for run in view.runs} - {None}


def _is_numeric(view: SweepView, parameter: str) -> bool:
    return all(_has_number(run, parameter) for run in view.runs)


def _has_number(run: RunView, parameter: str) -> bool:
    value = run.varied.get(parameter)
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _ink_axes(axes, title: str) -> None:
    """Title, ticks and frame of a plot in a colour that is read on white and on black."""
    axes.set_title(title, fontsize="medium", color=INK)
    axes.tick_params(colors=INK, labelsize="small")
    for name, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(name in ("left", "bottom"))


def _style_axes(axes, title: str, highest: float) -> None:
    _ink_axes(axes, title)
    axes.set_ylim(0, HEADROOM * highest or None)  # the highest point isn't cut off
