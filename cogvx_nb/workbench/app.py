"""The workbench of notebook 03: its four pages, and the page Make."""

from __future__ import annotations

import threading
from pathlib import Path

import ipywidgets as widgets

from .. import settings
from ..checkpoints.registry import Model
from ..errors import CogvxError
from ..notebooks import cell_errors
from ..notebooks.cell_errors import CellEnded
from ..planning import planner, probe
from ..planning.fields import FIELDS
from ..progress import Event, in_notebook
from ..results.records import Sidecar
from ..text import format_duration
from . import controls
from .controls import (
    WIDE,
    Viewer,
    after_typing,
    bold_html,
    button,
    control_row,
    html_lines,
    html_note,
    replace_children,
)
from .form import Form
from .gallery_tab import Compare, Gallery
from .grid_tab import GridTab
from .jobs import DONE, FAILED, Job
from .session import PreviewReady, Session, current_session
from .unfinished_box import UnfinishedBox

TITLES = ("Make", "Grid", "Gallery", "Compare")
HINTS = (
    "make videos, one after another",
    "one video for each pair of values of two parameters",
    "all results, newest first",
    "two to six videos in step",
)
MAKE, GRID, GALLERY, COMPARE = range(len(TITLES))


class Workbench(widgets.VBox):
    """The four pages, on one queue.

    Args:
        model: the initial checkpoint.
        session: runs the jobs; its queue and results are shown.
        **values: initial values of the form; see ``Form``.
    """

    def __init__(self, model: Model, session: Session, **values) -> None:
        self._session = session
        self.panel = GenerateTab(model, session, **values)
        self.grid = GridTab(self.panel.form, session)
        self.gallery: Gallery | None = None  # built when first shown, as it reads the disk
        self.compare = Compare()
        self._shelf = widgets.VBox()
        self._pages = (self.panel, self.grid, self._shelf, self.compare)
        # Buttons: ipywidgets' own tabs can't be reached with the keyboard.
        self.tabs = widgets.ToggleButtons(options=TITLES, tooltips=HINTS).add_class("cogvx-tabs")
        self.tabs.style.button_width = "7em"
        super().__init__([self.tabs, *self._pages])
        self.add_class("cogvx-workbench")
        self.tabs.observe(lambda change: self._on_tab(), "index")
        self._on_tab()

    def __repr__(self) -> str:
        return "Workbench()"  # the widget's own repr would contain the bytes of each video

    def shut(self) -> None:
        """Remove the listeners and close all widgets."""
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

    def _load(self, sidecar: Sidecar) -> None:
        self.panel.load(sidecar)
        self.tabs.index = MAKE

    def _on_compare(self, paths: list[Path]) -> None:
        self.compare.show(paths)
        self.tabs.index = COMPARE


