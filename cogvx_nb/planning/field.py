"""A field of a request: what it takes, and how a value of it is checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

from ..errors import RequestError, did_you_mean
from ..loras.entries import join_loras

FRAMES, PLAN, CHECKS, SOURCE = "frames", "plan", "checks", "source"
"""What a field decides: the frames, how they are computed, what is accepted, or where checkpoint
and prompt come from."""

PROMPT, INPUT, VIDEO, SEED, DETAILS = "prompt", "input", "video", "seed", "details"
"""Sections of the workbench's form, in their order; the last one is folded."""

PICTURE, CLIP = "picture", "clip"
"""What a field that names a file takes."""


@dataclass(frozen=True, slots=True)
class Field:
    """A value that a user gives."""

    name: str
    kind: type  # str, int, float or bool
    default: object  # None: the checkpoint's own value
    help: str  # a line for --help, tooltips, the notebook's comments and the docs
    decides: str = FRAMES
    least: float = -math.inf  # inclusive, of a number
    most: float = math.inf  # inclusive; of a text its characters
    choices: tuple[str, ...] = ()  # of a text; all texts where empty
    required: bool = False  # a blank text is refused
    alias: str = ""  # the keyword of diffusers' pipelines, where it is another
    section: str = DETAILS  # of the workbench's form
    seed: bool = False  # it seeds noise: ``RANDOM_SEED`` draws one
    media: str = ""  # ``PICTURE`` or ``CLIP`` where it names a file of one
    tunes: tuple[str, ...] = ()  # names of the fields of which one must be given for it to act
    wildcards: bool = False  # its braces are picks, of which the seed makes a text
    many: bool = False  # a text of several values; Python takes a list, and the flag is repeated

    @property
    def flag(self) -> str:
        """The option of the command line."""
        return f"--{self.name.replace('_', '-')}"

    def check(self, value: object, hint: str = "") -> object:
        """The value, if it is of the field's kind and within its bounds.

        Args:
            hint: the remedy for a number out of bounds, where there is a better one than these.

        Raises:
            RequestError: with the value and the remedy.
        """
        if value is None and self.default is None:
            return None
        if self.many and isinstance(value, list | tuple):
            value = join_loras(value)
        if self.kind is str:
            self._check_text(value)
        elif self.kind is bool:
            if not isinstance(value, bool):
                raise RequestError(self.name, value, "must be true or false")
        else:
            self._check_number(value, hint)
        return self.kind(value)

    def _check_text(self, value: object) -> None:
        if not isinstance(value, str):
            raise RequestError(self.name, value, "must be text")
        if self.required and not value.strip():
            raise RequestError(self.name, value, "is empty; describe what the video should show")
        if len(value) > self.most:
            remedy = f"has {len(value)} characters; at most {self.most}"
            raise RequestError(self.name, value, remedy)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RequestError(self.name, value, "is not valid Unicode text") from error
        if self.choices and value not in self.choices:
            choices = ", ".join(filter(None, self.choices))
            hint = did_you_mean(value, filter(None, self.choices))
            raise RequestError(self.name, value, f"use one of {choices}{hint}")

    def _check_number(self, value: object, hint: str) -> None:
        kind = Integral if self.kind is int else Real
        if isinstance(value, bool) or not isinstance(value, kind):
            whole = "whole " if self.kind is int else ""
            raise RequestError(self.name, value, f"must be a {whole}number")
        # In this order: a whole number beyond floats can be compared with one, not made one.
        if not self.least <= value <= self.most or not math.isfinite(value):
            remedy = hint or f"must be between {self.least} and {self.most}"
            raise RequestError(self.name, value, remedy)
