"""Text files that people write: bounded, regular, in UTF-8; anything else is named."""

from __future__ import annotations

import codecs
from pathlib import Path

from ..paths import read_bounded

MAX_BYTES = 16_000_000
"""Of a sweep, a list of prompts or a table; 100,000 prompts of 160 characters fit."""

MAX_LINES = 1_000_000
"""Most of so many lines would be empty."""

SIGNATURES = {
    codecs.BOM_UTF32_LE: "text in UTF-32",
    codecs.BOM_UTF16_LE: "text in UTF-16",
    codecs.BOM_UTF16_BE: "text in UTF-16",
    b"PK\x03\x04": "a zip file or a workbook of a spreadsheet",
    b"\xd0\xcf\x11\xe0": "a workbook of a spreadsheet",
    b"\x1f\x8b": "compressed",
    b"%PDF": "a PDF",
    b"{\\rtf": "rich text",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}
"""Of content that isn't plain UTF-8, by its first bytes."""


def read_text_file(path: Path) -> str:
    """The text of a file, without a byte order mark and with its line ends as they are.

    Raises:
        OSError: see ``read_bounded``.
        ValueError: if it has too many lines, or isn't UTF-8; with the remedy.
    """
    data = read_bounded(path, MAX_BYTES)
    lines = data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
    if lines > MAX_LINES:
        raise ValueError(f"it has {lines:,} lines; at most {MAX_LINES:,}: split it")
    return _decode(data)


def _decode(data: bytes) -> str:
    for signature, kind in SIGNATURES.items():
        if data.startswith(signature):
            raise ValueError(f"it is {kind}: save it as plain text in UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8 text: save it in UTF-8") from error
    if "\0" in text:  # such as UTF-16 without a byte order mark
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"line {line} holds a NUL character, so it is not UTF-8 text: save it so")
    return text
