r"""Templates of prompts: ``{red|blue}`` and ``__colour__`` become one text, which the seed decides.

The language is that of the extension dynamic-prompts for AUTOMATIC1111's web UI (its
docs/SYNTAX.md), without variables and samplers:

- ``{red|blue}`` picks one, ``{2::red|blue}`` red twice as often as blue.
- ``{2$$a|b|c}`` picks two different ones, joined by ", "; ``{1-2$$ and $$a|b|c}`` one or two,
  joined by " and ". ``{2-$$…}`` and ``{-2$$…}`` leave one end open.
- ``__colour__`` picks an entry of a file, see ``wildcard_files``; ``{2$$__colour__}`` picks two.
- Parts and entries may hold others. A backslash makes a character a plain one: ``\{``.

Other braces are text. Expanding a text that came of a template leaves it as it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from .wildcard_files import Wildcards
from .wildcard_syntax import (
    MOST_NESTED,
    File,
    Option,
    Pick,
    check_room,
    escape,
    file_of,
    is_template,
    read_option,
    refuse,
)

MOST_PICKS = 200
"""Picks of one template: entries that name files can double at each of them."""

MOST_CHARACTERS = 2000
"""Of the text: ``fields.MAX_PROMPT``."""


def expand(template: str, seed: int) -> str:
    r"""The text that a seed makes of a template; of other texts themselves.

    Characters after a backslash keep it, and what would be read as a template again gets one.

    Raises:
        RequestError: with the part that can't be read or made, whatever the seed.
    """
    option = read_option(template, weighted=False)
    if not is_template(template):
        return template
    files = Wildcards()
    _check(option, files, (), set())
    return escape(_Draw(seed, files).text(option))


def _check(option: Option, files: Wildcards, trail: tuple[str, ...], done: set[str]) -> None:
    """Raise RequestError for what some seed could meet: a file that isn't there, files in a circle,
    and more picks than entries."""
    for part in _walk(option):
        if isinstance(part, Pick):
            if file := file_of(part):
                check_room(part, files.options(file.name))
            continue
        for name in files.find(part.name):
            if name in trail:
                circle = " → ".join((*trail[trail.index(name) :], name))
                raise refuse(f"__{name}__", f"leads back to itself: {circle}; take one of them out")
            if len(trail) >= MOST_NESTED:
                raise refuse(f"__{name}__", f"is more than {MOST_NESTED} files deep")
            if name not in done:
                for entry in files.entries(name):
                    _check(entry, files, (*trail, name), done)
                done.add(name)


def _walk(option: Option) -> Iterator[File | Pick]:
    for part in option.parts:
        if not isinstance(part, str):
            yield part
        if isinstance(part, Pick):
            for one in part.options:
                yield from _walk(one)


class _Draw:
    """Picks by a seed. Only ``random()`` is used, whose numbers are the same in every Python."""

    def __init__(self, seed: int, files: Wildcards) -> None:
        self._random = random.Random(f"wildcards {seed}").random
        self._files, self._picks, self._characters = files, 0, 0

    def text(self, option: Option) -> str:
        return "".join(self._part(part) for part in option.parts)

    def _part(self, part: str | File | Pick) -> str:
        if isinstance(part, str):
            self._characters += len(part)
            if self._characters > MOST_CHARACTERS:
                raise refuse(f"{part[:40]}", f"makes more than {MOST_CHARACTERS} characters")
            return part
        pick = Pick((Option((part,)),), text=f"__{part.name}__") if isinstance(part, File) else part
        file = file_of(pick)
        options = [*(self._files.options(file.name) if file else pick.options)]
        options = [option for option in options if option.weight > 0]
        most = len(options) if pick.most is None else pick.most
        count = pick.least + int(self._random() * (most - pick.least + 1))
        return pick.separator.join(self.text(self._take(options)) for _ in range(count))

    def _take(self, options: list[Option]) -> Option:
        """One of them, by weight, which is taken out."""
        self._picks += 1
        if self._picks > MOST_PICKS:
            raise refuse("the template", f"takes more than {MOST_PICKS} picks: make it smaller")
        left = self._random() * sum(option.weight for option in options)
        for place, option in enumerate(options):
            left -= option.weight
            if left < 0:
                return options.pop(place)
        return options.pop()
