"""The prompt of a result that a video goes on from, where no other is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..checkpoints.registry import Model
from ..errors import PathError
from ..media import kept
from ..paths import user_path
from ..planning import extension
from ..planning.inputs import split_name
from ..planning.request import VideoRequest, make_request
from ..text import cut_line, plain_line
from .stored import find_settings

COLUMNS = 200
"""Of a note on a prompt; the result has all of it."""


def request_from(model: Model, values: Mapping[str, object]) -> VideoRequest:
    """``make_request`` of values that may lack a prompt, see ``with_source_prompt``.

    Raises:
        CogvxError: as ``make_request``.
    """
    values, notes = with_source_prompt(values)
    return with_notes(make_request(model, **values), notes)


def with_notes(request: VideoRequest, notes: tuple[str, ...]) -> VideoRequest:
    """A request with more that the user should know."""
    return replace(request, notes=(*notes, *request.notes))


def with_source_prompt(values: Mapping[str, object]) -> tuple[dict[str, object], tuple[str, ...]]:
    """(values, notes): a blank prompt is that of the result to extend, which a note says. Of a
    storyboard it is that of its last piece; of other clips it stays blank.

    Args:
        values: of fields of a request.

    Raises:
        RequestError: if several results have the name that is given.
    """
    values = dict(values)
    prompt, source = values.get("prompt", ""), values.get(extension.FIELD)
    if not isinstance(prompt, str) or prompt.strip() or not isinstance(source, str) or not source:
        return values, ()
    path, name = _source_file(source)
    settings = find_settings(path) if path and path.is_file() else None
    if settings is None:
        return values, ()
    found = settings.pieces[-1].prompt if settings.pieces else settings.request.prompt
    if not found.strip():
        return values, ()
    return values | {"prompt": found}, (prompt_note(name, found),)


def prompt_note(source: str, prompt: str) -> str:
    """What the user should know of a prompt that is that of what a video goes on from."""
    note = f"the prompt is that of {source}, which it goes on from: {plain_line(prompt)}"
    return cut_line(note, COLUMNS)


def _source_file(value: str) -> tuple[Path | None, str]:
    """(path of a clip to extend, its name for people); None where there can be no such file, which
    reading it says."""
    file, name = split_name(value)
    if kept.is_kept_name(file):
        return kept.locate(file), name or kept.name_for_people(file)
    try:
        path = user_path(extension.find_source(value), extension.FIELD)
    except PathError:
        return None, ""
    return path, path.name
