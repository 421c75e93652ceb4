"""What notebook 03 shows: making videos, grids of them, the gallery, and a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ipywidgets as widgets

from .. import settings
from ..checkpoints.store import Model
from ..errors import RequestError
from ..planning import machine, planner
from ..results import result
from ..results.side_by_side import MOST, comparison_table, side_by_side
from . import controls
from .controls import html_note, replace_children
from .gallery_tab import Gallery
from .generate_tab import GenerateTab
from .grid_tab import GridTab
from .session import Session, current_session

TITLES = ("Make", "Grid", "Gallery", "Compare")
HINTS = (
    "make videos, one after another",
    "one video for each pair of values of two parameters",
    "everything that was made, newest first",
    "two to six videos in step",
)
MAKE, GRID, GALLERY, COMPARE = range(len(TITLES))


class Workbench(widgets.VBox):
    """Everything on one queue.

    Args:
        model: the checkpoint to begin with.
        session: runs the jobs; its queue and results are shown.
        **values: of a request, to begin with; see ``request.make_request``.
    """

    def __init__(self, model: Model, session: Session, **values) -> None:
        self._session = session
        self.panel = GenerateTab(model, session, **values)
        self.grid = GridTab(self.panel.form, session)
        self.gallery: Gallery | None = None  # made when it is first looked at: it reads the disk
        self.compare = Compare()
        self._shelf = widgets.VBox()
        self._pages = (self.panel, self.grid, self._shelf, self.compare)
        # Buttons: the tabs that ipywidgets has can't be reached with the keyboard.
        self.tabs = widgets.ToggleButtons(options=TITLES, tooltips=HINTS).add_class("cogvx-tabs")
        self.tabs.style.button_width = "7em"
        super().__init__([self.tabs, *self._pages])
        self.add_class("cogvx-workbench")
        self.tabs.observe(lambda change: self._on_tab(), "index")
        self._on_tab()

    def __repr__(self) -> str:
        return "Workbench()"  # the widgets' own would spell out each video in it

    def shut(self) -> None:
        """Listen no more, and give up every widget of it."""
        self.panel.stop()
        self.grid.stop()
        controls.close_widgets(self)

    def _on_tab(self) -> None:
        for number, page in enumerate(self._pages):
            page.layout.display = None if number == self.tabs.index else "none"
        if self.tabs.index != GALLERY:
            return
        if self.gallery is None:
            self.gallery = Gallery(self._session, self._load, self._on_compare)
            self._shelf.children = (self.gallery,)
        else:
            self.gallery.show()

    def _load(self, kept: dict) -> None:
        self.panel.load(kept)
        self.tabs.index = MAKE

    def _on_compare(self, paths: list[Path]) -> None:
        self.compare.show(paths)
        self.tabs.index = COMPARE


_shown: list[Workbench] = []


def show(model: str = "auto", **values) -> Workbench:
    """The workbench on this process's queue; whatever is running there goes on and is shown.

    One that was shown before is closed.
    """
    found, _ = planner.find_model(model, machine.probe_machine(), values.get("frames", 13))
    while _shown:
        _shown.pop().shut()
    _shown.append(Workbench(found, current_session(), **values))
    return _shown[0]


def take_over_notebook(model: str = "auto", **values) -> None:
    """In a live front end: show the workbench, and end "run all" here. Headless it does nothing.

    It works on its own thread; the cells after it would block the kernel with another video.
    """
    if not settings.live_ui():
        return
    from IPython import get_ipython
    from IPython.display import display

    display(show(model, **values))
    if shell := get_ipython():
        shell.set_custom_exc((WorkbenchShown,), _say_nothing)
    raise WorkbenchShown


class WorkbenchShown(Exception):
    """Ends a run of all cells: only an error does, so one that shows nothing."""


def _say_nothing(shell, kind, error, trace, tb_offset=None) -> list[str]:
    return []


class Compare(widgets.VBox):
    """Results side by side.

    Args:
        paths: mp4 files of this workbench, two to six; later ones by ``show``.

    Raises:
        CogvxError: if there are fewer or more, or one is no result.
    """

    def __init__(self, paths: Sequence[str | Path] = ()) -> None:
        super().__init__([html_note("Choose two to six results in the gallery.")])
        self.add_class("cogvx-compare")
        if paths:
            self.show(paths)

    def show(self, paths: Sequence[str | Path]) -> None:
        """Compare other results."""
        if not 2 <= len(paths) <= MOST:
            raise RequestError("results", len(paths), f"choose two to {MOST} to compare")
        found = [result.read_result(path) for path in paths]
        player = widgets.Video(value=side_by_side(found), format="mp4", autoplay=True, loop=True)
        player.layout = {"max_width": "98%"}
        player.add_class("cogvx-video")
        replace_children(self, [player, html_note(comparison_table(found), "differences")])
