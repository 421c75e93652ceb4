"""Files that videos were made from, kept by their content in the outputs folder."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from .. import settings
from ..errors import ResultError
from ..files import partial_file, translate_errors
from ..hashing import sha256

FOLDER = "inputs"
"""In the outputs folder."""

NAME = re.compile(rf"{FOLDER}/([0-9a-f]{{64}})\.([a-z0-9]{{2,5}})")
"""A kept name: the folder, the SHA-256 of the content, and an ending that says what it is."""


def keep_file(path: Path, ending: str) -> str:
    """Keep a file, and return its kept name.

    Args:
        ending: of the name, by what the content is.

    Raises:
        OSError: if it can't be read.
        OutputError: if it can't be kept.
    """
    name = f"{FOLDER}/{sha256(path)}.{ending}"
    target = settings.outputs_dir() / name
    if not target.exists():
        with translate_errors(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial_file(target) as partial:
                shutil.copyfile(path, partial)
                partial.replace(target)
    return name


def keep_bytes(data: bytes, ending: str) -> str:
    """The same for content in memory."""
    name = f"{FOLDER}/{hashlib.sha256(data).hexdigest()}.{ending}"
    target = settings.outputs_dir() / name
    if not target.exists():
        with translate_errors(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial_file(target) as partial:
                partial.write_bytes(data)
                partial.replace(target)
    return name


def is_kept_name(value: str) -> bool:
    """Whether a text is a kept name."""
    return NAME.fullmatch(value) is not None


def kept_path(name: str) -> Path:
    """The file of a kept name.

    Raises:
        ResultError: if it isn't there, or was changed.
    """
    path = settings.outputs_dir() / name
    if not path.is_file():
        raise ResultError(f"there is no {path}, which the video was made from: put it back there")
    if sha256(path) != NAME.fullmatch(name)[1]:
        raise ResultError(f"{path} was changed since it was kept: delete it, give the file again")
    return path
