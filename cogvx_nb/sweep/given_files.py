"""Pictures and clips of a sweep: found in folders, read once, and kept before the first run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PathError, SpecError
from ..paths import user_path
from ..planning import inputs
from ..planning.rows import MAX_ROWS, ParameterRow
from ..text import telling_end

if TYPE_CHECKING:
    from ..media.given import Given


@dataclass(frozen=True, slots=True)
class FileKey:
    """A key of a sweep's file that lists pictures or clips, each a run's."""

    field: str  # of a request
    kind: str  # what messages call them
    endings: tuple[str, ...]  # of the names that are taken from a folder


FILE_KEYS = {
    "images": FileKey(
        "image",
        "pictures",
        (".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".jp2"),
    ),
    "videos": FileKey(
        "video",
        "clips",
        (
            *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts"),
            *(".m2ts", ".flv", ".wmv", ".gif"),
        ),
    ),
}

GONE = "{}: the file is gone from where the sweep names it: the copy in outputs/inputs is used"

MOST_NAMED = 5
"""Files that a note names."""


def list_files(
    key: str, content: str | list, folder: Path, recorded: Mapping[str, str]
) -> tuple[tuple[ParameterRow, ...], tuple[str, ...]]:
    """(rows, notes) of the pictures or clips of a folder, in natural order, or of a list.

    Args:
        key: of ``FILE_KEYS``.
        folder: where relative paths start.
        recorded: see ``SweepFolder.recorded_inputs``; those of a folder that has none any more.

    Raises:
        SpecError: if there are none.
    """
    row, notes = FILE_KEYS[key], ()
    try:
        if isinstance(content, list):
            paths = [_listed_name(key, value, folder) for value in content]
        else:
            source = user_path(content, key, start=folder, folder=True)
            paths, notes = _files_of(key, content, source)
            paths = paths or _recorded_of(source, row, recorded)
    except PathError as error:
        raise SpecError(str(error), error.exit_code) from error
    if not paths:
        reason = "it is empty"
        if isinstance(content, str):
            where = f"no {row.kind} in {source}" if source.exists() else f"there is no {source}"
            reason = f"{where}; name a folder of them (they end in {', '.join(row.endings)})"
        raise SpecError(f"{key} = {str(content)[:60]!r}: {reason}")
    rows = tuple(ParameterRow({row.field: path}, f"{Path(path).name} of {key}") for path in paths)
    return rows, notes


def _listed_name(key: str, value: object, folder: Path) -> str:
    if not isinstance(value, str):
        raise SpecError(f"{key}: {str(value)[:40]} must be text: the path of a file")
    return inputs.absolute_name(key, value, folder)


def _recorded_of(source: Path, row: FileKey, recorded: Mapping[str, str]) -> list[str]:
    """Paths of a folder's files when the sweep was started before."""
    inside = (path for path in recorded if Path(path).parent == source and _is_taken(path, row))
    return sorted(inside, key=_natural)


def _files_of(key: str, content: str, source: Path) -> tuple[list[str], tuple[str, ...]]:
    """(paths of a folder's files that are taken, notes on the others)."""
    row = FILE_KEYS[key]
    if source.exists() and not source.is_dir():
        raise SpecError(f"{key} = {content[:60]!r}: it is no folder; name one, or a list of files")
    try:
        names = sorted((path.name for path in source.iterdir()), key=_natural)
    except FileNotFoundError:
        return [], ()
    except OSError as error:
        raise SpecError(f"{key} = {content[:60]!r}: {source}: {error.strerror}") from error
    shown = [name for name in names if not name.startswith(".")]
    taken = [name for name in shown if _is_taken(name, row) and (source / name).is_file()]
    if len(taken) > MAX_ROWS:
        raise SpecError(f"{key}: {source} has more than {MAX_ROWS:,} {row.kind}")
    others, hidden = sorted({*shown}.difference(taken), key=_natural), len(names) - len(shown)
    left = [repr(name) for name in others[:MOST_NAMED]]
    left += [f"{len(others) - MOST_NAMED} more"] * (len(others) > MOST_NAMED)
    left += [f"{hidden} hidden"] * bool(hidden)
    note = f"{key}: {len(taken)} {row.kind} of {source.name}; not taken: {', '.join(left)}"
    return [str(source / name) for name in taken], (note,) * bool(left)


def _is_taken(name: str, row: FileKey) -> bool:
    return name.lower().endswith(row.endings)


def _natural(name: str) -> list:
    """Orders names as people do: 2 before 10."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts] + [(0, name)]


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A picture or a clip that a row names."""

    path: str  # absolute, or a kept name
    given: Given
    note: str = ""  # what the user should know of it

    @property
    def value(self) -> str:
        """The parameter's value: the same file in any folder, with its name."""
        return inputs.named_value(self.given.value, self.given.name)


class GivenFiles:
    """Reads and keeps the files that rows name, each once.

    Args:
        recorded: what paths were kept as when the sweep was started before.
    """

    def __init__(self, recorded: Mapping[str, str]) -> None:
        self._recorded = recorded
        self._read: dict[tuple[str, str], KeptFile] = {}

    def read(self, field: str, path: str) -> KeptFile:
        """A file of a request's field.

        Args:
            path: absolute, or a kept name.

        Raises:
            RequestError: if it can't be used.
        """
        if (field, path) not in self._read:
            gone = path in self._recorded and not Path(path).exists()
            value = self._recorded[path] if gone else path
            given = inputs.read_inputs({field: value})[field]
            self._read[field, path] = KeptFile(path, given, GONE.format(field) if gone else "")
        return self._read[field, path]

    def labels(self) -> dict[str, str]:
        """What a person calls each file, by its kept name: its own name, after the folders that
        tell it from others of that name."""
        parts = {}
        for file in self._read.values():
            known = Path(file.path if Path(file.path).name == file.given.name else file.given.name)
            parts.setdefault(file.given.value, known.parts)
        return {value: telling_end(own, parts.values()) for value, own in parts.items()}
