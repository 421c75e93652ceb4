"""Sidecars as typed values."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field, make_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from ..loras.entries import is_kept
from ..media import kept
from ..planning.field import FRAMES
from ..planning.fields import FIELDS, INPUTS, names_deciding
from ..planning.fit import Adjustment
from ..planning.former_names import rename_choices, rename_step_cache
from ..planning.former_prompts import escape_former_prompts
from ..planning.plan import PREDICTED, RECORDED, Plan
from ..planning.request import VideoRequest
from ..planning.step_cache import SCHEDULES
from ..text import full_number
from .derived import MAX_FRAMES, RecordedFinish, RecordedPiece
from .typed import MISSING, FieldError, OneOf, Passes, Range, read_as

FORMAT = 2
"""Of the sidecars written now. Format 1 had other names in the plan: see ``rename_choices``."""

MAX_BYTES = 2**20
"""Of settings as JSON; a video's have some kilobytes."""

STAGES = ("load", "text", "encode", "compile", "denoise", "decode", "write")

ONE_TIME_STAGES = ("load", "compile")
"""Stages that the next video of a process doesn't have."""

LATE_STAGES = ("finish", "write")
"""Stages that end after the settings are put into the mp4: only the sidecar has their times."""

MAX_THREADS = 1024
"""CPU threads of torch that a sidecar can ask for: far more end the process."""


def _check_kept(value: str) -> None:
    """Raise ValueError unless a text is empty or a kept name: settings come from anywhere, and
    must not name other files of this machine."""
    if value and not kept.is_kept_name(value):
        raise ValueError


def _check_loras(value: str) -> None:
    """The same for LoRAs."""
    if not is_kept(value):
        raise ValueError


BOUNDS = {
    name: Range(FIELDS[name].least, FIELDS[name].most)
    for name in ("frames", "steps", "height", "width", "guidance")
} | {
    "fps": Range(1, 1000),
    "step_cache": OneOf(tuple(SCHEDULES)),
    "quantized": OneOf(("", "fp8", "int8", "int8_weights")),
    "dtype": OneOf(("float32", "bfloat16", "float16")),
    **{row.name: OneOf(row.choices) for row in FIELDS.values() if row.choices},
    "lora": Passes(_check_loras, "must name LoRAs by their content, or be empty"),
    **dict.fromkeys(INPUTS, Passes(_check_kept, "must be what a file is kept as, or empty")),
}
"""Of fields of a request and a plan, besides their types."""

Seconds = Annotated[float, Range(0, 1e9)]

Moment = Annotated[
    str, Passes(lambda text: datetime.fromisoformat(text).timestamp(), "must be a time in ISO 8601")
]


def _section(name: str, source: type, required: tuple[str, ...], optional: tuple[str, ...] = ()):
    """A frozen dataclass of some of another's fields; optional ones default to None, others as in
    the source."""
    hints = typing.get_type_hints(source)
    hints |= {name: Annotated[hints[name], BOUNDS[name]] for name in hints.keys() & BOUNDS.keys()}
    defaults = {entry.name: entry.default for entry in dataclasses.fields(source)}
    fields = [(key, hints[key], field(default=defaults[key])) for key in required]
    fields += [(key, hints[key] | None, field(default=None)) for key in optional]
    section = make_dataclass(name, fields, frozen=True, slots=True, kw_only=True)
    section.__module__ = __name__
    return section


REQUEST_NAMES = (*names_deciding(FRAMES), "fps")

RecordedRequest = _section("RecordedRequest", VideoRequest, REQUEST_NAMES)
"""The values of a request that decide its video, as they were run."""

RecordedPlan = _section("RecordedPlan", Plan, ("device",), (*RECORDED, *PREDICTED))
"""The choices of a plan and what it predicted; None for choices that didn't exist yet."""


@dataclass(frozen=True, slots=True)
class RecordedCheckpoint:
    """The checkpoint that made a video."""

    name: str
    folder: str = ""
    licence: str = ""
    sha256: dict[str, str] = field(default_factory=dict)  # by path in the folder


@dataclass(frozen=True, slots=True)
class RecordedInput:
    """A picture or a clip that a video was made from. The request has what it is kept as."""

    name: str  # of the file that was given
    pixels: str  # SHA-256 of its uint8 RGB frames, fitted to the video's size


@dataclass(frozen=True, slots=True)
class RecordedLora:
    """A LoRA that a video was made with."""

    name: str
    sha256: str  # of the file
    weight: float
    alpha: float  # of its first layer; divided by the rank it is the scale
    alpha_from: str  # where that stands: see ``loras.reader``; or "given"
    rank: int  # of that layer
    format: str = ""  # of the names in the file
    kept_share: float = 1.0  # part of its change that weights of the plan's precision show

    def __str__(self) -> str:
        alpha = f"alpha {full_number(self.alpha)} ({self.alpha_from})"
        return f"{self.name} ({self.sha256[:10]}), rank {self.rank}, {alpha}"


