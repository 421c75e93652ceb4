"""Results of a check: rows and a verdict for each GPU, as text, JSON or HTML."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..planning.machine import Gpu
from ..text import escape_html, render_template

if TYPE_CHECKING:
    from IPython.display import HTML


PASS, WARN, FAIL = "pass", "warn", "fail"
FITS, OFFLOAD, TOO_SMALL = "fits", "fits with offload", "does not fit"
MARKS = {PASS: "✓", WARN: "!", FAIL: "✗"}
TERMINAL = {PASS: "\033[32m", WARN: "\033[33m", FAIL: "\033[31m"}
PLAIN = "\033[0m"
FOUND_WIDTH = 34
"""Characters of the second column; longer text moves the third to the right."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was checked. The names of its fields are those of the JSON."""

    name: str
    status: str  # ``pass``, ``warn`` (the model runs all the same) or ``fail`` (it doesn't)
    found: str  # actual state
    needed: str = ""  # required state
    fix: str = ""  # command or step that fixes it; empty for a pass


@dataclass(frozen=True, slots=True)
class GpuVerdict:
    """What fits one GPU."""

    gpu: Gpu  # by torch, else by the driver
    frames: dict[str, str]  # number of frames: ``fits``, ``fits with offload``, ``does not fit``


@dataclass(frozen=True, slots=True)
class Report:
    """Results of a whole check."""

    rows: tuple[Row, ...]
    gpus: tuple[GpuVerdict, ...]
    model: str  # the checkpoint that would run; the requested name if there is none
    verdict: str  # one line, without numbers that change from run to run
    ok: bool  # whether the model can be loaded and run on this machine

    def as_json(self) -> dict:
        """The report as plain values. ``format`` changes with their names or meaning."""
        return {
            "format": 1,
            "ok": self.ok,
            "verdict": self.verdict,
            "model": self.model,
            "rows": [asdict(row) for row in self.rows],
            "gpus": [
                {
                    "index": gpu.index,
                    "name": gpu.name,
                    "total_bytes": gpu.total_bytes,
                    "free_bytes": gpu.free_bytes,
                    "capability": format_capability(gpu),
                    "bf16": gpu.bf16,
                    "frames": dict(frames),
                }
                for gpu, frames in ((verdict.gpu, verdict.frames) for verdict in self.gpus)
            ],
        }

    def as_text(self, colour: bool = False) -> str:
        """Aligned rows, with a fix below each that doesn't pass, and the verdict as last line."""
        width = max((len(row.name) for row in self.rows), default=0)
        lines = []
        for row in self.rows:
            mark = f"{MARKS[row.status]} {row.status}"
            if colour:
                mark = f"{TERMINAL[row.status]}{mark}{PLAIN}"
            line = f"{mark}  {row.name:<{width}}  {row.found:<{FOUND_WIDTH}}"
            lines.append(f"{line}  needs {row.needed}" if row.needed else line.rstrip())
            if row.fix:
                lines.append(f"{'':8}fix: {row.fix}")
        return "\n".join([*lines, "", self.verdict])


def format_capability(gpu: Gpu) -> str | None:
    """Compute capability, such as ``9.0``; None if an old driver doesn't report it."""
    major, minor = gpu.capability
    return f"{major}.{minor}" if major else None


TINTS = {"pass": "#d9f2de", "warn": "#fff1c9", "fail": "#fbd9d7"}
"""Background of a status, light enough for black text."""


def check_table(report: Report) -> HTML:
    """The rows of a check as a coloured table; as plain text where jinja2 can't be imported, since
    a check has to work in a broken environment."""
    from IPython.display import HTML

    try:
        return HTML(render_template("check_table.html", rows=report.rows, tints=TINTS))
    except ImportError:
        return HTML(f"<pre>{escape_html(report.as_text())}</pre>")
