"""Sidecars as typed values, and the columns that the index keeps of them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import operator
import types
import typing
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from datetime import datetime
from pathlib import Path

from ..planning.fields import FRAMES, names_deciding
from ..planning.plan import PREDICTED, RECORDED, Plan, rename_choices
from ..planning.request import Adjustment, VideoRequest

FORMAT = 2
"""Of the sidecars written now. Format 1 had other names in the plan: see ``rename_choices``."""

STAGES = ("load", "text", "compile", "denoise", "decode", "write")

ONE_TIME_STAGES = ("load", "compile")
"""Stages that the next video of a process doesn't have."""

MAX_INTEGER = 2**63 - 1
"""The largest integer of SQLite."""


def _section(name: str, source: type, required: tuple[str, ...], optional: tuple[str, ...] = ()):
    """A frozen dataclass of some of another's fields; optional ones default to None, others as in
    the source."""
    hints = typing.get_type_hints(source)
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
class RecordedMachine:
    """The machine that made a video."""

    system: str | None = None  # operating system, architecture and Python version
    cores: int | None = None
    threads: int | None = None  # of torch on the CPU; they can change the last bit
    ram_bytes: int | None = None
    gpus: tuple[str, ...] | None = None  # names


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """Everything that is recorded of a video, in the order of the JSON file.

    A field with a default may be missing or of another type in the file: sidecars from before it
    was recorded are read too. A file without one of the others is not a sidecar.
    """

    made: str  # ISO 8601 with offset
    request: RecordedRequest
    asked: dict[str, object] = field(default_factory=dict)  # values as given, before adjustments
    enriched_from: str = ""  # the prompt as typed, if a chat model rewrote it; else not in the file
    adjustments: tuple[Adjustment, ...] = ()
    notes: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()  # names of the allow_… permissions that were needed
    plan: RecordedPlan
    checkpoint: RecordedCheckpoint
    versions: dict[str, str | None] = field(default_factory=dict)  # None: not installed
    machine: RecordedMachine = RecordedMachine()
    seconds: dict[str, float]  # of each stage; with "denoise" at least
    frame_hash: str  # SHA-256 of the frames before encoding

    def as_json(self) -> dict:
        """The JSON content of a sidecar in today's format."""
        content = {"format": FORMAT, **_json_value(self)}
        if not self.enriched_from:
            del content["enriched_from"]
        return content

    def without_times(self) -> Sidecar:
        """The same without when and how fast the video was made, to be compared with another."""
        return dataclasses.replace(self, made="", seconds={})


