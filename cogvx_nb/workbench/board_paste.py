"""Rows of a storyboard from text: cells of a spreadsheet, a CSV with its heading, or prompts."""

from __future__ import annotations

import csv
import io

from ..errors import RequestError
from ..planning.storyboards import MOST_ROWS
from ..planning.transitions import CUT
from .board import BoardRow

COLUMNS = ("prompt", "frames", "transition")
"""Of a text without a heading, in this order."""

MOST_TEXT = 2**20
"""Characters of a text."""


def pasted_rows(text: str) -> tuple[BoardRow, ...]:
    """The rows of a text: each line one, its cells between tabs, or as its heading has them.

    Without a heading or tabs a line is a prompt, commas and all. Other columns are left out.

    Raises:
        RequestError: if it is too long, has too many rows, or a number of frames is none.
    """
    if len(text) > MOST_TEXT:
        raise RequestError("text", None, f"has {len(text):,} characters: at most {MOST_TEXT:,}")
    names, delimiter = _heading(text)
    if delimiter or "\t" in text:
        lines = list(_cells(text, delimiter or "\t"))
    else:
        lines = [[line] for line in text.splitlines()]
    lines = [line for line in lines if any(cell.strip() for cell in line)]
    lines = lines[1:] if names else lines
    if len(lines) > MOST_ROWS:
        raise RequestError("rows", len(lines), f"a storyboard has at most {MOST_ROWS}")
    return tuple(_row(dict(zip(names or COLUMNS, line, strict=False))) for line in lines)


def _heading(text: str) -> tuple[list[str], str]:
    """(names of the columns, what is between them) where the first line is a heading."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    for delimiter in "\t;,":
        names = [cell.strip().strip('"').casefold() for cell in first.split(delimiter)]
        if "prompt" in names and (len(names) > 1 or delimiter == ","):
            return names, delimiter
    return [], ""


def _cells(text: str, delimiter: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error as error:
        raise RequestError("text", None, f"can't be read as a table: {error}") from error


def _row(cells: dict[str, str]) -> BoardRow:
    given = {name: cells.get(name, "").strip() for name in COLUMNS}
    frames = given["frames"]
    if frames and not (frames.isascii() and frames.isdigit() and len(frames) < 9):
        raise RequestError("frames", frames, "must be a whole number")
    transition = given["transition"].casefold() or CUT
    return BoardRow(given["prompt"], int(frames) if frames else None, transition)
