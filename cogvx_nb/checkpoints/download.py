"""Plan of a download: files, sizes, disk space and licence, before anything is fetched."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .. import settings
from ..errors import BadDownload, DiskFull, DownloadError, UnsafeName
from ..files import nearest_existing_folder
from ..paths import user_path
from ..text import format_bytes
from . import hubs
from .manifest import Listing
from .registry import Checkpoint

UNFINISHED = ".incomplete"
"""Subfolder of the models folder that holds files until all of their checkpoint are verified."""

RESERVE = 2**28
"""Bytes left free on the disk."""

WEIGHTS = (".safetensors", ".model")
CHECKPOINT_FILES = {
    "": ("model_index.json", "LICENSE", "README.md", "configuration.json"),
    "scheduler": (".json",),
    "tokenizer": (".json", ".model", ".txt"),
    "text_encoder": (".json", ".safetensors"),
    "transformer": (".json", ".safetensors"),
    "vae": (".json", ".safetensors"),
}
"""Endings of the names of a checkpoint's files, by folder."""


@dataclass(frozen=True, slots=True)
class Download:
    """A planned download."""

    checkpoint: Checkpoint
    folder: Path  # that the checkpoint goes to
    hub: hubs.HuggingFace | hubs.ModelScope
    listing: Listing  # the required files, as listed by the hub
    present: frozenset[str]  # those of them that are in ``folder`` already, by their size
    disk_free: int  # bytes
    note: str = ""  # why this hub was taken, if another was preferred

    @property
    def total_bytes(self) -> int:
        return sum(file.bytes for file in self.listing.files)

    @property
    def left_bytes(self) -> int:
        """Bytes still to be fetched, less the partial files that the client resumes."""
        missing = sum(file.bytes for file in self.listing.files if file.path not in self.present)
        parts = (path for path in self.staging.rglob("*") if path.is_file())
        if self.listing.source == "huggingface":  # whose client doesn't resume
            parts = (path for path in parts if path.suffix != ".incomplete")
        return max(0, missing - sum(path.stat().st_size for path in parts))

    @property
    def staging(self) -> Path:
        """Folder that holds the files until all of them are verified."""
        return self.folder.parent / UNFINISHED / self.folder.name

    def __str__(self) -> str:
        listing, checkpoint = self.listing, self.checkpoint
        lines = [
            f"{checkpoint.name}: {len(listing.files)} files, {format_bytes(self.total_bytes)}, "
            f"from {listing.repo} at {listing.endpoint} (revision {listing.revision})",
            *(f"  {format_bytes(file.bytes):>9}  {file.path}" for file in listing.files),
            f"here already: {format_bytes(self.total_bytes - self.left_bytes)}; to fetch: "
            f"{format_bytes(self.left_bytes)}; free on the disk: {format_bytes(self.disk_free)}, "
            f"{format_bytes(self.disk_free - self.left_bytes)} after it",
            f"licence: {checkpoint.licence} – {checkpoint.licence_note}",
        ]
        return "\n".join(([self.note] if self.note else []) + lines)


