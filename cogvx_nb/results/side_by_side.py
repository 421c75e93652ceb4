"""Comparison of results: their clips in step in one labelled video, and a table of settings."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..files import temporary_folder
from ..loras.entries import shown_loras
from ..planning.fields import INPUTS, TEMPLATED
from ..planning.inputs import shown_value
from ..planning.plan import PREDICTED
from ..text import full_number, render_template
from . import video
from .records import Sidecar, used_inputs
from .result import Result
from .sheet import Sheet, common_pace, plan_sheet

MOST = 6
"""Results that can be compared at once."""

LETTERS = "ABCDEF"

TIMES = {"seconds.denoise": "denoising", "made": "made"}
"""Fields that are shown, but differ by chance, with their names in the table."""

NAMES = {
    "enriched_from": "as typed",
    "templates.prompt": "template",
    "templates.negative_prompt": "negative template",
    "checkpoint.name": "model",
}
"""Names in the table of fields that aren't called by their own."""

HASHES = ("frame_hash", "content_hash")

NOTHING = "–"

MOST_PAIRS = 4_000_000
"""Words of one text times words of another up to which they are compared word by word, in at most a
few seconds; prompts of the longest allowed have a quarter of that."""

AS_USED = "as used"
"""In place of a value of ``asked`` that is the same in the request or the plan."""


def differing_settings(results: Sequence[Result]) -> dict[str, tuple[str, ...]]:
    """Every setting that isn't the same in all results, as texts, by name.

    These are all fields of the sidecars but the times.
    """
    fields, differing = _values_by_field(results)
    return {_field_name(path): tuple(map(_value_text, fields[path])) for path in differing}


Words = tuple[tuple[str, bool], ...]
"""A text in parts, each with whether the other results lack it."""

