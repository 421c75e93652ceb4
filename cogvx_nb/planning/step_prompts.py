r"""Prompts that change while a clip is denoised: ``[A:B:0.4]`` is A for the first 40 % of the
steps, then B.

The notation is that of AUTOMATIC1111's web UI for pictures (its wiki, Features, Prompt editing). A
number above 1 is a number of steps. A and B may be empty, and hold such brackets themselves. A
backslash makes a bracket or a colon a plain one: ``\[``. Other brackets are text: those with less
than two colons, and times such as ``[00:12:30]``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..checkpoints.registry import MAX_STEPS
from ..errors import RequestError
from ..text import plain_line

MOST_TEXTS = 20
"""Texts that a prompt may become one after another; each is encoded and kept, 3.5 MiB a pair with
T5 XXL."""

MOST_NESTED = 50
"""Brackets around a change, which is far below what Python's recursion bears."""

REMEDY = r"write [A:B:0.4], or \[ for a bracket that is text"

_ESCAPED = re.compile(r"\\([\[\]:\\{}|$_])")  # those of wildcards too
_TIME = re.compile(r"\[\s*\d+\s*:\s*\d+\s*:\s*\d+([.,]\d+)?\s*\]")
_NUMBER = re.compile(r"\s*(\d+|\d*\.\d+)\s*")
_TRAVEL = re.compile(r"""^\s*["']?\d+["']?\s*:.*?[,|\n]\s*["']?\d+["']?\s*:""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class StepText:
    """What a prompt is for some of the steps."""

    text: str
    places: tuple[int, ...]  # of each UTF-16 unit, in the prompt as it was typed


@dataclass(frozen=True, slots=True)
class _Change:
    """One part until a step, then another: lists of places of characters, and of changes."""

    before: list
    after: list
    number: float

    def step(self, steps: int) -> int:
        """The first step, from 0, that has the second part."""
        return round(self.number * steps) if self.number <= 1 else int(self.number)


def texts_by_step(prompt: str, steps: int, field: str = "prompt") -> dict[int, StepText]:
    """The texts of a prompt, by the first step (from 0) that each is for.

    Args:
        steps: that are done, at least 1.
        field: that the prompt is given in, for messages.

    Raises:
        RequestError: for brackets with two colons and no number, or too many texts.
    """
    parts = _read(prompt, field)
    changes = {0, *(change.step(steps) for change in _changes(parts))}
    texts: dict[int, StepText] = {}
    last = None
    for step in sorted(step for step in changes if step < steps):
        places = list(_places(parts, step, steps))
        if (text := "".join(prompt[place] for place in places)) != last:
            texts[step], last = StepText(text, _units(prompt, places)), text
    if len(texts) > MOST_TEXTS:
        remedy = f"changes {len(texts) - 1} times: at most {MOST_TEXTS - 1}"
        raise RequestError(field, prompt, remedy)
    return texts


def texts_together(*prompts: Mapping[int, StepText]) -> dict[int, tuple[str, ...]]:
    """The texts of several prompts at each step at which one of them changes."""
    steps = sorted({step for texts in prompts for step in texts})
    return {
        step: tuple(texts[max(one for one in texts if one <= step)].text for texts in prompts)
        for step in steps
    }


def notes(prompt: str, steps: int, kind: str) -> tuple[str, ...]:
    """What of a prompt can't act: a change after the last step, and a prompt for each frame.

    Args:
        kind: what the prompt is called.
    """
    late = [one.number for one in _changes(_read(prompt)) if one.step(steps) >= steps]
    said = tuple(
        f"the {kind} changes after {number:g} steps, and {steps} are done: give a number below"
        if number > 1
        else f"the {kind} changes after the last of {steps} steps: give a number below 1"
        for number in late
    )
    if _TRAVEL.match(prompt):
        said += (
            f"the {kind} names frames, and the model has one text for all frames of a clip: make "
            "a storyboard with a row for each text, or change it by steps, as in [A:B:0.4]",
        )
    return said


def escape(prompt: str) -> str:
    """A prompt that means the text of another one, whatever brackets that has."""
    try:
        parts = _read(prompt)
    except RequestError:
        parts = []
    if parts == list(range(len(prompt))):
        return prompt
    return re.sub(r"([\[\]\\])", r"\\\1", prompt)


@functools.lru_cache(maxsize=64)
def _read(prompt: str, field: str = "prompt") -> list:
    """Places of the characters, and changes."""
    return _parts(prompt, 0, len(prompt), _brackets(prompt, field))


def _parts(prompt: str, start: int, end: int, brackets: dict[int, tuple[int, int, int]]) -> list:
    """The same between two places, by the brackets that are changes."""
    parts: list = []
    place = start
    while place < end:
        if place in brackets:
            first, second, closed = brackets[place]
            sides = (place + 1, first), (first + 1, second)
            both = [_parts(prompt, *side, brackets) for side in sides]
            parts.append(_Change(*both, float(prompt[second + 1 : closed])))
            place = closed
        else:
            place += bool(_ESCAPED.match(prompt, place, end))
            parts.append(place)
        place += 1
    return parts


def _brackets(prompt: str, field: str) -> dict[int, tuple[int, int, int]]:
    """By the place of a change's opening bracket those of both colons and of the closing one.

    Raises:
        RequestError: for one that has two colons and no number, or is in too many others.
    """
    found: dict[int, tuple[int, int, int]] = {}
    opened: list[tuple[int, list[int]]] = []
    escaped = {match.start() + 1 for match in _ESCAPED.finditer(prompt)}
    for place, character in enumerate(prompt):
        if place in escaped:
            continue
        if character == "[":
            opened.append((place, []))
        elif character == ":" and opened:
            opened[-1][1].append(place)
        elif character == "]" and opened:
            start, colons = opened.pop()
            if _is_change(prompt[start : place + 1], [colon - start for colon in colons], field):
                if len(opened) >= MOST_NESTED:
                    _refuse(prompt[start : place + 1], f"is in {len(opened)} brackets", field)
                found[start] = (*colons, place)
    for start, colons in opened:
        if len(colons) > 1 and _NUMBER.match(prompt, colons[1] + 1):
            _refuse(prompt[start : start + 40], "isn't closed by ]", field)
    return found


def _is_change(part: str, colons: list[int], field: str) -> bool:
    """Whether brackets and what is in them is a change.

    Raises:
        RequestError: if it has two colons and no number.
    """
    if len(colons) < 2 or _TIME.fullmatch(part):
        return False
    if len(colons) > 2:
        _refuse(part, f"has {len(colons)} colons", field)
    number = part[colons[1] + 1 : -1]
    if not _NUMBER.fullmatch(number) or not _is_step(float(number)):
        shown = plain_line(number.strip())[:40]
        _refuse(part, f"has {shown!r} where a share of the steps or a step should be", field)
    return True


def _is_step(number: float) -> bool:
    return number <= 1 or (number <= MAX_STEPS and number == int(number))


def _refuse(part: str, why: str, field: str) -> None:
    raise RequestError(field, part, f"{why}: {REMEDY}")


def _changes(parts: list) -> Iterator[_Change]:
    for part in parts:
        if isinstance(part, _Change):
            yield part
            yield from _changes(part.before)
            yield from _changes(part.after)


def _places(parts: list, step: int, steps: int) -> Iterator[int]:
    for part in parts:
        if isinstance(part, _Change):
            yield from _places(part.before if step < part.step(steps) else part.after, step, steps)
        else:
            yield part


def _units(prompt: str, places: list[int]) -> tuple[int, ...]:
    wide = [character > "\uffff" for character in prompt]
    starts, unit = [], 0
    for two in wide:
        starts.append(unit)
        unit += 1 + two
    return tuple(starts[place] + more for place in places for more in range(1 + wide[place]))
