"""What notebook 05 shows of a sweep, with all data in it, so that a moved copy shows it too."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .. import text
from ..errors import RequestError
from ..results import result, side_by_side, video
from ..results.result import Result
from ..results.video import filmstrip
from ..sweep import driver
from ..sweep.progress import ProgressTable
from . import experiment, sweep_page
from .experiment import SweepView
from .plots import sweep_plots
from .sweep_page import sheet_html

if TYPE_CHECKING:
    import numpy as np
    from IPython.display import HTML, Video
    from IPython.display import Image as Picture


MOST_EMBEDDED_BYTES = 1_000_000
"""Of a video inside a notebook, where it takes a third more; a notebook of 2 MB still opens."""


def show_strip(frames: np.ndarray, count: int = 7) -> Picture:
    """A ``filmstrip`` for a notebook's output, as PNG."""
    from IPython.display import Image as Picture

    data = io.BytesIO()
    filmstrip(frames, count).save(data, "PNG")
    return Picture(data=data.getvalue(), format="png")


def show_player(result: Result, width: int = 432) -> Video:
    """A player with the video inside it; a smaller copy of it where it is large.

    Args:
        width: on the page, in pixels.
    """
    from IPython.display import Video

    from ..results import video

    data = result.path.read_bytes()
    if len(data) > MOST_EMBEDDED_BYTES:
        data = video.shrink_video(result.path, MOST_EMBEDDED_BYTES)
        print(f"embedded: a smaller copy; the whole video is {result.path}")
    return Video(
        data=data,
        embed=True,
        mimetype="video/mp4",
        width=width,
        html_attributes="controls loop autoplay muted",
    )


FIRST = {
    "name": "first-look",
    "notebook": "03_generate",
    "parameters": {"model": "tiny", "steps": 8},
    "grid": {
        "prompt": ["a red circle moving right", "a green star growing on a navy background"],
        "guidance": [1.0, 6.0],
    },
}
"""The sweep that somebody sees who has none yet: four videos in half a minute, without a GPU."""

SHEET_BYTES, SHEET_HEIGHT = 600_000, 120
"""Of the small copies in a notebook, and pixels of each: a notebook of 2 MB still opens."""

PAIR_BYTES = 500_000
"""Of two videos in step."""


def pick_sweep(name: str = "") -> SweepView:
    """A sweep by name; the latest where the name is empty, and where there is none yet ``FIRST``,
    which is run.

    Raises:
        CogvxError: see ``experiment.read_sweep``, and ``driver.run_sweep``.
    """
    name = name or experiment.latest_sweep()
    if not name:
        print("There is no sweep here yet: a small one is run, of four videos.")
        with ProgressTable() as view:
            driver.run_sweep(FIRST, view=view)
        name = FIRST["name"]
    return experiment.read_sweep(name)


def show_runs(found: SweepView) -> HTML:
    """All runs as a table."""
    return _html(sweep_page.runs_table(found))


def show_contact_sheet(found: SweepView, rows: str = "", columns: str = "") -> HTML:
    """The videos by two parameters; see ``experiment.choose_axes``."""
    made = sheet_html(found, rows, columns, most_bytes=SHEET_BYTES, height=SHEET_HEIGHT)
    return _html(made or "This sweep has no videos.")


def show_plots(found: SweepView) -> HTML:
    """What runs took and what their videos measure, against each parameter."""
    return _html(sweep_plots(found) or "No run differs from another yet.")


def show_failures(found: SweepView) -> HTML:
    """Why runs failed, with tracebacks folded away."""
    return _html(sweep_page.failures_html(found) or "No run has failed.")


def show_in_step(found: SweepView, left: str = "", right: str = "") -> HTML:
    """Two runs side by side in one video, and what they were made with.

    Args:
        left, right: ids of runs; empty for the first, and the next.

    Raises:
        RequestError: if no run with that id has a video.
    """
    known = {run.id: run.video for run in found.shown}
    for side, name in (("left", left), ("right", right)):
        if name and name not in known:
            raise RequestError(side, name, f"videos: {', '.join(known) or 'none'}")
    free = iter([name for name in known if name not in (left, right)])
    chosen = [name or next(free, "") for name in (left, right)]
    if "" in chosen:
        return _html("There are no two videos to be compared.")
    pair = [result.read_result(known[name]) for name in chosen]
    address = text.data_url("video/mp4", _small(pair))
    return _html(
        f"<video controls loop autoplay muted style='max-width:100%' src='{address}'></video>"
        f"{side_by_side.comparison_table(pair)}"
    )


def save_sweep_page(found: SweepView, rows: str = "", columns: str = "") -> Path:
    """Write the sweep's page; see ``sweep_page.write_sweep_page``."""
    return sweep_page.write_sweep_page(found, None, rows, columns)


def _small(pair: list[Result]) -> bytes:
    data = side_by_side.side_by_side(pair)
    if len(data) <= PAIR_BYTES:
        return data
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in-step.mp4"
        path.write_bytes(data)
        return video.shrink_video(path, PAIR_BYTES)


def _html(made: str) -> HTML:
    from IPython.display import HTML

    return HTML(f"<style>{text.STYLE}</style><div class='look'>{made}</div>")
