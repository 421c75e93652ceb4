"""Results as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..text import cut_line, pad_cell, plain_line, terminal_width

PROMPT_WIDTH = 40
"""Terminal columns of a prompt. The path comes last and is never cut, so that it can be copied."""

NOTE_WIDTH = 24
"""Terminal columns of tags, of a note, and of names of files."""

OPTIONAL = ("stars", "tags", "note", "from", "lora", "finished")
"""Columns that are there if a result in the table has any; ``from`` has what it was made from."""

HEAD = ("made", "model", "frames", "size", "steps", "seed", *OPTIONAL, "prompt", "file")


SPARED = (
    "size",
    "model",
    "steps",
    "frames",
    "note",
    "prompt",
    "tags",
    "from",
    "lora",
    "finished",
    "seed",
)
"""Columns that are left out of a narrow terminal, the first first: the file's name has the prompt's
words and the seed, and ``cogvx show`` the rest."""


def result_row(entry) -> tuple[str, ...]:
    """The cells of a result, in the order of ``HEAD``."""
    folder, path = Path.cwd(), entry.path
    return (
        entry.made.replace("T", " ")[:16],
        entry.model,
        str(entry.frames),
        f"{entry.height}×{entry.width}",
        str(entry.steps),
        str(entry.seed),
        str(entry.stars or ""),
        cut_line(plain_line(entry.tags), NOTE_WIDTH),
        cut_line(plain_line(entry.note), NOTE_WIDTH),
        cut_line(plain_line(entry.inputs or ""), NOTE_WIDTH),
        cut_line(plain_line(entry.loras or ""), NOTE_WIDTH),
        cut_line(plain_line(entry.finished or ""), NOTE_WIDTH),
        cut_line(plain_line(entry.prompt), PROMPT_WIDTH),
        str(path.relative_to(folder) if path.is_relative_to(folder) else path),
    )


def format_table(rows: list[tuple[str, ...]], width: int = 0) -> list[str]:
    """Aligned lines under ``HEAD``, without control characters; ``OPTIONAL`` ones if there
    are any.

    Args:
        width: terminal columns to keep to, as far as the paths allow: columns of ``SPARED`` are
            left out until the lines fit; 0 for all columns.
    """
    cells = [HEAD, *(tuple(map(plain_line, row)) for row in rows)]
    columns = [
        column
        for column in zip(*cells, strict=True)
        if column[0] not in OPTIONAL or any(column[1:])
    ]
    for name in SPARED:
        if not width or sum(map(_column_width, columns)) + 2 * (len(columns) - 1) <= width:
            break
        columns = [column for column in columns if column[0] != name]
    return _aligned(zip(*columns, strict=True), list(map(_column_width, columns)))


def format_lines(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Aligned lines of any table; in a row that is too short, the last cell takes the rest."""
    lines = [head, *rows]
    full = zip(*(line for line in lines if len(line) == len(head)), strict=True)
    widths = list(map(_column_width, full))
    for line in lines:
        for column, cell in enumerate(line[:-1] if len(line) < len(head) else ()):
            widths[column] = max(widths[column], terminal_width(cell))
    return _aligned([tuple(map(plain_line, line)) for line in lines], widths)


def _aligned(lines: Iterable[Sequence[str]], widths: list[int]) -> list[str]:
    return ["  ".join(map(pad_cell, line, widths)).rstrip() for line in lines]


def _column_width(column: Sequence[str]) -> int:
    return max(map(terminal_width, column))
