"""Files of prompts, with other parameters where they give them: text, JSON, YAML and tables."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..errors import SpecError
from . import tables
from .rows import MAX_ROWS, ParameterRow, unique_names
from .text_files import read_text_file
from .yaml_loading import explain_value, load_json, load_yaml

INVISIBLE = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u200b\ufeff"
"""Stripped from prompts in text files: blanks, and marks such as one left between joined files."""

MARK = "@@"
"""Between a prompt and the path of its image, as in the input files of CogVideoX's authors
(``sat/sample_video.py`` of zai-org/CogVideo)."""

LIST_KEY = "prompts"
"""The key of a mapping that holds nothing but a list of prompts."""


def read_prompt_file(path: Path, needed: bool = True) -> tuple[ParameterRow, ...]:
    """The prompts of a file, each with the parameters that the file gives for it.

    Args:
        needed: whether each row must have a prompt.

    =============== ================================================================
    ending          content
    =============== ================================================================
    ``.txt``        a prompt or ``prompt@@image`` a line; ``# `` begins a comment
    ``.jsonl``      a line for each: a text, or an object with ``prompt``
    ``.json``       a list of these, by itself or under ``prompts``
    ``.yaml``       the same
    ``.csv .tsv``   a table whose first line names the columns, one of them ``prompt``
    =============== ================================================================

    Raises:
        OSError: if it can't be read.
        ValueError: if it is no such file, or too large.
        SpecError: with the line or item that can't be used, and the remedy.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise SpecError(f"{path.name[:60]!r}: end it in one of {', '.join(READERS)}")
    rows = reader(read_text_file(path), path.name)
    rows = tuple(itertools.islice(map(_with_prompt, rows) if needed else rows, MAX_ROWS + 1))
    if len(rows) > MAX_ROWS:
        raise SpecError(f"{path.name} has more than {MAX_ROWS:,} prompts: split it")
    return rows


def _with_prompt(row: ParameterRow) -> ParameterRow:
    """Check that a row has a prompt."""
    prompt = row.values.get("prompt", "")
    if isinstance(prompt, str) and not prompt.strip(INVISIBLE):
        unique_names(row.values, row.origin)  # which says what is there instead
        raise SpecError(f"{row.origin} has no prompt: give it one, or delete it")
    return row


def _text_rows(text: str, name: str) -> Iterator[ParameterRow]:
    lines = re.split(r"\r\n|\r|\n", text)
    first = next((line for line in lines if line.strip(INVISIBLE)), "")
    if ending := _ending_of(text, first, lines):
        raise SpecError(f"{name} holds {ending[1:].upper()}: rename it to end in {ending}")
    for number, line in enumerate(lines, 1):
        prompt, origin = line.strip(INVISIBLE), f"line {number} of {name}"
        if re.match(r"#[^\s#!]", prompt):
            raise SpecError(
                f"{origin}: {prompt[:40]!r} may be a comment or a prompt: begin a comment with "
                "'# ', and put a prompt that begins with '#' into a .jsonl file"
            )
        if prompt and not prompt.startswith("#"):
            yield ParameterRow(_with_image(prompt, origin), origin, from_file=True)


def _with_image(line: str, origin: str) -> dict[str, object]:
    """The values of ``prompt`` or ``prompt@@image``."""
    prompt, *images = (part.strip(INVISIBLE) for part in line.split(MARK))
    if not images:
        return {"prompt": prompt}
    if len(images) > 1 or not prompt or not images[0]:
        raise SpecError(
            f"{origin}: {line[:40]!r}: one {MARK!r} stands between a prompt and its image; put a "
            "prompt that holds it into a .jsonl file"
        )
    return {"prompt": prompt, "image": images[0]}


def _ending_of(text: str, first: str, lines: list[str]) -> str:
    """The ending that a file should have whose name says plain text; empty for plain text."""
    if tables.is_heading(first):
        return ".csv"
    if first and all(line.startswith("- ") for line in lines if line.strip(INVISIBLE)):
        return ".yaml"
    if first.lstrip(INVISIBLE)[:1] in ("{", "["):
        for ending, content in ((".jsonl", first), (".json", text)):
            try:
                value = load_json(content)
            except ValueError:
                continue
            return ".jsonl" if isinstance(value, dict) and content is first else ending
    return ""


def _json_line_rows(text: str, name: str) -> Iterator[ParameterRow]:
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        if not line.strip(INVISIBLE):
            continue
        origin = f"line {number} of {name}"
        if line.lstrip(INVISIBLE).startswith("["):
            raise SpecError(f"{origin} begins a JSON list: rename the file to end in .json")
        try:
            value = load_json(line.strip(INVISIBLE))
        except ValueError as error:
            reason = re.sub(r"^line 1, ", "", str(error))
            hint = "each line must be a text in quotes or an object with 'prompt'"
            raise SpecError(f"{origin}: {reason}; {hint}") from error
        yield _row(value, origin)


def _json_rows(text: str, name: str) -> Iterable[ParameterRow]:
    try:
        return _item_rows(load_json(text), name)
    except ValueError as error:
        hint = (
            ": rename a file of JSON lines to end in .jsonl" if "Extra data" in str(error) else ""
        )
        raise SpecError(f"{name}: {error}{hint}") from error


def _yaml_rows(text: str, name: str) -> Iterable[ParameterRow]:
    try:
        return _item_rows(load_yaml(text), name)
    except ValueError as error:
        raise SpecError(f"{name}: {error}") from error


def _item_rows(content: object, name: str) -> Iterator[ParameterRow]:
    if isinstance(content, dict) and [*content] == [LIST_KEY]:
        content = content[LIST_KEY]
    if not isinstance(content, list):
        names = f" with {', '.join(map(str, content))}"[:80] if isinstance(content, dict) else ""
        kind = {dict: "a mapping", str: "a text"}.get(type(content), "no list")
        raise SpecError(
            f"{name} must hold a list of prompts, or one under {LIST_KEY!r}; it holds {kind}{names}"
        )
    for number, item in enumerate(content, 1):
        yield _row(item, f"item {number} of {name}")


def _row(item: object, origin: str) -> ParameterRow:
    """The row of a text, or of an object with a prompt and other parameters. A prompt that is null
    is blank."""
    if isinstance(item, str):
        item = {"prompt": item}
    if not isinstance(item, dict):
        hint = explain_value(item, "str")
        raise SpecError(
            f"{origin} is {str(item)[:40]}: must be a text in quotes, or an object with 'prompt'"
            + (f" ({hint})" if hint else "")
        )
    if not all(isinstance(name, str) for name in item):
        raise SpecError(f"{origin}: the names of parameters must be text: quote them")
    parameters = unique_names(item, origin, needed=False)
    values = {parameters[key]: v for key, v in item.items() if key in parameters and v is not None}
    if "prompt" in parameters.values():
        values.setdefault("prompt", "")
    return ParameterRow(values, origin, from_file=True)


READERS: dict[str, Callable[[str, str], Iterable[ParameterRow]]] = {
    ".txt": _text_rows,
    ".jsonl": _json_line_rows,
    ".ndjson": _json_line_rows,
    ".json": _json_rows,
    ".yaml": _yaml_rows,
    ".yml": _yaml_rows,
    ".csv": tables.read_table,
    ".tsv": tables.read_table,
}
"""By the ending of the file's name, in lower case."""
