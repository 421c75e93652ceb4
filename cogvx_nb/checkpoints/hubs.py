"""Clients of Hugging Face and ModelScope behind one interface.

The only importer of ``huggingface_hub`` and ``modelscope_hub``. What a hub lists is checked when it
is read; the clients' exceptions are translated by ``hub_errors``.
"""

from __future__ import annotations

import functools
import itertools
import logging
import queue
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

from .. import settings
from ..errors import BadDownload, DownloadError, HubUnreachable
from ..text import hide_secrets
from .hub_errors import status_error, translate_errors
from .manifest import HubFile, Listing

SOURCES = ("modelscope", "huggingface")

LISTING_SECONDS = 60
"""Seconds that a hub has to list a repository. Its clients set no limit, or one for each byte."""

MOST_FILES, MOST_BYTES = 10_000, 10**12
"""Most files of a repository, and most bytes of one: a checkpoint has 30, of at most 5 GB."""

HASHES = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})?")
REVISION = re.compile(r"[\w./-]{1,100}")

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
    configured, variable = settings.endpoint(source)
    origin = "--endpoint" if endpoint else variable
    address = _checked_address(endpoint or configured, origin)
    home = {"modelscope": settings.MODELSCOPE, "huggingface": settings.HUGGINGFACE}[source]
    settings.prepare_hub_clients()
    kind = ModelScope if source == "modelscope" else HuggingFace
    hub = kind(address, address == home, send_token)
    named = f" ({variable})" if variable and not endpoint else ""
    hub.shown = hide_secrets(address) + named
    return hub


def _checked_address(address: str, origin: str) -> str:
    """An http or https address without a slash at its end; https where it names no scheme.

    Args:
        origin: the flag or variable that it comes from.
    """
    address = address.strip().rstrip("/")
    if "://" not in address:
        address = f"https://{address}"
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket left open
        good = False
    if not good or " " in address or not address.isprintable() or len(address) > 2000:
        shown = hide_secrets(address)[:80]
        raise DownloadError(f"{origin} = {shown!r} is no http or https address: correct it")
    return address


def _within(seconds: float, shown: str, ask: Callable[[], Listing]) -> Listing:
    """What a function returns or raises, unless it takes longer: looking up a host name and reading
    a slow answer have no limit of their own."""
    answers: queue.SimpleQueue = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((ask(), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise HubUnreachable(
            f"{shown} gave no complete answer in {seconds:.0f} s: check the network, or try later"
        ) from None
    if error is not None:
        raise error
    return answer


def _checked_files(shown: str, entries: Iterable[tuple]) -> tuple[HubFile, ...]:
    """The files of a listing: path, size, SHA-256 and git's hash, the last two perhaps empty.

    Raises:
        BadDownload: if an entry can't be one of a file, or there are too many.
    """
    files = []
    for path, size, *hashes in itertools.islice(entries, MOST_FILES + 1):
        hashes = [value or "" for value in hashes]
        if not (
            isinstance(path, str)
            and 0 < len(path) <= 1000
            and type(size) is int
            and 0 <= size <= MOST_BYTES
            and all(isinstance(value, str) and HASHES.fullmatch(value) for value in hashes)
        ):
            raise BadDownload(
                f"{shown} lists {str(path)[:80]!r} with the size {str(size)[:40]} and hashes "
                f"{str(hashes)[:150]}, which can't be: nothing was fetched; try another --source"
            )
        files.append(HubFile(path, size, *hashes))
    if len(files) > MOST_FILES:
        raise BadDownload(f"{shown} lists more than {MOST_FILES:,} files: nothing was fetched")
    return tuple(files)


class HuggingFace:
    """Hugging Face, or a mirror of it. Its client compares sizes, not hashes."""

    compares_hashes = False

    def __init__(self, endpoint: str, official: bool, send_token: bool) -> None:
        from huggingface_hub import HfApi, constants
        from huggingface_hub.utils import logging as hub_logging

        if not official:
            constants.HF_HUB_DISABLE_XET = True  # Xet downloads from its own host, not the mirror
        hub_logging.set_verbosity_error()
        self.endpoint = self.shown = endpoint
        self._token = None if official or send_token else False
        self._api = HfApi(endpoint=endpoint, token=self._token)

    def listing(self, repo: str, revision: str = "") -> Listing:
        """The files of a repository at a revision, by default the newest."""
        return _within(LISTING_SECONDS, self.shown, lambda: self._listing(repo, revision))

    def _listing(self, repo: str, revision: str) -> Listing:
        with translate_errors(self, repo):
            revision = revision or self._api.model_info(repo).sha
            if not (isinstance(revision, str) and REVISION.fullmatch(revision)):
                raise BadDownload(f"{self.shown} names no revision of {repo}: try another --source")
            tree = self._api.list_repo_tree(repo, recursive=True, revision=revision)
            entries = (
                (entry.path, entry.size, entry.lfs and entry.lfs.sha256, entry.blob_id)
                for entry in tree
                if hasattr(entry, "blob_id")
            )
            files = _checked_files(self.shown, entries)
        return Listing("huggingface", self.shown, repo, revision, files)

    def ask(self, seconds: float) -> None:
        """Ask for its front page, as downloads would reach it.

        Raises:
            DownloadError: if there is no answer, or one that it failed.
        """
        from huggingface_hub.utils import get_session

        with translate_errors(self, "its front page"):
            answer = get_session().head(self.endpoint, timeout=seconds)
        if answer.status_code >= 500:  # 4xx is an answer too
            raise status_error(answer.status_code, answer.headers, self.shown, "its front page")

    def fetch(self, listing: Listing, file: HubFile, folder: Path, on_bytes: OnBytes) -> None:
        """Fetch one file into a folder. A new process fetches a partial file from its start."""
        from huggingface_hub import hf_hub_download

        with translate_errors(self, f"{listing.repo}/{file.path}", folder):
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
        self.endpoint = self.shown = endpoint
        self._api = HubApi(endpoint=endpoint, token=None if official or send_token else "")

    def listing(self, repo: str, revision: str = "") -> Listing:
        """The files of a repository at a revision, by default the newest."""
        revision = revision or "master"
        return _within(LISTING_SECONDS, self.shown, lambda: self._listing(repo, revision))

    def _listing(self, repo: str, revision: str) -> Listing:
        with translate_errors(self, repo):
            listed = self._api.list_repo_files(repo, "model", revision=revision)
            entries = ((e.path, e.size or 0, e.sha256) for e in listed if not e.is_dir)
            files = _checked_files(self.shown, entries)
        return Listing("modelscope", self.shown, repo, revision, files)

    def ask(self, seconds: float) -> None:
        """Ask for its front page, as downloads would reach it.

        Raises:
            DownloadError: if there is no answer, or one that it failed.
        """
        import requests

        with translate_errors(self, "its front page"):
            answer = requests.head(self.endpoint, timeout=seconds)
        if answer.status_code >= 500:  # 4xx is an answer too
            raise status_error(answer.status_code, answer.headers, self.shown, "its front page")

    def fetch(self, listing: Listing, file: HubFile, folder: Path, on_bytes: OnBytes) -> None:
        """Fetch one file into a folder, resuming a partial one."""
        entry = {"Path": file.path, "Size": file.bytes, "Sha256": file.sha256}
        with translate_errors(self, f"{listing.repo}/{file.path}", folder):
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