class GenerateTab(widgets.VBox):
    """The page Make: a form, the queue, progress with a live preview, and the latest result.

    Args:
        model: the initial checkpoint.
        session: runs the jobs; its queue is shown.
        **values: initial values of the form; see ``Form``.
    """

    def __init__(self, model: Model, session: Session, **values) -> None:
        self._session = session
        self._drawing = threading.RLock()  # the worker thread updates widgets too
        self.form = Form(model, session.predict, **values)
        super().__init__([self.form, *self._build_work()])
        self.add_class("cogvx-panel")
        self._show_queue()
        finished = [job for job in session.finished if job.state == FAILED or _has_result(job)]
        if finished:
            self._show_finished(finished[-1])
        self.stop = session.listen(self._on_change)

    def load(self, sidecar: Sidecar) -> None:
        """Restore the form from the settings of a result, or show why it can't be."""
        try:
            self.message.value = bold_html(self.form.load(sidecar))
        except CogvxError as error:
            self.message.value = bold_html(error)

    def _build_work(self) -> list[widgets.Widget]:
        submit = after_typing(self._submit)
        self.generate = button("Generate", "play", "put this into the queue", submit)
        self.generate.button_style = "primary"
        self.cancel = button("Cancel", "stop", "stop the running one", self._cancel)
        self.clear = button("Empty queue", "trash", "take all waiting out", self._clear)
        self.message = html_note(name="message")
        self.progress = widgets.FloatProgress(min=0, max=1, layout=WIDE)
        self.progress.add_class("cogvx-progress")
        self.stage = html_note(name="stage")
        self.preview = widgets.Image(
            format="webp", layout={"width": "270px", "display": "none"}
        ).add_class("cogvx-preview")
        self.unfinished = UnfinishedBox(self._session)
        self.queue = widgets.VBox().add_class("cogvx-queue")
        self.result = widgets.VBox().add_class("cogvx-result")
        buttons = control_row(self.generate, self.cancel, self.clear)
        work = [self.progress, self.stage, self.preview, self.queue, self.result]
        return [buttons, self.message, self.unfinished, *work]

    def _submit(self) -> None:
        try:
            request = self.form.request()
        except CogvxError as error:
            self.message.value = bold_html(error)
            return
        self.message.value = html_lines(str(request).splitlines()[1:])
        self._session.queue.submit(request)
        if not self.form.lock.value:
            self.form.roll_seed()

    def _cancel(self) -> None:
        if job := self._session.queue.running:
            self._session.queue.cancel(job)

    def _clear(self) -> None:
        self._session.queue.clear()

    # --- what happens -----------------------------------------------------------------------------

    def _on_change(self, job: Job, event: Event | PreviewReady | None) -> None:
        with self._drawing:
            if isinstance(event, PreviewReady):
                if self._session.queue.running is job:  # previews can arrive late
                    self._show_preview(event.data)
            elif event is None:
                self._show_queue()
                if job.state in (DONE, FAILED):
                    self._show_finished(job)
            else:
                self._show_stage()

    def _show_stage(self) -> None:
        job = self._session.queue.running
        if job is None:
            self.stage.value, self.progress.value = "", 0
            self.preview.layout.display = "none"
            return
        step, left = (f", step {job.step} of {job.steps}" if job.steps else ""), job.seconds_left
        after = f", about {format_duration(left)} left" if left is not None else ""
        self.progress.value = job.share
        self.stage.value = html_lines([f"{job.stage or 'load'}{step}{after}", *job.notes])

    def _show_preview(self, data: bytes) -> None:
        self.preview.value = data
        self.preview.layout.display = None

    def _show_queue(self) -> None:
        self.unfinished.show()
        running, waiting = self._session.queue.running, self._session.queue.waiting
        self.cancel.disabled, self.clear.disabled = running is None, not waiting
        rows = [html_note(f"<b>running</b> {html_lines([_job_title(running)])}")] if running else []
        replace_children(self.queue, rows + [self._waiting_row(job) for job in waiting])
        if running and self._session.preview:
            self._show_preview(self._session.preview)
        self._show_stage()

    def _waiting_row(self, job: Job) -> widgets.HBox:
        queue = self._session.queue
        return control_row(
            button("", "arrow-up", "earlier", lambda: queue.move(job, -1)),
            button("", "arrow-down", "later", lambda: queue.move(job, 1)),
            button("", "times", "take it out", lambda: queue.cancel(job)),
            html_note(f"waiting {html_lines([_job_title(job)])}"),
        )

    def _show_finished(self, job: Job) -> None:
        if job.state == FAILED:
            text = bold_html(f"{_job_title(job)} failed: {job.error}")
            replace_children(self.result, [html_note(text)])
        else:
            sidecar = job.result.settings
            again = button("Again, another seed", "refresh", "", lambda: self._again(sidecar))
            load = button("Load these settings", "upload", "", lambda: self.load(sidecar))
            replace_children(self.result, [Viewer(job.result, job.notes, (again, load))])
        self.form.show_predictions()

    def _again(self, sidecar: Sidecar) -> None:
        self.load(sidecar)
        self.form.roll_seed()
        self._submit()


NO_WORKBENCH = (
    "The workbench is not shown: this kernel can't see whether its front end shows widgets. To get "
    'it, run `%env COGVX_UI=1` and then this cell again. "Run all" makes the video below.'
)
"""Where no Jupyter server started the kernel, as in VS Code and under plain papermill."""

_shown: list[Workbench] = []


def show(model: str = FIELDS["model"].default, **values) -> Workbench:
    """Show the workbench on this process's session; running and waiting jobs continue.

    One that was shown before is closed.

    Raises:
        ModelError: if the checkpoint is missing or incomplete.
        RequestError: for a value that its field doesn't accept.
    """
    frames = FIELDS["frames"].check(values.get("frames", FIELDS["frames"].default))
    checkpoint, _ = planner.find_model(model, probe.probe_machine(), frames)
    while _shown:
        _shown.pop().shut()
    _shown.append(Workbench(checkpoint, current_session(), **values))
    return _shown[0]


def take_over_notebook(model: str = FIELDS["model"].default, **values) -> None:
    """In a live front end, show the workbench and end "run all" here; headless, do nothing.

    Jobs run in a thread; the cells below would block the kernel with another video.

    Args:
        **values: initial values of the form, by the names of ``planning.fields.FIELDS``.
    """
    if not settings.live_ui():
        if in_notebook() and not settings.ui_chosen():
            print(NO_WORKBENCH)
        return
    from IPython.display import display

    display(show(model, **values))
    cell_errors.install()
    raise WorkbenchShown


class WorkbenchShown(CellEnded):
    """The workbench is shown."""


def _has_result(job: Job) -> bool:
    """Whether its video can be shown: it may have been moved to the trash."""
    return job.state == DONE and job.result.path.is_file()


def _job_title(job: Job) -> str:
    request = job.request
    prefix = "again: " if job.original else ""
    return f"{prefix}{request.prompt[:80]} · {request.frames} frames · seed {request.seed}"