def read_sidecar(path: Path) -> Sidecar | None:
    """The sidecar in a file; None if the file is missing or something else."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return parse_sidecar(json.loads(path.read_text(encoding="utf-8")))
    return None


def parse_sidecar(content: object) -> Sidecar | None:
    """The sidecar of JSON content in any format so far; None if it is something else."""
    with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError):
        if content["format"] not in (1, FORMAT):
            return None
        if content["format"] == 1:
            content = content | {"plan": rename_choices(content["plan"])}
        sidecar = _reader(Sidecar)(content)
        return sidecar if "denoise" in sidecar.seconds else None
    return None


def _json_value(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return {
            entry.name: _json_value(part)
            for entry in dataclasses.fields(value)
            if (part := getattr(value, entry.name)) is not None or entry.default is not None
        }
    if isinstance(value, tuple):
        return [_json_value(part) for part in value]
    return dict(value) if isinstance(value, dict) else value


@functools.cache
def _reader(kind: object) -> Callable[[object], object]:
    """A function that returns a JSON value as that type, or raises ValueError."""
    if dataclasses.is_dataclass(kind):
        return _section_reader(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # ``... | None``
        read = _reader(arguments[0])
        return lambda value: None if value is None else read(value)
    if origin is tuple:
        read = _reader(arguments[0])
        return lambda value: tuple(map(read, _checked(value, list)))
    if origin is dict:
        read = _reader(arguments[1])
        return lambda value: {key: read(part) for key, part in _checked(value, dict).items()}
    return _SCALARS[kind]


def _section_reader(section: type) -> Callable[[object], object]:
    hints = typing.get_type_hints(section)
    readers = [
        (entry.name, _reader(hints[entry.name]), _is_required(entry))
        for entry in dataclasses.fields(section)
    ]

    def read(content: object) -> object:
        _checked(content, dict)
        values = {}
        for name, read_field, required in readers:
            try:
                values[name] = read_field(content[name])
            except (KeyError, ValueError):
                if required:
                    raise ValueError(name) from None
        return section(**values)

    return read


def _is_required(entry: dataclasses.Field) -> bool:
    return entry.default is entry.default_factory is dataclasses.MISSING


def _checked(value: object, kind: type) -> object:
    if not isinstance(value, kind):
        raise ValueError(value)
    return value


def _text(value: object) -> str:
    """A text that can be stored: JSON can spell half a character (a lone surrogate)."""
    if not _checked(value, str).isascii():
        value.encode()
    return value


def _whole_number(value: object) -> int:
    if type(value) is not int or abs(value) > MAX_INTEGER:  # a bool is an int too
        raise ValueError(value)
    return value


def _number(value: object) -> float:
    if type(value) not in (int, float) or not abs(value) <= MAX_INTEGER:  # false for NaN too
        raise ValueError(value)
    return float(value)


_SCALARS: dict[object, Callable[[object], object]] = {
    str: _text,
    bool: lambda value: _checked(value, bool),
    int: _whole_number,
    float: _number,
    object: lambda value: value,
}


@dataclass(frozen=True, slots=True)
class Column:
    """A value that the index keeps of each sidecar."""

    kind: type  # str, int, float or bool; numbers that can be missing are float, for pandas
    read: Callable[[Sidecar], object]  # None where the sidecar doesn't say


def _column(path: str) -> Column:
    """The column of a field, such as ``"plan.device"``; texts of a tuple joined by commas."""
    kind: object = Sidecar
    for name in path.split("."):
        kind = typing.get_type_hints(kind)[name]
    read = operator.attrgetter(path)
    optional = typing.get_origin(kind) is types.UnionType
    kind = typing.get_args(kind)[0] if optional else kind
    if typing.get_origin(kind) is tuple:
        return Column(str, lambda sidecar: _joined(read(sidecar)))
    return Column(float if optional and kind is int else kind, read)


def _joined(texts: tuple[str, ...] | None) -> str | None:
    return None if texts is None else ", ".join(texts)


def _stage_column(stage: str) -> Column:
    return Column(float, lambda sidecar: sidecar.seconds.get(stage))


COLUMNS = {
    "made": _column("made"),
    "model": _column("checkpoint.name"),
    **{name: _column(f"request.{name}") for name in REQUEST_NAMES},
    "enriched_from": Column(str, lambda sidecar: sidecar.enriched_from or None),
    **{f"{stage}_seconds": _stage_column(stage) for stage in STAGES},
    "device": _column("plan.device"),
    "gpus": _column("machine.gpus"),
    **{name: _column(f"plan.{name}") for name in RECORDED},
    "predicted_peak_bytes": _column("plan.peak_bytes"),
    "predicted_ram_bytes": _column("plan.ram_bytes"),
    "frame_hash": _column("frame_hash"),
}
"""What the index keeps of each result, by name."""

SEARCH_COLUMNS = ("at", "folded", "other_seconds")
"""Computed, and stored before ``COLUMNS``: seconds since 1970; the prompt as ``fold_text`` returns
it; seconds of all stages but denoising and ``ONE_TIME_STAGES``."""


def read_record(path: Path) -> tuple | None:
    """The values of ``SEARCH_COLUMNS`` and ``COLUMNS`` of a sidecar; None if the file is missing or
    something else."""
    sidecar = read_sidecar(path)
    if sidecar is None or sidecar.request.steps < 1:
        return None
    try:
        at = datetime.fromisoformat(sidecar.made).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    ignored = ("denoise", *ONE_TIME_STAGES)
    other = sum(value for stage, value in sidecar.seconds.items() if stage not in ignored)
    values = (column.read(sidecar) for column in COLUMNS.values())
    return at, fold_text(sidecar.request.prompt), float(other), *values


def fold_text(text: str) -> str:
    """A text without the differences that a search ignores: case, full width, ligatures."""
    return unicodedata.normalize("NFKC", text).casefold()
