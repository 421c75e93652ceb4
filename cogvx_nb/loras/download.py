"""A LoRA fetched from a hub into the library, verified as checkpoints are."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .. import files, hashing
from ..checkpoints import hubs
from ..checkpoints.download import RESERVE
from ..checkpoints.listings import Offer
from ..checkpoints.manifest import UNFINISHED, HubFile, Listing
from ..checkpoints.transfer import PATIENCE, fetch_files
from ..errors import BadDownload, DiskFull, DownloadError, HubUnreachable, UnsafeName
from ..events import Note, Started, TransferListener
from ..paths import read_json, user_path
from ..text import format_bytes, plain_line
from .library import ENDING, loras_folder
from .reader import fitting_checkpoints

REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")

ORIGINS = ".origins.json"
"""In that folder: hub, repository, revision, path and SHA-256 of each file that was fetched, by its
name."""

COMMON_NAMES = ("pytorch_lora_weights", "adapter_model", "lora", "model")
"""Names that many repositories give their LoRA, the first by diffusers, the second by peft: such a
file is called as its repository is."""

SHOWN = 6
"""Names that a message lists."""


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
    owner, _, name = repo.partition("/")
    if not REPOSITORY.fullmatch(repo) or ".." in repo:
        raise DownloadError(f"{plain_line(repo)[:80]} is no repository: write OWNER/NAME")
    offer = _offer(repo, wanted, source, endpoint, send_token)
    file, folder = offer.files[0], loras_folder()
    stem = PurePosixPath(file.path).stem
    path = user_path(folder / f"{name if stem in COMMON_NAMES else stem}{ENDING}", "lora", new=True)
    staging = folder.parent / UNFINISHED / f"lora {owner} {name}"
    errors = files.translate_errors(folder, kind=DownloadError, full_remedy="make room, then go on")

    def report_holder(holder: str) -> None:
        on_event(Note(f"{folder} is being filled by {holder}: waiting for it"))

    with errors, files.exclusive_lock(folder.parent / UNFINISHED / "loras.lock", report_holder):
        if not _is_there(path, file):
            _fetch(offer, path, staging, on_event, patience)
        fits = tuple(known.name for known in fitting_checkpoints(path))
        _keep_origin(path, offer.listing)
    return FetchedLora(path, offer.listing, fits)


def origins(folder: Path) -> dict[str, dict]:
    """What ``ORIGINS`` of a folder holds; empty if it isn't there or damaged."""
    with contextlib.suppress(OSError, ValueError):
        content = read_json(folder / ORIGINS)
        if isinstance(content, dict):
            return {name: one for name, one in content.items() if isinstance(one, dict)}
    return {}


def _offer(repo: str, wanted: str, source: str, endpoint: str, send_token: bool) -> Offer:
    """The wanted file on the first hub that can be reached and has the repository."""
    both = ("huggingface", "modelscope")
    sources = (source,) if source != "auto" else both[:1] if endpoint else both
    failures: list[DownloadError] = []
    for name in sources:
        try:
            hub = hubs.connect_hub(name, endpoint, send_token)
            return Offer(hub, _chosen(hub.listing(repo), wanted), None)
        except DownloadError as error:
            failures.append(error)
            if isinstance(error, UnsafeName | BadDownload):
                break
    reached = [error for error in failures if not isinstance(error, HubUnreachable)]
    raise (reached or failures)[0]


def _chosen(listing: Listing, wanted: str) -> Listing:
    """The listing with the wanted file alone."""
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
    offer: Offer, path: Path, staging: Path, on_event: TransferListener, patience: float
) -> None:
    file, free = offer.files[0], shutil.disk_usage(files.nearest_existing_folder(path.parent)).free
    if file.bytes + RESERVE > free:
        raise DiskFull(
            f"{file.path} needs {format_bytes(file.bytes)} at {path.parent} and "
            f"{format_bytes(free)} are free: make room"
        )
    staging.mkdir(parents=True, exist_ok=True)
    on_event(Started("fetching", file.bytes))
    fetch_files(offer, [file], staging, on_event, patience)
    try:
        fitting_checkpoints(staging / file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.publish(staging / file.path, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _keep_origin(path: Path, listing: Listing) -> None:
    (file,) = listing.files
    kept = {"source": listing.source, "repo": listing.repo, "revision": listing.revision}
    kept |= {"file": file.path, "sha256": file.sha256}
    content = json.dumps(origins(path.parent) | {path.name: kept}, indent=1)
    files.write_whole(path.parent / ORIGINS, content.encode())
