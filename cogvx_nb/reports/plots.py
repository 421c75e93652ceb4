"""A benchmark as figures: time by frames, stages, memory, and this machine beside others."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import text
from ..benchmark import references
from ..benchmark.record import (
    FULL_STEPS,
    STAGES,
    describe_setup,
    full_video_seconds,
    full_video_stages,
)
from ..benchmark.references import PublishedTime
from ..text import html_text
from .experiment import RunView, SweepView

if TYPE_CHECKING:
    from matplotlib.figure import Figure


WIDTH, HEIGHT, BAR = 7.5, 3.4, 0.32
"""Inches: of a figure, and of a line in one with bars."""

VIDEO = f"seconds a video of {FULL_STEPS} steps"
"""Of rows with other numbers of steps too, reckoned to as many."""

OURS, THEIRS = "tab:blue", "tab:gray"


def bench_figures(report: dict) -> list[Figure]:
    """Seconds of a video by its frames, its stages, memory as predicted and as it was (of a GPU),
    and what a video takes elsewhere. Each names its models, random weights too."""
    rows = [row for row in report["rows"] if not row["error"]]
    if not rows:
        return []
    made = [_by_frames(rows), _stages(rows)]
    if any(row["reserved_bytes"] for row in rows):
        made.append(_memory(rows))
    return [*made, _beside(report, max(row["frames"] for row in rows))]


def figure_png(figure: Figure) -> bytes:
    """A figure as a file."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()


def _by_frames(rows: Sequence[dict]) -> Figure:
    figure, axes = _axes(rows, "frames", VIDEO)
    for name in dict.fromkeys(_series(row, rows) for row in rows):
        some = [row for row in rows if _series(row, rows) == name]
        some.sort(key=lambda row: row["frames"])
        times = [full_video_seconds(row) for row in some]
        axes.plot([row["frames"] for row in some], times, marker="o", label=name)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small", frameon=False)
    return figure


def _stages(rows: Sequence[dict]) -> Figure:
    figure, axes = _axes(rows, VIDEO, "", len(rows))
    places, left = range(len(rows)), [0.0] * len(rows)
    for stage in STAGES:
        widths = [full_video_stages(row)[stage] for row in rows]
        axes.barh(places, widths, left=left, label=stage)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    _name_bars(axes, [_bar(row, rows) for row in rows])
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def _memory(rows: Sequence[dict]) -> Figure:
    figure, axes = _axes(rows, "GiB", "", 2 * len(rows))
    for shift, name, column in (
        (-0.2, "predicted", "predicted_bytes"),
        (0.2, "reserved", "reserved_bytes"),
    ):
        widths = [(row[column] or 0) / 2**30 for row in rows]
        axes.barh([place + shift for place in range(len(rows))], widths, 0.4, label=name)
    _name_bars(axes, [_bar(row, rows) for row in rows])
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def _beside(report: dict, frames: int) -> Figure:
    """Videos of so many frames here and elsewhere, which lie far apart; a range is a line. The
    names are long, so each stands above its point."""
    ours = references.measured_references(report, "this machine")
    times = [one for one in (*ours, *references.published_times([report])) if one.frames == frames]
    times.sort(key=lambda one: _span(one)[0])
    what = f"seconds a video of {frames} frames and {FULL_STEPS} steps"
    figure, axes = _axes([], what, "", len(times))
    axes.set_xscale("log")
    for place, one in enumerate(times):
        low, high = _span(one)
        colour = OURS if one in ours else THEIRS
        axes.plot([low, high], [place + 0.2] * 2, "o-", color=colour, linewidth=3)
        axes.text(1.04 * high, place + 0.2, f"{high:.4g}", va="center", fontsize="small")
        left = axes.get_yaxis_transform()
        axes.text(0.01, place - 0.2, _named(one), va="center", fontsize="small", transform=left)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="x", alpha=0.4)
    axes.set_yticks([])
    axes.set_ylim(len(times) - 0.5, -0.6)
    axes.set_xlim(_span(times[0])[0] / 1.5, 1.5 * max(_span(one)[1] for one in times))
    return figure


def _span(one: PublishedTime) -> tuple[float, float]:
    if one.low is None:
        return (FULL_STEPS * one.step_seconds,) * 2
    return one.low, one.high


def _named(one: PublishedTime) -> str:
    return f"{one.gpu}: {one.how}" + (", steps only" if one.low is None else "")


def _axes(rows: Sequence[dict], across: str, up: str, bars: int = 0):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, max(HEIGHT, 1.4 + BAR * bars)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(", ".join(_models(rows)), fontsize="medium")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return figure, axes