def prepare_download(
    checkpoint: Checkpoint,
    source: str = "auto",
    endpoint: str = "",
    models_dir: str | Path = "",
    send_token: bool = False,
    revision: str = "",
) -> Download:
    """List a checkpoint's files on a hub, and compare them with those on this machine.

    Args:
        source: ``modelscope``, ``huggingface``, or ``auto``: the first of them that can be reached;
            with an ``endpoint``, the interface of Hugging Face, which its mirrors have.
        models_dir: folder of the checkpoint's folder; by default ``settings.models_dir``.
        send_token: send a mirror the token of the hub's client.
        revision: of the repository; by default the newest.

    Raises:
        DownloadError: with the cause and the next step.
        DiskFull: if there is no room for it.
    """
    if checkpoint.is_embedded:
        raise DownloadError(
            f"{checkpoint.name} ships with the repository: git checkout -- models/{checkpoint.name}"
        )
    sources = (source,) if source != "auto" else ("huggingface",) if endpoint else hubs.SOURCES
    home = settings.models_dir()
    if models_dir:
        home = user_path(models_dir, "models folder", folder=True)
    if not (existing := nearest_existing_folder(home)).is_dir():
        raise DownloadError(f"{home} can't be a folder, since {existing} is none: name another")
    hub, listing, note = _first_listing(checkpoint, sources, endpoint, send_token, revision)
    folder = home / checkpoint.name
    present = frozenset(f.path for f in listing.files if file_size(folder / f.path) == f.bytes)
    free = shutil.disk_usage(nearest_existing_folder(folder)).free
    planned = Download(checkpoint, folder, hub, listing, present, free, note)
    if planned.left_bytes + RESERVE > free:
        raise DiskFull(
            f"{checkpoint.name} needs {format_bytes(planned.left_bytes)} more at {folder.parent} "
            f"and {format_bytes(free)} are free: make room, or choose another --models-dir"
        )
    return planned


def _first_listing(
    checkpoint: Checkpoint, sources: tuple[str, ...], endpoint: str, send_token: bool, revision: str
) -> tuple[hubs.HuggingFace | hubs.ModelScope, Listing, str]:
    """The first hub that lists a checkpoint, its listing, and why those before it didn't.

    Raises:
        DownloadError: if none does; that of the only hub, or one with the reasons of all.
    """
    failures: list[tuple[str, DownloadError]] = []
    for name in [source for source in sources if getattr(checkpoint, source)]:
        try:
            hub = hubs.connect_hub(name, endpoint, send_token)
            listing = _required_files(hub.listing(getattr(checkpoint, name), revision))
        except DownloadError as error:
            failures.append((name, error))
            continue
        note = "; ".join(f"{failed}: {error}" for failed, error in failures)
        return hub, listing, f"{note}; taking {name} instead" if note else ""
    if len(failures) == 1:
        raise failures[0][1]
    kinds = {type(error) for _, error in failures}
    kind = kinds.pop() if len(kinds) == 1 else DownloadError
    tried = "; then ".join(f"{name}: {error}" for name, error in failures)
    raise kind(f"no hub has {checkpoint.name} for this machine: {tried}") from failures[-1][1]


def _required_files(listing: Listing) -> Listing:
    """The listing without pickles, other formats and pictures.

    Raises:
        UnsafeName: if a file would be written outside of the checkpoint's folder.
        BadDownload: if it isn't a checkpoint, or its weights can't be verified.
    """
    files = []
    for file in listing.files:
        path = PurePosixPath(file.path)
        unsafe = path.is_absolute() or ".." in path.parts or set(file.path) & set("\\:\0\n")
        if unsafe or path.as_posix() != file.path:
            raise UnsafeName(
                f"{listing.endpoint} lists a file {file.path!r} in {listing.repo}, which would be "
                "outside the checkpoint's folder: nothing was fetched; tell the hub"
            )
        folder = "" if len(path.parts) == 1 else path.parts[0]
        if len(path.parts) > 2 or not path.name.endswith(CHECKPOINT_FILES.get(folder, ())):
            continue
        if path.suffix == ".safetensors" and "." in path.stem:
            continue  # a variant, such as model.fp16.safetensors
        if path.suffix in WEIGHTS and not file.sha256:
            raise BadDownload(
                f"{listing.endpoint} gives no hash for {file.path}, so it can't be verified: try "
                "another --source"
            )
        files.append(file)
    if "model_index.json" not in {file.path for file in files}:
        raise BadDownload(f"{listing.repo} at {listing.endpoint} is no checkpoint of diffusers")
    return Listing(listing.source, listing.endpoint, listing.repo, listing.revision, tuple(files))


def file_size(path: Path) -> int:
    """Bytes of a file; -1 if there is none."""
    try:
        return path.stat().st_size if path.is_file() else -1
    except OSError:
        return -1
