"""A sweep as one HTML page with everything in it: no scripts, nothing fetched."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from .. import text
from ..errors import OutputError, OutputExists
from ..files import translate_errors, write_whole
from ..results import video
from ..results.video import EmbeddedClip
from ..sweep.folder import NOTEBOOK
from ..text import SHORT, format_number, html_text
from . import experiment, plots
from .experiment import RunView, SweepView

MOST_PLAYING = 24
"""Videos that play by themselves; of more each waits for a click."""


def sheet_html(
    found: SweepView,
    rows: str = "",
    columns: str = "",
    *,
    most_bytes: int,
    height: int = 240,
    folder: Path | None = None,
) -> str:
    """All videos, in a table of two parameters or one after another.

    Args:
        rows, columns: see ``experiment.choose_axes``.
        most_bytes, height: of the small copies in it, see ``video.embed_clips``.
        folder: that the page will lie in, for links to the videos; none without.

    Returns:
        HTML; empty if there are no videos.

    Raises:
        RequestError: see ``experiment.choose_axes``.
    """
    down, across = experiment.choose_axes(found, rows, columns)
    if not found.shown:
        return ""
    copies = video.embed_clips([run.video for run in found.shown], most_bytes, height)
    maker = _Cells(found, (down, across), copies, folder)
    if not (down or across):
        return f"<div>{''.join(map(maker.cell, found.runs))}</div>"
    return maker.table(down, across)


class _Cells:
    """Makes the cells of a sheet."""

    def __init__(
        self,
        found: SweepView,
        axes: tuple[str, str],
        copies: dict[Path, EmbeddedClip],
        folder: Path | None,
    ) -> None:
        self._found, self._copies, self._folder = found, copies, folder
        self._others = [name for name in found.varying if name not in axes]
        playing = sum(bool(clip.moving) for clip in copies.values()) <= MOST_PLAYING
        self._plays = "autoplay preload='metadata'" if playing else "preload='none'"

    def table(self, down: str, across: str) -> str:
        cells: dict[tuple[str, str], list[RunView]] = {}
        for run in self._found.runs:
            cells.setdefault((run.value(down), run.value(across)), []).append(run)
        heads, sides = self._found.values(across), self._found.values(down)
        named = [html_text(name) for name in (down, across) if name]
        lines = [f"<th class='small'>{' ↓ · '.join(named)}{' →' if across else ''}</th>"]
        lines[0] += "".join(f"<th>{text.clamp_html(head)}</th>" for head in heads)
        for side in sides:
            wide = " class='down'" if len(side) > SHORT else ""
            line = f"<th{wide}>{text.clamp_html(side)}</th>"
            for head in heads:
                shown = "".join(map(self.cell, cells.get((side, head), [])))
                line += f"<td>{shown}</td>"
            lines.append(line)
        made = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<div class='wide'><table class='sheet'>{made}</table></div>"

    def cell(self, run: RunView) -> str:
        return f"<figure>{self._picture(run)}<figcaption>{self._caption(run)}</figcaption></figure>"

    def _picture(self, run: RunView) -> str:
        if not run.video:
            return ""
        clip = self._copies[run.video]
        if clip.moving:
            poster = f" poster='{clip.still}'" if clip.still else ""
            return (
                f"<video controls loop muted playsinline {self._plays}{poster}"
                f" src='{clip.moving}'></video>"
            )
        still = f"<img alt='' src='{clip.still}'>" if clip.still else ""
        if self._folder is None:
            return still
        return f"<a href='{text.relative_link(run.video, self._folder)}'>{still or 'the video'}</a>"

    def _caption(self, run: RunView) -> str:
        said = [f"{html_text(name)} {html_text(run.value(name))}" for name in self._others]
        parts = [f"<span class='clamp'>{' · '.join(said)}</span>"] if said else []
        if run.state != "done":
            parts.append(f"<span class='{run.state}'>{run.state}</span> {html_text(run.error)}")
        if run.group:
            parts.append(f"<span class='mark'>≈ alike: {run.group}</span>")
        return "".join(
            [*parts, f"<div class='small'><code>{text.escape_html(run.id)}</code></div>"]
        )


MOST_BYTES = 20_000_000
"""Of the videos in a page; those beyond are linked."""

MADE_BY = "<meta name='generator' content='cogvx sweep report'>"
"""Stands at the start of each page, which a later one may replace."""

POLICY = (
    "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; img-src data:;"
    " media-src data:; style-src 'unsafe-inline'\">"
)
"""Browsers run and fetch nothing in the page, whatever is in it."""

PAPER = """
:root { color-scheme: light dark; --paper: #fff }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1.5em; max-width: 88em;
  color: #16181d; background: var(--paper) }
a { color: #0a58ca } nav a { margin-right: 1.2em } h1 { margin: 0 0 .3em; overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) { :root { --paper: #15171b } body { color: #e4e6eb }
  a { color: #8ab4f8 } }
"""

STAGES = ("load", "text", "compile", "denoise", "decode", "write")

NUMBERS = {
    "seconds": ("s", 1),
    **{f"{stage}_seconds": (f"{stage}, s", 2) for stage in STAGES},
    "predicted_gib": ("GiB predicted", 1),
    "motion": ("motion", 2),
    "flicker": ("flicker", 2),
    "sharpness": ("sharpness", 1),
}
"""Columns of the table: heading and digits."""

ABOUT = (
    ("s", "seconds that the notebook took"),
    ("denoise, s", "and the other stages, of the video alone, as its sidecar has them"),
    ("GiB predicted", "memory at the peak, as the plan foretold it"),
    ("motion", "mean length of the optical flow, in pixels a frame at the video's own size"),
    (
        "flicker",
        "how far a frame's mean brightness lies from the middle of its neighbours', 0 … 255",
    ),
    ("sharpness", "variance of the Laplacian, in grey levels squared; compare videos of one size"),
    ("alike", "groups of videos whose frames, scaled to 16 × 16 pixels, are nearly the same"),
)


def sweep_page(
    found: SweepView, rows: str = "", columns: str = "", folder: Path | None = None
) -> str:
    """A whole HTML page.

    Args:
        rows, columns: of the contact sheet, see ``experiment.choose_axes``.
        folder: that it will lie in; by default the sweep's.

    Raises:
        RequestError: see ``experiment.choose_axes``.
    """
    folder = folder or found.root
    sections = {
        "Contact sheet": sheet_html(found, rows, columns, most_bytes=MOST_BYTES, folder=folder),
        "Plots": plots.sweep_plots(found),
        "Runs": runs_table(found, folder),
        "Failures": failures_html(found, folder),
    }
    there = {name: made for name, made in sections.items() if made}
    links = "".join(f"<a href='#{_anchor(name)}'>{name}</a>" for name in there)
    made = "".join(f"<h2 id='{_anchor(name)}'>{name}</h2>{one}" for name, one in there.items())
    title = text.escape_html(f"Sweep {found.name}")
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'>{MADE_BY}{POLICY}"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{title}</title><style>{PAPER}{text.STYLE}</style>"
        f"<body class='look'><h1>{title}</h1>{sweep_summary(found)}<nav>{links}</nav>{made}</body></html>"
    )


def sweep_summary(found: SweepView) -> str:
    """What a sweep is, how it stands, and what its runs have in common."""
    shared = [f"{html_text(key)} = {html_text(repr(value))}" for key, value in found.shared.items()]
    same = f"<p class='small'>The same in all runs: {', '.join(shared)}</p>" if shared else ""
    now = datetime.now().astimezone().isoformat(" ", "minutes")[:16]
    groups = {run.group for run in found.runs} - {0}
    alike = f" Groups of near-duplicates: {len(groups)}." if groups else ""
    return f"<p>{html_text(found)}.{alike} As of {now}.</p>{same}"


def runs_table(found: SweepView, folder: Path | None = None) -> str:
    """All runs as an HTML table, with those columns that some run has.

    Args:
        folder: that the page will lie in, for links to the notebooks; none without.
    """
    known = [name for name in NUMBERS if any(run.number(name) is not None for run in found.runs)]
    head = "".join(f"<th>{html_text(name)}</th>" for name in ("run", *found.varying, "state"))
    head += "".join(f"<th class='number'>{NUMBERS[name][0]}</th>" for name in known)
    alike = any(run.group for run in found.runs)
    lines = [head + ("<th>alike</th>" if alike else "")]
    lines += [_line(run, found.varying, known, alike, folder) for run in found.runs]
    made = "".join(f"<tr>{line}</tr>" for line in lines)
    shown = {NUMBERS[name][0] for name in known} | ({"alike"} if alike else set())
    about = "; ".join(f"<b>{name}</b>: {what}" for name, what in ABOUT if name in shown)
    told = f"<p class='small'>{about}.</p>" if about else ""
    return f"<div class='wide'><table class='runs'>{made}</table></div>{told}"


def failures_html(found: SweepView, folder: Path | None = None) -> str:
    """Why runs failed, each with its traceback folded away; empty if none did."""
    failed = [run for run in found.runs if run.state == "failed"]
    return "".join(_failure(run, folder) for run in failed)


def resolve_output_path(output: str | Path | None, root: Path) -> Path:
    """Where a page goes: by default ``report.html`` in the sweep's folder. Doors ask before the
    work.

    Args:
        root: the sweep's folder.

    Raises:
        OutputError: if it doesn't end in .html, or is a folder.
        OutputExists: if there is a file that isn't such a page, which a new one would replace.
    """
    path = Path(output or root / "report.html").expanduser().absolute()
    if path.suffix.lower() != ".html":
        raise OutputError(f"output {str(output)!r} must end in .html")
    if path.is_dir():
        raise OutputError(f"output {path} is a folder: name a file in it")
    with translate_errors(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if MADE_BY.encode() not in path.read_bytes()[:400]:
            raise OutputExists(f"{path} exists and is no page of a sweep: choose another name")
    return path


def write_sweep_page(
    found: SweepView, output: str | Path | None = None, rows: str = "", columns: str = ""
) -> Path:
    """Write the page of a sweep, whole or not at all; an earlier one is replaced.

    Raises:
        RequestError: see ``experiment.choose_axes``.
        OutputError, OutputExists: see ``resolve_output_path``; or if it can't be written.
    """
    path = resolve_output_path(output, found.root)
    content = sweep_page(found, rows, columns, path.parent).encode("utf-8", "replace")
    with translate_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    return path


def _line(
    run: RunView, varying: Sequence[str], known: Sequence[str], alike: bool, folder: Path | None
) -> str:
    cells = [f"<td>{_named(run, folder)}</td>"]
    for name in varying:
        value = run.value(name)
        wide = " class='said'" if len(value) > SHORT else ""
        cells.append(f"<td{wide}>{text.clamp_html(value)}</td>")
    cells.append(f"<td><span class='{run.state}'>{run.state}</span></td>")
    cells += [
        f"<td class='number'>{format_number(run.number(n), NUMBERS[n][1])}</td>" for n in known
    ]
    if alike:
        cells.append(f"<td><span class='mark'>≈ {run.group}</span></td>" if run.group else "<td>")
    return "".join(cells)


def _named(run: RunView, folder: Path | None) -> str:
    """A run's id, linked to its notebook where there is one."""
    name = f"<code>{text.escape_html(run.id)}</code>"
    notebook = run.folder / NOTEBOOK if run.folder else None
    if folder is None or notebook is None or not notebook.is_file():
        return name
    return f"<a href='{text.relative_link(notebook, folder)}'>{name}</a>"


def _failure(run: RunView, folder: Path | None) -> str:
    said = ", ".join(f"{html_text(name)} = {html_text(run.value(name))}" for name in run.varied)
    trace = f"<pre>{html_text(run.traceback)}</pre>" if run.traceback else ""
    return (
        f"<details><summary><b>{html_text(run.error)}</b> <span class='small'>{said}</span></summary>"
        f"<p>{_named(run, folder)}</p>{trace}</details>"
    )


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")