def _name_bars(axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.invert_yaxis()


def _models(rows: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(row["model"] for row in rows))


def _series(row: dict, rows: Sequence[dict]) -> str:
    """What is the same in a line over several frame counts."""
    name = row["speed"] + (f", {row['placement']}" if row["placement"] != "auto" else "")
    return name if len(_models(rows)) == 1 else f"{row['model']}, {name}"


def _bar(row: dict, rows: Sequence[dict]) -> str:
    name = f"{row['frames']}: {describe_setup(row)}"
    return name if len(_models(rows)) == 1 else f"{row['model']}, {name}"


COLUMNS = {
    "seconds": "seconds of the notebook",
    "denoise_seconds": "seconds denoising",
    "decode_seconds": "seconds decoding",
    "predicted_gib": "GiB at the peak, predicted",
    "motion": "motion, pixels a frame",
    "flicker": "flicker, of 255",
    "sharpness": "sharpness, grey levels²",
}
"""What is drawn, and what it is called."""

MOST_PARAMETERS = 6
"""Parameters that are drawn against, in the order of the sweep."""

MOST_NAMED = 24
"""Values of a text that are listed below its plots."""

MOST_TICKS = 8
"""Values that are marked one by one."""

SIZE = (3.3, 2.3)
"""Inches."""

INK = "#808080"
"""Reads on white and on black; the paper is whatever is behind."""


def sweep_plots(found: SweepView) -> str:
    """Plots as HTML with the pictures in it; empty if nothing has ended."""
    drawn = {name: _values(found, name) for name in COLUMNS}
    same = {name: next(iter(one)) for name, one in drawn.items() if len(one) == 1}
    parts = [
        _against(found, parameter, [name for name, one in drawn.items() if len(one) > 1])
        for parameter in found.varying[:MOST_PARAMETERS]
        if len(found.values(parameter)) > 1
    ]
    told = [f"{COLUMNS[name]}: {value:.4g}" for name, value in same.items()]
    if told and len(found.runs) > 1:
        parts.append(f"<p class='small'>The same in all runs: {'; '.join(told)}.</p>")
    if len(found.varying) > MOST_PARAMETERS:
        left = ", ".join(map(html_text, found.varying[MOST_PARAMETERS:]))
        parts.append(f"<p class='small'>Not drawn: {left}.</p>")
    return "".join(parts)


def sweep_figure(found: SweepView, parameter: str, column: str) -> Figure:
    """One plot: a point a run, and a line through the means of numbers.

    Values that aren't numbers stand in their order, numbered from 1.
    """
    from matplotlib.figure import Figure

    numbers = _are_numbers(found, parameter)
    order = {value: place for place, value in enumerate(found.values(parameter), 1)}
    points: dict[float, list[float]] = {}
    for run in found.runs:
        if (height := run.number(column)) is not None:
            place = float(run.varied[parameter]) if numbers else order[run.value(parameter)]
            points.setdefault(place, []).append(height)
    made = Figure(figsize=SIZE, layout="constrained", facecolor="none")
    axes = made.add_subplot(facecolor="none")
    pairs = [(place, height) for place, heights in points.items() for height in heights]
    axes.plot(*zip(*pairs, strict=True), "o", color="tab:blue", alpha=0.65, markersize=5)
    means = [(place, statistics.fmean(points[place])) for place in sorted(points)]
    axes.plot(*zip(*means, strict=True), "-" if numbers else "_", color="tab:orange", markersize=14)
    _dress(axes, COLUMNS[column])
    if not numbers:
        axes.set_xlim(0.5, len(order) + 0.5)
    if len(means) <= MOST_TICKS:
        axes.set_xticks([place for place, _ in means])
    return made


def _against(found: SweepView, parameter: str, columns: list[str]) -> str:
    shown = "".join(
        f"<img alt='{text.escape_html(COLUMNS[name])}'"
        f" src='{text.data_url('image/png', figure_png(sweep_figure(found, parameter, name)))}'>"
        for name in columns
    )
    if not shown:
        return ""
    parts = [f"<h3>against {html_text(parameter)}</h3>"]
    if not _are_numbers(found, parameter):
        values = found.values(parameter)
        lines = "".join(f"<li>{html_text(value or '–')}</li>" for value in values[:MOST_NAMED])
        more = f"<p class='small'>and {len(values) - MOST_NAMED} more</p>"
        parts.append(f"<ol>{lines}</ol>{more if len(values) > MOST_NAMED else ''}")
    return "".join([*parts, f"<div class='plots'>{shown}</div>"])


def _values(found: SweepView, column: str) -> set[float]:
    return {run.number(column) for run in found.runs} - {None}


def _are_numbers(found: SweepView, parameter: str) -> bool:
    return all(_is_number(run, parameter) for run in found.runs)


def _is_number(run: RunView, parameter: str) -> bool:
    value = run.varied.get(parameter)
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _dress(axes, title: str) -> None:
    axes.set_title(title, fontsize="medium", color=INK)
    axes.tick_params(colors=INK, labelsize="small")
    for name, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(name in ("left", "bottom"))
    axes.set_ylim(bottom=0)
