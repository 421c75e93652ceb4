"""What needs the pictures and clips that are kept in ``outputs/inputs/``.

Everything in the outputs folder that holds text is searched for their hashes: sidecars and mp4s,
also those in the trash, the queue, grids, the form, sweeps, executed notebooks, and frames that
could not be saved, wherever they are. So a file of a later version, or one that is damaged, counts
too. Results that were saved elsewhere aren't known here.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .. import settings
from ..errors import ResultError
from ..media import kept
from ..media.kept import KeptFile
from ..paths import read_bounded
from . import unsaved
from .mp4 import TAG, find_tag, read_box
from .records import MAX_BYTES

TEXTS = (".json", ".jsonl", ".yaml", ".yml", ".csv", ".tsv", ".txt", ".ipynb", ".toml", ".damaged")
"""Endings of files that can name an input. Marks of results have another."""

SKIPPED = (kept.FOLDER, ".compiled", ".embeddings", ".partial")
"""Folders in the outputs folder that name none."""

HASH = re.compile(rb"[0-9a-f]{64}")


@dataclass(slots=True)
class Uses:
    """What needs kept files."""

    files: dict[str, list[Path]] = field(default_factory=dict)  # by the kept file's hash
    names: dict[str, str] = field(default_factory=dict)  # what it was called, by its hash
    problems: list[str] = field(default_factory=list)  # files that can't be read, a line each


def find_uses() -> Uses:
    """Search the outputs folder, and where frames are that could not be saved."""
    uses = Uses()
    hashes = {file.path.stem.encode() for file in kept.kept_files()}
    roots = (settings.outputs_dir(), *unsaved.folders()) if hashes else ()
    for path in dict.fromkeys(path for root in roots for path in _files(root)):
        try:
            content = _texts_of(path)
        except (OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            uses.problems.append(f"{path} can't be read: {reason}")
            continue
        for found in hashes.intersection(HASH.findall(content)):
            uses.files.setdefault(found.decode(), []).append(path)
        if path.suffix == ".json" and not _note_names(content, uses) and not _has_tag(path):
            uses.problems.append(f"{path} is damaged, and may name one: mend or delete it")
    return uses


def removable(uses: Uses) -> list[KeptFile]:
    """Kept files that nothing needs and that weren't given today."""
    return kept.unused(uses.files)


def remove_unused(uses: Uses) -> list[KeptFile]:
    """Delete kept files that nothing needs.

    Raises:
        ResultError: if a file that may need some can't be read; nothing is deleted then.
        OutputError: if one can't be deleted.
    """
    if uses.problems:
        more = f" (and {len(uses.problems) - 1:,} more)" if len(uses.problems) > 1 else ""
        raise ResultError(f"no input was removed, since {uses.problems[0]}{more}")
    return kept.remove(removable(uses))


def results_of(paths: Collection[Path]) -> list[Path]:
    """Files that need an input, an mp4 and its sidecar as one."""
    videos = {path for path in paths if path.suffix == ".mp4"}
    return [path for path in paths if path in videos or path.with_suffix(".mp4") not in videos]


def _files(root: Path) -> Iterator[Path]:
    """Files that can name an input, in linked folders too."""
    if not root.is_dir():
        return
    seen = set()
    for folder, inside, names in os.walk(root, followlinks=True, onerror=_raise):
        real = os.path.realpath(folder)
        if real in seen:  # by a link
            inside.clear()
            continue
        seen.add(real)
        if Path(folder) == root:
            inside[:] = [name for name in inside if name not in SKIPPED]
        for name in sorted(names):
            path = Path(folder, name)
            if name.lower().endswith((".mp4", ".frames", *TEXTS)) and path.is_file():
                yield path


def _raise(error: OSError) -> None:
    raise ResultError(f"{error.filename} can't be read: {error.strerror}") from error


def _texts_of(path: Path) -> bytes:
    """The text in a file that can name an input."""
    ending = path.suffix.lower()
    if ending == ".mp4":
        box = find_tag(path, TAG)
        if box is None:
            return b""
        if box.end - box.start > MAX_BYTES:
            raise ValueError("its settings are too large")
        return read_box(path, box)
    if ending == ".frames":
        with zipfile.ZipFile(path) as archive, archive.open(unsaved.SETTINGS) as member:
            return member.read(MAX_BYTES)
    return read_bounded(path)


def _note_names(content: bytes, uses: Uses) -> bool:
    """Whether a JSON file is whole; what a sidecar calls its inputs is noted."""
    try:
        sidecar = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    try:
        for name, recorded in sidecar["inputs"].items():
            value = sidecar["request"][name]
            if kept.is_kept_name(value):
                uses.names[Path(value).stem] = str(recorded["name"])
    except (LookupError, TypeError, AttributeError):
        pass  # another file, or a sidecar without inputs
    return True


def _has_tag(path: Path) -> bool:
    """Whether the video beside a damaged sidecar has the same settings."""
    try:
        return find_tag(path.with_suffix(".mp4"), TAG) is not None
    except OSError:
        return False
