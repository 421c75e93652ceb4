"""Fetching a checkpoint's files: resumed, verified, put in place all at once."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from .. import files
from ..errors import (
    BadDownload,
    DownloadError,
    HubBusy,
    HubFailed,
    HubUnreachable,
    ModelError,
)
from ..files import DownloadWatcher, sha256_all
from ..progress import Bytes, Note, Started, TransferListener
from . import download, manifest, registry
from .download import UNFINISHED, Download, file_size
from .manifest import HubFile, Manifest, ManifestFile, Verification

WORKERS = 4
"""Files fetched at once, as both clients do by default."""

PATIENCE = 60.0
"""Seconds after which a file that gets no further is given up."""


class TransferInterrupted(BaseException):
    """Ends a client's transfer from inside; not an Exception, for those it would try again."""


def fetch_checkpoint(
    planned: Download, on_event: TransferListener = lambda event: None, patience: float = PATIENCE
) -> Manifest:
    """Fetch what is missing, verify everything, and move it into place.

    Files lie in a folder of their own until all are right, so what is at the checkpoint's place is
    whole or not there. Start it again after any failure: verified files are not fetched again.

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
    with disk_errors, _exclusive(folder, on_event):
        staging.mkdir(parents=True, exist_ok=True)
        for orphan in staging.rglob(".cache/huggingface/download/**/*.incomplete"):
            orphan.unlink()  # Hugging Face's client never takes them up again
        found = _verified_files(planned, staging, on_event)
        missing = [file for file in planned.listing.files if file.path not in found]
        if missing:
            on_event(Started("fetching", sum(file.bytes for file in missing)))
            found |= _fetch_all(planned, missing, staging, on_event, patience)
        return _put_in_place(planned, found, staging)


@contextlib.contextmanager
def _exclusive(folder: Path, on_event: TransferListener) -> Iterator[None]:
    """Hold a checkpoint's lock. A second download waits and says who holds it."""
    from filelock import FileLock, Timeout

    path = folder.parent / UNFINISHED / f"{folder.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    holder, lock = path.with_suffix(".holder"), FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        by = _read_text(holder) or "another process"
        on_event(Note(f"{folder.name} is being fetched by {by}: waiting for it"))
        lock.acquire()
    try:
        now = time.strftime("%H:%M:%S")
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _verified_files(planned: Download, staging: Path, on_event: TransferListener) -> dict[str, str]:
    """SHA-256 of the files that are there and right, by path. Wrong ones in staging are deleted."""
    there = {}
    for file in planned.listing.files:
        for home in (staging, planned.folder):
            if file.path not in there and file_size(home / file.path) == file.bytes:
                there[file.path] = home / file.path
    files = {there[file.path]: file for file in planned.listing.files if file.path in there}
    if files:
        on_event(Started("checking", sum(file.bytes for file in files.values())))

    def report(path: Path, count: int) -> None:
        on_event(Bytes(files[path].path, count, files[path].bytes))

    found = {}
    for path, sha256 in sha256_all(files, report).items():
        if _matches(path, files[path], sha256):
            found[files[path].path] = sha256
        elif path.is_relative_to(staging):
            path.unlink()
    return found


def _matches(path: Path, file: HubFile, sha256: str) -> bool:
    if file.sha256:
        return sha256 == file.sha256
    return not file.git_blob or files.git_blob_hash(path) == file.git_blob


def _fetch_all(
    planned: Download,
    files: list[HubFile],
    staging: Path,
    on_event: TransferListener,
    patience: float,
) -> dict[str, str]:
    """Fetch files in a few threads; SHA-256 by path. The first failure ends all of them."""
    pending: queue.SimpleQueue[HubFile] = queue.SimpleQueue()
    for file in sorted(files, key=lambda file: file.bytes, reverse=True):
        pending.put(file)
    stop, found, failures = threading.Event(), {}, []

    def work() -> None:
        with contextlib.suppress(queue.Empty, TransferInterrupted):
            while not stop.is_set():
                file = pending.get_nowait()
                try:
                    found[file.path] = _fetch(planned, file, staging, on_event, stop, patience)
                except Exception as error:
                    failures.append(error)
                    stop.set()

    # Daemons: Ctrl-C need not wait for a connection on which nothing comes.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(WORKERS, len(files)))]
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
    return found


