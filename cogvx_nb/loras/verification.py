"""Fetched LoRAs of the library compared with what their hubs listed, and fetched again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from .. import hashing
from ..checkpoints import hubs
from ..checkpoints.listings import Offer
from ..errors import BadDownload, ModelError
from ..events import Bytes, Started, TransferListener
from .download import Origin, chosen_file, origins, place_lora
from .library import config_path, library, loras_folder


@dataclass(frozen=True, slots=True)
class LoraVerification:
    """A fetched LoRA, compared with the hash of its hub."""

    path: Path
    origin: Origin
    problems: tuple[str, ...]  # empty if it is right

    def __str__(self) -> str:
        return f"{self.path} {', '.join(self.problems) or f'is as {self.origin}'}"


def fetched_loras() -> dict[str, Path]:
    """The LoRAs of the library that came from a hub, by name."""
    kept = origins(loras_folder())
    return {path.stem: path for path in library() if path.name in kept}


def verify_lora(path: Path, on_event: TransferListener = lambda event: None) -> LoraVerification:
    """Hash a fetched LoRA, and peft's configuration of it, and compare them with what its hub
    listed.

    Args:
        path: one of ``fetched_loras``.

    Raises:
        ModelError: if it can't be read.
    """
    origin = origins(path.parent)[path.name]
    try:
        size = path.stat().st_size
        on_event(Started("checking", size))
        digest = hashing.sha256(path, lambda _, count: on_event(Bytes(path.name, count, size)))
        config = config_path(path)
        config_digest = hashing.sha256(config) if origin.config and config.is_file() else ""
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}") from error
    problems = [f"has other content than {origin}"] if digest != origin.sha256 else []
    if config_digest != origin.config:
        problems.append(f"has another {config.name} than {origin}")
    return LoraVerification(path, origin, tuple(problems))


def repair_lora(
    verified: LoraVerification,
    endpoint: str = "",
    send_token: bool = False,
    on_event: TransferListener = lambda event: None,
) -> None:
    """Fetch a LoRA again, at the revision that it had; the file that is there gets a number.

    Raises:
        DownloadError, DiskFull: see ``download.fetch_lora``.
        BadDownload: if the hub has other content by now.
    """
    origin = verified.origin
    hub = hubs.connect_hub(origin.source, endpoint, send_token)
    listing = chosen_file(hub.listing(origin.repo, origin.revision), origin.file)
    if listing.files[0].sha256 != origin.sha256:
        raise BadDownload(
            f"{origin} has other content by now: rename {verified.path} and fetch it anew with "
            f"'cogvx lora download {origin.repo} {origin.file}'"
        )
    offer = Offer(hub, replace(listing, revision=origin.revision), None)
    place_lora(offer, verified.path, on_event, instead=True)
