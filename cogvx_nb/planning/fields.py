"""The fields of a request, each declared once; every way in takes its offer and checks from here.

The command line makes its flags of them, notebook 03 its parameters, the workbench its form, a
sweep its checks, a sidecar and the index their columns, and a comparison its rows.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping

from ..checkpoints.registry import MAX_STEPS, SIZE_MULTIPLE
from ..errors import RequestError
from .field import (
    CHECKS,
    CLIP,
    INPUT,
    PICTURE,
    PLAN,
    PROMPT,
    SEED,
    SOURCE,
    VIDEO,
    Field,
)
from .guidance import SCHEDULES as GUIDANCE
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


_SIZE = {"kind": int, "default": None, "least": SIZE_MULTIPLE, "most": 4096}
_TEXT = {"kind": str, "default": "", "most": MAX_PROMPT, "section": PROMPT, "wildcards": True}
_SEED = {"kind": int, "least": RANDOM_SEED, "most": MAX_SEED, "seed": True}
_CHECK = {"kind": bool, "default": False, "decides": CHECKS}
_FILE = {"kind": str, "default": "", "most": 4096, "section": INPUT}

_ROWS = (
    Field("prompt", help="what the video should show", required=True, **_TEXT),
    Field("negative_prompt", help="what it should not show", **_TEXT),
    Field("image", help="a picture that the video begins with: a file", media=PICTURE, **_FILE),
    Field("last_image", help="a picture that it ends with", media=PICTURE, **_FILE),
    Field(
        "video", help="a clip to change by the prompt, or to follow: a file", media=CLIP, **_FILE
    ),
    Field(
        "extend",
        help="a clip to go on from, by as many new frames: a file, or a result's name",
        media=CLIP,
        **_FILE,
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
        "lora",
        str,
        "",
        "LoRA files with their weights: NAME:0.8, a file's or one in models/loras/",
        most=10_000,
        section=INPUT,
        many=True,
    ),
    Field(
        "frames",
        int,
        13,
        "13, 25, 49, or another 8 N + 1 up to 49; CogVideoX1.5: 16 N + 1 up to 161; "
        "Fun-V1.5: 8 N + 5 up to 85; of text alone more, up to 961",
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
        "guidance_schedule",
        str,
        AUTO,
        f"guidance over the steps: auto, which is the authors' or else constant, "
        f"{', '.join(GUIDANCE)}",
        choices=(AUTO, *GUIDANCE),
    ),
    Field(
        "guidance_interval",
        str,
        "",
        "shares of the steps between which there is guidance, such as 0.2-0.8; empty for all",
        most=40,
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
        "auto, sdpa, flash4, sage1, or a backend of diffusers such as xformers",
        PLAN,
        most=100,
    ),
    Field(
        "gpus",
        str,
        AUTO,
        "GPUs that share a video's steps: auto, how many, or their indices such as 0,2",
        PLAN,
        most=300,
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

TEMPLATED = tuple(field.name for field in _ROWS if field.wildcards)
"""Names of the fields that may be templates of wildcards."""

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