def _fetch(
    planned: Download,
    file: HubFile,
    staging: Path,
    on_event: TransferListener,
    stop: threading.Event,
    patience: float,
) -> str:
    """Fetch one file and verify it; its SHA-256.

    Tried again while it gets further than before, and once if it came with other content. A client
    that compares hashes itself has tried that already.
    """
    seen, furthest, since, pause, distrusted = 0, 0, time.monotonic(), 1.0, False
    hub = planned.hub

    def on_bytes(count: int) -> None:
        nonlocal seen, furthest, since
        if stop.is_set():
            raise TransferInterrupted
        seen += count
        if furthest < min(seen, file.bytes):
            furthest, since = min(seen, file.bytes), time.monotonic()
        on_event(Bytes(file.path, count, file.bytes))

    while True:
        follower = DownloadWatcher(lambda: hub.growing(file, staging), not hub.compares_hashes)
        try:
            with follower:
                hub.fetch(planned.listing, file, staging, on_bytes)
        except (HubUnreachable, HubFailed, HubBusy) as error:
            if time.monotonic() - since > patience:
                raise
            on_event(Note(f"{error}; trying again"))
        else:
            try:
                return _verify_file(staging / file.path, file, hub.compares_hashes, follower)
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


def _verify_file(path: Path, file: HubFile, compared: bool, follower: DownloadWatcher) -> str:
    """SHA-256 of a file that is what the hub announced, on the disk; others are deleted.

    Args:
        compared: whether the client has compared the hash that the hub gives, if it gives one.
        follower: has followed the file as it came.
    """
    size = file_size(path)
    if size == file.bytes:
        sha256 = follower.finish(path)
        if compared and file.sha256:
            return file.sha256
        if sha256 != file.sha256:
            sha256 = files.sha256(path)
        if _matches(path, file, sha256):
            return sha256
    path.unlink(missing_ok=True)
    what = f"{size:,} bytes of {file.bytes:,}" if size != file.bytes else "another hash"
    raise BadDownload(
        f"{file.path} came with {what}, not as the hub announced it, and was deleted: try again, "
        "or another --source"
    )


def _put_in_place(planned: Download, found: dict[str, str], staging: Path) -> Manifest:
    """Move verified files to the checkpoint's place; the manifest says so last."""
    listing, folder = planned.listing, planned.folder
    files = {file.path: ManifestFile(file.bytes, found[file.path]) for file in listing.files}
    written = Manifest(listing.source, listing.repo, listing.revision, files)
    folder.mkdir(parents=True, exist_ok=True)
    manifest.remove_manifest(folder)
    for name in files:
        if (staging / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(folder / name)
    manifest.write_manifest(folder, written)
    shutil.rmtree(staging, ignore_errors=True)
    return written


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def repair_checkpoint(
    found: Verification,
    endpoint: str = "",
    send_token: bool = False,
    on_event: TransferListener = lambda event: None,
) -> Manifest:
    """Fetch again what ``fetch_checkpoint`` found bad, from the hub that the manifest names.

    Raises:
        ModelError: if it came from no hub.
        DownloadError, DiskFull: see ``download.prepare_download`` and ``fetch_checkpoint``.
    """
    source, folder = found.manifest.source, found.folder
    known = registry.find_checkpoint(folder.name)
    if known is None or source not in download.hubs.SOURCES:
        raise ModelError(f"{folder} came from no hub: mend it with 'git checkout -- {folder}'")
    revision = found.manifest.revision
    planned = download.prepare_download(
        known, source, endpoint, folder.parent, send_token, revision
    )
    return fetch_checkpoint(planned, on_event)
