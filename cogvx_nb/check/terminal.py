"""A check for a person at a terminal: what passes in short, the rest with remedies, the verdict."""

from __future__ import annotations

import textwrap

from .report import FAIL, MARKS, PASS, WARN, Report, Row

COLOURS = {PASS: "\033[32m", WARN: "\033[33m", FAIL: "\033[31m"}
PLAIN = "\033[0m"

SHORT_VALUE = 16
"""Characters of what was found, up to which rows that pass share a paragraph."""


def terminal_lines(report: Report, width: int, colour: bool = False) -> list[str]:
    """The lines of a check, none longer than the terminal where words allow it.

    Args:
        width: of the terminal, in columns.
    """
    short = [row for row in report.rows if row.status == PASS and len(row.found) <= SHORT_VALUE]
    others = [row for row in report.rows if row not in short]
    found = ", ".join(f"{row.name} {row.found}".strip() for row in short)
    rows = [Row(f"{len(short)} more", PASS, found)] * bool(short) + others
    names = max((len(row.name) for row in rows), default=0)
    lines = [line for row in rows for line in _row_lines(row, names, width, colour)]
    verdict = textwrap.wrap(report.verdict, width) or [""]
    if colour:
        tint = COLOURS[PASS if report.ok else FAIL]
        verdict = [f"{tint}{line}{PLAIN}" for line in verdict]
    return [*lines, "", *verdict]


def _row_lines(row: Row, names: int, width: int, colour: bool) -> list[str]:
    """A row, its values wrapped beside its name. What is needed isn't said of one that passes."""
    mark = f"{COLOURS[row.status]}{MARKS[row.status]}{PLAIN}" if colour else MARKS[row.status]
    texts = [row.found]
    if row.status != PASS:
        texts += [f"needs {row.needed}"] * bool(row.needed) + [f"fix: {row.fix}"] * bool(row.fix)
    room = max(width - names - 4, 30)
    parts = [part for text in texts for part in textwrap.wrap(text, room)] or [""]
    first = f"{mark} {row.name:<{names}}  {parts[0]}".rstrip()
    return [first, *(f"{'':{names + 4}}{part}" for part in parts[1:])]
