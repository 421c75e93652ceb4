"""A job of the queue as a file: JSON with what was submitted, typed and bounded when it is read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ..errors import CogvxError, RequestError, ResultError
from ..finishing.recipe import Recipe
from ..paths import read_json
from ..planning.fields import INPUTS, RANDOM_SEED, SEEDS, TEMPLATED, complete_values
from ..planning.former_prompts import escape_former_prompts
from ..results.result import read_result
from ..results.typed import read_as
from ..text import first_line, plain_line
from .board import BoardRow

FORMAT = 1

MOST_BYTES = 2**22
"""Of a job's file: a prompt of 2,000 characters takes 12 KB where each is escaped, and a storyboard
has 200 of them."""

MAX_TIME = 2**63 - 1
"""Nanoseconds; beyond the year 2200."""

_NAME = re.compile(r"[0-9a-f]{32}-([0-9a-f]{32})\.json")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class KeptJob:
    """A job as its file has it."""

    path: Path  # the file
    id: str  # 32 hexadecimal digits
    order: int  # nanoseconds since 1970: jobs run in this order
    started: int  # nanoseconds since 1970; 0 if it waited
    # Of all ``FIELDS``, with the checkpoint's folder as ``model`` and the seeds as drawn.
    values: dict[str, object]
    enriched_from: str
    templates: dict[str, str]  # by field, see ``VideoRequest``
    original: str  # mp4 to be made again and compared with, or to be finished; else empty
    input_names: dict[str, str] = field(default_factory=dict)  # names of given files, by field
    finish: Recipe | None = None  # what to make of ``original``
    board: tuple[BoardRow, ...] = ()  # of a storyboard; the values are those of its first row
    notes: tuple[str, ...] = ()  # on the request, such as where its prompt is from

    def __str__(self) -> str:
        if not self.values:
            prefix = f"finish ({self.finish})" if self.finish else "again"
            return f"{prefix}: {plain_line(Path(self.original).name)}"
        prefix = "again: " if self.original else ""
        prefix = f"storyboard of {len(self.board)}: " if self.board else prefix
        prompt = plain_line(self.values["prompt"][:80])
        return f"{prefix}{prompt} · {self.values['frames']} frames · seed {self.values['seed']}"


def read_kept_job(path: Path) -> KeptJob:
    """The job in a file.

    Raises:
        ResultError: if it is something else, damaged, or of a later version.
    """
    try:
        name = _NAME.fullmatch(path.name)
        content = read_json(path, MOST_BYTES)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}, where {FORMAT} is known")
        content = escape_former_prompts(content, "values", "board")
        return KeptJob(
            path=path,
            id=name[1],
            order=_typed(content["order"], int),
            started=_typed(content["started"], int),
            values=_values(content["values"], needed=not content["original"]),
            enriched_from=_typed(content["enriched_from"], str),
            templates=_templates(content),
            original=_typed(content["original"], str),
            input_names=_input_names(content.get("input_names", {})),
            finish=_recipe(content.get("finish", {})),
            board=_board(content.get("board", [])),
            notes=tuple(_typed(note, str) for note in _typed(content.get("notes", []), list)),
        )
    except (OSError, ValueError, TypeError, LookupError, RequestError) as error:
        reason = plain_line(f"{type(error).__name__}: {first_line(error)}")[:150]
        raise ResultError(f"{path} is no job of the queue ({reason})") from error


def _values(content: object, needed: bool) -> dict[str, object]:
    if content == {} and not needed:
        return {}
    values = complete_values(_typed(content, dict))
    if any(values[name] == RANDOM_SEED for name in SEEDS):  # it was drawn before it was kept
        raise ValueError(f"a seed of {RANDOM_SEED}")
    return values


def _templates(content: dict) -> dict[str, str]:
    found = _typed(content["templates"], dict).items()
    return {name: _typed(text, str) for name, text in found if name in TEMPLATED}


def _recipe(content: object) -> Recipe | None:
    return read_as(Recipe, content) if _typed(content, dict) else None


def _board(content: object) -> tuple[BoardRow, ...]:
    return tuple(read_as(BoardRow, row) for row in _typed(content, list))


def _input_names(content: object) -> dict[str, str]:
    names = _typed(content, dict).items()
    return {name: plain_line(_typed(file, str)) for name, file in names if name in INPUTS}


def _typed(value: object, kind: type) -> object:
    if type(value) is not kind or (kind is int and not 0 <= value <= MAX_TIME):
        raise ValueError(f"{value!r} where {kind.__name__} is expected")
    return value


def is_published(kept: KeptJob, outputs: Path) -> bool:
    """Whether there is a video with the settings of a job that was finished after it began."""
    if not kept.started or kept.original or kept.board:  # whose pieces are found again
        return False
    began = f"{datetime.fromtimestamp(kept.started / 1e9):%Y-%m-%d}"
    folders = (entry for entry in outputs.iterdir() if _DATE.fullmatch(entry.name))
    return any(
        f"-{kept.values['seed']}" in path.stem and _is_video_of(path, kept)
        for folder in folders
        if folder.name >= began
        for path in folder.glob("*.mp4")
    )


def _is_video_of(path: Path, kept: KeptJob) -> bool:
    try:
        if path.stat().st_mtime_ns < kept.started:
            return False
        sidecar = read_result(path).settings
    except (OSError, CogvxError):
        return False
    if sidecar.derived:
        return False
    submitted = {name: value for name, value in kept.values.items() if value is not None}
    # Of files the names as they are kept.
    used = {name: getattr(sidecar.request, name) for name in (*SEEDS, *kept.input_names)}
    recorded = sidecar.asked | used
    recorded |= {"model": sidecar.checkpoint.folder, "enrich": submitted["enrich"]}
    return (recorded, sidecar.enriched_from) == (submitted, kept.enriched_from)
