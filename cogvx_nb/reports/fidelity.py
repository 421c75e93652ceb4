"""How far videos lie from those of ``exact``: a table for terminal and page, strips of frames, and
what others published of other models."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..benchmark import storage
from ..benchmark.report import Report
from ..results.fidelity import VALUES, FidelityRow, Measure, format_measure
from ..text import data_url, format_number, render_template
from .tables import Table

HEAD = ("model", "frames × steps", "speed", *(measure.title for _, measure in VALUES))
HEAD += ("denoising, s", "times as fast", "made as")

NUMBERS = tuple(range(3, len(HEAD) - 1))

NOT_MEASURED = "Not measured: name the speeds to compare, such as fast, turbo."


def fidelity_table(rows: Sequence[FidelityRow]) -> Table:
    """A line for each row: medians of its clips, with the farthest clip in parentheses."""
    references = {row.video: row for row in rows if row.is_reference}
    lines = [_cells(row, references.get(row.video)) for row in rows]
    counts = sorted({len(row.clips) for row in rows if row.clips})
    clips = " or ".join(map(str, counts)) or "no"
    told = "; ".join(f"{measure.title}: {measure.description}" for _, measure in VALUES)
    caption = (
        "Each video beside the one that exact makes here of the same prompt and seed, before "
        f"compression: the median of {clips} clips, in parentheses the one farthest from exact. "
        f"{told}."
    )
    return Table(HEAD, lines, NUMBERS, caption)


def fidelity_section(report: Report) -> str:
    """HTML of what a report measured of fidelity: the table, and strips of the same prompts."""
    if not report.fidelity:
        return NOT_MEASURED
    return render_template(
        "fidelity.html",
        tables=render_template("tables.html", tables=[fidelity_table(report.fidelity)]),
        prompts=list(_prompts(report.fidelity)),
    )


def published_fidelity() -> str:
    """HTML table of what others measured of other models, labelled so."""
    published = storage.published_fidelity()
    columns = published["columns"]
    rows = [
        (row["method"], row["model"], *_published_cells(row, columns), row["source"])
        for row in published["rows"]
    ]
    head = ("method of others", "their model", *columns.values(), "source")
    table = Table(head, rows, (2, 3, 4, 5), published["about"])
    return render_template("tables.html", tables=[table])


def _published_cells(row: dict, columns: Iterable[str]) -> Iterator[str]:
    digits = {"speedup": 2, "psnr": 1, "ssim": 3, "lpips": 3}
    for name in columns:
        value = row.get(name)
        yield format_number(value, digits[name]) if name in digits else value or "–"


def _cells(row: FidelityRow, reference: FidelityRow | None) -> tuple[str, ...]:
    head = (row.model, row.length, row.title)
    if row.error:
        return (*head, f"failed: {row.error}")
    if row.same_plan:
        return (*head, f"identical: {row.note}")
    known = reference is not None and reference.seconds and row.seconds
    ratio = f"{reference.seconds / row.seconds:.2f} ×" if known else "–"
    values = ["reference"] + ["–"] * (len(VALUES) - 1) if row.is_reference else _values(row)
    made = row.setup + f" ({row.note})" * bool(row.note)
    return (*head, *values, format_number(row.seconds, 2), ratio, made)


def _values(row: FidelityRow) -> list[str]:
    if row.identical:
        return [format_measure(measure, row.median(name)) for name, measure in VALUES]
    return [_with_farthest(row, name, measure) for name, measure in VALUES]


def _with_farthest(row: FidelityRow, name: str, measure: Measure) -> str:
    median, worst = row.median(name), row.worst(name)
    return f"{format_measure(measure, median)} ({format_measure(measure, worst)})"


@dataclass(frozen=True, slots=True)
class _Strip:
    label: str
    alt: str
    address: str  # a data URL


@dataclass(frozen=True, slots=True)
class _Prompt:
    """The strips of a prompt and seed, exact first."""

    title: str
    about: str
    strips: tuple[_Strip, ...]


def _prompts(rows: Sequence[FidelityRow]) -> Iterator[_Prompt]:
    for video in dict.fromkeys(row.video for row in rows):
        alike = [row for row in rows if row.video == video]
        shown: dict[tuple[str, int], list[_Strip]] = {}
        for row in alike:
            for clip in row.clips:
                if clip.strip:
                    strips = shown.setdefault((clip.prompt, clip.seed), [])
                    strips.append(_strip(row, clip))
        about = f"{alike[0].model}, {alike[0].length}, seed "
        for (prompt, seed), strips in shown.items():
            yield _Prompt(prompt, f"{about}{seed}", tuple(strips))


def _strip(row: FidelityRow, clip) -> _Strip:
    beside = "" if row.is_reference else f": {format_measure(VALUES[0][1], clip.value('psnr'))}"
    address = data_url("image/webp", base64.b64decode(clip.strip))
    return _Strip(f"{row.title}{beside}", f"frames made with {row.title}", address)
