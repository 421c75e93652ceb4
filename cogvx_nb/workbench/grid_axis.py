"""The sides of a grid: what varies along each, and what that makes of a request's values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from ..checkpoints.registry import SIZE_MULTIPLE, Checkpoint
from ..errors import RequestError, did_you_mean
from ..planning import inputs
from ..planning.field import FRAMES, PLAN, Field
from ..planning.fields import FIELDS, names_deciding
from ..results.typed import OneOf
from ..text import full_number, telling_end
from . import grid_loras
from .grid_loras import LORA, LORA_WEIGHT
from .grid_values import NONE, parse_values, write_list, write_value
from .lora_rows import kept_loras

PROMPT, WORDS = "prompt", "prompt words"
"""Sides that vary the prompt: as a whole, or some words of it."""

FALLBACK = "fallback"  # decides only what happens where memory runs out

OFFERED = (
    PROMPT,
    WORDS,
    LORA_WEIGHT,
    *(n for n in names_deciding(FRAMES, PLAN) if n not in (PROMPT, FALLBACK)),
    "model",
)
"""Names of what can vary along a side."""

SHORT_HASH = 8
"""Digits of a kept file's hash that tell it from another of its name."""

MOST_SUGGESTED = 3
"""Words of the prompt that a message names."""


@dataclass(frozen=True, slots=True)
class GridAxis:
    """What varies along a side of a grid; nothing where the name is empty."""

    name: Annotated[str, OneOf(("", WORDS, LORA_WEIGHT, *FIELDS))]
    values: tuple[object, ...]
    replaces: str = ""  # of ``WORDS`` those in the prompt; of ``LORA_WEIGHT`` the LoRA's name
    files: tuple[str, ...] = ()  # of pictures and clips: what tells each from the others

    @property
    def title(self) -> str:
        """What the side is called."""
        replacing = self.name in (WORDS, LORA_WEIGHT)
        return f"{self.name}: {self.replaces}" if replacing else axis_title(self.name)

    @property
    def labels(self) -> tuple[str, ...]:
        """Of each value."""
        if self.name in ("", PROMPT, WORDS):
            return tuple(map(str, self.values))
        if self.name == LORA_WEIGHT:
            return tuple(grid_loras.weight_label(self.replaces, value) for value in self.values)
        if self.name == LORA:
            return tuple(map(grid_loras.lora_label, self.values))
        values = self.values
        if FIELDS[self.name].media:
            values = self.files if len(self.files) == len(values) else _telling_names(values)
        return tuple(f"{axis_title(self.name)} {_value_label(value)}" for value in values)

    @property
    def text(self) -> str:
        """The list that ``parse_axis`` reads as these values."""
        return ("\n" if self.name == PROMPT else ", ").join(self.written)

    @property
    def written(self) -> tuple[str, ...]:
        """Each value as the list has it."""
        return tuple(map(write_value, self.values))

    def kept(self) -> GridAxis:
        """The side with its pictures and clips by the names under which they are kept: the same
        ones whatever becomes of the files that were given.

        Raises:
            RequestError: for one that can't be used.
        """
        if self.name == LORA:
            return replace(self, values=tuple(map(kept_loras, self.values)))
        if self.name not in FIELDS or not FIELDS[self.name].media:
            return self
        given = [inputs.read_inputs({self.name: value}).get(self.name) for value in self.values]
        values = tuple(inputs.named_value(file.value, file.name) if file else "" for file in given)
        return replace(self, values=values, files=_telling_names(self.values))


EMPTY = GridAxis("", ("",))
"""A side along which nothing varies."""


def axis_title(name: str) -> str:
    return name.replace("_", " ")


def _telling_names(values: Sequence[object]) -> tuple[str, ...]:
    """Names of files, each after the folders that tell it from others of that name; of a kept one,
    which has none, after the start of its hash."""
    parts = []
    for value in map(str, values):
        kept_as, name = inputs.split_name(value)
        parts.append((Path(kept_as).stem[:SHORT_HASH], name) if name else Path(value).parts)
    return tuple(telling_end(own, parts) for own in parts)


