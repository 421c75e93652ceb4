"""A benchmark as figures: time by frames, stages, memory, and this machine beside others."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .benchmark import references
from .benchmark.record import FULL_STEPS, STAGES, full_seconds, full_stages, manner
from .benchmark.references import Time

if TYPE_CHECKING:
    from matplotlib.figure import Figure


WIDTH, HEIGHT, BAR = 7.5, 3.4, 0.32
"""Inches: of a figure, and of a line in one with bars."""

VIDEO = f"seconds a video of {FULL_STEPS} steps"
"""Of rows with other numbers of steps too, reckoned to as many."""

OURS, THEIRS = "tab:blue", "tab:gray"


def figures(report: dict) -> list[Figure]:
    """Seconds of a video by its frames, its stages, memory as predicted and as it was (of a GPU),
    and what a video takes elsewhere. Each names its models, random weights too."""
    rows = [row for row in report["rows"] if not row["error"]]
    if not rows:
        return []
    made = [_by_frames(rows), _stages(rows)]
    if any(row["reserved_bytes"] for row in rows):
        made.append(_memory(rows))
    return [*made, _beside(report, max(row["frames"] for row in rows))]


def png(figure: Figure) -> bytes:
    """A figure as a file."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()


def _by_frames(rows: Sequence[dict]) -> Figure:
    figure, axes = _axes(rows, "frames", VIDEO)
    for name in dict.fromkeys(_series(row, rows) for row in rows):
        some = [row for row in rows if _series(row, rows) == name]
        some.sort(key=lambda row: row["frames"])
        times = [full_seconds(row) for row in some]
        axes.plot([row["frames"] for row in some], times, marker="o", label=name)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small", frameon=False)
    return figure


def _stages(rows: Sequence[dict]) -> Figure:
    figure, axes = _axes(rows, VIDEO, "", len(rows))
    places, left = range(len(rows)), [0.0] * len(rows)
    for stage in STAGES:
        widths = [full_stages(row)[stage] for row in rows]
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
    ours = references.measured(report, "this machine")
    times = [one for one in (*ours, *references.others([report])) if one.frames == frames]
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


def _span(one: Time) -> tuple[float, float]:
    if one.low is None:
        return (FULL_STEPS * one.step_seconds,) * 2
    return one.low, one.high


def _named(one: Time) -> str:
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
    name = f"{row['frames']}: {manner(row)}"
    return name if len(_models(rows)) == 1 else f"{row['model']}, {name}"
