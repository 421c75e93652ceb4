"""Weights that are on the disk already, in another checkpoint's folder: linked or copied, so that
they aren't fetched again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import hashing
from ..errors import ModelCorrupt
from ..events import Bytes, Started, TransferListener
from ..files import fsync, nearest_existing_folder, partial_file
from .file_hashes import computed_hashes, listed_hashes
from .manifest import UNFINISHED, HubFile

WEIGHTS = ".safetensors"
"""Ending of the files that are looked for elsewhere. Small ones are fetched: people edit
configurations, and an edit of a linked file would change it in both folders."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A file of another folder with the size and SHA-256 of a wanted one."""

    path: Path
    checkpoint: str  # its folder, relative to the models folder
    linked: bool  # whether it is on the same disk, where a hard link takes no room

    def place(self, target: Path, on_bytes: Callable[[int], None]) -> None:
        """Give it a second name, or copy it where that isn't possible. Does nothing if it is gone.

        Whoever replaces one of the two files later, as downloads and repairs do, leaves the other.

        Args:
            on_bytes: called with the number of bytes of it taken since the last call.

        Raises:
            OSError: if the copy can't be written.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(self.path.resolve(), target)
            on_bytes(self.path.stat().st_size)
            return
        except OSError:  # another disk, one without hard links, or somebody else's file
            pass
        try:
            source = self.path.open("rb")
        except OSError:
            return
        with source, partial_file(target) as partial:
            with partial.open("wb") as copy:
                while block := source.read(hashing.BLOCK):
                    copy.write(block)
                    on_bytes(len(block))
            fsync(partial)
            partial.replace(target)


def find_twins(
    files: Iterable[HubFile], folder: Path, on_event: TransferListener = lambda event: None
) -> dict[str, Twin]:
    """Weights in the folders beside a checkpoint's, and in unfinished downloads, by path of the
    wanted file that they are the same as.

    A manifest is trusted as ``store.file_hashes`` trusts it; files of a wanted size that none
    vouches for are hashed.

    Args:
        folder: of the checkpoint that wants the files. What is there itself is no twin.
    """
    wanted = [file for file in files if file.sha256 and file.path.endswith(WEIGHTS)]
    own = {_identity(folder / file.path) for file in wanted} - {None}
    found: dict[str, Twin] = {}
    for other in _other_folders(folder):
        sizes = {file.bytes for file in wanted if file.sha256 not in found}
        with contextlib.suppress(OSError, ModelCorrupt):  # no help from this one
            for path, sha256 in _weight_hashes(other, sizes, on_event).items():
                if _identity(path) not in own:
                    name = other.relative_to(folder.parent).as_posix()
                    found.setdefault(sha256, Twin(path, name, _on_disk_of(folder, path)))
    return {file.path: found[file.sha256] for file in wanted if file.sha256 in found}


def _weight_hashes(folder: Path, sizes: set[int], on_event: TransferListener) -> dict[Path, str]:
    """SHA-256 of the weights in a folder that have one of the sizes."""
    paths = [path for path in folder.glob(f"*/*{WEIGHTS}") if path.is_file()]
    paths = [path for path in paths if path.stat().st_size in sizes]
    hashes = listed_hashes(folder, paths)
    unknown = {path: path.stat().st_size for path in paths if path not in hashes}
    if unknown:
        on_event(Started(f"checking {folder.name}", sum(unknown.values())))

    def report(path: Path, count: int) -> None:
        on_event(Bytes(path.relative_to(folder).as_posix(), count, unknown[path]))

    return hashes | computed_hashes(unknown, report)


def _other_folders(folder: Path) -> list[Path]:
    """The folders of other checkpoints, those on the same disk first, then unfinished ones."""
    home = folder.parent
    finished, unfinished = (
        sorted(other for other in parent.glob("[!.]*") if other.is_dir())
        for parent in (home, home / UNFINISHED)
    )
    finished.sort(key=lambda other: not _on_disk_of(folder, other))
    return [other for other in (*finished, *unfinished) if other.name != folder.name]


def _on_disk_of(folder: Path, path: Path) -> bool:
    """Whether a path is on the disk that a folder is on, or would be."""
    return nearest_existing_folder(folder).stat().st_dev == path.stat().st_dev


def _identity(path: Path) -> tuple[int, int] | None:
    """What two names of one file have in common; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
