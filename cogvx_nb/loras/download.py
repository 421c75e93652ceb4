"""A LoRA fetched from a hub into the library, verified as checkpoints are."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath

from .. import files, hashing
from ..checkpoints import hubs
from ..checkpoints.download import RESERVE
from ..checkpoints.listings import Offer
from ..checkpoints.manifest import UNFINISHED, HubFile, Listing
from ..checkpoints.transfer import PATIENCE, fetch_files, open_staging
from ..errors import BadDownload, DiskFull, DownloadError, HubUnreachable, UnsafeName
from ..events import Note, Started, TransferListener
from ..paths import read_json, user_path
from ..text import format_bytes, plain_line
from .library import ENDING, loras_folder
from .reader import fitting_checkpoints

REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")

ORIGINS = ".origins.json"
"""In that folder: the ``Origin`` of each file that was fetched, by its name."""

COMMON_NAMES = ("pytorch_lora_weights", "adapter_model", "lora", "model")
"""Names that many repositories give their LoRA, the first by diffusers, the second by peft: such a
file is called as its repository is."""

SHOWN = 6
"""Names that a message lists."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a LoRA was fetched from."""

    source: str  # of ``hubs.SOURCES``
    repo: str
    revision: str
    file: str  # its path there
    sha256: str  # as the hub listed it

    def __str__(self) -> str:
        return plain_line(f"{self.file} of {self.repo} at {self.source}")


@dataclass(frozen=True, slots=True)
class FetchedLora:
    """A LoRA of the library and where it came from."""

    path: Path
    listing: Listing  # with that file alone
    fits: tuple[str, ...]  # names of checkpoints

    @property
    def file(self) -> HubFile:
        return self.listing.files[0]


def fetch_lora(
    repo: str,
    wanted: str = "",
    source: str = "auto",
    endpoint: str = "",
    send_token: bool = False,
    on_event: TransferListener = lambda event: None,
    patience: float = PATIENCE,
) -> FetchedLora:
    """Fetch a LoRA from a hub into ``models/loras/``, unless it is there.

    It is verified by size and SHA-256 and read as a LoRA before it gets its name.

    Args:
        repo: its id on the hub, ``OWNER/NAME``.
        wanted: path of the file in it; needed if it has several.
        source: ``modelscope``, ``huggingface``, or ``auto``: Hugging Face, then ModelScope; with an
            ``endpoint`` the interface of Hugging Face, which its mirrors have.
        send_token: send a mirror the token of the hub's client.
        patience: seconds without progress after which it is given up.

    Raises:
        DownloadError: with the cause and the next step.
        DiskFull: if there is no room for it.
        RequestError: if it is no LoRA for a checkpoint of the family.
    """
    if not REPOSITORY.fullmatch(repo) or ".." in repo:
        raise DownloadError(f"{plain_line(repo)[:80]} is no repository: write OWNER/NAME")
    offer = _offer(repo, wanted, source, endpoint, send_token)
    stem = PurePosixPath(offer.files[0].path).stem
    name = repo.partition("/")[2] if stem in COMMON_NAMES else stem
    path = user_path(loras_folder() / f"{name}{ENDING}", "lora", new=True)
    return place_lora(offer, path, on_event, patience)


def place_lora(
    offer: Offer,
    path: Path,
    on_event: TransferListener,
    patience: float = PATIENCE,
    instead: bool = False,
) -> FetchedLora:
    """Fetch the file of an offer to a path of the library, unless it is there; see ``fetch_lora``.

    Args:
        instead: whether another file of that name gets a number; else that is an error.
    """
    listing, folder = offer.listing, path.parent
    staging = folder.parent / UNFINISHED / f"lora {listing.repo.replace('/', ' ')}"
    errors = files.translate_errors(folder, kind=DownloadError, full_remedy="make room, then go on")

    def report_holder(holder: str) -> None:
        on_event(Note(f"{folder} is being filled by {holder}: waiting for it"))

    with errors, files.exclusive_lock(folder.parent / UNFINISHED / "loras.lock", report_holder):
        if instead or not _is_there(path, offer.files[0]):
            _fetch(offer, path, staging, on_event, patience, instead)
        fits = tuple(known.name for known in fitting_checkpoints(path))
        _keep_origin(path, listing)
    return FetchedLora(path, listing, fits)


def origins(folder: Path) -> dict[str, Origin]:
    """What ``ORIGINS`` of a folder holds; empty if it isn't there or damaged."""
    with contextlib.suppress(OSError, ValueError):
        content = read_json(folder / ORIGINS)
        if isinstance(content, dict):
            return {name: Origin(**one) for name, one in content.items() if _is_origin(one)}
    return {}


