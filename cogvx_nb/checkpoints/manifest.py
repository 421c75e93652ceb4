"""A checkpoint's list of files with their hashes: written when all are right, verified later."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import files, settings
from ..errors import ModelCorrupt, ModelError, ModelMissing
from ..progress import Bytes, Started, TransferListener
from . import registry


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as a hub announces it.

    Attributes:
        path: relative, with ``/``.
        bytes: size.
        sha256: of its content; empty where the hub doesn't say.
        git_blob: git's id of its content, which Hugging Face gives for small files; or empty.
    """

    path: str
    bytes: int
    sha256: str = ""
    git_blob: str = ""


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


@dataclass(frozen=True, slots=True)
class ManifestFile:
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
    files: dict[str, ManifestFile]


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


def read_manifest(folder: Path) -> Manifest | None:
    """A folder's manifest, or None where there is none.

    Raises:
        ModelCorrupt: if it can't be read.
    """
    path = folder / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        files = {name: ManifestFile(**file) for name, file in found["files"].items()}
        return Manifest(found["source"], found["repo"], found["revision"], files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelCorrupt(f"{path} can't be read: delete it and download again") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a folder's manifest, whole or not at all."""
    content = json.dumps({"format": FORMAT} | asdict(manifest), indent=1)
    files.write_whole(folder / NAME, content.encode())


def remove_manifest(folder: Path) -> None:
    """Say that a folder is not finished (any more)."""
    (folder / NAME).unlink(missing_ok=True)


def find_problems(
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


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found in a checkpoint's folder.

    Attributes:
        folder: where.
        manifest: what should be there.
        problems: what is not as the manifest says; empty for a checkpoint that is whole.
    """

    folder: Path
    manifest: Manifest
    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        if self.problems:
            return "\n".join(f"{self.folder}/{one.path} {one.detail}" for one in self.problems)
        return f"{self.folder}: all {len(self.manifest.files)} files are right"


def verify_checkpoint(name: str, on_event: TransferListener = lambda event: None) -> Verification:
    """Read every file of a checkpoint and compare its SHA-256 with the manifest's.

    Args:
        name: of a checkpoint, or a folder.

    Raises:
        ModelMissing: if there is no such folder.
        ModelError: if it has no manifest to compare with.
    """
    folder = checkpoint_folder(name)
    listed = read_manifest(folder)
    if listed is None:
        known = registry.find_checkpoint(folder.name)
        fetch = f": 'cogvx download {known.name}' compares it with its hub" if known else ""
        raise ModelError(f"{folder} has no {NAME} to compare with{fetch}")
    on_event(Started("checking", sum(file.bytes for file in listed.files.values())))

    def report(path: Path, count: int) -> None:
        name = path.relative_to(folder).as_posix()
        on_event(Bytes(name, count, listed.files[name].bytes))

    return Verification(
        folder, listed, tuple(find_problems(folder, listed, deep=True, on_bytes=report))
    )


def checkpoint_folder(name: str) -> Path:
    """The folder of a checkpoint by its name, or the folder so named.

    Raises:
        ModelMissing: if there is none.
    """
    known = registry.find_checkpoint(name)
    folder = settings.models_dir() / known.name if known else Path(name).expanduser().absolute()
    if not folder.is_dir():
        names = ", ".join(checkpoint.name for checkpoint in registry.CHECKPOINTS)
        raise ModelMissing(f"there is no {folder}: download it, or name one of {names}")
    return folder
