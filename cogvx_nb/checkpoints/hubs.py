"""Clients of Hugging Face and ModelScope behind one interface.

The only importer of ``huggingface_hub`` and ``modelscope_hub``; their exceptions are translated.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from .. import settings
from ..errors import (
    BadDownload,
    CogvxError,
    DownloadError,
    HubBusy,
    HubDenied,
    HubFailed,
    HubNotFound,
    HubUnreachable,
)
from ..files import DISK_FULL_ERRNOS, disk_error
from ..text import first_line
from .manifest import HubFile, Listing

SOURCES = ("modelscope", "huggingface")

OnBytes = Callable[[int], None]
"""Called with the number of bytes of a file fetched since the last call."""


def connect_hub(
    source: str, endpoint: str = "", send_token: bool = False
) -> HuggingFace | ModelScope:
    """A client of a hub.

    The client library reads the token, from its environment variable or its login.

    Args:
        endpoint: address of a mirror; by default ``settings.endpoint``.
        send_token: send the token to a mirror too.
    """
    endpoint = endpoint.rstrip("/") or settings.endpoint(source)
    home = {"modelscope": settings.MODELSCOPE, "huggingface": settings.HUGGINGFACE}[source]
    settings.prepare_hub_clients()
    kind = ModelScope if source == "modelscope" else HuggingFace
    return kind(endpoint, endpoint == home, send_token)


class HuggingFace:
    """Hugging Face, or a mirror of it. Its client compares sizes, not hashes."""

    compares_hashes = False

    def __init__(self, endpoint: str, official: bool, send_token: bool) -> None:
        from huggingface_hub import HfApi, constants
        from huggingface_hub.utils import logging as hub_logging

        if not official:
            constants.HF_HUB_DISABLE_XET = True  # Xet downloads from its own host, not the mirror
        hub_logging.set_verbosity_error()
        self.endpoint, self._token = endpoint, None if official or send_token else False
        self._api = HfApi(endpoint=endpoint, token=self._token)

    def listing(self, repo: str, revision: str = "") -> Listing:
        """The files of a repository at a revision, by default the newest."""
        with _translate_errors(self.endpoint, repo):
            revision = revision or self._api.model_info(repo).sha
            entries = list(self._api.list_repo_tree(repo, recursive=True, revision=revision))
        files = tuple(
            HubFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else "", entry.blob_id)
            for entry in entries
            if hasattr(entry, "blob_id")
        )
        return Listing("huggingface", self.endpoint, repo, revision, files)

    def fetch(self, listing: Listing, file: HubFile, folder: Path, on_bytes: OnBytes) -> None:
        """Fetch one file into a folder. A new process fetches a partial file from its start."""
        from huggingface_hub import hf_hub_download

        with _translate_errors(self.endpoint, f"{listing.repo}/{file.path}", folder):
            hf_hub_download(
                listing.repo,
                file.path,
                revision=listing.revision,
                local_dir=folder,
                endpoint=self.endpoint,
                token=self._token,
                tqdm_class=_byte_meter(on_bytes),
            )

    def growing(self, file: HubFile, folder: Path) -> Path | None:
        """The path that the client writes a file to while fetching it; None if there is none."""
        home = (folder / ".cache/huggingface/download" / file.path).parent
        return next(home.glob(f"*.{file.sha256}.*.incomplete"), None) if file.sha256 else None


class ModelScope:
    """ModelScope, or a mirror of it. Its client compares SHA-256 and retries if it differs.

    Files from 500 MB on are fetched in several streams.
    """

    compares_hashes = True

    def __init__(self, endpoint: str, official: bool, send_token: bool) -> None:
        import tqdm
        from modelscope_hub import HubApi, _download

        # The exceptions hold what it logs.
        logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)
        # Its bars can't be switched off, and would write over ours.
        _download.tqdm = functools.partial(tqdm.tqdm, disable=True)
        self.endpoint = endpoint
        self._api = HubApi(endpoint=endpoint, token=None if official or send_token else "")

    def listing(self, repo: str, revision: str = "") -> Listing:
        """The files of a repository at a revision, by default the newest."""
        revision = revision or "master"
        with _translate_errors(self.endpoint, repo):
            entries = self._api.list_repo_files(repo, "model", revision=revision)
        files = tuple(
            HubFile(entry.path, entry.size or 0, entry.sha256 or "")
            for entry in entries
            if not entry.is_dir
        )
        return Listing("modelscope", self.endpoint, repo, revision, files)

    def fetch(self, listing: Listing, file: HubFile, folder: Path, on_bytes: OnBytes) -> None:
        """Fetch one file into a folder, resuming a partial one."""
        entry = {"Path": file.path, "Size": file.bytes, "Sha256": file.sha256}
        with _translate_errors(self.endpoint, f"{listing.repo}/{file.path}", folder):
            self._api.download_repo(
                listing.repo,
                "model",
                revision=listing.revision,
                local_dir=folder,
                file_list=[entry],
                progress_callbacks=[_byte_callback(on_bytes)],
                max_workers=1,
            )

    def growing(self, file: HubFile, folder: Path) -> Path | None:
        """The path that the client writes a file to while fetching it; None if there is none."""
        path = folder / f"{file.path}.incomplete"
        return path if path.is_file() else None


def _byte_meter(on_bytes: OnBytes) -> type:
    """A progress bar class for Hugging Face's client."""
    from tqdm import tqdm

    class Meter(tqdm):
        def __init__(self, *arguments, **options) -> None:
            super().__init__(*arguments, **(options | {"disable": True}))
            if options.get("initial"):
                on_bytes(options["initial"])

        def update(self, count: int | None = 1) -> None:
            on_bytes(int(count or 0))

    return Meter


