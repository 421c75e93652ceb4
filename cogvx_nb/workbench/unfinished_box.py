"""Offers the jobs that a kernel left which ended: run them, or discard them."""

from __future__ import annotations

import ipywidgets as widgets

from ..errors import CogvxError
from .controls import bold_html, button, control_row, html_lines, html_note, html_paragraph
from .session import Session


class UnfinishedBox(widgets.VBox):
    """What ``session.unfinished`` says, and its two buttons; empty where there is nothing."""

    def __init__(self, session: Session) -> None:
        self._session, self._shown = session, None
        self.run = button("Run these", "play", "put them into the queue", self._run)
        self.discard = button("Discard these", "trash", "delete them", self._discard)
        self._buttons = control_row(self.run, self.discard)
        self._text, self._problems = html_note(name="left"), html_note(name="left-problems")
        super().__init__([self._text, self._buttons, self._problems])
        self.add_class("cogvx-unfinished")
        session.find_unfinished()
        self.show()

    def show(self) -> None:
        """Update the text, if the session has found others since."""
        unfinished = self._session.unfinished
        if unfinished is self._shown:
            return
        self._shown = unfinished
        self._text.value = html_paragraph(html_lines(unfinished.lines)) if unfinished.lines else ""
        self._buttons.layout.display = None if unfinished.jobs else "none"

    def _run(self) -> None:
        self._problems.value = "<br>".join(map(bold_html, self._session.resume()))
        self.show()

    def _discard(self) -> None:
        try:
            self._session.discard()
            self._problems.value = ""
        except CogvxError as error:
            self._problems.value = bold_html(error)
        self.show()
