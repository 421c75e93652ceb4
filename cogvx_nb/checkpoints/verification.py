"""Compare a checkpoint's folder with its manifest, and fetch what differs again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from ..progress import Bytes, Started, TransferListener
from . import hubs, registry
from .download import prepare_download
from .manifest import NAME, Manifest, Problem, find_problems, read_manifest
from .store import checkpoint_folder
from .transfer import fetch_checkpoint


@dataclass(frozen=True, slots=True)
class Verification:
    """A checkpoint's folder, compared with its manifest."""

    path: Path  # its folder
    manifest: Manifest
    problems: tuple[Problem, ...]  # empty if the checkpoint is whole

    def __str__(self) -> str:
        if self.problems:
            return "\n".join(f"{self.path}/{p.path} {p.detail}" for p in self.problems)
        return f"{self.path}: all {len(self.manifest.files)} files are right{self.manifest.remark}"


def verify_checkpoint(name: str, on_event: TransferListener = lambda event: None) -> Verification:
    """Hash every file of a checkpoint and compare it with the manifest.

    Args:
        name: a checkpoint's name or alias, or a folder.

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


def repair_checkpoint(
    verified: Verification,
    endpoint: str = "",
    send_token: bool = False,
    on_event: TransferListener = lambda event: None,
) -> Manifest:
    """Fetch the files with problems again, from the hub that the manifest names.

    Raises:
        ModelError: if it came from no hub.
        DownloadError, DiskFull: see ``download.prepare_download`` and ``fetch_checkpoint``.
    """
    listed, folder = verified.manifest, verified.path
    known, lender = registry.find_checkpoint(folder.name), listed.text_encoder_from
    if known is None or listed.source not in hubs.SOURCES:
        raise ModelError(f"{folder} came from no hub: repair it with 'git checkout -- {folder}'")
    revisions = {listed.repo: listed.revision}
    if lender:
        revisions[lender.repo] = lender.revision
    planned = prepare_download(
        known,
        listed.source,
        endpoint,
        folder.parent,
        send_token,
        lender.name if lender else "",
        revisions,
        on_event,
    )
    return fetch_checkpoint(planned, on_event)