def _value_label(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return full_number(value) if isinstance(value, float) else str(value) or NONE


def parse_axis(name: str, text: str, replaces: str = "") -> GridAxis:
    """A side from the name of what varies and the list of its values.

    Args:
        name: one of ``FIELDS``, ``WORDS``, ``LORA_WEIGHT``, or empty for ``EMPTY``.
        text: see ``grid_values.parse_values``.
        replaces: of ``WORDS`` which ones of the prompt, by default the first value; of
            ``LORA_WEIGHT`` the name of the LoRA.

    Raises:
        RequestError: with the part that is not a value, or is there twice.
    """
    if not name:
        return EMPTY
    if name == WORDS:
        values = parse_values(_WORDS_FIELD, text)
        return GridAxis(WORDS, values, replaces.strip() or values[0])
    if name == LORA_WEIGHT:
        return GridAxis(name, parse_values(grid_loras.WEIGHTS, text), replaces.strip())
    if name not in FIELDS:
        near = did_you_mean(name, OFFERED)
        several = ", ".join(OFFERED[:3])
        raise RequestError("grid", name, f"vary one of {several}, or a field of a request{near}")
    return GridAxis(name, parse_values(FIELDS[name], text))


_WORDS_FIELD = Field(WORDS, str, "", "words of the prompt", most=FIELDS[PROMPT].most, required=True)


def apply_axes(axes: Sequence[GridAxis], chosen: Sequence[object], values: dict) -> dict:
    """The values of a request with one value of each side.

    Raises:
        RequestError: if the words to replace don't stand in the prompt, or a LoRA isn't given.
    """
    changed, words, weights = dict(values), {}, {}
    for axis, value in zip(axes, chosen, strict=True):
        if axis.name == WORDS:
            words[axis.replaces] = value
        elif axis.name == LORA_WEIGHT:
            weights[axis.replaces] = value
        elif axis.name:
            changed[axis.name] = value
    if weights:
        changed[LORA] = grid_loras.with_weights(str(changed.get(LORA, "")), weights)
    if words:
        changed[PROMPT] = replace_words(changed[PROMPT], words)
    if any(axis.name in (PROMPT, WORDS) for axis in axes):
        changed["enriched_from"] = ""  # that was another prompt
    return changed


JOINED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
JOINED += "\U00020000-\U0003ffff"
"""Letters of languages that are written without spaces, or with endings joined to words: Thai, Lao,
Burmese, Khmer, Chinese, Japanese and Korean."""

SPACED = f"(?:[^\\W{JOINED}]|[\u0300-\u036f])"
"""A letter, digit or accent of the other languages."""


def whole_words(words: str) -> re.Pattern:
    """Matches some words where they aren't parts of longer ones: ``cat``, but not in
    ``catalogue``."""
    before = f"(?<!{SPACED})" if re.match(SPACED, words) else ""
    after = f"(?!{SPACED})" if re.match(SPACED, words[-1:]) else ""
    return re.compile(before + re.escape(words) + after)


def replace_words(prompt: str, words: dict[str, str]) -> str:
    """A prompt with some of its words replaced, all at once: what replaces one isn't replaced.

    Raises:
        RequestError: if some don't stand in it as whole words.
    """
    for word in words:
        if not whole_words(word).search(prompt):
            hint = " or ".join(repr(near) for near in _near_words(prompt, word))
            what = f"name a word of it, such as {hint}" if hint else "which is empty"
            remedy = f"is not in the prompt: {what}"
            raise RequestError(WORDS, word, remedy)
    longest_first = sorted(words, key=len, reverse=True)
    pattern = re.compile("|".join(whole_words(word).pattern for word in longest_first))
    return pattern.sub(lambda match: words[match[0]], prompt)


def _near_words(prompt: str, word: str) -> list[str]:
    """Words of a prompt that may have been meant; its first ones where none is near."""
    found = list(dict.fromkeys(re.findall(r"\w+", prompt)))
    folded = {one.casefold(): one for one in found}
    near = difflib.get_close_matches(word.casefold(), folded, 3, 0.6)
    first = [one for one in found if len(one) > 2] or found
    return [folded[one] for one in near] or [one[:20] for one in first[:MOST_SUGGESTED]]


def axis_choices(
    checkpoint: Checkpoint, models: Sequence[str] = (), loras: Sequence[str] = ()
) -> Iterator[dict[str, object]]:
    """What can vary, for a page: its name, title, kind, an example, the choices and a help.

    Args:
        checkpoint: the chosen one, whose sizes and numbers of frames are the examples.
        models: names of the checkpoints on this machine.
        loras: names of the LoRAs of the form.
    """
    for name in OFFERED:
        field = _OTHER_FIELDS.get(name) or FIELDS[name]
        named = {"model": models, LORA_WEIGHT: loras}
        choices = named.get(name, [choice or NONE for choice in field.choices])
        yield {
            "name": name,
            "title": "whole prompts" if name == PROMPT else axis_title(name),
            "kind": field.kind.__name__,
            "example": _EXAMPLES.get(name) or _example(field, checkpoint, choices),
            "choices": list(choices),
            "help": _HELP.get(name, field.help),
        }


_OTHER_FIELDS = {WORDS: _WORDS_FIELD, LORA_WEIGHT: grid_loras.WEIGHTS}

_EXAMPLES = {
    PROMPT: '"a cat, asleep", a dog',
    WORDS: 'red, blue, "dark green"',
    "negative_prompt": '"", blurry',
    LORA: 'outline:0.5, "outline:1, shadow:0.5"',
    LORA_WEIGHT: "0, 0.5, 1",
    "image": "first.png, second.png",
    "last_image": "first.png, second.png",
    "video": "first.mp4, second.mp4",
    "extend": "first.mp4, second.mp4",
    "guidance_interval": "0-1, 0.2-0.8",
    "seed": "42-45",
    "steps": "20-50:10",
}

_HELP = {
    LORA: "each is a LoRA with its weight, or several in quotes",
    LORA_WEIGHT: "weights of one LoRA of the page Make",
    PROMPT: "one a line, or with commas between them and quotes around those with commas",
    WORDS: "each replaces the named words of the prompt, or else the first of these",
}


def _example(field: Field, checkpoint: Checkpoint, choices: Sequence[str]) -> str:
    if field.kind is bool:
        return "yes, no"
    if field.kind is str:
        return ", ".join(choices[:3]) or str(field.default)
    own = getattr(checkpoint, field.name, field.default)
    if isinstance(own, tuple):
        return write_list(own)
    least = own if isinstance(own, int | float) else 1
    step = SIZE_MULTIPLE if field.default is None else 1
    return write_list((_short(least), _short(min(least + step, field.most))))


def _short(value: float) -> float:
    return int(value) if value == int(value) else value