def _byte_callback(on_bytes: OnBytes) -> type:
    """A progress callback class for ModelScope's client."""

    class Callback:
        def __init__(self, filename: str, file_size: int) -> None:
            pass

        def update(self, size: int) -> None:
            on_bytes(size)

        def end(self) -> None:
            pass

    return Callback


OFFLINE = {
    "ConnectError",
    "ConnectTimeout",
    "ConnectionError",
    "NetworkError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Timeout",
    "TimeoutException",
}
"""Class names of the clients' and their transports' exceptions for a failed connection."""

DISK_ERRNOS = (*DISK_FULL_ERRNOS, errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of this machine's disk, not of the connection."""

UNKNOWN_HOST = ("Name or service not known", "getaddrinfo", "name resolution", "nodename nor")


@contextlib.contextmanager
def _translate_errors(endpoint: str, what: str, folder: Path | None = None) -> Iterator[None]:
    """Raise a client's exception as one of ours, by its root cause.

    Args:
        what: repository, or file in it.
        folder: that the client writes to.
    """
    try:
        yield
    except CogvxError:
        raise
    except Exception as error:
        chain = _error_chain(error)
        for cause in chain:
            if isinstance(cause, OSError) and cause.errno in DISK_ERRNOS:
                raise disk_error(
                    cause,
                    cause.filename or folder or what,
                    kind=DownloadError,
                    remedy="check its permissions, or choose another --models-dir",
                    full_remedy="make room and start again, it goes on there",
                ) from error
        raise _translate(chain, endpoint, what) from error


def _error_chain(error: BaseException) -> list[BaseException]:
    """An exception, its causes and contexts, and those of the failed files that it lists."""
    chain: list[BaseException] = []
    pending = [error]
    while pending:
        cause = pending.pop()
        if cause is None or cause in chain:
            continue
        chain.append(cause)
        failed_files = getattr(cause, "failed_files", {}).values()
        pending += [cause.__cause__, cause.__context__, *failed_files]
    return chain


def _translate(chain: list[BaseException], endpoint: str, what: str) -> CogvxError:
    """The exception for a client's, by class names, texts and HTTP statuses in its chain."""
    names = {kind.__name__ for error in chain for kind in type(error).__mro__}
    text = " ".join(map(str, chain))
    responses = (getattr(error, "response", None) for error in chain)
    response = next((r for r in responses if r is not None), None)
    statuses = (getattr(holder, "status_code", None) for holder in (response, *chain))
    status = next(filter(None, statuses), None)
    if status is not None:
        return _status_error(status, getattr(response, "headers", {}) or {}, endpoint, what)
    if "FileIntegrityError" in names and "FileSizeMismatchError" not in names:
        return BadDownload(
            f"{what} came from {endpoint} with another hash than announced, again and again: try "
            "another --source"
        )
    through = _proxy(endpoint)
    if "ProxyError" in names or (through and names & OFFLINE):
        return HubUnreachable(
            f"no connection to {endpoint} through the proxy {through}: check HTTPS_PROXY and "
            "HTTP_PROXY, or name the host in NO_PROXY"
        )
    if any(words in text for words in UNKNOWN_HOST):
        return HubUnreachable(f"{endpoint} is an unknown host: check the address and the network")
    if names & OFFLINE:
        return HubUnreachable(f"no connection to {endpoint}: check the network and start again")
    return HubFailed(f"{what} did not come from {endpoint}: {first_line(chain[0])}")


def _proxy(endpoint: str) -> str:
    """Host and port of the proxy for an address, without its password; empty if there is none."""
    address = urlsplit(endpoint)
    proxy = urllib.request.getproxies().get(address.scheme)
    if not proxy or urllib.request.proxy_bypass(address.hostname or ""):
        return ""
    return urlsplit(proxy).netloc.rpartition("@")[2]


def _status_error(status: int, headers, endpoint: str, what: str) -> CogvxError:
    """The exception for an HTTP status."""
    if status == 401:
        return HubDenied(
            f"{endpoint} wants a token for {what} (401): set HF_TOKEN or MODELSCOPE_API_TOKEN, or "
            "log in with 'hf auth login' or 'modelscope login'; a mirror gets it with --send-token"
        )
    if status == 403 or "GatedRepo" in headers.get("X-Error-Code", ""):
        return HubDenied(
            f"{endpoint} refuses {what} (403): agree to the model's terms on its page there, with "
            "the account that the token belongs to"
        )
    if status == 404:
        return HubNotFound(f"{endpoint} has no {what} (404): check the address, or try --source")
    if status == 429:
        wait = headers.get("Retry-After", "")
        return HubBusy(f"{endpoint} asks to wait{f' {wait} s' if wait else ''} (429): start later")
    return HubFailed(f"{endpoint} failed at {what} ({status}): try again, or another --source")
