"""Tables of prompts and other parameters: CSV and TSV of spreadsheets, pandas and people."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from ..errors import SpecError
from .rows import MAX_NAMES, MAX_ROWS, PROMPT_NAMES, ParameterRow, field_name, unique_names

MAX_LINE = 1_000_000
"""Characters; a cell has at most 131,072."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What may be between columns, with what messages call it."""

SPREADSHEET_ERRORS = ("#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!")
"""Cells that a spreadsheet writes for formulas without a value."""

INDEX = re.compile(r"|Unnamed: \d+")
"""Headings of the column in which pandas numbers the rows."""

Record = tuple[int, list[str]]
"""(number of the first line, cells)."""


def read_table(text: str, name: str) -> list[ParameterRow]:
    """The rows of a table whose first line names the columns; an empty cell sets nothing.

    Args:
        name: of the file, for messages; one that ends in ``.tsv`` has tabs, unless others fit.

    Raises:
        SpecError: with line or column, what was found there, and what is wanted.
    """
    text, delimiter, skipped = _find_delimiter(text, name)
    records = _read_records(text, delimiter, skipped, name)
    number, head = next(records, (1, []))
    where = f"line {number} of {name} (columns between {DELIMITERS[delimiter]})"
    width = max((at for at, title in enumerate(head, 1) if title.strip()), default=0)
    rows = list(records)
    if len(rows) > MAX_ROWS:
        raise SpecError(f"{name} has more than {MAX_ROWS:,} rows: split it")
    columns = _named_columns([title.strip() for title in head[:width]], rows, where)
    parameters = unique_names(columns.values(), where)
    taken = {at: parameters[title] for at, title in columns.items() if title in parameters}
    return [
        ParameterRow(
            values=_row_values(cells, width, taken, f"line {line} of {name}"),
            origin=f"line {line} of {name}",
            from_file=True,
            delimiter=delimiter,
        )
        for line, cells in rows
    ]


def is_heading(line: str) -> bool:
    """Whether a line is one that names the columns of a table, rather than a prompt."""
    return any(
        "prompt" in titles and (len(titles) > 1 or line.strip() == "prompt")
        for titles in (_titles(line, delimiter) for delimiter in DELIMITERS)
    )


def _find_delimiter(text: str, name: str) -> tuple[str, str, int]:
    """(the table, its delimiter, lines above the table)."""
    first, _, rest = text.partition("\n")
    above = re.fullmatch(r'"?sep=(.)"?\s*', first)  # a spreadsheet's own line
    if above and above[1] in DELIMITERS:
        return rest, above[1], 1
    heading = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")
    if max(map(heading.count, DELIMITERS)) > MAX_NAMES:
        raise SpecError(f"{name} has more than {MAX_NAMES:,} columns: save those with values only")
    usual = "\t" if name.lower().endswith(".tsv") else ","
    marks = sorted(DELIMITERS, key=lambda mark: mark != usual)
    named = [mark for mark in marks if {*PROMPT_NAMES} & {*_titles(heading, mark)}]
    return text, named[0] if named else max(marks, key=heading.count), 0


def _titles(line: str, delimiter: str) -> list[str]:
    return [field_name(cell.strip().strip('"')) for cell in line.split(delimiter)]


def _read_records(text: str, delimiter: str, skipped: int, name: str) -> Iterator[Record]:
    """The lines of a table that aren't empty, the first ``MAX_ROWS`` and two."""
    reader = csv.reader(_bounded_lines(text), delimiter=delimiter, strict=True)
    count, line = 0, skipped + 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
                count += 1
            if count > MAX_ROWS + 1:
                return
            line = skipped + reader.line_num + 1
    except csv.Error as error:
        reason = "its quotes aren't closed" if "unexpected end" in str(error) else str(error)
        raise SpecError(f"line {line} of {name} can't be read: {reason}") from error


def _bounded_lines(text: str) -> Iterator[str]:
    for line in io.StringIO(text, newline=""):
        if len(line) > MAX_LINE:
            raise csv.Error(f"it has {len(line):,} characters; at most {MAX_LINE:,}")
        yield line


def _named_columns(head: list[str], rows: list[Record], where: str) -> dict[int, str]:
    """Number and title of the columns, without pandas' index."""
    columns = dict(enumerate(head))
    if INDEX.fullmatch(columns.get(0, "?")) and all(row[0].strip().isdecimal() for _, row in rows):
        del columns[0]
    unnamed = [at for at, title in columns.items() if not title]
    if unnamed:
        raise SpecError(f"{where}: column {unnamed[0] + 1} has no name")
    return columns


def _row_values(
    cells: list[str], width: int, taken: dict[int, str], where: str
) -> dict[str, object]:
    """The cells that have a value, by parameter; of the prompt in any case."""
    if not any(cell.strip() for cell in cells[width:]):
        cells = cells[:width]
    if len(cells) != width:
        hint = ": quote a text that holds the delimiter" if len(cells) > width else ""
        raise SpecError(f"{where} has {len(cells)} cells of {width}{hint}")
    values = {name: cells[at] for at, name in taken.items() if cells[at].strip()}
    for name, cell in values.items():
        if cell.strip() in SPREADSHEET_ERRORS:
            raise SpecError(f"{where}: {name} = {cell.strip()!r}: an error of the spreadsheet")
    return {"prompt": ""} | values
