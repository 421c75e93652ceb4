"""Actions on the LoRAs of the form: those that are given, and those that can be."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import asdict, dataclass

from .actions import Action, NoArguments, Reply
from .desk import Desk
from .lora_rows import add_file, library_rows, rows_of


@dataclass(frozen=True, slots=True)
class Text:
    """The text of the field ``lora``."""

    text: str


@dataclass(frozen=True, slots=True)
class Addition:
    """The text of the field, and a file: its path, or its name in the library."""

    text: str
    file: str


def list_library(desk: Desk, arguments: NoArguments) -> Future[Reply]:
    """The files in ``models/loras/``, what fits the chosen checkpoint first."""
    checkpoint = desk.form.model.checkpoint
    return desk.in_background(lambda: Reply([asdict(row) for row in library_rows(checkpoint)]))


def show_loras(desk: Desk, arguments: Text) -> Future[Reply]:
    """The LoRAs that a text names, with what is known of each file."""
    return desk.in_background(_show, desk, arguments.text)


def add_lora(desk: Desk, arguments: Addition) -> Future[Reply]:
    """The same with one more file; the form itself is changed by the page."""
    return desk.in_background(lambda: _show(desk, add_file(arguments.text, arguments.file)))


def _show(desk: Desk, text: str) -> Reply:
    rows = rows_of(text, desk.form.model, list(desk.form.models.values()))
    return Reply({"text": text, "rows": [asdict(row) for row in rows]})


ACTIONS = {
    "lora.library": Action(NoArguments, list_library),
    "lora.show": Action(Text, show_loras),
    "lora.add": Action(Addition, add_lora),
}
"""What the page can ask for about LoRAs."""
