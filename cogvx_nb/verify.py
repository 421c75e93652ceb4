"""Hashing a checkpoint's files again, and fetching again what is bad."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import checkpoints, download, manifest, settings, transfer
from .errors import ModelError, ModelMissing
from .manifest import Manifest, Problem
from .progress import Bytes, Started, TransferListener


@dataclass(frozen=True, slots=True)
class Verified:
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


def run(name: str, on_event: TransferListener = lambda event: None) -> Verified:
    """Read every file of a checkpoint and compare its SHA-256 with the manifest's.

    Args:
        name: of a checkpoint, or a folder.

    Raises:
        ModelMissing: if there is no such folder.
        ModelError: if it has no manifest to compare with.
    """
    folder = folder_of(name)
    listed = manifest.read(folder)
    if listed is None:
        known = checkpoints.by_name(folder.name)
        fetch = f": 'cogvx download {known.name}' compares it with its hub" if known else ""
        raise ModelError(f"{folder} has no {manifest.NAME} to compare with{fetch}")
    on_event(Started("checking", sum(file.bytes for file in listed.files.values())))

    def report(path: Path, count: int) -> None:
        name = path.relative_to(folder).as_posix()
        on_event(Bytes(name, count, listed.files[name].bytes))

    return Verified(
        folder, listed, tuple(manifest.problems(folder, listed, deep=True, on_bytes=report))
    )


def repair(
    found: Verified,
    endpoint: str = "",
    send_token: bool = False,
    on_event: TransferListener = lambda event: None,
) -> Manifest:
    """Fetch again what ``run`` found bad, from the hub that the manifest names.

    Raises:
        ModelError: if it came from no hub.
        DownloadError, DiskFull: see ``download.prepare`` and ``transfer.run``.
    """
    source, folder = found.manifest.source, found.folder
    known = checkpoints.by_name(folder.name)
    if known is None or source not in download.hubs.SOURCES:
        raise ModelError(f"{folder} came from no hub: mend it with 'git checkout -- {folder}'")
    revision = found.manifest.revision
    planned = download.prepare(known, source, endpoint, folder.parent, send_token, revision)
    return transfer.run(planned, on_event)


def folder_of(name: str) -> Path:
    """The folder of a checkpoint by its name, or the folder so named.

    Raises:
        ModelMissing: if there is none.
    """
    known = checkpoints.by_name(name)
    folder = settings.models_dir() / known.name if known else Path(name).expanduser().absolute()
    if not folder.is_dir():
        names = ", ".join(checkpoint.name for checkpoint in checkpoints.CHECKPOINTS)
        raise ModelMissing(f"there is no {folder}: download it, or name one of {names}")
    return folder
