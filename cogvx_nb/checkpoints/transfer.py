"""Fetch the files of a checkpoint: resume, verify, and move them into place together."""

from __future__ import annotations

import contextlib
import queue
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from .. import files, hashing
from ..errors import BadDownload, DownloadError, HubBusy, HubFailed, HubUnreachable, ModelCorrupt
from ..files import exclusive_lock
from ..hashing import sha256_all
from ..progress import Bytes, Note, Started, TransferListener
from . import manifest
from .download import Download, file_size
from .listings import Offer
from .manifest import UNFINISHED, HubFile, Manifest, ManifestFile, read_manifest
from .reuse import find_twins
from .watcher import DownloadWatcher

WORKERS = 4
"""Files fetched in parallel, the default of both clients."""

PATIENCE = 60.0
"""Seconds without progress after which a file is given up."""


class TransferInterrupted(BaseException):
    """Raised in a client's callback to end its transfer. No Exception: it would retry those."""


def fetch_checkpoint(
    planned: Download, on_event: TransferListener = lambda event: None, patience: float = PATIENCE
) -> Manifest:
    """Fetch missing files, verify all, and move them into place.

    Files stay in a staging folder until all are verified, so the checkpoint's folder is never
    incomplete. After a failure call it again: verified files are not fetched again.

    Args:
        patience: seconds without progress after which a file is given up.

    Raises:
        DownloadError, DiskFull: with the cause and the next step.
    """
    folder, staging = planned.folder, planned.staging
    disk_errors = files.translate_errors(
        folder,
        kind=DownloadError,
        remedy="choose another --models-dir",
        full_remedy="make room, then go on",
    )
    lock = folder.parent / UNFINISHED / f"{folder.name}.lock"

    def report_holder(holder: str) -> None:
        on_event(Note(f"{folder.name} is being fetched by {holder}: waiting for it"))

    with disk_errors, exclusive_lock(lock, report_holder):
        open_staging(staging)
        hashes = _verified_files(planned, planned.files, on_event)
        missing = [file for file in planned.files if file.path not in hashes]
        hashes |= _take_twins(planned, missing, on_event)
        missing = [file for file in missing if file.path not in hashes]
        if missing:
            on_event(Started("fetching", sum(file.bytes for file in missing)))
            hashes |= fetch_files(planned.offer, missing, staging, on_event, patience)
        return _move_into_place(planned, hashes, staging)


def open_staging(staging: Path) -> None:
    """Make a staging folder, or prepare the one of an earlier download to go on with."""
    staging.mkdir(parents=True, exist_ok=True)
    for orphan in staging.rglob(".cache/huggingface/download/**/*.incomplete"):
        orphan.unlink()  # Hugging Face's client doesn't resume them


def _verified_files(
    planned: Download, files: Iterable[HubFile], on_event: TransferListener
) -> dict[str, str]:
    """SHA-256 by path of the files that match the listing. Others in staging are deleted."""
    present: dict[Path, HubFile] = {}
    staging = planned.staging
    for file in files:
        places = (staging / file.path, planned.folder / file.path)
        if path := next((place for place in places if file_size(place) == file.bytes), None):
            present[path] = file
        elif places[0].is_file():
            places[0].unlink()
    if present:
        on_event(Started("checking", sum(file.bytes for file in present.values())))

    def report(path: Path, count: int) -> None:
        on_event(Bytes(present[path].path, count, present[path].bytes))

    hashes = {}
    for path, sha256 in sha256_all(present, report).items():
        if is_as_listed(path, present[path], sha256):
            hashes[present[path].path] = sha256
        elif path.is_relative_to(staging):
            path.unlink()
    return hashes


def _take_twins(
    planned: Download, missing: list[HubFile], on_event: TransferListener
) -> dict[str, str]:
    """Link or copy missing files that other folders have; SHA-256 by path of those that are right.

    They are looked for again, since another download may have ended after this one was planned.
    """
    twins = find_twins(missing, planned.folder, on_event)
    taken = [file for file in missing if file.path in twins]
    if taken:
        on_event(Started("linking", sum(file.bytes for file in taken)))
    for file in taken:
        twins[file.path].place(
            planned.staging / file.path,
            lambda count, file=file: on_event(Bytes(file.path, count, file.bytes)),
        )
    hashes = _verified_files(planned, taken, on_event)
    for file in taken:
        twin = twins[file.path]
        if file.path not in hashes:
            on_event(Note(f"{twin.path} is damaged, so {file.path} is fetched"))
    return hashes


def is_as_listed(path: Path, file: HubFile, sha256: str) -> bool:
    """Whether a file with a hash is the one that a hub listed, as far as its listing tells."""
    if file.sha256:
        return sha256 == file.sha256
    return not file.git_blob or hashing.git_blob_hash(path) == file.git_blob


