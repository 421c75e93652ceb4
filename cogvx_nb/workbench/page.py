"""The page of the workbench: an anywidget that shows a desk. Its state is traits, what it asks for
are messages; see ``actions``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import anywidget
import traitlets

from ..planning.request import VideoRequest
from ..progress import Event
from ..text import render_template
from .actions import Action, Refusal, Reply, perform
from .desk import Desk
from .jobs import CANCELLED, FAILED, Job
from .page_state import Jobs, as_trait, describe_setup, job_row, roll_row, running_progress
from .prediction import cost_kind
from .session import PreviewReady

STATIC = Path(__file__).with_name("static")

SCRIPTS = (
    "dom",
    "link",
    "media",
    "prompt",
    "prompt_menus",
    "form",
    "form_controls",
    "form_edits",
    "form_parts",
    "inputs",
    "loras",
    "stage",
    "roll",
    "bar",
    "keys",
    "drops",
    "compare",
    "compare_frames",
    "compare_parts",
    "grid",
    "grid_sides",
    "grid_sheet",
    "board",
    "board_row",
    "marks",
    "share",
    "finish",
    "gallery_list",
    "gallery_card",
    "gallery_filters",
    "gallery_bulk",
    "gallery",
    "main",
)
"""Files that together are the page's ES module, in this order."""

STYLES = (
    "page",
    "form",
    "inputs",
    "loras",
    "prompt",
    "stage",
    "compare",
    "grid",
    "board",
    "gallery",
)
"""Its stylesheets, besides the theme that reports share."""

PAUSE = 0.2
"""Seconds between two messages about the progress: at most five a second."""

ROLL_SHOWN = 60
"""Results of the film roll that a page gets; the gallery has all."""

ENDED_SHOWN = 3
"""Failed and cancelled jobs that the page lists."""


def read_script() -> str:
    """The page's ES module."""
    return "\n".join((STATIC / f"{name}.js").read_text("utf-8") for name in SCRIPTS)


def read_style() -> str:
    """The page's stylesheet."""
    parts = [(STATIC / f"{name}.css").read_text("utf-8") for name in STYLES]
    return "\n".join([str(render_template("theme.css")), *parts])