def _is_origin(content: object) -> bool:
    names = {field.name for field in fields(Origin)}
    return (
        isinstance(content, dict)
        and content.keys() == names
        and all(isinstance(value, str) for value in content.values())
        and content["source"] in hubs.SOURCES
    )


def _offer(repo: str, wanted: str, source: str, endpoint: str, send_token: bool) -> Offer:
    """The wanted file on the first hub that can be reached and has the repository."""
    both = ("huggingface", "modelscope")
    sources = (source,) if source != "auto" else both[:1] if endpoint else both
    failures: list[DownloadError] = []
    for name in sources:
        try:
            hub = hubs.connect_hub(name, endpoint, send_token)
            return Offer(hub, chosen_file(hub.listing(repo), wanted), None)
        except DownloadError as error:
            failures.append(error)
            if isinstance(error, UnsafeName | BadDownload):
                break
    reached = [error for error in failures if not isinstance(error, HubUnreachable)]
    raise (reached or failures)[0]


def chosen_file(listing: Listing, wanted: str) -> Listing:
    """The listing with the wanted file alone, which may be left out if there is one.

    Raises:
        BadDownload: if it isn't there, or without a hash.
    """
    named = [file for file in listing.files if file.path.endswith(ENDING)]
    shown = ", ".join(plain_line(file.path)[:60] for file in named[:SHOWN])
    shown += f" and {len(named) - SHOWN} more" * (len(named) > SHOWN)
    where = f"{listing.repo} at {listing.endpoint}"
    if not named:
        raise BadDownload(
            f"{where} has no {ENDING}; other formats, such as pickles, aren't fetched: choose "
            "another repository"
        )
    if not wanted and len(named) > 1:
        raise BadDownload(f"{where} has {len(named)} files: name one of {shown}")
    fitting = [file for file in named if file.path == wanted] if wanted else named
    if not fitting:
        raise BadDownload(f"{where} has no {plain_line(wanted)[:60]}: name one of {shown}")
    file = fitting[0]
    path = PurePosixPath(file.path)
    unsafe = path.is_absolute() or ".." in path.parts or set(file.path) & set("\\:\0\n")
    if unsafe or path.as_posix() != file.path or path.name.startswith("."):
        raise UnsafeName(
            f"{listing.endpoint} lists a file {file.path!r:.80} in {listing.repo}, which would be "
            "outside the folder: nothing was fetched; tell the hub"
        )
    if not file.sha256:
        raise BadDownload(f"{where} gives no hash for {file.path}: try another --source")
    return Listing(listing.source, listing.endpoint, listing.repo, listing.revision, (file,))


def _is_there(path: Path, file: HubFile) -> bool:
    """Whether the library has the file.

    Raises:
        DownloadError: if another one has its name.
    """
    if not path.exists():
        return False
    same = path.is_file() and path.stat().st_size == file.bytes
    if same and hashing.sha256(path) == file.sha256:
        return True
    raise DownloadError(f"{path} is there with other content: rename that file, then go on")


def _fetch(
    offer: Offer,
    path: Path,
    staging: Path,
    on_event: TransferListener,
    patience: float,
    instead: bool,
) -> None:
    file, free = offer.files[0], shutil.disk_usage(files.nearest_existing_folder(path.parent)).free
    if file.bytes + RESERVE > free:
        raise DiskFull(
            f"{file.path} needs {format_bytes(file.bytes)} at {path.parent} and "
            f"{format_bytes(free)} are free: make room"
        )
    open_staging(staging)
    on_event(Started("fetching", file.bytes))
    fetch_files(offer, [file], staging, on_event, patience)
    try:
        fitting_checkpoints(staging / file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if instead:
            _set_aside(path, on_event)
        files.publish(staging / file.path, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _set_aside(path: Path, on_event: TransferListener) -> None:
    """Rename a file, which may be the user's own, to the next free number of its name."""
    if path.exists():
        other = next(free for free in files.numbered_paths(path) if not free.exists())
        path.rename(other)
        on_event(Note(f"{path} had other content, which is kept as {other.name}"))


def _keep_origin(path: Path, listing: Listing) -> None:
    (file,) = listing.files
    origin = Origin(listing.source, listing.repo, listing.revision, file.path, file.sha256)
    kept = origins(path.parent) | {path.name: origin}
    content = json.dumps({name: asdict(one) for name, one in kept.items()}, indent=1)
    files.write_whole(path.parent / ORIGINS, content.encode())
