"""Benchmarks as tables and pictures: in a notebook, or as one HTML page with all in it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..benchmark import references
from ..benchmark.record import BASELINES, FULL_STEPS, STAGES, describe_setup, speedup_ratios
from ..benchmark.references import PublishedTime
from . import plots

if TYPE_CHECKING:
    from IPython.display import Image as Picture


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em;
  color: #111; background: #fff }
table { border-collapse: collapse; margin: 1em 0 } td, th { text-align: left; vertical-align: top;
  padding: 0.2em 0.8em 0.2em 0 } tr + tr { border-top: 1px solid #ddd } img { max-width: 100% }
"""

GIB = 2**30


def bench_pictures(report: dict) -> list[Picture]:
    """The figures of ``report_plots`` for a notebook's output, as PNG."""
    from IPython.display import Image as Picture

    made = plots.bench_figures(report)
    return [Picture(data=plots.figure_png(figure), format="png") for figure in made]


def bench_tables(report: dict) -> str:
    """What was measured as HTML: times, memory and energy beside what was predicted, decoders, and
    how many times as fast as each baseline."""
    parts = [_times(report), _memory(report), _decoders(report)]
    return "".join(parts + [_ratios(report, name) for name in BASELINES])


def published_table(*reports: dict) -> str:
    """This machine beside others as an HTML table, each with its source."""
    times = [
        one for report in reports for one in references.measured_references(report, "this machine")
    ]
    times += references.published_times(reports)
    head = ("GPU", "frames", f"s a video of {FULL_STEPS} steps", "s a step", "how", "source")
    about = html.escape(references.published_references()["about"])
    return f"<p>{about}</p>{_table(head, list(map(_other, times)))}"


def bench_page(*reports: dict) -> str:
    """A whole HTML page: no scripts, no files beside it.

    Reports of one machine with the same versions are shown as one, so that a baseline of one of
    them stands beside rows of another.
    """
    groups: dict[str, dict] = {}
    for report in reports:
        known = groups.setdefault(report["fingerprint"], report | {"rows": []})
        groups[report["fingerprint"]] = known | {"rows": known["rows"] + report["rows"]}
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>CogVideoX benchmark</title>"
        f"<style>{STYLE}</style><h1>CogVideoX benchmark</h1>"
        f"{''.join(map(_section, groups.values()))}"
        f"<h2>Beside others</h2>{published_table(*groups.values())}</html>"
    )


def _section(report: dict) -> str:
    here = report["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in here["versions"].items())
    rates = ", ".join(f"{name} {rate:.3g} TFLOP/s" for name, rate in report["ceiling"].items())
    said = (here["system"], versions, f"matrix products: {rates}", report["made"])
    shown = "".join(
        f"<p><img alt='' src='{_embedded(plots.figure_png(figure))}'></p>"
        for figure in plots.bench_figures(report)
    )
    return (
        f"<h2>{html.escape(references.device_of(report))}</h2><p>{html.escape(' · '.join(said))}</p>"
        f"{bench_tables(report)}{shown}"
    )


def _times(report: dict) -> str:
    head = ("steps", "s a step", "of the ceiling", *(f"{name}, s" for name in STAGES))
    return _rows_table(report["rows"], (*head, "video, s", "load, s", "compile, s"), _time_cells)


def _time_cells(row: dict) -> tuple:
    step, share = row["step_seconds"], row["share_of_ceiling"]
    return (
        row["steps"],
        f"{step['median']:.3f} ± {step['spread']:.0%}",
        f"{share:.0%}" if share else "–",
        *(f"{row['seconds'][stage]['median']:.2f}" for stage in STAGES),
        f"{row['video_seconds']['median']:.2f} ± {row['video_seconds']['spread']:.0%}",
        _number(row["load_seconds"]),
        _number(row["compile_seconds"]),
    )


def _memory(report: dict) -> str:
    rows = [row for row in report["rows"] if not row["error"] and row["reserved_bytes"]]
    head = ("GiB predicted", "reserved", "allocated", "s predicted", "measured")
    head += ("J a video", "MHz", "slowed down by")
    return _rows_table(rows, head, _memory_cells) if rows else ""


def _memory_cells(row: dict) -> tuple:
    expected, slowed = row["predicted_seconds"], row["throttled"]
    taken = sum(row["seconds"][name]["median"] for name in expected)
    return (
        _gib(row["predicted_bytes"]),
        _gib(row["reserved_bytes"]),
        _gib(row["allocated_bytes"]),
        _number(sum(expected.values()) if expected else None),
        _number(taken if expected else None),
        _number(row["joules"], 0),
        _number(row["sm_mhz"], 0),
        "–" if slowed is None else ", ".join(slowed) or "nothing",
    )


def _decoders(report: dict) -> str:
    rows = [row for row in report["rows"] if not row["error"] and row["vae"]]
    head = ("decode whole, s", "GiB", "decode in tiles, s", "GiB")
    return _rows_table(rows, head, _decoder_cells) if rows else ""


def _decoder_cells(row: dict) -> tuple:
    cells = []
    for name in ("whole", "tiled"):
        found = row["vae"].get(name)
        cells += [f"{found['median']:.2f}", _gib(found["bytes"])] if found else ["–", "–"]
    return tuple(cells)


def _ratios(report: dict, baseline: str) -> str:
    found = speedup_ratios(report["rows"], baseline)
    if not found:
        return ""
    names = ("step", "video", "whole", "tiled", "memory")
    head = ("model", "frames", "how", "a step", "a video", "decode whole", "in tiles", "memory")
    rows = [
        (one["model"], one["frames"], one["manner"], *(_times_as(one[name]) for name in names))
        for one in found
    ]
    about = f"How many times as fast as {baseline} ({BASELINES[baseline]}), and its share of memory"
    return f"<p>{html.escape(about)}:</p>{_table(head, rows)}"


def _rows_table(rows: Sequence[dict], head: Sequence[str], cells) -> str:
    """A table of rows; those that failed say why."""
    made = []
    for row in rows:
        first = (row["model"], row["frames"], describe_setup(row))
        made.append((*first, *((row["error"],) if row["error"] else cells(row))))
    return _table(("model", "frames", "how", *head), made)


def _other(one: PublishedTime) -> tuple:
    span = _number(one.low, 1)
    if one.low != one.high:
        span = f"{one.low:.0f} – {one.high:.0f}"
    return (one.gpu, one.frames, span, _number(one.step_seconds), one.how, one.source)


def _table(head: Sequence, rows: Sequence[Sequence]) -> str:
    """An HTML table; the last cell of a row that is too short takes the rest of it."""
    lines = ["".join(f"<th>{html.escape(str(cell))}</th>" for cell in head)]
    for row in rows:
        rest = f" colspan='{len(head) - len(row) + 1}'" if len(row) < len(head) else ""
        cells = [f"<td>{html.escape(str(cell))}</td>" for cell in row[:-1]]
        lines.append("".join(cells) + f"<td{rest}>{html.escape(str(row[-1]))}</td>")
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _gib(count: int | None) -> str:
    return "–" if count is None else f"{count / GIB:.1f}"


def _times_as(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f} ×"


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
