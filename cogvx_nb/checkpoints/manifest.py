"""The manifest of a checkpoint: its files with sizes and SHA-256, written once all are verified."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import files, hashing
from ..errors import ModelCorrupt
from ..paths import read_json


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as listed by a hub."""

    path: str  # relative, with ``/``
    bytes: int
    sha256: str = ""  # empty if the hub doesn't give it
    git_blob: str = ""  # git's hash of the content, given by Hugging Face for small files


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a repository at one revision."""

    source: str
    endpoint: str
    repo: str
    revision: str
    files: tuple[HubFile, ...]


NAME = "cogvx-manifest.json"
FORMAT = 1

UNFINISHED = ".incomplete"
"""Subfolder of the models folder that holds files until all of their checkpoint are verified."""


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of a checkpoint: its size and SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Lender:
    """The checkpoint whose text encoder another one has instead of its own."""

    name: str
    repo: str  # that the text encoder is of, on the hub of the rest
    revision: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a checkpoint, and where they came from."""

    source: str  # ``modelscope``, ``huggingface``, or ``repository`` for the embedded checkpoint
    repo: str  # id on the hub; a name for the embedded checkpoint
    revision: str
    files: dict[str, ManifestFile]  # by path relative to the folder, with ``/``
    shares: str = ""  # name of the checkpoint whose other components belong to these
    text_encoder_from: Lender | None = None  # whose files in ``text_encoder/`` are

    @property
    def remark(self) -> str:
        """What is not as in its repository, to follow a sentence; empty if nothing is."""
        lender = self.text_encoder_from
        return f", its text encoder is {lender.name}'s" if lender else ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that differs from the manifest."""

    path: str  # relative to the folder
    kind: str  # ``missing``, ``size`` or ``hash``
    detail: str  # for messages


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None if there is none.

    Raises:
        ModelCorrupt: if it can't be read.
    """
    path = folder / NAME
    try:
        content = read_json(path)
        listed = {name: _read_entry(**file) for name, file in content["files"].items()}
        origin = [content[name] for name in ("source", "repo", "revision")]
        shares, lender = content.get("shares", ""), content.get("text_encoder_from")
        lender = Lender(**lender) if lender is not None else None
        lent = (lender.name, lender.repo, lender.revision) if lender else ()
        if not all(isinstance(value, str) for value in (*origin, shares, *lent)):
            raise TypeError(origin)
        if lender and not (lender.name.isprintable() and len(lender.name) < 80):
            raise ValueError(lender)
        return Manifest(*origin, listed, shares, lender)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelCorrupt(f"{path} can't be read: delete it and download again") from error


def _read_entry(bytes: int, sha256: str) -> ManifestFile:
    if type(bytes) is not int or bytes < 0 or not isinstance(sha256, str):
        raise TypeError((bytes, sha256))
    return ManifestFile(bytes, sha256)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder, whole or not at all."""
    content = {"format": FORMAT, **asdict(manifest)}
    for rare in ("shares", "text_encoder_from"):
        if not content[rare]:
            del content[rare]
    content = json.dumps(content, indent=1)
    files.write_whole(folder / NAME, content.encode())


def remove_manifest(folder: Path) -> None:
    """Mark a folder as unfinished."""
    (folder / NAME).unlink(missing_ok=True)


def find_problems(
    folder: Path, manifest: Manifest, deep: bool = False, on_bytes: hashing.OnBytes | None = None
) -> list[Problem]:
    """Files that are missing or of another size; with ``deep`` also those of another SHA-256."""
    problems, same_size = [], []
    for name, file in manifest.files.items():
        path = folder / name
        if not path.is_file():
            problems.append(Problem(name, "missing", "is missing"))
        elif path.stat().st_size != file.bytes:
            size = path.stat().st_size
            problems.append(Problem(name, "size", f"has {size:,} bytes of {file.bytes:,}"))
        else:
            same_size.append(name)
    if deep:
        actual = hashing.sha256_all([folder / name for name in same_size], on_bytes)
        for name in same_size:
            if actual[folder / name] != manifest.files[name].sha256:
                problems.append(Problem(name, "hash", "has other content than the hub's"))
    return problems