@dataclass(frozen=True, slots=True)
class RecordedMachine:
    """The machine that made a video."""

    system: str | None = None  # operating system, architecture and Python version
    cores: int | None = None
    # Of torch on the CPU; they can change the last bit.
    threads: Annotated[int, Range(1, MAX_THREADS)] | None = None
    ram_bytes: int | None = None
    gpus: tuple[str, ...] | None = None  # names


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """Everything that is recorded of a video, in the order of the JSON file.

    A field with a default may be missing in the file: sidecars from before it was recorded are read
    too. A file without one of the others is not a sidecar.
    """

    made: Moment  # ISO 8601 with offset
    request: RecordedRequest
    asked: dict[str, object] = field(default_factory=dict)  # values as given, before adjustments
    enriched_from: str = ""  # the prompt as typed, if a chat model rewrote it; else not in the file
    # As typed, by field of the request, where the seed made another text of wildcards.
    templates: dict[str, str] = field(default_factory=dict)
    adjustments: tuple[Adjustment, ...] = ()
    notes: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()  # names of the allow_… permissions that were needed
    inputs: dict[str, RecordedInput] = field(default_factory=dict)  # by field of the request
    loras: tuple[RecordedLora, ...] = ()
    # Part of the attention that was computed, over all steps; not in the file where it was all.
    attention_share: Annotated[float, Range(0, 1)] = 1.0
    # Of the video, where it has those of a source or of pieces too; else 0, and not in the file.
    all_frames: Annotated[int, Range(0, MAX_FRAMES)] = 0
    plan: RecordedPlan
    checkpoint: RecordedCheckpoint
    versions: dict[str, str | None] = field(default_factory=dict)  # None: not installed
    machine: RecordedMachine = RecordedMachine()
    seconds: dict[str, Seconds]  # of each stage; with "denoise" unless it is finished
    frame_hash: str  # SHA-256 of the frames before encoding
    content_hash: str = ""  # of the decoded mp4, see ``video.content_hash``; empty in older ones
    finished: RecordedFinish | None = None  # request, plan, machine, … are then the source's
    pieces: tuple[RecordedPiece, ...] = ()  # that it is joined of; the rest is the first one's

    @property
    def derived(self) -> bool:
        """Whether its frames are those of other results: its request didn't make them."""
        return self.finished is not None or bool(self.pieces)

    @property
    def shown(self) -> RecordedRequest | RecordedFinish:
        """What has the frames, height, width and fps of the mp4."""
        if self.all_frames and not self.finished:
            return dataclasses.replace(self.request, frames=self.all_frames)
        return self.finished or self.request

    def as_json(self) -> dict:
        """The JSON content of a sidecar in today's format."""
        content = {"format": FORMAT, **_json_value(self)}
        for name in ("enriched_from", "content_hash", "inputs", "loras", "pieces", "all_frames"):
            if not content[name]:
                del content[name]
        if self.attention_share == 1:
            del content["attention_share"]
        return content

    @property
    def typed_templates(self) -> str:
        """The templates for people, in one line."""
        words = {"prompt": "", "negative_prompt": "without "}
        return "; ".join(
            f"{words[name]}{self.templates[name]}" for name in words if name in self.templates
        )

    def without_times(self) -> Sidecar:
        """The same without when and how fast the video was made, to be compared with another."""
        return dataclasses.replace(self, made="", seconds={})


@dataclass(frozen=True, slots=True)
class UsedInput:
    """A picture or a clip of a result."""

    field: str  # of the request
    name: str  # of the file that was given
    value: str  # what it is kept as


def used_inputs(sidecar: Sidecar) -> list[UsedInput]:
    """Those of a result, in the order of the fields."""
    found: list[UsedInput] = []
    for name in INPUTS:
        if value := getattr(sidecar.request, name):
            recorded = sidecar.inputs.get(name)
            found.append(UsedInput(name, recorded.name if recorded else Path(value).name, value))
    return found


def read_settings(content: object, strict: bool = True) -> Sidecar:
    """The settings in JSON content of any format so far.

    Args:
        strict: see ``typed.read_as``.

    Raises:
        FieldError: with the field, its value and what it must be.
    """
    if not isinstance(content, dict):
        raise FieldError("must be an object", content)
    _check_format(content)
    if isinstance(content.get("plan"), dict):
        rename = rename_choices if content["format"] == 1 else rename_step_cache
        content = content | {"plan": rename(content["plan"])}
    sidecar = read_as(Sidecar, escape_former_prompts(content, "request", "pieces"), strict)
    if "denoise" not in sidecar.seconds and not sidecar.derived:
        raise FieldError(MISSING, dataclasses.MISSING, "denoise", "seconds")
    return sidecar


def _check_format(content: dict) -> None:
    if "format" not in content:
        raise FieldError(MISSING, dataclasses.MISSING, "format")
    number = content["format"]
    if type(number) is not int or number < 1:
        raise FieldError("must be a whole number", number, "format")
    if number > FORMAT:
        raise FieldError("was written by a newer version: update cogvx-nb", number, "format")


def _json_value(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return {
            entry.name: _json_value(part)
            for entry in dataclasses.fields(value)
            if (part := getattr(value, entry.name)) is not None or entry.default is not None
        }
    if isinstance(value, tuple):
        return [_json_value(part) for part in value]
    if isinstance(value, dict):
        return {key: _json_value(part) for key, part in value.items()}
    return value
