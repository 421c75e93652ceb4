"""Values along a side of a grid as people write them: lists, ranges, quoted texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal

from ..errors import RequestError
from ..planning.field import Field

MOST = 100
"""Limit of the values of a side, and of the videos in a grid."""

MAX_DIGITS = 20
"""Digits before the point of a number: no field takes more, and a whole number of a million digits
takes seconds to make."""

LISTED = re.compile(r'\s*"((?:[^"]|"")*)"\s*(?:[,，]|$)|([^,，]*)(?:[,，]|$)')
"""A value of a list: quoted as in CSV, or up to the next comma."""

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\s*[-–…]\s*({NUMBER})(?:\s*:\s*({NUMBER}))?")
"""``first-last``, or ``first-last:step``."""

TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

NONE = "none"
"""How an empty choice is written."""


def parse_values(field: Field, text: str, name: str = "") -> tuple[object, ...]:
    """The values of a field in a list such as ``1, 2, 5-8``, ``1-9:2`` or ``red, "blue, dark"``;
    of a prompt one in each line where there are lines.

    Args:
        name: what messages call it; by default the field's name.

    Raises:
        RequestError: with the part that is no value, or is there twice.
    """
    name = name or field.name
    parts = split_list(name, text, by_line=field.name == "prompt", blank=not field.required)
    if field.kind is not str:
        parts = [part for part in parts if part]
    if not parts:
        raise RequestError(name, text, "name its values, with commas between them")
    values = [field.check(value) for part in parts for value in _PARSERS[field.kind](field, part)]
    value, count = Counter(values).most_common(1)[0]
    if count > 1:
        raise RequestError(name, value, "is there twice")
    if len(values) > MOST:
        raise RequestError(name, text, f"has {len(values)} values; at most {MOST}")
    return tuple(values)


def split_list(name: str, text: str, by_line: bool = False, blank: bool = False) -> list[str]:
    """The texts of a list.

    Args:
        by_line: whether a text of several lines has one in each, commas or not.
        blank: whether ``""`` stands for an empty text.

    Raises:
        RequestError: for quotes that aren't closed, and for an empty text that isn't allowed.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if by_line and len(lines) > 1:
        return [_unquoted(line) for line in lines]
    parts = []
    for match in LISTED.finditer(", ".join(lines)):
        quoted, plain = match.groups()
        if quoted is not None and not quoted.strip() and not blank:
            raise RequestError(name, quoted, "is empty")
        if plain and plain.lstrip().startswith('"'):
            raise RequestError(name, plain.strip(), "close its quotes, and double those in it")
        if quoted is not None:
            parts.append(quoted.replace('""', '"').strip())
        elif plain.strip():
            parts.append(plain.strip())
    return parts


def write_list(values: tuple[object, ...]) -> str:
    """The list that ``parse_values`` reads as these values."""
    return ", ".join(map(write_value, values))


def write_value(value: object) -> str:
    """A value as a list has it: in quotes where it must be."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    if isinstance(value, str) and (not text or re.search(r'[,，"\n]', text)):
        return '"' + text.replace('"', '""') + '"'
    return text


def _unquoted(line: str) -> str:
    match = LISTED.fullmatch(line)
    return match[1].replace('""', '"').strip() if match and match[1] is not None else line


def _parse_text(field: Field, part: str) -> Iterator[str]:
    yield "" if "" in field.choices and part.lower() == NONE else part


def _parse_truth(field: Field, part: str) -> Iterator[bool]:
    if part.lower() not in TRUTH:
        raise RequestError(field.name, part, "use yes, no")
    yield TRUTH[part.lower()]


def _parse_numbers(field: Field, part: str) -> Iterator[float]:
    """One number, or those of a range."""
    if re.fullmatch(NUMBER, part):
        yield _number(field, Decimal(part))
        return
    match = RANGE.fullmatch(part)
    if match is None:
        raise RequestError(field.name, part, "is no number, and no range such as 1-8 or 1-9:2")
    first, last, step = (Decimal(text or 1) for text in match.groups())
    _number(field, first), _number(field, last)  # of a size that can be counted with
    if last < first:
        raise RequestError(field.name, part, "the lower number comes first")
    if step <= 0:
        raise RequestError(field.name, part, "the step after the colon is more than 0")
    if last - first >= step * MOST:
        raise RequestError(field.name, part, f"has more than {MOST} values: take a larger step")
    for number in range(int((last - first) / step) + 1):
        yield _number(field, first + number * step)


def _number(field: Field, value: Decimal) -> float:
    if value.adjusted() >= MAX_DIGITS:
        raise RequestError(field.name, str(value), f"must be at most {field.most}")
    if field.kind is float:
        return float(value)
    if value != int(value):
        raise RequestError(field.name, str(value), "must be a whole number")
    return int(value)


_PARSERS: dict[type, Callable[[Field, str], Iterator[object]]] = {
    str: _parse_text,
    bool: _parse_truth,
    int: _parse_numbers,
    float: _parse_numbers,
}
"""By a field's kind: yields the values of one part of a list."""
