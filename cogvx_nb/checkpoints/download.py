"""Plan of a download: files, sizes, disk space and licence, before anything is fetched."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import settings
from ..errors import DiskFull, DownloadError, RequestError
from ..events import TransferListener
from ..files import nearest_existing_folder
from ..paths import user_path
from ..text import format_bytes
from . import hubs, registry
from .listings import Offer, first_offer
from .manifest import UNFINISHED, HubFile
from .registry import Checkpoint
from .reuse import Twin, find_twins

RESERVE = 2**28
"""Bytes left free on the disk."""


@dataclass(frozen=True, slots=True)
class Download:
    """A planned download."""

    checkpoint: Checkpoint
    folder: Path  # that the checkpoint goes to
    offer: Offer  # the required files, as listed by the hub
    present: frozenset[str]  # those of them that are in ``folder`` already, by their size
    twins: dict[str, Twin]  # those that are in another checkpoint's folder, by their SHA-256
    disk_free: int  # bytes

    @property
    def files(self) -> tuple[HubFile, ...]:
        """All required files."""
        return self.offer.files

    @property
    def total_bytes(self) -> int:
        return _count_bytes(self.files)

    @property
    def left_bytes(self) -> int:
        """Bytes still to be fetched, less the partial files that the client resumes."""
        had = self.present | self.twins.keys()
        missing = _count_bytes(file for file in self.files if file.path not in had)
        parts = [path for path in self.staging.rglob("*") if path.is_file()]
        if self.offer.listing.source == "huggingface":  # whose client doesn't resume
            parts = [path for path in parts if path.suffix != ".incomplete"]
        names = {part: part.relative_to(self.staging).as_posix() for part in parts}
        names = {part: name.removesuffix(".incomplete") for part, name in names.items()}
        kept = sum(part.stat().st_size for part, name in names.items() if name not in had)
        return max(0, missing - kept)

    @property
    def room_bytes(self) -> int:
        """Bytes that it needs on the disk: what is fetched and what is copied."""
        return self.left_bytes + self._twin_bytes(linked=False)

    @property
    def staging(self) -> Path:
        """Folder that holds the files until all of them are verified."""
        return self.folder.parent / UNFINISHED / self.folder.name

    def _twin_bytes(self, linked: bool) -> int:
        paths = {path for path, twin in self.twins.items() if twin.linked == linked}
        return _count_bytes(file for file in self.files if file.path in paths)

    def __str__(self) -> str:
        listing, checkpoint, lent = self.offer.listing, self.checkpoint, self.offer.lent
        reused = self._twin_bytes(linked=True) + self._twin_bytes(linked=False)
        taken = f"; on the disk in other folders: {format_bytes(reused)}" if reused else ""
        lines = [
            f"{checkpoint.name}: {len(self.files)} files, {format_bytes(self.total_bytes)}, "
            f"from {listing.repo} at {listing.endpoint} (revision {listing.revision})",
            *([str(lent)] if lent else []),
            *(self._file_line(file) for file in self.files),
            f"here already: {format_bytes(self.total_bytes - reused - self.left_bytes)}{taken}; "
            f"to fetch: {format_bytes(self.left_bytes)}; "
            f"free on the disk: {format_bytes(self.disk_free)}, "
            f"{format_bytes(self.disk_free - self.room_bytes)} after it",
            *self._hints(),
            f"licence: {checkpoint.licence} – {checkpoint.licence_note}",
        ]
        return "\n".join(([self.offer.note] if self.offer.note else []) + lines)

    def _file_line(self, file: HubFile) -> str:
        twin = self.twins.get(file.path)
        how = f", {'linked' if twin.linked else 'copied'} from {twin.checkpoint}" if twin else ""
        return f"  {format_bytes(file.bytes):>9}  {file.path}{how}"

    def _hints(self) -> list[str]:
        """Ways to fetch less."""
        own = not self.offer.lent and self.checkpoint.stored["text_encoder"] == 4
        if not own or self.left_bytes < self.total_bytes / 2:
            return []
        lender = registry.COGVIDEOX_5B.name
        return [
            f"its text encoder is stored in float32; that of {lender}, in bfloat16, is half as "
            f"large: --text-encoder-from {lender}"
        ]


def prepare_download(
    checkpoint: Checkpoint,
    source: str = "auto",
    endpoint: str = "",
    models_dir: str | Path = "",
    send_token: bool = False,
    text_encoder_from: str = "",
    revisions: Mapping[str, str] | None = None,
    on_event: TransferListener = lambda event: None,
) -> Download:
    """List a checkpoint's files on a hub, and compare them with those on this machine.

    Args:
        source: ``modelscope``, ``huggingface``, or ``auto``: the first of them that can be reached;
            with an ``endpoint``, the interface of Hugging Face, which its mirrors have.
        models_dir: folder of the checkpoint's folder; by default ``settings.models_dir``.
        send_token: send a mirror the token of the hub's client.
        text_encoder_from: name of a checkpoint whose text encoder is taken instead of the own one.
        revisions: of repositories, by their ids; by default the newest.
        on_event: told which files of other folders are hashed.

    Raises:
        RequestError: if the text encoder can't be taken from there.
        DownloadError: with the cause and the next step.
        DiskFull: if there is no room for it.
    """
    if checkpoint.is_embedded:
        raise DownloadError(
            f"{checkpoint.name} ships with the repository: git checkout -- models/{checkpoint.name}"
        )
    lender = _find_lender(text_encoder_from, checkpoint) if text_encoder_from else None
    sources = (source,) if source != "auto" else ("huggingface",) if endpoint else hubs.SOURCES
    home = settings.models_dir()
    if models_dir:
        home = user_path(models_dir, "models folder", folder=True)
    if not (existing := nearest_existing_folder(home)).is_dir():
        raise DownloadError(f"{home} can't be a folder, since {existing} is none: name another")
    connect = functools.partial(hubs.connect_hub, endpoint=endpoint, send_token=send_token)
    offer = first_offer(checkpoint, lender, sources, connect, revisions or {})
    folder = home / checkpoint.name
    staging = home / UNFINISHED / checkpoint.name
    present = {f.path for f in offer.files if file_size(folder / f.path) == f.bytes}
    staged = {f.path for f in offer.files if file_size(staging / f.path) == f.bytes}
    missing = [f for f in offer.files if f.path not in present | staged]
    twins = find_twins(missing, folder, on_event)
    free = shutil.disk_usage(nearest_existing_folder(folder)).free
    planned = Download(checkpoint, folder, offer, frozenset(present), twins, free)
    if planned.room_bytes + RESERVE > free:
        raise DiskFull(
            f"{checkpoint.name} needs {format_bytes(planned.room_bytes)} more at {folder.parent} "
            f"and {format_bytes(free)} are free: make room, or choose another --models-dir"
        )
    return planned


def _find_lender(name: str, borrower: Checkpoint) -> Checkpoint:
    """The checkpoint whose text encoder another one can have.

    Raises:
        RequestError: if there is none of that name, or its text encoder is another.
    """
    lender, needed = registry.find_checkpoint(name), borrower.parameters["text_encoder"]
    fitting = [
        known.name
        for known in registry.CHECKPOINTS
        if known.parameters["text_encoder"] == needed and known.name != borrower.name
    ]
    if lender is None or lender.name not in fitting:
        raise RequestError("text_encoder_from", name, f"use one of {', '.join(fitting)}")
    return lender


def _count_bytes(files) -> int:
    return sum(file.bytes for file in files)


def file_size(path: Path) -> int:
    """Bytes of a file; -1 if there is none."""
    try:
        return path.stat().st_size if path.is_file() else -1
    except OSError:
        return -1
