"""What hubs offer of a checkpoint: the files that it needs, checked before any is fetched."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..errors import BadDownload, DownloadError, UnsafeName
from . import hubs
from .checkpoint import Checkpoint
from .manifest import HubFile, Lender, Listing

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

TEXT_ENCODER = frozenset({"text_encoder"})

Hub = hubs.HuggingFace | hubs.ModelScope


@dataclass(frozen=True, slots=True)
class Lent:
    """The text encoder of another checkpoint, taken instead of the own one."""

    checkpoint: Checkpoint
    listing: Listing  # of its files

    def __str__(self) -> str:
        listing = self.listing
        return (
            f"with the text encoder of {self.checkpoint.name} instead of its own, from "
            f"{listing.repo} (revision {listing.revision})"
        )

    @property
    def lender(self) -> Lender:
        """What a manifest records of it."""
        return Lender(self.checkpoint.name, self.listing.repo, self.listing.revision)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a hub has of a checkpoint."""

    hub: Hub
    listing: Listing  # the required files of its repository
    lent: Lent | None  # where the text encoder is another checkpoint's
    note: str = ""  # why this hub was taken, if another was preferred

    @property
    def files(self) -> tuple[HubFile, ...]:
        return self.listing.files + (self.lent.listing.files if self.lent else ())

    def listing_of(self, file: HubFile) -> Listing:
        """The listing that a file is in."""
        return self.listing if file in self.listing.files else self.lent.listing


def first_offer(
    checkpoint: Checkpoint,
    lender: Checkpoint | None,
    sources: Sequence[str],
    connect: Callable[[str], Hub],
    revisions: Mapping[str, str],
) -> Offer:
    """What the first hub that lists a checkpoint has of it, and why those before it didn't.

    Args:
        lender: checkpoint whose text encoder is taken instead of the own one.
        sources: names of hubs, in the order in which they are asked.
        revisions: of repositories, by their ids; by default the newest.

    Raises:
        DownloadError: if none does; that of the only hub, or one with the reasons of all.
    """
    failures: list[tuple[str, DownloadError]] = []
    for name in _having(sources, checkpoint, lender):
        try:
            offer = _ask(connect(name), name, checkpoint, lender, revisions)
        except DownloadError as error:
            failures.append((name, error))
            continue
        note = "; ".join(f"{failed}: {error}" for failed, error in failures)
        note = f"{note}; taking {name} instead" if note else ""
        return Offer(offer.hub, offer.listing, offer.lent, note)
    if len(failures) == 1:
        raise failures[0][1]
    kinds = {type(error) for _, error in failures}
    kind = kinds.pop() if len(kinds) == 1 else DownloadError
    tried = "; then ".join(f"{name}: {error}" for name, error in failures)
    raise kind(f"no hub has {checkpoint.name} for this machine: {tried}") from failures[-1][1]


def _having(
    sources: Sequence[str], checkpoint: Checkpoint, lender: Checkpoint | None
) -> Sequence[str]:
    """The hubs that have both checkpoints.

    Raises:
        DownloadError: if none of them has.
    """
    for needed in filter(None, (checkpoint, lender)):
        having = [source for source in sources if getattr(needed, source)]
        if not having:
            known = " or ".join(source for source in hubs.SOURCES if getattr(needed, source))
            raise DownloadError(f"{needed.name} is not on {sources[0]}: use --source {known}")
        sources = having
    return sources


def _ask(
    hub: Hub,
    source: str,
    checkpoint: Checkpoint,
    lender: Checkpoint | None,
    revisions: Mapping[str, str],
) -> Offer:
    """What a hub has of a checkpoint."""
    repo, folders = getattr(checkpoint, source), CHECKPOINT_FILES.keys()
    if lender is None:
        listing = _required_files(hub.listing(repo, revisions.get(repo, "")), folders)
        return Offer(hub, listing, None)
    listing = _required_files(hub.listing(repo, revisions.get(repo, "")), folders - TEXT_ENCODER)
    repo = getattr(lender, source)
    lent = _required_files(hub.listing(repo, revisions.get(repo, "")), TEXT_ENCODER)
    return Offer(hub, listing, Lent(lender, lent))


def _required_files(listing: Listing, folders: Collection[str]) -> Listing:
    """The listing without pickles, other formats and pictures.

    Args:
        folders: those of ``CHECKPOINT_FILES`` that are wanted.

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
        endings = CHECKPOINT_FILES[folder] if folder in folders else ()
        if len(path.parts) > 2 or not path.name.endswith(endings):
            continue
        if path.suffix == ".safetensors" and "." in path.stem:
            continue  # a variant, such as model.fp16.safetensors
        if path.suffix in WEIGHTS and not file.sha256:
            raise BadDownload(
                f"{listing.endpoint} gives no hash for {file.path}, so it can't be verified: try "
                "another --source"
            )
        files.append(file)
    _check_parts(listing, {file.path for file in files}, folders)
    return Listing(listing.source, listing.endpoint, listing.repo, listing.revision, tuple(files))


def _check_parts(listing: Listing, names: set[str], folders: Collection[str]) -> None:
    """Check that files are those of a checkpoint, or of its text encoder alone.

    Raises:
        BadDownload: if they aren't, with what is missing.
    """
    if "" in folders and "model_index.json" not in names:
        raise BadDownload(f"{listing.repo} at {listing.endpoint} is no checkpoint of diffusers")
    weights = {name.split("/")[0] for name in names if name.endswith(".safetensors")}
    for component in ("text_encoder", "transformer", "vae"):
        if component in folders and component not in weights:
            other = "take another's by --text-encoder-from"
            remedy = other if component == "text_encoder" else "try another --source"
            raise BadDownload(
                f"{listing.repo} at {listing.endpoint} has no .safetensors of its {component}, so "
                f"nothing was fetched: {remedy}"
            )
