"""JSON content as dataclasses: every value of its field's type and within its bounds, or an error
that names the field."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ..text import plain_line

MAX_INTEGER = 2**63 - 1
"""The largest integer of SQLite."""

MAX_TEXT = 10_000
"""Characters of a text: a prompt has at most 2,000."""

MAX_ITEMS = 1000
"""Of a list or an object."""

SHOWN = 60
"""Characters of a name or value that messages show."""

MISSING = "is missing"


class FieldError(ValueError):
    """A value is not what its field holds.

    Args:
        remedy: what it must be.
        value: as it is; the message shows the start of it.
        path: of the field, from the innermost section outwards.
    """

    def __init__(self, remedy: str, value: object = dataclasses.MISSING, *path: str) -> None:
        self.remedy, self.value, self.path = remedy, value, path
        super().__init__(remedy)

    def within(self, name: str) -> FieldError:
        """The same error, of a field of a section of that name."""
        return FieldError(self.remedy, self.value, *self.path, name)

    def __str__(self) -> str:
        name = plain_line(".".join(reversed(self.path))) or "the content"
        name = name if len(name) <= SHOWN else f"{name[: SHOWN - 3]}..."
        if self.value is dataclasses.MISSING:
            return f"{name} {self.remedy}"
        return f"{name} = {_shown(self.value)}: {self.remedy}"


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number, for ``typing.Annotated``."""

    least: float
    most: float

    def check(self, value: float) -> None:
        if not self.least <= value <= self.most:
            raise FieldError(f"must be from {self.least:,} to {self.most:,}", value)


@dataclass(frozen=True, slots=True)
class OneOf:
    """The choices of a text, for ``typing.Annotated``."""

    choices: tuple[str, ...]

    def check(self, value: str) -> None:
        if value not in self.choices:
            names = ", ".join(choice or "an empty text" for choice in self.choices)
            raise FieldError(f"must be one of {names}", value)


@dataclass(frozen=True, slots=True)
class Passes:
    """A text that a function accepts, for ``typing.Annotated``."""

    function: Callable[[str], object]  # raises ValueError
    remedy: str

    def check(self, value: str) -> None:
        try:
            self.function(value)
        except (ValueError, OverflowError, OSError):
            raise FieldError(self.remedy, value) from None


def read_as(kind: type, content: object, strict: bool = True) -> object:
    """JSON content as a value of a type: a dataclass, or what its fields can be.

    Args:
        strict: whether a field with a default must hold a value of its type where it is there;
            otherwise one of another type counts as missing.

    Raises:
        FieldError: with the field, its value and what it must be.
    """
    return _reader(kind, strict)(content)


Reader = Callable[[object], object]


@functools.cache
def _reader(kind: object, strict: bool) -> Reader:
    """A function that returns a JSON value as that type, or raises FieldError."""
    if dataclasses.is_dataclass(kind):
        return _section_reader(kind, strict)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _bounded_reader(_reader(arguments[0], strict), arguments[1:])
    if origin in (types.UnionType, typing.Union):  # ``... | None``
        read = _reader(arguments[0], strict)
        return lambda value: None if value is None else read(value)
    if origin is tuple:
        read = _reader(arguments[0], strict)
        return lambda value: tuple(map(read, _collection(value, list)))
    if origin is dict:
        return _dict_reader(_reader(arguments[1], strict))
    return _SCALARS[kind]


def _section_reader(section: type, strict: bool) -> Reader:
    hints = typing.get_type_hints(section, include_extras=True)
    readers = [
        (entry.name, _reader(hints[entry.name], strict), _is_required(entry))
        for entry in dataclasses.fields(section)
    ]

    def read(content: object) -> object:
        if not isinstance(content, dict):
            raise FieldError("must be an object", content)
        values = {}
        for name, read_field, required in readers:
            if name not in content:
                if required:
                    raise FieldError(MISSING, dataclasses.MISSING, name)
                continue
            try:
                values[name] = read_field(content[name])
            except FieldError as error:
                if required or strict:
                    raise error.within(name) from None
        return section(**values)

    return read


def _is_required(entry: dataclasses.Field) -> bool:
    return entry.default is entry.default_factory is dataclasses.MISSING


def _bounded_reader(read: Reader, bounds: tuple) -> Reader:
    def read_bounded(value: object) -> object:
        typed = read(value)
        for bound in bounds:
            bound.check(typed)
        return typed

    return read_bounded


def _dict_reader(read: Reader) -> Reader:
    def read_entries(value: object) -> dict:
        entries = {}
        for key, part in _collection(value, dict).items():
            try:
                entries[_text(key)] = read(part)
            except FieldError as error:
                raise error.within(key) from None
        return entries

    return read_entries


def _collection(value: object, kind: type) -> Collection:
    if not isinstance(value, kind):
        raise FieldError("must be a list" if kind is list else "must be an object", value)
    if len(value) > MAX_ITEMS:
        raise FieldError(f"has {len(value):,} entries; at most {MAX_ITEMS:,}")
    return value


def _text(value: object) -> str:
    """A text that can be stored: JSON can spell half a character (a lone surrogate)."""
    if not isinstance(value, str):
        raise FieldError("must be text", value)
    if len(value) > MAX_TEXT:
        raise FieldError(f"has {len(value):,} characters; at most {MAX_TEXT:,}", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise FieldError("is not valid Unicode text", value) from None
    return value


def _true_or_false(value: object) -> bool:
    if not isinstance(value, bool):
        raise FieldError("must be true or false", value)
    return value


def _whole_number(value: object) -> int:
    if type(value) is not int:  # a bool is an int too
        raise FieldError("must be a whole number", value)
    if abs(value) > MAX_INTEGER:
        raise FieldError("is beyond 64 bits", value)
    return value


def _number(value: object) -> float:
    if type(value) not in (int, float) or not abs(value) <= MAX_INTEGER:  # false for NaN too
        raise FieldError("must be a number", value)
    return float(value)


def _scalar(value: object) -> object:
    """What a field of a request can be given as."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, int | float) or not abs(value) <= MAX_INTEGER:
        raise FieldError("must be text, a number, true or false", value)
    return value


_SCALARS: dict[object, Reader] = {
    str: _text,
    bool: _true_or_false,
    int: _whole_number,
    float: _number,
    object: _scalar,
}


def _shown(value: object) -> str:
    """The start of a value, in one line."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "a huge number"
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 3]}..."
