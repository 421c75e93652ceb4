"""A LoRA fetched from a hub into the library, verified as checkpoints are."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath

from .. import files, hashing
from ..checkpoints import hubs
from ..checkpoints.download import RESERVE
from ..checkpoints.listings import Offer
from ..checkpoints.manifest import UNFINISHED, HubFile, Listing
from ..checkpoints.transfer import PATIENCE, fetch_files, is_as_listed, open_staging
from ..errors import BadDownload, DiskFull, DownloadError, HubUnreachable, UnsafeName
from ..events import Note, Started, TransferListener
from ..paths import read_json, user_path
from ..text import format_bytes, plain_line
from .library import CONFIG, ENDING, config_path, free_path, loras_folder
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
    config: str = ""  # SHA-256 of peft's configuration that came with it; empty without

    def __str__(self) -> str:
        return plain_line(f"{self.file} of {self.repo} at {self.source}")


@dataclass(frozen=True, slots=True)
class FetchedLora:
    """A LoRA of the library and where it came from."""

    path: Path
    listing: Listing  # with that file, and peft's configuration of it if there is one
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

    It is verified by size and SHA-256 and read as a LoRA before it gets its name. An
    ``adapter_config.json`` next to it comes with it, see ``library.config_path``.

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
    """Fetch the LoRA of an offer to a path of the library, unless it is there; see ``fetch_lora``.

    Args:
        instead: whether another file of that name gets a number; else that is an error.
    """
    listing, folder = offer.listing, path.parent
    places = dict(zip(offer.files, (path, config_path(path)), strict=False))
    staging = folder.parent / UNFINISHED / f"lora {listing.repo.replace('/', ' ')}"
    errors = files.translate_errors(folder, kind=DownloadError, full_remedy="make room, then go on")

    def report_holder(holder: str) -> None:
        on_event(Note(f"{folder} is being filled by {holder}: waiting for it"))

    with errors, files.exclusive_lock(folder.parent / UNFINISHED / "loras.lock", report_holder):
        missing = {file: place for file, place in places.items() if not _is_there(place, file)}
        if missing and instead:
            missing = _set_aside(path, places, on_event)
        if missing:
            _check_free(path, missing, places)
            _fetch(offer, missing, staging, on_event, patience)
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
        and content.keys() | {"config"} == names  # which older ones lack
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
    """The listing with the wanted file, which may be left out if there is one, and with peft's
    configuration next to it, if there is one, after it.

    Raises:
        BadDownload: if it isn't there, or one of them without a hash.
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
    beside = str(path.with_name(CONFIG))
    chosen = (file, *(other for other in listing.files if other.path == beside))
    for one in chosen:
        if not (one.sha256 or (one is not file and one.git_blob)):
            raise BadDownload(f"{where} gives no hash for {one.path}: try another --source")
    return Listing(listing.source, listing.endpoint, listing.repo, listing.revision, chosen)


def _is_there(path: Path, file: HubFile) -> bool:
    """Whether a path holds a file of the hub."""
    same = path.is_file() and path.stat().st_size == file.bytes
    return same and is_as_listed(path, file, hashing.sha256(path))


def _check_free(
    path: Path, missing: Mapping[HubFile, Path], places: Mapping[HubFile, Path]
) -> None:
    """Raise DownloadError if another file has one of the names; a configuration that the hub
    doesn't have would be taken for that of the new LoRA."""
    taken = list(missing.values())
    if path in taken and config_path(path) not in places.values():
        taken.append(config_path(path))
    for one in taken:
        if one.exists():
            raise DownloadError(f"{one} is there with other content: rename that file, then go on")


def _fetch(
    offer: Offer,
    missing: Mapping[HubFile, Path],
    staging: Path,
    on_event: TransferListener,
    patience: float,
) -> None:
    """Fetch files, check them and give them their names, the configuration first."""
    file, folder = next(iter(missing)), next(iter(missing.values())).parent
    free = shutil.disk_usage(files.nearest_existing_folder(folder)).free
    size = sum(one.bytes for one in missing)
    if size + RESERVE > free:
        raise DiskFull(
            f"{file.path} needs {format_bytes(size)} at {folder} and "
            f"{format_bytes(free)} are free: make room"
        )
    open_staging(staging)
    on_event(Started("fetching", size))
    fetch_files(offer, list(missing), staging, on_event, patience)
    try:
        if file.path.endswith(ENDING):
            fitting_checkpoints(staging / file.path)
        folder.mkdir(parents=True, exist_ok=True)
        for one, place in reversed(missing.items()):
            files.publish(staging / one.path, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _set_aside(
    path: Path, places: Mapping[HubFile, Path], on_event: TransferListener
) -> dict[HubFile, Path]:
    """Rename what differs from the hub's, which may be the user's own, to the next free number of
    its name, a LoRA with its configuration; returns what is missing then."""
    weights, config = next(iter(places)), config_path(path)
    if not _is_there(path, weights) and path.exists():
        other = free_path(path)
        renamed = {path: other, config: config_path(other)}
    else:
        renamed = {config: next(one for one in files.numbered_paths(config) if not one.exists())}
    (first, kept), *_ = renamed.items()
    if first.exists():
        on_event(Note(f"{first} had other content, which is kept as {kept.name}"))
    for old, new in renamed.items():
        if old.exists():
            old.rename(new)
    return {file: place for file, place in places.items() if not place.exists()}


def _keep_origin(path: Path, listing: Listing) -> None:
    file, config = listing.files[0], config_path(path)
    digest = hashing.sha256(config) if len(listing.files) > 1 else ""
    origin = Origin(listing.source, listing.repo, listing.revision, file.path, file.sha256, digest)
    kept = origins(path.parent) | {path.name: origin}
    content = json.dumps({name: asdict(one) for name, one in kept.items()}, indent=1)
    files.write_whole(path.parent / ORIGINS, content.encode())
