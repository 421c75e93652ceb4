"""A sweep as one self-contained HTML page: contact sheet, plots, runs, failures."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from markupsafe import Markup

from ..errors import OutputError, OutputExists
from ..files import translate_errors, write_whole
from ..paths import user_path
from ..results import pictures
from ..sweep.folder import NOTEBOOK
from ..text import SHORT_VALUE, relative_link, render_template
from . import experiment, plots
from .experiment import RunView, SweepView
from .given import ROOM, GivenPicture, given_pictures

MOST_PLAYING = 24
"""Up to this number of videos all play at once; of more, each waits for a click."""

MOST_BYTES = 20_000_000
"""Limit for the videos embedded in a page; those beyond it are linked."""

LABEL_START = 40
"""Characters of a label that a page shows at least."""

GENERATOR = "<meta name='generator' content='cogvx sweep report'>"
"""Near the start of each page; a file that has it may be replaced by a new page."""

GENERATOR_WITHIN_BYTES = 400


@dataclass(frozen=True, slots=True)
class Column:
    """A numeric column of the table of runs."""

    title: str
    digits: int
    note: str = ""  # explanation below the table


COLUMNS = {
    "seconds": Column("s", 1, "seconds that the notebook took"),
    "load_seconds": Column("load, s", 2),
    "text_seconds": Column("text, s", 2),
    "compile_seconds": Column("compile, s", 2),
    "denoise_seconds": Column(
        "denoise, s", 2, "this and the other stages: of the video alone, from its sidecar"
    ),
    "decode_seconds": Column("decode, s", 2),
    "write_seconds": Column("write, s", 2),
    "predicted_gib": Column("GiB predicted", 1, "peak memory as the plan predicted it"),
    "motion": Column(
        "motion", 2, "mean length of the optical flow, pixels per frame at the video's own size"
    ),
    "flicker": Column(
        "flicker",
        2,
        "distance of a frame's mean brightness from the mean of its neighbours', 0 … 255",
    ),
    "sharpness": Column(
        "sharpness", 1, "variance of the Laplacian, grey levels squared; compare equal sizes only"
    ),
}

DUPLICATES_NOTE = ("alike", "groups of videos whose frames, scaled to 16 × 16, are nearly the same")


def sweep_page(
    view: SweepView, rows: str = "", columns: str = "", folder: Path | None = None
) -> str:
    """A whole HTML page.

    Args:
        rows, columns: parameters of the contact sheet; see ``experiment.choose_axes``.
        folder: where the page will be, for relative links; by default the sweep's folder.

    Raises:
        RequestError: see ``experiment.choose_axes``.
    """
    folder = folder or view.root
    sections = {
        "Contact sheet": contact_sheet(view, rows, columns, most_bytes=MOST_BYTES, folder=folder),
        "Plots": plots.sweep_plots(view),
        "Runs": runs_table(view, folder),
        "Failures": failures_html(view, folder),
    }
    return render_template(
        "sweep_page.html",
        generator=Markup(GENERATOR),
        view=view,
        shared={name: repr(value) for name, value in view.shared.items()},
        groups=len({run.group for run in view.runs} - {0}),
        now=datetime.now().astimezone().isoformat(" ", "minutes")[:16],
        sections={title: content for title, content in sections.items() if content},
    )


def contact_sheet(
    view: SweepView,
    rows: str = "",
    columns: str = "",
    *,
    most_bytes: int,
    height: int = 240,
    folder: Path | None = None,
) -> str:
    """All videos as HTML: a table over two parameters, or one after another.

    Args:
        rows, columns: see ``experiment.choose_axes``.
        most_bytes, height: of the small copies in it, see ``pictures.embed_clips``.
        folder: where the page will be, for links to the videos; no links without it.

    Returns:
        Empty if there are no videos.

    Raises:
        RequestError: see ``experiment.choose_axes``.
    """
    down, across = experiment.choose_axes(view, rows, columns)
    if not view.shown:
        return ""
    given = given_pictures(view.shown, int(ROOM * most_bytes))
    addresses = {one.address for files in given.values() for one in files}
    room = most_bytes - sum(map(len, addresses))
    clips = pictures.embed_clips([run.video for run in view.shown], room, height)
    cells: dict[tuple[str, str], list[RunView]] = {}
    for run in view.runs:
        cells.setdefault((run.value(down), run.value(across)), []).append(run)
    return render_template(
        "contact_sheet.html",
        view=view,
        down=down,
        across=across,
        cells=cells,
        rows=_distinct_labels(view.values(down)),
        columns=_distinct_labels(view.values(across)),
        clips=clips,
        given=given,
        headed={side: _of_headings(view, given, side) for side in (down, across)},
        links={run.id: relative_link(run.video, folder) for run in view.shown} if folder else {},
        captioned=[name for name in view.varying if name not in (down, across)],
        autoplay=sum(bool(clip.moving) for clip in clips.values()) <= MOST_PLAYING,
        short=SHORT_VALUE,
    )


def _of_headings(
    view: SweepView, given: dict[str, list[GivenPicture]], field: str
) -> dict[str, GivenPicture]:
    """The pictures that belong to the headings of a side, by their values."""
    return {
        run.value(field): one
        for run in view.shown
        for one in given.get(run.id, ())
        if one.field == field
    }


def _distinct_labels(values: list[str]) -> dict[str, str]:
    """What the sheet shows of each value: numbered where the start is that of others too, since a
    page cuts long ones."""
    starts = Counter(value[:LABEL_START] for value in values)
    return {
        value: f"{number}: {value}" if starts[value[:LABEL_START]] > 1 else value
        for number, value in enumerate(values, 1)
    }


def runs_table(view: SweepView, folder: Path | None = None) -> str:
    """All runs as an HTML table, with the numeric columns that at least one run has.

    Args:
        folder: where the page will be, for links to the notebooks; no links without it.
    """
    columns = {
        name: column
        for name, column in COLUMNS.items()
        if any(run.number(name) is not None for run in view.runs)
    }
    duplicates = any(run.group for run in view.runs)
    notes = [(column.title, column.note) for column in columns.values() if column.note]
    return render_template(
        "runs_table.html",
        view=view,
        columns=columns,
        duplicates=duplicates,
        notes=[*notes, DUPLICATES_NOTE] if duplicates else notes,
        links=_notebook_links(view, folder),
        short=SHORT_VALUE,
    )


def failures_html(view: SweepView, folder: Path | None = None) -> str:
    """Errors of failed runs as HTML, each with its traceback folded; empty if none failed.

    Args:
        folder: see ``runs_table``.
    """
    failed = [run for run in view.runs if run.state == "failed"]
    return render_template("failures.html", runs=failed, links=_notebook_links(view, folder))


def resolve_output_path(output: str | Path | None, root: Path) -> Path:
    """Where a page will be written, by default ``report.html`` in the sweep's folder. Callers
    check this before the work.

    Args:
        root: the sweep's folder.

    Raises:
        OutputError: if it doesn't end in .html, or is a folder.
        OutputExists: if the file exists and isn't a page of a sweep.
    """
    path = user_path(output or root / "report.html", "output", new=True)
    if path.suffix.lower() != ".html":
        raise OutputError(f"output {str(output)!r} must end in .html")
    if path.is_dir():
        raise OutputError(f"output {path} is a folder: name a file in it")
    with translate_errors(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if GENERATOR.encode() not in path.read_bytes()[:GENERATOR_WITHIN_BYTES]:
            raise OutputExists(f"{path} exists and is not a page of a sweep: choose another name")
    return path


def write_sweep_page(
    view: SweepView, output: str | Path | None = None, rows: str = "", columns: str = ""
) -> Path:
    """Write the page of a sweep atomically; an earlier page is replaced.

    Raises:
        RequestError: see ``experiment.choose_axes``.
        OutputError, OutputExists: see ``resolve_output_path``; or if it can't be written.
    """
    path = resolve_output_path(output, view.root)
    content = sweep_page(view, rows, columns, path.parent).encode("utf-8", "replace")
    with translate_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    return path


def _notebook_links(view: SweepView, folder: Path | None) -> dict[str, str]:
    """Links to the runs' notebooks that exist, by run id; none without a page's folder."""
    notebooks = {run.id: run.folder / NOTEBOOK for run in view.runs if run.folder}
    return {
        run_id: relative_link(path, folder)
        for run_id, path in notebooks.items()
        if folder is not None and path.is_file()
    }
