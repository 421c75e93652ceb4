"""The fields of a request, each declared once; every way in takes its offer and checks from here.

The command line makes its flags of them, notebook 03 its parameters, the workbench its form, a
sweep its checks, a sidecar and the index their columns, and a comparison its rows.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real

from ..checkpoints.registry import MAX_STEPS, SIZE_MULTIPLE
from ..errors import RequestError, did_you_mean
from .schedulers import SCHEDULERS
from .speedups import AUTO, SPEEDS

MAX_SEED = 2**53 - 1
"""The largest whole number that a browser's number field can hold."""

RANDOM_SEED = -1
"""Asks for a seed that is drawn; the drawn one is what is used and recorded."""

DRAWN_BELOW = 2**31
"""Drawn seeds are below this: short enough to read, and a seed of other programs too."""

MAX_PROMPT = 2000
"""Characters. The 5B reads 226 tokens, about 1,000 characters; the mp4 carries the prompt too."""

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


_SIZE = {"kind": int, "default": None, "least": SIZE_MULTIPLE, "most": 4096}
_TEXT = {"kind": str, "default": "", "most": MAX_PROMPT}
_SEED = {"kind": int, "least": RANDOM_SEED, "most": MAX_SEED, "seed": True}
_CHECK = {"kind": bool, "default": False, "decides": CHECKS}
_FILE = {"kind": str, "default": "", "most": 4096, "section": INPUT}

_ROWS = (
    Field("prompt", help="what the video should show", required=True, section=PROMPT, **_TEXT),
    Field("negative_prompt", help="what it should not show", section=PROMPT, **_TEXT),
    Field("image", help="a picture that the video begins with: a file", media=PICTURE, **_FILE),
    Field("last_image", help="a picture that it ends with", media=PICTURE, **_FILE),
    Field(
        "video", help="a clip to change by the prompt, or to follow: a file", media=CLIP, **_FILE
    ),
    Field(
        "strength",
        float,
        0.8,
        "how much of the clip is changed: the share of the steps that are done",
        least=0.01,
        most=1,
        section=INPUT,
        tunes=("video",),
    ),
    Field(
        "video_start",
        float,
        0.0,
        "seconds of the clip that are skipped",
        least=0,
        most=86_400,
        section=INPUT,
        tunes=("video",),
    ),
    Field(
        "fit",
        str,
        "crop",
        "how pictures and clips are fitted to the video: crop, pad or stretch",
        choices=("crop", "pad", "stretch"),
        section=INPUT,
        tunes=("image", "video"),
    ),
    Field(
        "image_scale",
        str,
        "trained",
        "scale of a picture's latents: trained, or diffusers, whose is another for CogVideoX1.5",
        choices=("trained", "diffusers"),
        tunes=("image",),
    ),
    Field(
        "frames",
        int,
        13,
        "13, 25, 49, or another 8 N + 1 up to 49; CogVideoX1.5: 16 N + 1 up to 161; "
        "Fun-V1.5: 8 N + 5 up to 85",
        least=1,
        most=10_000,
        alias="num_frames",
        section=VIDEO,
    ),
    Field(
        "steps", int, 50, "denoising steps", least=1, most=MAX_STEPS, alias="num_inference_steps"
    ),
    Field("height", help="pixels; by default the model's native height", **_SIZE),
    Field("width", help="pixels; by default the model's native width", **_SIZE),
    Field(
        "guidance",
        float,
        6.0,
        "classifier-free guidance scale; 1 and below is off",
        least=0,
        most=100,
        alias="guidance_scale",
    ),
    Field(
        "scheduler",
        str,
        AUTO,
        f"auto, which is the checkpoint's own, {', '.join(SCHEDULERS)}",
        choices=(AUTO, *SCHEDULERS),
    ),
    Field(
        "seed",
        default=42,
        help="the same seed makes the same video; -1 draws one at random",
        section=SEED,
        **_SEED,
    ),
    Field(
        "variation_seed",
        default=0,
        help="the seed whose noise is mixed in by variation_strength; -1 draws one",
        **_SEED,
    ),
    Field(
        "variation_strength",
        float,
        0.0,
        "how far the noise is turned towards variation_seed's: 0 not at all, 1 all the way",
        least=0,
        most=1,
    ),
    Field("model", str, "auto", "a checkpoint's name, its folder, or auto", SOURCE, section=VIDEO),
    Field(
        "speed",
        str,
        "exact",
        "exact, fast or turbo; turbo is approximate",
        PLAN,
        choices=tuple(SPEEDS),
        section=VIDEO,
    ),
    Field(
        "attention",
        str,
        AUTO,
        "auto, sdpa, flash4, or a backend of diffusers such as sage",
        PLAN,
        most=100,
    ),
    Field(
        "fallback",
        str,
        "",
        "reduce: 13 frames (CogVideoX1.5: 17) and 20 steps where memory runs out",
        PLAN,
        choices=("", "reduce"),
    ),
    Field("strict", help="refuse instead of adjusting", **_CHECK),
    Field("allow_untrained_size", help="accept any multiple of 16 as a size", **_CHECK),
    Field("allow_unknown", help="accept a prompt that the model can't read", **_CHECK),
    Field("enrich", bool, False, "let a chat model translate and expand the prompt", SOURCE),
)

FIELDS: dict[str, Field] = {field.name: field for field in _ROWS}
"""By name, in the order in which they are shown."""

SEEDS = tuple(field.name for field in _ROWS if field.seed)
"""Names of the fields that take ``RANDOM_SEED``."""

INPUTS = tuple(field.name for field in _ROWS if field.media)
"""Names of the fields that name files."""

ALIASES = {field.alias: field.name for field in _ROWS if field.alias}


@functools.cache
def names_deciding(*kinds: str) -> tuple[str, ...]:
    """Names of the fields that decide ``FRAMES``, ``PLAN``, ``CHECKS`` or ``SOURCE``."""
    return tuple(name for name, field in FIELDS.items() if field.decides in kinds)


def values_from(namespace: Mapping[str, object]) -> dict[str, object]:
    """Those fields that a namespace has, such as the parameters of a notebook in its globals()."""
    return {name: namespace[name] for name in FIELDS if name in namespace}


def complete_values(values: Mapping[str, object]) -> dict[str, object]:
    """All fields: as given, checked one by one, or else by default. Takes diffusers' names too.

    Raises:
        RequestError: for an unknown name, one that is given twice, or a bad value.
    """
    given: dict[str, object] = {}
    for key, value in values.items():
        name = ALIASES.get(key, key)
        if name not in FIELDS:
            near = difflib.get_close_matches(str(key)[:60], [*FIELDS, *ALIASES], 1)
            remedy = f"did you mean {near[0]!r}" if near else "cogvx generate --help has them"
            raise RequestError(key, value, f"is no field of a request; {remedy}")
        if name in given:
            raise RequestError(key, value, f"is given twice, as {name} too")
        given[name] = value
    complete = {name: given.get(name, field.default) for name, field in FIELDS.items()}
    return {name: FIELDS[name].check(value) for name, value in complete.items()}