DIFFERS, SAME, TIME = "differs", "same", "time"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A setting of several results."""

    name: str
    kind: str  # ``DIFFERS``, ``SAME``, or ``TIME``, which differs by chance
    cells: tuple[Words, ...]  # of each result; marked where it differs


def comparison_rows(results: Sequence[Result]) -> list[Row]:
    """The settings of each result: first those that differ, with the different words marked; then
    the rest of request and plan, the checkpoint, and the seconds of each stage."""
    fields, differing = _values_by_field(results)
    rows = []
    differing = sorted(differing, key=HASHES.__contains__)  # they differ wherever anything does
    times = [*TIMES, *(path for path in fields if path.startswith("seconds."))]
    for path in dict.fromkeys([*differing, *filter(_is_always_shown, fields), *times]):
        texts = [_value_text(value) for value in fields[path]]
        if path in differing:
            rows.append(Row(_field_name(path), DIFFERS, _mark_differences(texts)))
        elif set(texts) != {NOTHING}:
            kind = TIME if path in times else SAME
            rows.append(Row(_field_name(path), kind, tuple(((text, False),) for text in texts)))
    return rows


def comparison_table(results: Sequence[Result]) -> str:
    """``comparison_rows`` as an HTML table, and notes on where the settings come from."""
    rows = [(row.name, row.cells) for row in comparison_rows(results)]
    if any(result.note for result in results):
        rows.append(("settings", [[(result.note or NOTHING, False)] for result in results]))
    letters = LETTERS[: len(results)]
    return render_template("comparison.html", letters=letters, rows=rows)


def _values_by_field(results: Sequence[Result]) -> tuple[dict[str, list[object]], list[str]]:
    """(the results' values of each field, the fields that differ, times excluded)."""
    settings = [dict(_flatten_sidecar(result.settings)) for result in results]
    paths = dict.fromkeys(path for values in settings for path in values)
    fields = {path: [values.get(path) for values in settings] for path in paths}
    differing = [
        path
        for path, values in fields.items()
        if path != "made" and not path.startswith("seconds.")
        if any((value or None) != (values[0] or None) for value in values)
    ]
    return fields, differing


def _flatten_sidecar(section: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(path, value) of each field of a sidecar and its sections."""
    for field in dataclasses.fields(section):
        path, value = f"{prefix}{field.name}", getattr(section, field.name)
        if path == "request.lora":
            yield path, shown_loras(value)
        elif path == "inputs":  # they follow from the files and how those are fitted
            yield from _named_inputs(section)
        elif field.name in INPUTS:
            continue
        elif dataclasses.is_dataclass(value):
            yield from _flatten_sidecar(value, f"{path}.")
        elif path == "asked":
            for name, asked in value.items():
                used = getattr(section.request, name, getattr(section.plan, name, None))
                same = bool(asked) == bool(used) if name in INPUTS else asked == used
                yield f"asked.{name}", AS_USED if same else shown_value(name, asked)
        elif path == "templates":
            yield from ((f"{path}.{name}", value.get(name)) for name in TEMPLATED)
        elif path == "seconds":
            yield from ((f"seconds.{stage}", seconds) for stage, seconds in value.items())
        elif path == "checkpoint.sha256":
            digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
            yield path, f"{len(value)} files, together {digest[:16]}"
        else:
            yield path, value


def _named_inputs(sidecar: Sidecar) -> Iterator[tuple[str, object]]:
    """The files that a result was made from: their names, and the start of what tells contents
    apart."""
    digests = {used.field: used for used in used_inputs(sidecar)}
    for name in INPUTS:
        used = digests.get(name)
        yield f"request.{name}", f"{used.name} ({Path(used.value).stem[:10]})" if used else ""


def _is_always_shown(path: str) -> bool:
    section, _, name = path.partition(".")
    return (section in ("request", "plan") and name not in PREDICTED) or path in NAMES


def _field_name(path: str) -> str:
    """What a field is called in the table; request and plan have no name in common."""
    if path in TIMES or path in NAMES:
        return (TIMES | NAMES)[path]
    section, _, name = path.partition(".")
    plain = name if section in ("request", "plan") else f"{section} {name}".strip()
    return plain.replace("_", " ")


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return full_number(value)
    if isinstance(value, dict):
        value = [f"{name} {part or NOTHING}" for name, part in value.items()]
    text = "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return NOTHING if value is None else text or NOTHING


def _mark_differences(texts: Sequence[str]) -> tuple[Words, ...]:
    """The words of each text, marked where the first doesn't have them; the first against the
    second."""
    return tuple(
        _mark_words(text, texts[0] if number else texts[1]) for number, text in enumerate(texts)
    )


def _mark_words(text: str, other: str) -> Words:
    words, others = text.split(), other.split()
    if len(words) * len(others) > MOST_PAIRS:
        return ((text, True),)
    matcher = difflib.SequenceMatcher(None, others, words, autojunk=False)
    parts = [
        (" ".join(words[start:end]), kind != "equal")
        for kind, _, _, start, end in matcher.get_opcodes()
    ]
    return tuple(part for part in parts if part[0])


def side_by_side(results: Sequence[Result]) -> bytes:
    """Two to six results in one mp4, in step, labelled with their letters in
    ``comparison_table``."""
    clips = [video.decode_video(result.path) for result in results]
    rates = [result.settings.shown.fps for result in results]
    count, pace = common_pace([*map(len, clips)], rates)
    across = len(clips) if len(clips) < 4 else (len(clips) + 1) // 2
    width = max(240, min(360, *(clip.shape[2] for clip in clips)))
    letters = LETTERS[: len(clips)]
    layout = plan_sheet(letters, [""], clips[0].shape[1:3], count, width, across)
    sheet = Sheet(layout, count, pace)
    for column, (clip, rate) in enumerate(zip(clips, rates, strict=True)):
        sheet.paste(0, column, clip, rate)
    with temporary_folder() as folder:
        path = folder / "in-step.mp4"
        video.encode_video(sheet.pages, path, pace, "")
        return path.read_bytes()
