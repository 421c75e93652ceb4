"""Page Grid: two parameters, and a contact sheet that fills in as jobs finish."""

from __future__ import annotations

import threading

import ipywidgets as widgets

from ..errors import CogvxError, ResultError
from ..results import video
from . import grid
from .controls import (
    NARROW,
    after_typing,
    bold_html,
    button,
    choice_field,
    control_row,
    html_lines,
    html_note,
    replace_children,
)
from .form import Form
from .grid import Grid
from .jobs import DONE, FAILED, RUNNING, Job
from .previews import preview_animation
from .session import Session

HINT = 'such as 1, 2, 5-8, or red, "blue, dark": the first one stands in the prompt'

MOST_NOTES = 5
"""Notes on the requests of a grid that are shown."""


class GridTab(widgets.VBox):
    """Makes grids of the request in a form.

    Args:
        form: the values that the grid doesn't vary.
        session: runs the jobs; its latest grid is shown.
    """

    def __init__(self, form: Form, session: Session) -> None:
        self._form, self._session = form, session
        self._drawing = threading.RLock()  # the worker thread updates widgets too
        self._cells: dict[int, widgets.VBox] = {}
        self._build()
        super().__init__(
            [
                html_note("The prompt and the settings are those of the page Make."),
                control_row(self.x, self.x_values),
                control_row(self.y, self.y_values),
                control_row(self.make, self.cancel),
                self.message,
                self.sheet,
                self.saved,
            ]
        )
        self.add_class("cogvx-grid")
        self._show_grid()
        self.stop = session.listen(self._on_change)

    def _build(self) -> None:
        self.x = choice_field("Across", grid.PARAMETERS[1:], "seed")
        self.x_values = _values_field("Values across", "42-44")
        self.y = choice_field("Down", grid.PARAMETERS)
        self.y_values = _values_field("Values down", "")
        submit = after_typing(self._submit)
        self.make = button("Make grid", "th", "queue all of its videos", submit)
        self.make.button_style = "primary"
        self.cancel = button("Cancel grid", "stop", "take the rest of it out", self._cancel)
        self.message = html_note(name="grid-message")
        self.sheet = widgets.GridBox().add_class("cogvx-sheet")
        self.saved = widgets.VBox().add_class("cogvx-saved")

    def _submit(self) -> None:
        try:
            x = grid.parse_axis(self.x.value, self.x_values.value)
            y = grid.parse_axis(self.y.value, self.y_values.value)
            requests = grid.expand_requests(self._form.request, self._form.values, x, y)
            jobs = [[Job(request) for request in row] for row in requests]
            planned = Grid(x.labels, y.labels, jobs)
            planned.plan_layout()
        except CogvxError as error:
            self.message.value = bold_html(error)
            return
        notes = dict.fromkeys(note for row in requests for one in row for note in one.notes)
        self.message.value = html_lines(list(notes)[:MOST_NOTES])
        self._session.grid = planned
        self._show_grid()
        for row in jobs:
            for job in row:
                self._session.queue.add(job)

    def _cancel(self) -> None:
        for row in self._session.grid.jobs if self._session.grid else ():
            for job in row:
                self._session.queue.cancel(job)

    # --- the sheet --------------------------------------------------------------------------------

    def _show_grid(self) -> None:
        current = self._session.grid
        if current is None:
            return
        with self._drawing:
            self._cells = {}
            layout, children = current.plan_layout(), []
            for band in layout.bands:
                empty = layout.across - len(band)
                heads = [html_note(bold_html(current.columns[column])) for column in band]
                children += [html_note(), *heads, *(html_note() for _ in range(empty))]
                for label, jobs in zip(current.rows, current.jobs, strict=True):
                    cells = [self._cell(jobs[column]) for column in band]
                    children += [html_note(bold_html(label)), *cells]
                    children += [html_note() for _ in range(empty)]
            self.sheet.layout.grid_template_columns = f"auto repeat({layout.across}, auto)"
            replace_children(self.sheet, children)
            replace_children(self.saved, [])
            self._finish(current)

    def _cell(self, job: Job) -> widgets.VBox:
        cell = self._cells[job.number] = widgets.VBox(layout=NARROW).add_class("cogvx-cell")
        self._fill(cell, job)
        return cell

    def _fill(self, cell: widgets.VBox, job: Job) -> None:
        if job.state == DONE:
            replace_children(cell, [_picture(job)])
            return
        left = f", step {job.step} of {job.steps}" if job.steps else ""
        text = job.state
        if job.state == RUNNING:
            text = f"{job.stage or 'load'}{left}"
        elif job.state == FAILED:
            text = f"failed: {job.error}"
        if cell.children and isinstance(cell.children[0], widgets.HTML):
            cell.children[0].value = html_lines([text])
        else:
            replace_children(cell, [html_note(html_lines([text]))])

    def _on_change(self, job: Job, event) -> None:
        with self._drawing:
            cell = self._cells.get(job.number)
            if cell is None or (event is None and job.state == DONE and self._is_filled(cell)):
                return
            self._fill(cell, job)
            if event is None and self._session.grid is not None:
                self._finish(self._session.grid)

    @staticmethod
    def _is_filled(cell: widgets.VBox) -> bool:
        return bool(cell.children) and isinstance(cell.children[0], widgets.Image)

    def _finish(self, finished: Grid) -> None:
        """Save and play the sheet if the last job is over."""
        self.cancel.disabled = finished.over
        if not finished.over or self.saved.children:
            return
        try:
            paths = finished.save()
        except CogvxError as error:
            self.message.value = bold_html(error)
            return
        if paths and paths[1].is_file():
            player = widgets.Video.from_file(paths[1], autoplay=True, loop=True)
            player.layout = {"max_width": "98%"}
            player.add_class("cogvx-video")
            replace_children(self.saved, [html_note(html_lines(paths)), player])


def _picture(job: Job) -> widgets.Widget:
    """A result as an animation, or why it can't be shown."""
    try:
        animation = preview_animation(video.decode_video(job.result.path), job.request.fps)
    except ResultError as error:  # such as one that was moved to the trash
        return html_note(html_lines([error]))
    return widgets.Image(value=animation, format="webp", layout={"width": "180px"})


def _values_field(label: str, value: str) -> widgets.Text:
    field = widgets.Text(
        value=value, description=label, placeholder=HINT, tooltip=HINT, layout={"width": "28em"}
    )
    field.style.description_width = "8em"
    return field.add_class(f"cogvx-{label.lower().replace(' ', '-')}")
