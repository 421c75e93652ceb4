"""What a sweep took and what its videos measure, drawn against each parameter."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from . import report_plots, text
from .experiment import Experiment, Seen
from .text import html_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def plots(found: Experiment) -> str:
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


def figure(found: Experiment, parameter: str, column: str) -> Figure:
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


def _against(found: Experiment, parameter: str, columns: list[str]) -> str:
    shown = "".join(
        f"<img alt='{text.escaped(COLUMNS[name])}'"
        f" src='{text.embedded('image/png', report_plots.png(figure(found, parameter, name)))}'>"
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


def _values(found: Experiment, column: str) -> set[float]:
    return {run.number(column) for run in found.runs} - {None}


def _are_numbers(found: Experiment, parameter: str) -> bool:
    return all(_is_number(run, parameter) for run in found.runs)


def _is_number(run: Seen, parameter: str) -> bool:
    value = run.varied.get(parameter)
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _dress(axes, title: str) -> None:
    axes.set_title(title, fontsize="medium", color=INK)
    axes.tick_params(colors=INK, labelsize="small")
    for name, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(name in ("left", "bottom"))
    axes.set_ylim(bottom=0)
