"""The widgets that make videos: the form, the queue, progress, preview and result."""

from __future__ import annotations

import threading

import ipywidgets as widgets

from ..checkpoints.store import Model
from ..errors import CogvxError
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
from .jobs import DONE, FAILED, Job
from .session import PreviewReady, Session


class GenerateTab(widgets.VBox):
    """Fields of a request, a queue of them, and what comes of it.

    Args:
        model: the checkpoint to make videos with.
        session: runs the jobs; its queue is shown.
        **values: of a request, to begin with; see ``request.make_request``.
    """

    def __init__(self, model: Model, session: Session, **values) -> None:
        self._session = session
        self._drawing = threading.RLock()  # the worker's thread draws too
        self.form = Form(model, session.predict, **values)
        super().__init__([self.form, *self._build_work()])
        self.add_class("cogvx-panel")
        self._show_queue()
        told = [job for job in session.finished if job.state == FAILED or _is_available(job)]
        if told:
            self._show_finished(told[-1])
        self.stop = session.listen(self._on_change)

    def load(self, kept: dict) -> None:
        """Take a sidecar's settings into the fields."""
        self.message.value = bold_html(self.form.load(kept))

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
        self.queue = widgets.VBox().add_class("cogvx-queue")
        self.result = widgets.VBox().add_class("cogvx-result")
        buttons = control_row(self.generate, self.cancel, self.clear)
        work = [self.progress, self.stage, self.preview, self.queue, self.result]
        return [buttons, self.message, *work]

    def _submit(self) -> None:
        try:
            wanted = self.form.request()
        except CogvxError as error:
            self.message.value = bold_html(error)
            return
        self.message.value = html_lines(str(wanted).splitlines()[1:])
        self._session.queue.add(Job(wanted))
        if not self.form.lock.value:
            self.form.roll()

    def _cancel(self) -> None:
        if job := self._session.queue.running:
            self._session.queue.cancel(job)

    def _clear(self) -> None:
        self._session.queue.clear()

    # --- what happens -----------------------------------------------------------------------------

    def _on_change(self, job: Job, event) -> None:
        with self._drawing:
            if isinstance(event, PreviewReady):
                if (
                    self._session.queue.running is job
                ):  # it is drawn beside the work, and can be late
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
        part = job.step / job.steps if job.steps else 0
        left = f", step {job.step} of {job.steps}, {job.seconds_left:.0f} s left" if part else ""
        self.progress.value = part
        self.stage.value = html_lines([f"{job.stage or 'load'}{left}", *job.notes])

    def _show_preview(self, data: bytes) -> None:
        self.preview.value = data
        self.preview.layout.display = None

    def _show_queue(self) -> None:
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
            replace_children(
                self.result, [html_note(bold_html(f"{_job_title(job)} failed: {job.error}"))]
            )
        else:
            kept = job.result.settings
            again = button("Again, another seed", "refresh", "", lambda: self._again(kept))
            load = button("Load these settings", "upload", "", lambda: self.load(kept))
            replace_children(self.result, [Viewer(job.result, job.notes, (again, load))])
        self.form.show_predictions()

    def _again(self, kept: dict) -> None:
        self.load(kept)
        self.form.roll()
        self._submit()


def _is_available(job: Job) -> bool:
    """Whether its result can be shown: it may be in the trash by now."""
    return job.state == DONE and job.result.path.is_file()


def _job_title(job: Job) -> str:
    wanted = job.request
    what = "again: " if job.original else ""
    return f"{what}{wanted.prompt[:80]} · {wanted.frames} frames · seed {wanted.seed}"