class Page(anywidget.AnyWidget):
    """Shows a desk in any number of browser tabs.

    Args:
        desk: the form, the queue and the results.
        actions: what the page can ask for, by name.

    Attributes:
        setup, form, jobs, progress, roll, ended: see the types of ``page_state``, as JSON.
        revision: of the form, see ``Draft.state``.
        preview: an animated WebP of the running job; empty without one.
        opening: the view to begin with, ``{"view": …, "paths": […]}``; empty: the form.
        focus: whether the next view is to scroll to itself and take the keyboard.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    setup = traitlets.Dict().tag(sync=True)
    form = traitlets.Dict().tag(sync=True)
    revision = traitlets.Int().tag(sync=True)
    jobs = traitlets.Dict().tag(sync=True)
    progress = traitlets.Dict().tag(sync=True)
    roll = traitlets.List().tag(sync=True)
    ended = traitlets.List().tag(sync=True)
    preview = traitlets.Bytes().tag(sync=True)
    opening = traitlets.Dict().tag(sync=True)
    focus = traitlets.Bool(True).tag(sync=True)

    def __init__(self, desk: Desk, actions: Mapping[str, Action]) -> None:
        self.desk, self._actions = desk, actions
        # JupyterLab moves a widget's messages to a thread of their own once that has started.
        self._acting = threading.RLock()
        self._under_way: list[dict] = []  # addresses of the questions that are not answered yet
        self._showing = threading.Lock()  # else an older state of the queue could come last
        self._costs: dict[tuple, float | None] = {}
        self._steady = Steady(PAUSE, self._show_progress)
        setup = as_trait(describe_setup(list(desk.form.models.values())))
        super().__init__(_esm=read_script(), _css=read_style(), setup=setup)
        # ipykernel 7.4 moves a question to the subshell of the last answer, be it another tab's or
        # one that has ended: see ``BaseComm._reply_subshell_for``. It belongs where it was sent.
        self.comm._reply_subshell_for = None
        self._show_form()
        self.on_msg(self._on_message)
        desk.session.find_unfinished()
        self._show_jobs()
        self._show_roll()
        self._show_progress()
        self._stop = desk.session.listen(self._on_change)

    def __repr__(self) -> str:  # what is shown of it where there are no widgets
        return "CogVideoX workbench"

    def shut(self) -> None:
        """Stop listening, keep the desk on disk, and close the widget."""
        self._stop()
        self._steady.stop()
        self.desk.close()
        self.close()

    # --- from the page ----------------------------------------------------------------------------

    def _on_message(self, widget: Page, message: object, buffers: list) -> None:
        if not isinstance(message, dict):
            return
        address = {"reply": message.get("ask"), "client": message.get("client")}

        def answer(outcome: Reply | Refusal) -> None:
            head = {**address, "under_way": self._end(address)}
            if isinstance(outcome, Refusal):
                self.send({**head, "error": as_trait(outcome.sentence)})
            else:
                self.send({**head, "data": outcome.data}, list(outcome.buffers))
            self._show_form()  # which what takes long may have changed
            if message.get("action") in ("gallery.trash", "gallery.restore"):
                self._show_roll()

        data = bytes(buffers[0]) if buffers else b""
        with self._acting:
            self._under_way.append(address)
            perform(self._actions, self.desk, message, data, answer)
            self._show_form()
            if str(message.get("action")).startswith("queue."):
                self._show_jobs()

    def _end(self, address: dict) -> list[object]:
        """Note that a question is answered; those that its view still waits for."""
        with self._acting:
            self._under_way.remove(address)
            client = address["client"]
            return [one["reply"] for one in self._under_way if one["client"] == client]

    # --- to the page ------------------------------------------------------------------------------

    def _on_change(self, job: Job, event: Event | PreviewReady | None) -> None:
        if isinstance(event, PreviewReady):
            self.preview = event.data
            return
        if event is None:
            self.preview = self.desk.session.preview
            if job.over:
                self.desk.add_finished(job)
                self._show_roll()
            self._show_jobs()
        self._steady.request(now=event is None)

    def _show_form(self) -> None:
        with self._acting, self.hold_sync():  # else an older state of the form could come last
            for name, value in self.desk.form.state().items():
                setattr(self, name, value)

    def _show_jobs(self) -> None:
        with self._showing:
            self.jobs = as_trait(self._jobs_now())

    def _jobs_now(self) -> Jobs:
        queue, unfinished = self.desk.session.queue, self.desk.session.unfinished
        running, waiting = queue.running, queue.waiting
        costs = [self._cost_of(job) for job in (running, *waiting) if job is not None]
        return Jobs(
            running=job_row(running, self._cost_of(running)) if running else None,
            waiting=[job_row(job, self._cost_of(job)) for job in waiting],
            seconds=None if None in costs else sum(costs),
            paused=queue.paused,
            unfinished=tuple(unfinished.lines),
            resumable=len(unfinished.jobs),
        )

    def _cost_of(self, job: Job) -> float | None:
        """Predicted seconds of a job, of all pieces of a storyboard."""
        if job.request is None:
            return self.desk.predict_finish(job)
        requests = [replace(job.request, frames=row.frames) for row in job.board if row.frames]
        costs = [self._cost_of_request(request) for request in requests or [job.request]]
        return None if None in costs else sum(costs)

    def _cost_of_request(self, request: VideoRequest) -> float | None:
        """The same of a video; equal ones are predicted once."""
        kind = cost_kind(request)
        if kind not in self._costs:
            self._costs[kind] = self.desk.predict_seconds(request)
        return self._costs[kind]

    def _show_roll(self) -> None:
        shown = self.desk.roll[:ROLL_SHOWN]
        self.roll = [as_trait(roll_row(name, result)) for name, result in shown]
        ended = [job for job in self.desk.session.finished if job.state in (FAILED, CANCELLED)]
        again = [job for job in self.desk.session.finished if job.compares and job.result]
        listed = sorted((*ended, *again), key=lambda job: job.number)[-ENDED_SHOWN:]
        self.ended = [as_trait(job_row(job)) for job in reversed(listed)]
        self._costs.clear()  # a measured pace is better than a prediction
        if shown != self.desk.roll[:ROLL_SHOWN]:
            self._show_roll()  # else this, which began before the change, could come last

    def _show_progress(self) -> None:
        self.progress = as_trait(running_progress(self.desk.session.queue.running))


class Steady:
    """Calls a function at most once in so many seconds, and always after the last request."""

    def __init__(self, pause: float, act: Callable[[], None]) -> None:
        self._pause, self._act = pause, act
        self._lock, self._last = threading.Lock(), 0.0
        self._timer: threading.Timer | None = None

    def request(self, now: bool = False) -> None:
        """Ask for a call: at once if the last one is long ago, or ``now``."""
        with self._lock:
            left = self._last + self._pause - time.monotonic()
            if self._timer is not None and not now:
                return
            if left > 0 and not now:
                self._timer = threading.Timer(left, self._later)
                self._timer.daemon = True
                self._timer.start()
                return
            self._last = time.monotonic()
        self._act()

    def stop(self) -> None:
        """Call no more."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()

    def _later(self) -> None:
        with self._lock:
            self._timer, self._last = None, time.monotonic()
        self._act()
