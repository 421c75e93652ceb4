"""What values a notebook's parameter takes: its annotation read, values checked and converted."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from types import NoneType

from ..errors import ParameterError
from ..planning.yaml_loading import load_yaml

MAX_PARTS = 100_000
"""Values inside a value, each as often as it occurs: aliases in YAML multiply a few without end."""

NAMES: dict[str, type | None] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "None": NoneType,
    "NoneType": NoneType,
    "Text": str,
    "Path": str,
    "PathLike": str,
    "list": list,
    "List": list,
    "Sequence": list,
    "Iterable": list,
    "tuple": list,
    "Tuple": list,
    "set": list,
    "Set": list,
    "frozenset": list,
    "dict": dict,
    "Dict": dict,
    "Mapping": dict,
}
"""Types by the last part of their name. papermill passes lists on, but no tuples or sets."""

WRAPPERS = ("Annotated", "Final", "ClassVar", "Required")
"""Annotations whose first argument is the type."""

WORDS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text: quote it", "texts"),
    bool: ("true or false", "true or false"),
    NoneType: ("None", "None"),
    list: ("a list", "lists"),
    dict: ("names with values", "names with values"),
}
"""What a value must be, and what the values inside it must be."""


@dataclass(frozen=True, slots=True)
class ValueType:
    """The values that a parameter takes; any where neither kinds nor choices are given."""

    kinds: tuple[type, ...] = ()  # of WORDS
    choices: tuple = ()  # of a Literal
    items: ValueType | None = None  # of the values in a list or dict; None: any

    @property
    def is_any(self) -> bool:
        return not (self.kinds or self.choices)

    def or_none(self) -> ValueType:
        """The same, and None."""
        if self.is_any or NoneType in self.kinds:
            return self
        return replace(self, kinds=(*self.kinds, NoneType))

    def __str__(self) -> str:
        return self._words(0)

    def _words(self, number: int) -> str:
        words = [repr(choice) for choice in self.choices]
        for kind in self.kinds:
            inside = "" if self.items is None or self.items.is_any else self.items._words(1)
            words.append(WORDS[kind][number] + (f" of {inside}" * (kind is list and inside != "")))
        if len(words) > 1 and "text: quote it" in words:
            words[words.index("text: quote it")] = "text"
        return " or ".join(words)

    def fit(self, name: str, value: object) -> object:
        """A value if it is of this type; a whole number becomes a float where need be.

        Args:
            name: of the parameter, for the error.

        Raises:
            ParameterError: if it is of another type.
        """
        try:
            return self._fit(value)
        except (TypeError, OverflowError, RecursionError) as error:
            raise ParameterError(name, value, f"must be {self}") from error

    def _fit(self, value: object) -> object:
        if self.is_any or any(_is_same(value, choice) for choice in self.choices):
            return value
        kind = type(value)
        if kind in (tuple, set, frozenset):
            self._fit(list(value))
            return value
        if kind not in self.kinds:
            if kind is int and float in self.kinds:
                return float(value)
            raise TypeError
        if self.items is not None and kind is list:
            return [self.items._fit(item) for item in value]
        if self.items is not None and kind is dict:
            return {key: self.items._fit(item) for key, item in value.items()}
        return value

    def parse(self, name: str, text: str) -> object:
        """Convert text, such as from a command line; what may be text stays text.

        Raises:
            ParameterError: if it can't be converted.
        """
        for choice in self.choices:
            if text == str(choice):
                return choice
        if NoneType in self.kinds and text == "None":
            return None
        for kind in (int, float):
            if kind in self.kinds:
                try:
                    return kind(text)
                except ValueError:
                    continue
        if str in self.kinds and bool not in self.kinds:
            return text
        value = _parse_yaml(name, text, f"must be {self}" if not self.is_any else "")
        if str in self.kinds and not isinstance(value, bool):
            return text
        return self.fit(name, value)


ANY = ValueType()


def read_annotation(node: ast.expr | None) -> ValueType:
    """The type that an annotation names; ``ANY`` for one that isn't known here."""
    match node:
        case ast.Constant(value=None):
            return ValueType((NoneType,))
        case ast.Constant(value=str(text)):
            return read_annotation_text(text)
        case ast.Name() | ast.Attribute():
            kind = NAMES.get(_last_name(node))
            return ValueType((kind,)) if kind else ANY
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([read_annotation(left), read_annotation(right)])
        case ast.Subscript(value=value, slice=inside):
            arguments = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            return _read_subscript(_last_name(value), arguments)
    return ANY


def read_annotation_text(text: str) -> ValueType:
    """The same for an annotation in quotes, or in a comment ``# type: ...``."""
    try:
        return read_annotation(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ANY


def _read_subscript(name: str, arguments: list[ast.expr]) -> ValueType:
    if name == "Literal":
        try:
            return ValueType(choices=tuple(map(ast.literal_eval, arguments)))
        except ValueError:
            return ANY  # a member of an enumeration
    if name == "Optional" and arguments:
        return read_annotation(arguments[0]).or_none()
    if name in WRAPPERS and arguments:
        return read_annotation(arguments[0])
    types = [
        read_annotation(node)
        for node in arguments
        if not (isinstance(node, ast.Constant) and node.value is ...)
    ]
    if name == "Union":
        return _union(types)
    kind = NAMES.get(name)
    if kind is dict:
        return ValueType((dict,), items=types[-1])
    return ValueType((kind,), items=_union(types)) if kind is list else ANY


def _union(types: list[ValueType]) -> ValueType:
    if not types or any(each.is_any for each in types):
        return ANY
    items = [each.items for each in types if {list, dict} & set(each.kinds)]
    return ValueType(
        kinds=tuple(dict.fromkeys(kind for each in types for kind in each.kinds)),
        choices=tuple(choice for each in types for choice in each.choices),
        items=items[0] if len(items) == 1 else None,
    )


def _last_name(node: ast.expr) -> str:
    return getattr(node, "attr", getattr(node, "id", ""))


def _is_same(value: object, choice: object) -> bool:
    return type(value) is type(choice) and value == choice


def _parse_yaml(name: str, text: str, remedy: str) -> object:
    try:
        value = load_yaml(text)
    except ValueError as error:
        raise ParameterError(name, text, remedy or str(error)) from error
    if not is_plain_value(value):
        raise ParameterError(name, text, remedy or "must hold plain values, with names of text")
    return value


def is_plain_value(value: object) -> bool:
    """Whether both JSON and a notebook can hold a value."""
    waiting, count = [value], 0
    while waiting:
        value, count = waiting.pop(), count + 1
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                return False
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif not (value is None or isinstance(value, str | int | float)):
            return False
        if count + len(waiting) > MAX_PARTS:
            return False
    return True
