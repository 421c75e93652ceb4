"""What people note on a result: stars, tags and a note, in ``<name>.marks`` beside the sidecar.

The video and its sidecar stay as they were made. A file of marks names the frames that it is about,
so that another video of the same name doesn't inherit them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..errors import RequestError, ResultError
from ..files import translate_errors, write_whole
from ..paths import read_json
from .typed import FieldError, Passes, Range, read_as

SUFFIX = ".marks"
"""Neither a video's nor a sidecar's: ``x.marks.mp4`` has the sidecar ``x.marks.json``."""

MOST_STARS = 5

MAX_TAGS, MAX_TAG, MAX_NOTE = 50, 40, 2000
"""Tags of a result; characters of a tag, and of a note."""

MAX_BYTES = 2**16
"""Of the file."""


TAG_RULE = f"must be 1 to {MAX_TAG} characters without a comma, which separates tags"


def _is_tag(text: str) -> None:
    if not text.strip() or len(text) > MAX_TAG or "," in text:
        raise ValueError


def _is_note(text: str) -> None:
    if len(text) > MAX_NOTE:
        raise ValueError


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of a result."""

    stars: Annotated[int, Range(0, MOST_STARS)] = 0
    tags: tuple[Annotated[str, Passes(_is_tag, TAG_RULE)], ...] = ()
    note: Annotated[str, Passes(_is_note, f"has more than {MAX_NOTE:,} characters")] = ""
    grid: str = ""  # name of the grid that it was made for


@dataclass(frozen=True, slots=True)
class _File:
    """Marks with the frames that they are about."""

    frame_hash: str  # SHA-256
    marks: Marks


def marks_file(path: Path) -> Path:
    """Where the marks of a video are kept."""
    return path.with_suffix(SUFFIX)


def read_marks(path: Path, frame_hash: str) -> Marks:
    """The marks of a video; none if there is no file, or it is about other frames.

    Args:
        path: the mp4.
        frame_hash: of its frames.

    Raises:
        ResultError: if the file can't be read.
    """
    file = marks_file(path)
    try:
        kept = read_as(_File, read_json(file, MAX_BYTES))
    except FileNotFoundError:
        return Marks()
    except (FieldError, ValueError) as error:
        raise _unreadable(file, str(error)) from error
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from error
    return kept.marks if kept.frame_hash == frame_hash else Marks()


def _unreadable(file: Path, reason: str) -> ResultError:
    return ResultError(
        f"{file} can't be read, so its stars, tags and note are not shown ({reason}): mend it, or "
        "delete it"
    )


def change_marks(
    path: Path,
    frame_hash: str,
    *,
    stars: int | None = None,
    add_tags: Iterable[str] = (),
    remove_tags: Iterable[str] = (),
    note: str | None = None,
    grid: str | None = None,
) -> Marks:
    """Change some marks of a video; others stay. A file without marks is deleted.

    Args:
        path, frame_hash: as for ``read_marks``.

    Raises:
        RequestError: if a value is wrong.
        ResultError: if the marks that are there can't be read: they are not overwritten.
        OutputError: if they can't be written.
    """
    before = read_marks(path, frame_hash)
    gone = {_plain_tag(tag).casefold() for tag in remove_tags}
    kept = (tag for tag in before.tags if tag.casefold() not in gone)
    tags = {tag.casefold(): tag for tag in (*kept, *map(_plain_tag, add_tags))}
    changes = {"stars": stars, "tags": tuple(tags.values()), "note": note, "grid": grid}
    changed = dataclasses.replace(before, **{n: v for n, v in changes.items() if v is not None})
    _check(changed)
    if changed != before:
        _write(path, _File(frame_hash, changed))
    return changed


def _write(path: Path, content: _File) -> None:
    file = marks_file(path)
    with translate_errors(file):
        if content.marks == Marks():
            file.unlink(missing_ok=True)
        else:
            data = json.dumps(dataclasses.asdict(content), ensure_ascii=False, indent=1)
            write_whole(file, data.encode())


def _plain_tag(tag: str) -> str:
    """A tag with single spaces."""
    return " ".join(tag.split())


def _check(marks: Marks) -> None:
    """Raise RequestError for marks that ``read_marks`` would refuse."""
    if len(marks.tags) > MAX_TAGS:
        raise RequestError("tags", len(marks.tags), f"a result has at most {MAX_TAGS}")
    try:
        read_as(Marks, dataclasses.asdict(marks) | {"tags": list(marks.tags)})
    except FieldError as error:
        raise RequestError(error.path[-1], error.value, error.remedy) from error
