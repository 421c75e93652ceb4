"""The widgets of a grid: its two parameters, and a contact sheet that fills in."""

from __future__ import annotations

import threading

import ipywidgets as widgets

from ..errors import CogvxError, ResultError
from ..results import video
from . import grid, session
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
from .session import Session

HINT = "such as 1, 2, 5-8, or red, blue: the first word stands in the prompt"


class GridTab(widgets.VBox):
    """Make a grid of what stands in a form.

    Args:
        form: what the grid doesn't vary.
        where: the studio that makes the videos; a grid that it is making is shown.
    """

    def __init__(self, form: Form, where: Session) -> None:
        self._form, self._studio = form, where
        self._drawing = threading.RLock()  # the worker's thread draws too
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
        self.stop = where.listen(self._on_change)

    def _build(self) -> None:
        self.x = choice_field("Across", grid.PARAMETERS[1:], "seed")
        self.x_values = self._values("Values across", "42-44")
        self.y = choice_field("Down", grid.PARAMETERS)
        self.y_values = self._values("Values down", "")
        submit = after_typing(self._submit)
        self.make = button("Make grid", "th", "queue all of its videos", submit)
        self.make.button_style = "primary"
        self.cancel = button("Cancel grid", "stop", "take the rest of it out", self._cancel)
        self.message = html_note(name="grid-message")
        self.sheet = widgets.GridBox().add_class("cogvx-sheet")
        self.saved = widgets.VBox().add_class("cogvx-saved")

    @staticmethod
    def _values(label: str, value: str) -> widgets.Text:
        made = widgets.Text(
            value=value, description=label, placeholder=HINT, tooltip=HINT, layout={"width": "28em"}
        )
        made.style.description_width = "8em"
        return made.add_class(f"cogvx-{label.lower().replace(' ', '-')}")

    def _submit(self) -> None:
        try:
            x = grid.parse_axis(self.x.value, self.x_values.value)
            y = grid.parse_axis(self.y.value, self.y_values.value)
            wanted = grid.expand_requests(self._request, self._form.values, x, y)
        except CogvxError as error:
            self.message.value = bold_html(error)
            return
        self.message.value = ""
        jobs = [[Job(request) for request in row] for row in wanted]
        self._studio.grid = Grid(x.labels, y.labels, jobs)
        self._show_grid()
        for one in jobs:
            for job in one:
                self._studio.queue.add(job)

    def _request(self, **values):
        return self._form.request(**values)

    def _cancel(self) -> None:
        for one in self._studio.grid.jobs if self._studio.grid else ():
            for job in one:
                self._studio.queue.cancel(job)

    # --- the sheet --------------------------------------------------------------------------------

    def _show_grid(self) -> None:
        made = self._studio.grid
        if made is None:
            return
        with self._drawing:
            self._cells = {}
            children = [html_note(), *(html_note(bold_html(label)) for label in made.columns)]
            for label, jobs in zip(made.rows, made.jobs, strict=True):
                children.append(html_note(bold_html(label)))
                children += [self._cell(job) for job in jobs]
            self.sheet.layout.grid_template_columns = f"auto repeat({len(made.columns)}, auto)"
            replace_children(self.sheet, children)
            replace_children(self.saved, [])
            self._finish(made)

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
            if event is None and self._studio.grid is not None:
                self._finish(self._studio.grid)

    @staticmethod
    def _is_filled(cell: widgets.VBox) -> bool:
        return bool(cell.children) and isinstance(cell.children[0], widgets.Image)

    def _finish(self, made: Grid) -> None:
        """Save the sheet once the last video is over, and play it."""
        self.cancel.disabled = made.over
        if not made.over or self.saved.children:
            return
        try:
            paths = made.save()
        except CogvxError as error:
            self.message.value = bold_html(error)
            return
        if paths and paths[1].is_file():
            player = widgets.Video.from_file(paths[1], autoplay=True, loop=True)
            player.layout = {"max_width": "98%"}
            player.add_class("cogvx-video")
            replace_children(self.saved, [html_note(html_lines(paths)), player])


def _picture(job: Job) -> widgets.Widget:
    """A result, moving; or why it can't be shown."""
    try:
        moving = session.preview_animation(video.decode_video(job.result.path), job.request.fps)
    except ResultError as error:  # in the trash by now
        return html_note(html_lines([error]))
    return widgets.Image(value=moving, format="webp", layout={"width": "180px"})
