"""The list of a checkpoint's files with their hashes, written when all of them are right."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from . import files
from .errors import ModelCorrupt

NAME = "cogvx-manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class File:
    """One file of a checkpoint: its size and SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder holds.

    Attributes:
        source: ``modelscope``, ``huggingface``, or ``repository`` for the embedded checkpoint.
        repo: id on that hub; a name where there is none.
        revision: as the hub names it.
        files: by path relative to the folder, with ``/``.
    """

    source: str
    repo: str
    revision: str
    files: dict[str, File]


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not what the manifest says.

    Attributes:
        path: relative to the folder.
        kind: ``missing``, ``size`` or ``hash``.
        detail: what was found, for a person.
    """

    path: str
    kind: str
    detail: str


def read(folder: Path) -> Manifest | None:
    """A folder's manifest, or None where there is none.

    Raises:
        ModelCorrupt: if it can't be read.
    """
    path = folder / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        files = {name: File(**file) for name, file in found["files"].items()}
        return Manifest(found["source"], found["repo"], found["revision"], files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelCorrupt(f"{path} can't be read: delete it and download again") from error


def write(folder: Path, manifest: Manifest) -> None:
    """Write a folder's manifest, whole or not at all."""
    path = folder / NAME
    temporary = path.with_name(f"{NAME}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"format": FORMAT} | asdict(manifest), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Say that a folder is not finished (any more)."""
    (folder / NAME).unlink(missing_ok=True)


def problems(
    folder: Path, manifest: Manifest, deep: bool = False, on_bytes: files.OnBytes | None = None
) -> list[Problem]:
    """Files that are missing, of another size or, where ``deep``, of another SHA-256."""
    found, same_size = [], []
    for name, file in manifest.files.items():
        path = folder / name
        if not path.is_file():
            found.append(Problem(name, "missing", "is missing"))
        elif path.stat().st_size != file.bytes:
            size = path.stat().st_size
            found.append(Problem(name, "size", f"has {size:,} bytes of {file.bytes:,}"))
        else:
            same_size.append(name)
    if deep:
        actual = files.sha256_all([folder / name for name in same_size], on_bytes)
        for name in same_size:
            if actual[folder / name] != manifest.files[name].sha256:
                found.append(Problem(name, "hash", "has other content than the hub's"))
    return found
