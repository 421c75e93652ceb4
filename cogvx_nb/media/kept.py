"""Files that videos were made from, kept by their content in the outputs folder.

A kept file never changes: its name is the SHA-256 of its content, and it is written whole,
read-only, and compared with its name whenever it is used. Any number of processes can keep the same
file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import settings
from ..errors import RequestError, ResultError
from ..files import fsync, partial_file, translate_errors
from ..hashing import sha256
from ..text import plain_line
from .kinds import HEAD, KINDS, Unusable, check_size, file_kind, kind_of

FOLDER = "inputs"
"""In the outputs folder."""

NAME = re.compile(
    rf"{FOLDER}/([0-9a-f]{{64}})\.({'|'.join(dict.fromkeys(kind.ending for kind in KINDS))})"
)
"""A kept name: the folder, the SHA-256 of the content, and an ending that says what it is."""

YOUNG_SECONDS = 24 * 3600
"""A file that was given less than this ago isn't offered for removal: a form that is open, or a
request on its way, may name it."""

_names: dict[str, str] = {}
"""What the files were called that this process kept, by their kept names."""


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A kept file on disk."""

    value: str  # its kept name
    path: Path
    count: int  # bytes
    seconds: float  # since it was last given


def keep_file(path: Path) -> str:
    """Keep a copy of a picture or a clip, and return its kept name.

    Raises:
        Unusable: if it is neither, or can't be read.
        OutputError, DiskFull: if it can't be kept.
    """
    ending = file_kind(path).ending
    try:
        digest = sha256(path)
    except OSError as error:
        raise Unusable(f"can't be read ({error.strerror}): copy it, and give the copy") from error
    name = f"{FOLDER}/{digest}.{ending}"
    _names[name] = plain_line(path.name)
    target = settings.outputs_dir() / name
    if not _is_whole(target):
        with _writing(target) as partial:
            shutil.copyfile(path, partial)
            if sha256(partial) != digest:
                raise Unusable("changed while it was read: give it again")
    return name


def keep_bytes(data: bytes, name: str) -> str:
    """The same for content in memory, such as an upload.

    Args:
        name: what the file is called; its ending doesn't count.

    Raises:
        RequestError: if it is neither a picture nor a clip.
        OutputError, DiskFull: if it can't be kept.
    """
    try:
        check_size(len(data))
        ending = kind_of(data[:HEAD]).ending
    except Unusable as error:
        raise RequestError("file", name, str(error)) from error
    kept = f"{FOLDER}/{hashlib.sha256(data).hexdigest()}.{ending}"
    _names[kept] = plain_line(Path(name).name) or kept
    target = settings.outputs_dir() / kept
    if not _is_whole(target):
        with _writing(target) as partial:
            partial.write_bytes(data)
    return kept


def is_kept_name(value: str) -> bool:
    """Whether a text is a kept name."""
    return NAME.fullmatch(value) is not None


def kept_path(name: str) -> Path:
    """The file of a kept name, which holds what it held when it was kept.

    Raises:
        ResultError: if it isn't there, or was changed.
    """
    path = locate(name)
    if not path.is_file():
        raise ResultError(f"there is no {path}, which is needed as an input: put it back there")
    with translate_read_errors(path):
        if sha256(path) != NAME.fullmatch(name)[1]:
            raise ResultError(f"{path} was changed since it was kept: give the original file again")
    return path


def renew(name: str) -> None:
    """Check a kept file that is given again; it is then as new as if it were kept now.

    Raises:
        ResultError: if it isn't there, or was changed.
    """
    kept_path(name)
    touch(name)


def touch(name: str) -> None:
    """Note that a kept file was given again."""
    with contextlib.suppress(OSError):  # gone, or another user's
        os.utime(locate(name))


def locate(name: str) -> Path:
    """Where the file of a kept name is, if it is there.

    Raises:
        ResultError: if it is no kept name.
    """
    if not is_kept_name(name):
        raise ResultError(f"{name[:100]!r} is no name of a kept input, {FOLDER}/<SHA-256>.<ending>")
    return settings.outputs_dir() / name


def name_for_people(value: str) -> str:
    """What a kept file was called when this process kept it; else the end of its kept name."""
    return _names.get(value, value.rpartition("/")[2])


def kept_files() -> list[KeptFile]:
    """All kept files, the newest first; other files in the folder are left out.

    Raises:
        ResultError: if the folder can't be read.
    """
    folder, now, files = settings.outputs_dir() / FOLDER, time.time(), []
    if not folder.is_dir():
        return []
    with translate_read_errors(folder):
        for path in folder.iterdir():
            value = f"{FOLDER}/{path.name}"
            if is_kept_name(value) and path.is_file():
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    status = path.stat()
                    files.append(KeptFile(value, path, status.st_size, now - status.st_mtime))
    return sorted(files, key=lambda file: (file.seconds, file.value))


def unused(needed: Collection[str]) -> list[KeptFile]:
    """Kept files that can be removed: not needed, and not given within ``YOUNG_SECONDS``.

    Args:
        needed: SHA-256 hashes of the files that are needed.
    """
    return [
        file
        for file in kept_files()
        if file.seconds >= YOUNG_SECONDS and NAME.fullmatch(file.value)[1] not in needed
    ]


def remove(files: Collection[KeptFile]) -> list[KeptFile]:
    """Delete kept files, but for those that were given again since they were listed.

    Returns:
        Those that were deleted.

    Raises:
        OutputError: if one can't be deleted.
    """
    removed = []
    for file in files:
        gone = contextlib.suppress(FileNotFoundError)  # another process was faster
        with translate_errors(file.path, remedy="delete it by hand"), gone:
            if time.time() - file.path.stat().st_mtime >= YOUNG_SECONDS:
                file.path.unlink()
                removed.append(file)
    return removed


@contextlib.contextmanager
def translate_read_errors(path: Path) -> Iterator[None]:
    """Raise OSErrors as one line."""
    try:
        yield
    except OSError as error:
        raise ResultError(f"{path} can't be read: {error.strerror or error}") from error


def _is_whole(target: Path) -> bool:
    """Whether a file is kept already, and undamaged; it is then as new as if it were kept now."""
    try:
        if sha256(target) != target.stem:
            return False
        with contextlib.suppress(PermissionError):  # another user's
            target.touch()
        return True
    except OSError:
        return False


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[Path]:
    """A file to write, which then becomes the kept one."""
    with translate_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(target) as partial:
            yield partial
            fsync(partial)
            partial.chmod(0o444)
            partial.replace(target)