def fetch_files(
    offer: Offer,
    missing: list[HubFile],
    staging: Path,
    on_event: TransferListener,
    patience: float,
) -> dict[str, str]:
    """Fetch files into a folder in ``WORKERS`` threads and verify them; SHA-256 by path.

    The first failure stops all threads.

    Raises:
        DownloadError, DiskFull: with the cause and the next step.
    """
    pending: queue.SimpleQueue[HubFile] = queue.SimpleQueue()
    for file in sorted(missing, key=lambda file: file.bytes, reverse=True):
        pending.put(file)
    stop, hashes, failures = threading.Event(), {}, []

    def work() -> None:
        with contextlib.suppress(queue.Empty, TransferInterrupted):
            while not stop.is_set():
                file = pending.get_nowait()
                try:
                    hashes[file.path] = _fetch(offer, file, staging, on_event, stop, patience)
                except Exception as error:
                    failures.append(error)
                    stop.set()

    # Daemons: Ctrl-C doesn't wait for a connection that hangs.
    count = min(WORKERS, len(missing))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) and not failures:
            time.sleep(0.05)
    finally:
        stop.set()
    for thread in threads:
        thread.join(timeout=5)
    if failures:
        raise failures[0]
    return hashes


def _fetch(
    offer: Offer,
    file: HubFile,
    staging: Path,
    on_event: TransferListener,
    stop: threading.Event,
    patience: float,
) -> str:
    """Fetch one file and verify it; returns its SHA-256.

    A failed connection is retried while the file gets further than before, other content once.
    """
    seen, furthest, since, pause, distrusted = 0, 0, time.monotonic(), 1.0, False
    hub = offer.hub

    def on_bytes(count: int) -> None:
        nonlocal seen, furthest, since
        if stop.is_set():
            raise TransferInterrupted
        seen += count
        if furthest < min(seen, file.bytes):
            furthest, since = min(seen, file.bytes), time.monotonic()
        on_event(Bytes(file.path, count, file.bytes))

    while True:
        watcher = DownloadWatcher(lambda: hub.growing(file, staging), not hub.compares_hashes)
        try:
            with watcher:
                hub.fetch(offer.listing_of(file), file, staging, on_bytes)
        except (HubUnreachable, HubFailed, HubBusy) as error:
            if time.monotonic() - since > patience:
                raise
            on_event(Note(f"{error}; trying again"))
        else:
            try:
                return _verify_file(staging / file.path, file, hub.compares_hashes, watcher)
            except BadDownload as error:
                if distrusted:
                    raise
                distrusted = True
                on_event(Note(f"{error}; trying again"))
        on_event(Bytes(file.path, -seen, file.bytes))
        seen = 0
        if stop.wait(pause):
            raise TransferInterrupted
        pause = min(2 * pause, patience / 4)


def _verify_file(path: Path, file: HubFile, compared: bool, watcher: DownloadWatcher) -> str:
    """Sync a fetched file and return its SHA-256.

    Args:
        compared: whether the client has compared the hash, if the hub gives one.
        watcher: of the file while it was fetched.

    Raises:
        BadDownload: if it isn't the file that the hub listed; it is deleted.
    """
    size = file_size(path)
    if size == file.bytes:
        sha256 = watcher.finish(path)
        if compared and file.sha256:
            return file.sha256
        if sha256 != file.sha256:
            sha256 = hashing.sha256(path)
        if is_as_listed(path, file, sha256):
            return sha256
    path.unlink(missing_ok=True)
    what = f"{size:,} bytes of {file.bytes:,}" if size != file.bytes else "another hash"
    raise BadDownload(
        f"{file.path} came with {what}, not as the hub announced it, and was deleted: try again, "
        "or another --source"
    )


def _move_into_place(planned: Download, hashes: dict[str, str], staging: Path) -> Manifest:
    """Move verified files to the checkpoint's folder; its manifest is written last.

    What it names of an earlier download that isn't needed any more is deleted.
    """
    offer, folder = planned.offer, planned.folder
    listing, lent = offer.listing, offer.lent
    listed = {file.path: ManifestFile(file.bytes, hashes[file.path]) for file in offer.files}
    origin = (listing.source, listing.repo, listing.revision)
    written = Manifest(*origin, listed, text_encoder_from=lent.lender if lent else None)
    folder.mkdir(parents=True, exist_ok=True)
    former = _former_files(folder)
    manifest.remove_manifest(folder)
    for name in listed:
        if (staging / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(folder / name)
    for path in former - {folder / name for name in listed}:
        path.unlink(missing_ok=True)
    manifest.write_manifest(folder, written)
    shutil.rmtree(staging, ignore_errors=True)
    return written


def _former_files(folder: Path) -> set[Path]:
    """The files in a folder that its manifest lists."""
    try:
        listed = read_manifest(folder)
    except ModelCorrupt:
        listed = None
    names = listed.files if listed else ()
    there = (*folder.glob("*"), *folder.glob("*/*"))
    return {path for path in there if path.relative_to(folder).as_posix() in names}
