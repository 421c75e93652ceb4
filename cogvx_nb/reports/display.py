"""Output of notebooks 03 to 05 and 07, with all data embedded, so that a copy shows it too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..benchmark.report import Report
from ..errors import RequestError
from ..files import temporary_folder
from ..results import inputs, pictures, result, side_by_side, video
from ..results.records import used_inputs
from ..results.result import Result
from ..sweep import driver
from ..sweep.progress import ProgressTable
from ..text import data_url, render_template
from . import bench_page, experiment, fidelity, sweep_page
from .experiment import SweepView
from .plots import bench_figures, figure_png, sweep_plots

if TYPE_CHECKING:
    from IPython.display import HTML, Video
    from IPython.display import Image as Picture


MOST_EMBEDDED_BYTES = 1_000_000
"""Of a video inside a notebook, where it takes a third more; a notebook of 2 MB still opens."""


def show_strip(result: Result, count: int = 7) -> Picture:
    """A film strip of a result for a notebook's output, and before it what it was made from."""
    from IPython.display import Image as Picture

    given = (inputs.first_frame(result.settings, used) for used in used_inputs(result.settings))
    before = [frame for frame in given if frame is not None]
    frames = video.decode_video(result.path)
    return Picture(data=pictures.filmstrip_png(frames, count, before=before), format="png")


def show_player(result: Result, width: int = 432) -> Video:
    """A player with the video inside it; a smaller copy of it where it is large.

    Args:
        width: on the page, in pixels.
    """
    from IPython.display import Video

    data = result.path.read_bytes()
    if len(data) > MOST_EMBEDDED_BYTES:
        data = pictures.shrink_video(result.path, MOST_EMBEDDED_BYTES)
        print(f"embedded: a smaller copy; the whole video is {result.path}")
    return Video(
        data=data,
        embed=True,
        mimetype="video/mp4",
        width=width,
        html_attributes="controls loop autoplay muted",
    )


def show_gif(path: Path) -> Picture:
    """A GIF with its data inside the notebook, as wide as it is."""
    from IPython.display import Image as Picture

    return Picture(data=path.read_bytes(), format="gif")


FIRST_SWEEP = {
    "name": "first-look",
    "notebook": "03_generate",
    "parameters": {"model": "tiny", "steps": 8},
    "grid": {
        "prompt": ["a red circle moving right", "a green star growing on a navy background"],
        "guidance": [1.0, 6.0],
    },
}
"""Run where there is no sweep yet: four videos in half a minute, without a GPU."""

SHEET_BYTES = 600_000
"""Limit for the small copies in a notebook; a notebook of 2 MB still opens quickly."""

SHEET_HEIGHT = 120
"""Height of each small copy, in pixels."""

PAIR_BYTES = 500_000
"""Limit for the video of two results side by side."""


def bench_pictures(report: Report) -> list[Picture]:
    """The figures of a benchmark as PNG."""
    from IPython.display import Image as Picture

    return [Picture(data=figure_png(figure), format="png") for figure in bench_figures(report)]


def show_bench_verdict(report: Report) -> HTML:
    """What a video takes here; see ``bench_page.bench_verdict``."""
    verdict = render_template("verdict.html", verdict=bench_page.bench_verdict(report))
    return _styled_html(verdict)


def show_bench_tables(report: Report) -> HTML:
    """A benchmark as tables; see ``bench_page.bench_tables``."""
    return _styled_html(bench_page.bench_tables(report))


def show_reference_table(report: Report) -> HTML:
    """This machine and others; see ``bench_page.reference_table``."""
    return _styled_html(bench_page.reference_table(report))


def show_fidelity(report: Report) -> HTML:
    """How far videos lie from those of exact; see ``fidelity.fidelity_section``."""
    return _styled_html(fidelity.fidelity_section(report))


def show_published_fidelity() -> HTML:
    """What others published of other models; see ``fidelity.published_fidelity``."""
    return _styled_html(fidelity.published_fidelity())


def pick_sweep(name: str = "") -> SweepView:
    """A sweep by name; by default the latest, and where there is none, ``FIRST_SWEEP`` is run.

    Raises:
        CogvxError: see ``experiment.read_sweep`` and ``driver.run_sweep``.
    """
    name = name or experiment.latest_sweep()
    if not name:
        print("There is no sweep here yet: a small one is run, of four videos.")
        with ProgressTable() as table:
            driver.run_sweep(FIRST_SWEEP, view=table)
        name = FIRST_SWEEP["name"]
    return experiment.read_sweep(name)


def show_runs(view: SweepView) -> HTML:
    """All runs as a table."""
    return _styled_html(sweep_page.runs_table(view))


def show_contact_sheet(view: SweepView, rows: str = "", columns: str = "") -> HTML:
    """The videos by two parameters; see ``experiment.choose_axes``."""
    sheet = sweep_page.contact_sheet(
        view, rows, columns, most_bytes=SHEET_BYTES, height=SHEET_HEIGHT
    )
    return _styled_html(sheet or "This sweep has no videos.")


def show_plots(view: SweepView) -> HTML:
    """Time, memory and measures of the videos against each varied parameter."""
    return _styled_html(sweep_plots(view) or "No run differs from another yet.")


def show_failures(view: SweepView) -> HTML:
    """Errors of failed runs, with folded tracebacks."""
    return _styled_html(sweep_page.failures_html(view) or "No run has failed.")


def show_in_step(view: SweepView, left: str = "", right: str = "") -> HTML:
    """Two runs side by side in one video, and a table of their settings.

    Args:
        left, right: ids of runs; by default the first and the next that have a video.

    Raises:
        RequestError: if no run with that id has a video.
    """
    videos = {run.id: run.video for run in view.shown}
    for side, run_id in (("left", left), ("right", right)):
        if run_id and run_id not in videos:
            raise RequestError(side, run_id, f"videos: {', '.join(videos) or 'none'}")
    free = iter([run_id for run_id in videos if run_id not in (left, right)])
    chosen = [run_id or next(free, "") for run_id in (left, right)]
    if "" in chosen:
        return _styled_html("There are no two videos to be compared.")
    pair = [result.read_result(videos[run_id]) for run_id in chosen]
    content = render_template(
        "pair.html",
        address=data_url("video/mp4", _small_side_by_side(pair)),
        comparison=side_by_side.comparison_table(pair),
    )
    return _styled_html(content)


def save_sweep_page(view: SweepView, rows: str = "", columns: str = "") -> Path:
    """Write the sweep's page; see ``sweep_page.write_sweep_page``."""
    return sweep_page.write_sweep_page(view, None, rows, columns)


def _small_side_by_side(pair: list[Result]) -> bytes:
    data = side_by_side.side_by_side(pair)
    if len(data) <= PAIR_BYTES:
        return data
    with temporary_folder() as folder:
        path = folder / "in-step.mp4"
        path.write_bytes(data)
        return pictures.shrink_video(path, PAIR_BYTES)


def _styled_html(content: str) -> HTML:
    """HTML of this package with its stylesheet; plain text is escaped."""
    from IPython.display import HTML

    return HTML(render_template("fragment.html", content=content))
