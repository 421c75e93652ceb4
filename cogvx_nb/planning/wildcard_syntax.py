"""Reading templates of prompts: what is picked, of what; see ``wildcards``."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from ..errors import RequestError

MOST_NESTED = 20
"""Braces within braces, and files that name files."""

_TOKEN = re.compile(
    r"\\.|[{}|]|__(?P<name>[^\s_{}|\[\]$\\,;:]+(?:_[^\s_{}|\[\]$\\,;:]+)*)__", re.DOTALL
)
_COUNT = re.compile(r"(?:(\d{1,4})?(-)(\d{1,4})?|(\d{1,4}))\$\$(?:([^$]*)\$\$)?")
_VARIABLE = re.compile(r"\s*\w+\s*=")
_WEIGHT = re.compile(r"\s*(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})::")


@dataclass(frozen=True, slots=True)
class File:
    """An entry of a file, or of all that match."""

    name: str


@dataclass(frozen=True, slots=True)
class Option:
    """Parts that may be picked, with a weight of 0 or more."""

    parts: tuple[str | File | Pick, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Pick:
    """So many different ones of some options."""

    options: tuple[Option, ...]
    least: int = 1
    most: int | None = 1  # None: all
    separator: str = ", "
    text: str = ""  # as it was typed


def is_template(text: str) -> bool:
    """Whether a text has something to pick, or a mistake in it."""
    try:
        return any(not isinstance(part, str) for part in read_option(text, weighted=False).parts)
    except RequestError:
        return True


def escape(text: str) -> str:
    """A text that is read as it is, whatever braces and underscores it has."""
    if not is_template(text):
        return text
    marked = {"{": r"\{", "__": r"\_\_"}
    return re.sub(r"\\.|\{|__", lambda match: marked.get(match[0], match[0]), text, flags=re.DOTALL)


def without_picks(text: str) -> str:
    """A text whose picks are blanks, so that all else keeps its place, in UTF-16 too."""
    places = _picks(text)
    parts = (" " * (1 + (c > "\uffff")) if n in places else c for n, c in enumerate(text))
    return "".join(parts)


def refuse(part: str, remedy: str) -> RequestError:
    """The error of a part of a prompt."""
    return RequestError("prompt", part, remedy)


@functools.lru_cache(maxsize=256)
def read_option(text: str, weighted: bool = True) -> Option:
    """What a text is made of, joined text by text.

    Args:
        weighted: whether it may begin with a weight, as an entry of a file may.

    Raises:
        RequestError: for a brace that isn't closed, or that can't be what it seems.
    """
    opened: list[tuple[int, list[list]]] = [(0, [[]])]  # place of each brace, its options
    end = 0
    for match in _TOKEN.finditer(text):
        token, parts = match[0], opened[-1][1][-1]
        parts.append(text[end : match.start()])
        end = match.end()
        if match["name"]:
            parts.append(File(match["name"]))
        elif token == "{":
            if len(opened) > MOST_NESTED:
                raise refuse(text[:40], f"has more than {MOST_NESTED} braces in one another")
            _refuse_variable(text, match.start())
            opened.append((match.start(), [[]]))
        elif token == "|" and len(opened) > 1:
            opened[-1][1].append([])
        elif token == "}" and len(opened) > 1:
            start, options = opened.pop()
            opened[-1][1][-1] += _closed(text[start:end], options)
        else:
            parts.append(token)
    opened[-1][1][-1].append(text[end:])
    while len(opened) > 1:
        start, options = opened.pop()
        if len(options) > 1 or _count(options):
            raise refuse(text[start : start + 40], r"isn't closed by }; write \{ for a plain brace")
        opened[-1][1][-1] += ["{", *options[0]]
    return _option(opened[0][1][0], weighted)


def _refuse_variable(text: str, brace: int) -> None:
    if text[brace - 1 : brace] == "$" and _VARIABLE.match(text, brace + 1):
        raise refuse(text[brace - 1 : brace + 40], "sets a variable, which isn't known here")


def _picks(text: str) -> set[int]:
    """Places of the characters that belong to picks: those of files, and from brace to brace."""
    places, opened = set(), []
    for match in _TOKEN.finditer(text):
        if match["name"]:
            places.update(range(*match.span()))
        elif match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            start = opened.pop()
            if is_template(text[start : match.end()]):
                places.update(range(start, match.end()))
    return places


def _closed(typed: str, options: list[list]) -> list:
    """What is between two braces: a pick, or text."""
    count = _count(options)
    if count is None and len(options) == 1:
        return ["{", *options[0], "}"]
    least, most, separator = 1, 1, ", "
    if count:
        options[0] = [_joined(options[0])[0][count.end() :], *_joined(options[0])[1:]]
        least = int(count[1] or count[4] or 1)
        most = int(count[4] or count[3] or 0) if count[4] or count[3] else None
        separator = separator if count[5] is None else count[5]
    pick = Pick(tuple(_option(one) for one in options), least, most, separator, typed)
    if most is not None and least > most:
        raise refuse(typed, f"picks from {least} to {most}: give the smaller number first")
    if file_of(pick) is None:
        check_room(pick, pick.options)
    return [pick]


def _count(options: list[list]) -> re.Match | None:
    """How many are picked, where that is said."""
    first = _joined(options[0])
    return _COUNT.match(first[0]) if first and isinstance(first[0], str) else None


def _joined(parts: list) -> list:
    joined: list = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return joined


def _option(parts: list, weighted: bool = True) -> Option:
    parts, weight = _joined(parts), None
    if weighted and parts and isinstance(parts[0], str):
        weight = _WEIGHT.match(parts[0])
    if not weight:
        return Option(tuple(parts))
    return Option((parts[0][weight.end() :], *parts[1:]), float(weight[1]))


def file_of(pick: Pick) -> File | None:
    """The file whose entries are picked, if nothing else is."""
    parts = pick.options[0].parts
    alone = len(pick.options) == 1 and len(parts) == 1 and isinstance(parts[0], File)
    return parts[0] if alone else None


def check_room(pick: Pick, options: tuple[Option, ...]) -> None:
    """Raise RequestError if more are picked than there are."""
    there = sum(option.weight > 0 for option in options)
    if not there:
        raise refuse(pick.text, "has weights of 0 alone: give one of them more")
    if max(pick.least, pick.most or 0) > there:
        wanted = max(pick.least, pick.most or 0)
        raise refuse(pick.text, f"picks {wanted} of {there}: pick at most {there}")
