"""SHA-256 of the files in a checkpoint's folder, unless its manifest vouches for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .. import hashing
from . import manifest


def listed_hashes(folder: Path, paths: Iterable[Path]) -> dict[Path, str]:
    """Those of files in a folder that its manifest can be trusted for: files of the listed size
    that are older than it.

    Raises:
        ModelCorrupt: if the manifest can't be read.
    """
    known = manifest.read_manifest(folder)
    if known is None:
        return {}
    written, hashes = (folder / manifest.NAME).stat().st_mtime_ns, {}
    for path in paths:
        listed, status = known.files.get(path.relative_to(folder).as_posix()), path.stat()
        if listed and listed.bytes == status.st_size and status.st_mtime_ns <= written:
            hashes[path] = listed.sha256
    return hashes


def computed_hashes(
    paths: Iterable[Path], on_bytes: hashing.OnBytes | None = None
) -> dict[Path, str]:
    """Those of files that are read, once per process while their size and date stay."""
    keys = {path: _state(path) for path in paths}
    fresh = [path for path, key in keys.items() if key not in _hashed]
    computed = hashing.sha256_all(fresh, on_bytes)
    _hashed.update({keys[path]: computed[path] for path in fresh})
    return {path: _hashed[key] for path, key in keys.items()}


def _state(path: Path) -> tuple[Path, int, int]:
    status = path.stat()
    return path, status.st_size, status.st_mtime_ns


_hashed: dict[tuple[Path, int, int], str] = {}
"""Cache of this process: SHA-256 by path, size and modification time."""
