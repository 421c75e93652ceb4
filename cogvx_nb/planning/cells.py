"""Cells of a table, as spreadsheets and pandas write numbers and truth values."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

MISSING = ("", "nan", "na", "n/a", "<na>", "null", "none", "nat")
"""Cells without a value, in columns of numbers and truth values; in lower case."""

TRUTH = {
    word: value
    for value, words in ((True, "true yes y on 1 1.0"), (False, "false no n off 0 0.0"))
    for word in words.split()
}

THOUSANDS = re.compile(r"(?<=\d)[ \u00a0\u202f'’](?=\d{3}(?!\d))")
"""Separators that no number has elsewhere."""

GROUPED = {
    ",": re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3}){2,}(\.\d+)?|[+-]?[1-9]\d{0,2},\d{3}\.\d+"),
    ".": re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3}){2,}(,\d+)?|[+-]?[1-9]\d{0,2}\.\d{3},\d+"),
}
"""Numbers with groups of thousands that can't be read otherwise, by what is between the groups."""

ONE_GROUP = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
"""A number that has thousands or three decimals."""

ROUNDED = re.compile(r"[+-]?\d+(?:\.(\d*))?[eE]\+?(\d+)")

EXACT = 2**53
"""Whole numbers from here on aren't all numbers of pandas' and spreadsheets' columns."""


def read_cell(text: str, kind: str, delimiter: str) -> object:
    """The value of a cell; None for one that has none.

    Args:
        kind: ``int``, ``float`` or ``bool``.
        delimiter: between the table's columns; a comma is no decimal one where it is that.

    Raises:
        ValueError: with what it must be, or how to write it.
    """
    text = text.strip()
    if text.lower() in MISSING:
        return None
    if kind == "bool":
        if text.lower() not in TRUTH:
            raise ValueError("must be true or false")
        return TRUTH[text.lower()]
    if text.endswith("%"):
        raise ValueError("is a percentage: write it as a number")
    plain = _plain_number(text, kind, delimiter)
    if kind == "float":
        try:
            return float(plain)
        except ValueError:
            raise ValueError("must be a number") from None
    return _whole_number(plain)


def _plain_number(text: str, kind: str, delimiter: str) -> str:
    """A number as Python writes it: without thousands, with a decimal point."""
    text = THOUSANDS.sub("", text.replace("\u2212", "-"))
    for separator, pattern in GROUPED.items():
        if pattern.fullmatch(text):
            return text.replace(separator, "").replace(",", ".")
    if ONE_GROUP.fullmatch(text):
        if "," in text and delimiter == "," and kind == "int":
            return text.replace(",", "")
        if "," in text or delimiter == ";":  # of spreadsheets in Europe
            whole = re.sub("[.,]", "", text)
            decimal = f"{text.replace(',', '.')}0"
            raise ValueError(f"has thousands or decimals: write {whole} or {decimal}")
    if re.fullmatch(r"[+-]?\d*,\d+([eE][+-]?\d+)?", text):
        return text.replace(",", ".")
    return text


def _whole_number(text: str) -> int:
    rounded = ROUNDED.fullmatch(text)
    if rounded and len(rounded[1] or "") < int(rounded[2][:9]):
        raise ValueError("may have been rounded: write all of its digits")
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number.adjusted() > 4000 or number != number.to_integral_value():
        raise ValueError("must be a whole number")
    if "." in text and abs(number) >= EXACT:
        raise ValueError("may have been rounded: write all of its digits, without decimals")
    return int(number)
