"""A benchmark as pictures and tables: in a notebook, or as one HTML page with all in it."""

from __future__ import annotations

import base64
import html
import importlib.resources
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .benchmark import STAGES

if TYPE_CHECKING:
    from IPython.display import Image as Picture
    from matplotlib.figure import Figure

SIZE = (7, 3.4)
"""Inches of a figure."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em;
  color: #111; background: #fff }
table { border-collapse: collapse } td, th { text-align: left; padding: 0.2em 0.8em 0.2em 0;
  vertical-align: top } tr + tr { border-top: 1px solid #ddd } img { max-width: 100% }
"""


def figures(report: dict) -> list[Figure]:
    """Seconds of a video by its frames, its stages, and memory predicted and measured."""
    rows = [row for row in report["rows"] if not row["error"]]
    if not rows:
        return []
    made = [_by_frames(rows), _stages(rows)]
    if any(row["reserved_bytes"] for row in rows):
        made.append(_memory(rows))
    return made


def pictures(report: dict) -> list[Picture]:
    """The ``figures`` for a notebook's output, as PNG."""
    from IPython.display import Image as Picture

    return [Picture(data=_png(figure), format="png") for figure in figures(report)]


def table(report: dict) -> str:
    """The rows as an HTML table."""
    head = ("model", "frames", "placement", "s a step", *(f"{s}, s" for s in STAGES), "GiB")
    return _table(head, [_cells(row) for row in report["rows"]])


def published_table() -> str:
    """Other people's figures of CogVideoX-5b as an HTML table, each with its source."""
    known = published()
    columns = ("gpu", "frames", "seconds", "seconds_per_step", "config", "source")
    rows = [tuple(row.get(name, "–") for name in columns) for row in known["rows"]]
    seed = known["seed_table_minutes"]
    for gpu, minutes in seed.items():
        if isinstance(minutes, dict):
            for frames, (low, high) in minutes.items():
                span = f"{60 * low} – {60 * high}"
                rows.append((gpu, frames, span, "–", "estimated", seed["source"]))
    head = ("GPU", "frames", "seconds", "s a step", "configuration", "source")
    return f"<p>{html.escape(known['about'])}</p>{_table(head, rows)}"


def published() -> dict:
    """Figures of others, with sources, as they ship with the package."""
    text = importlib.resources.files("cogvx_nb").joinpath("data/published_timings.json")
    return json.loads(text.read_text(encoding="utf-8"))


def page(report: dict) -> str:
    """A whole HTML page: no scripts, no files beside it."""
    pictures = "".join(f"<p><img alt='' src='{_embedded(one)}'></p>" for one in figures(report))
    here = report["machine"]
    gpus = ", ".join(gpu["name"] for gpu in here["gpus"]) or f"no GPU, {here['cores']} cores"
    versions = ", ".join(f"{name} {value}" for name, value in here["versions"].items())
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>CogVideoX benchmark</title>"
        f"<style>{STYLE}</style><h1>CogVideoX benchmark</h1>"
        f"<p>{html.escape(gpus)} · {html.escape(here['system'])} · {html.escape(versions)} · "
        f"{html.escape(report['made'])}</p>{table(report)}{pictures}"
        f"<h2>Published figures</h2>{published_table()}</html>"
    )


def _by_frames(rows: Sequence[dict]) -> Figure:
    figure, axes = _axes("frames", "seconds a video")
    for name in dict.fromkeys(map(_label, rows)):
        some = sorted((r for r in rows if _label(r) == name), key=lambda r: r["frames"])
        times = [sum(r["seconds"][stage]["median"] for stage in STAGES) for r in some]
        axes.plot([r["frames"] for r in some], times, marker="o", label=name)
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def _stages(rows: Sequence[dict]) -> Figure:
    figure, axes = _axes("seconds", "")
    names = [f"{_label(row)}, {row['frames']} frames" for row in rows]
    left = [0.0] * len(rows)
    for stage in STAGES:
        widths = [row["seconds"][stage]["median"] for row in rows]
        axes.barh(names, widths, left=left, label=stage)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.legend()
    return figure


def _memory(rows: Sequence[dict]) -> Figure:
    figure, axes = _axes("", "GiB")
    places = range(len(rows))
    for shift, name, column in (
        (-0.2, "predicted", "predicted_bytes"),
        (0.2, "reserved", "reserved_bytes"),
    ):
        heights = [(row[column] or 0) / 2**30 for row in rows]
        axes.bar([place + shift for place in places], heights, 0.4, label=name)
    names = [f"{row['placement']}\n{row['frames']}" for row in rows]
    axes.set_xticks(list(places), names)
    axes.legend()
    return figure


def _axes(across: str, up: str):
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return figure, axes


def _label(row: dict) -> str:
    return f"{row['model']}, {row['placement']}"


def _cells(row: dict) -> tuple:
    if row["error"]:
        return (row["model"], row["frames"], row["placement"], row["error"])
    step, peak = row["step_seconds"], row["reserved_bytes"]
    stages = (f"{row['seconds'][stage]['median']:.2f}" for stage in STAGES)
    memory = f"{peak / 2**30:.1f}" if peak else "–"
    pace = f"{step['median']:.3f} ± {step['spread']:.0%}"
    return (row["model"], row["frames"], row["placement"], pace, *stages, memory)


def _table(head: Sequence, rows: Sequence[Sequence]) -> str:
    lines = ["".join(f"<th>{html.escape(str(cell))}</th>" for cell in head)]
    lines += ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _embedded(figure: Figure) -> str:
    return f"data:image/png;base64,{base64.b64encode(_png(figure)).decode()}"


def _png(figure: Figure) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()
