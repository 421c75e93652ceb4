"""YAML and JSON that people write: plain values only, in bounded time and memory.

YAML 1.1 reads some texts as other things than they look like. Those are refused with what they
would be, wherever they stand; ``explain_value`` is for those that depend on what is wanted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from functools import cache

MAX_DEPTH = 50
"""Levels of lists and mappings in each other."""

MAX_VALUES = 300_000
"""Values in a file, where each alias counts as all that it stands for."""

MAX_DIGITS = 300
"""Characters of a number; Python writes no whole number of more than 4,300."""

TAG = "tag:yaml.org,2002:"
PLAIN_TAGS = {f"{TAG}{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")}

HINTS = {
    "mapping values are not allowed": ": quote a text that holds ': '",
    "cannot start any token": ": indent with blanks, and quote texts that begin with @, % or `",
}
"""What PyYAML's messages of frequent slips leave out."""

OCTAL = re.compile(r"[-+]?0[0-7_]*[1-7][0-7_]*")


def load_yaml(text: str) -> object:
    """Load YAML that holds text, numbers, truth values, lists and mappings.

    Raises:
        ValueError: with the line, where it is known, and what is wrong in it.
    """
    import yaml

    try:
        _check_events(yaml, yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        return yaml.load(text, _loader_class())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        hint = next((hint for words, hint in HINTS.items() if words in str(error.problem)), "")
        raise ValueError(f"line {line} is no YAML: {error.problem}{hint}") from error
    except (yaml.YAMLError, RecursionError, LookupError, AttributeError) as error:
        # PyYAML raises the last two for a wrong value under a tag, such as !!bool maybe.
        raise ValueError(f"it is no YAML: {' '.join(str(error).split())[:100]}") from error


def _check_events(yaml, events: Iterable) -> None:
    """Raise for what would grow, or isn't plain, before anything is made of it."""
    count, opened, sizes = 0, [], {}
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, start = opened.pop()
            sizes[anchor] = count - start
        elif isinstance(event, yaml.AliasEvent):
            if any(event.anchor == anchor for anchor, _ in opened):
                raise ValueError(f"line {line}: *{event.anchor[:40]} stands for what it is in")
            count += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.NodeEvent):
            if event.tag not in (None, "!", *PLAIN_TAGS):
                tag = event.tag.replace(TAG, "!!")[:40]
                raise ValueError(f"line {line}: the tag {tag} isn't read: write a plain value")
            count += 1
            sizes[event.anchor] = 1
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append((event.anchor, count - 1))
        if len(opened) > MAX_DEPTH:
            raise ValueError(f"line {line} is nested more than {MAX_DEPTH} levels deep")
        if count > MAX_VALUES:
            raise ValueError(f"line {line}: it holds more than {MAX_VALUES:,} values: split it")


@cache
def _loader_class() -> type:
    """The class of loaders that refuse what PyYAML reads in unexpected ways."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        pass

    def mapping(loader, node):
        seen = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"line {line}: a name must be text")
            if key.value in seen:
                raise ValueError(f"line {line}: {key.value[:60]!r} is given twice in one mapping")
            seen.add(key.value)
        return loader.construct_mapping(node, deep=True)

    def number(loader, node):
        text, line = node.value, node.start_mark.line + 1
        if len(text) > MAX_DIGITS:
            raise ValueError(f"line {line}: a number of {len(text):,} characters")
        whole = node.tag.endswith("int")
        try:
            value = (loader.construct_yaml_int if whole else loader.construct_yaml_float)(node)
        except (ValueError, IndexError) as error:
            raise ValueError(f"line {line} is no YAML: {text!r} is no number") from error
        if ":" in text:
            raise ValueError(
                f"line {line}: {text[:40]} is a number to base 60 in YAML: write "
                f"{str(value)[:40]}, or quote it for text"
            )
        if whole and OCTAL.fullmatch(text):
            raise ValueError(
                f"line {line}: {text} is {value} in YAML, an octal number: write {text.lstrip('0')}"
                f" or {value}, or quote it for text"
            )
        return value

    def date(loader, node):
        line = node.start_mark.line + 1
        raise ValueError(f"line {line}: {node.value} is a date in YAML: quote it for text")

    def text(loader, node):
        return loader.construct_scalar(node)

    constructors = {"map": mapping, "int": number, "float": number, "timestamp": date}
    for kind, construct in (constructors | {"value": text, "merge": text}).items():
        Loader.add_constructor(f"{TAG}{kind}", construct)
    return Loader


def load_json(text: str) -> object:
    """Load JSON in which no object has a name twice.

    Raises:
        ValueError: with line and column, where they are known, and what is wrong there.
    """
    if text.count("[") + text.count("{") > MAX_VALUES:
        raise ValueError(f"it holds more than {MAX_VALUES:,} lists and objects: split it")
    try:
        value = json.loads(text, object_pairs_hook=_unique_names)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{where} is no JSON: {error.msg}") from error
    except RecursionError as error:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep") from error
    except ValueError as error:
        if "limit" in str(error):  # of digits
            raise ValueError("it holds a number that is too long") from error
        raise
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return value
    raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"{twice[:60]!r} is given twice in one object")
    return values


def explain_value(value: object, kind: str) -> str:
    """How YAML came to a value that isn't of the kind that is wanted, and what to write instead.

    Args:
        kind: ``int``, ``float``, ``bool`` or ``str``.

    Returns:
        Part of a message; empty where there is nothing to explain.
    """
    if kind == "str" and isinstance(value, bool):
        return "YAML reads yes, no, on and off as true and false"
    if kind == "str" and value is None:
        return "YAML reads null, ~ and nothing as no value"
    if kind not in ("int", "float") or not isinstance(value, str):
        return ""
    number = _number_of(value.strip())
    if number is None or (kind == "int" and number % 1):
        return ""
    number = int(number) if kind == "int" else float(number)
    shown = repr(number)
    if "." not in shown:
        shown = shown.replace("e", ".0e")  # YAML takes 1e-05 for text
    if re.fullmatch(r"[-+]?(0|[1-9]\d*|\d+\.\d*|\.\d+)", value):  # numbers of YAML 1.1
        return f"write {shown} without quotes"
    return f"{value!r} is text in YAML: write {shown}"


def _number_of(text: str) -> int | float | None:
    """The number that a text stands for in Python, JSON or YAML 1.2; None if it is none."""
    if len(text) > 60:
        return None
    try:
        return int(text, 0)  # such as 0o17
    except ValueError:
        pass
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
