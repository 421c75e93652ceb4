"""LoRA files on this machine: those in ``models/loras/``, and where others were used from."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from .. import hashing, settings
from ..errors import RequestError, did_you_mean
from ..files import numbered_paths, translate_errors, write_whole
from ..paths import read_json, user_path
from ..text import plain_line

FOLDER = "loras"
"""In the models folder."""

ENDING = ".safetensors"

CONFIG = "adapter_config.json"
"""peft's configuration of a LoRA, beside its file."""

KNOWN = ".loras.json"
"""In the outputs folder: size, date and SHA-256 of each file that was used, by its path. So a file
is read once to be hashed, and one outside of the library is found again."""

MOST_KNOWN = 1000


def loras_folder() -> Path:
    """Where LoRAs are looked for by name."""
    return settings.models_dir() / FOLDER


def library() -> list[Path]:
    """The LoRA files of that folder, by name."""
    return sorted(
        path
        for path in loras_folder().glob(f"*{ENDING}")
        if not path.name.startswith(".") and path.is_file()
    )


def config_path(path: Path) -> Path:
    """Where peft's configuration of a LoRA file is: ``CONFIG`` beside it; in the library, where
    that would be of one LoRA among others, with the LoRA's name before it."""
    in_library = path.absolute().parent == loras_folder().absolute()
    return path.with_name(f"{path.stem}.{CONFIG}" if in_library else CONFIG)


def free_path(path: Path) -> Path:
    """A path, or the next number of it, that neither a LoRA nor the configuration of one has."""
    paths = numbered_paths(path)
    return next(one for one in paths if not (one.exists() or config_path(one).exists()))


def keep_lora(data: bytes, name: str) -> Path:
    """Keep the content of a LoRA in the library.

    Args:
        name: what it is to be called; another file of that name stays, and this one gets a number.

    Returns:
        The file in the library; the one that is there already, if its content is the same.

    Raises:
        OutputError, DiskFull: if it can't be written.
    """
    digest = hashlib.sha256(data).hexdigest()
    for there in library():
        with contextlib.suppress(RequestError, OSError):
            if there.stat().st_size == len(data) and file_hash(there) == digest:
                return there
    stem = Path(plain_line(name)).name.removesuffix(ENDING).lstrip(".") or "lora"
    kept = free_path(loras_folder() / f"{stem}{ENDING}")
    with translate_errors(kept):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, data)
    return kept


def named_file(path: Path) -> Path | None:
    """The file of a path that may lack its ending; None if there is none."""
    names = (path, path.with_name(f"{path.name}{ENDING}"))
    return next((named for named in names if named.is_file()), None)


def find_lora(file: str, sha256: str = "") -> Path:
    """The file of a LoRA.

    Args:
        file: a path, or a name in the library, with or without the ending.
        sha256: what it must hold; then it is looked for by that, and the name is a hint.

    Raises:
        RequestError: if it isn't there, with where it was looked for.
    """
    if sha256:
        return _find_content(file, sha256)
    with contextlib.suppress(OSError):
        for path in (user_path(file, "lora"), loras_folder() / file):
            if named := named_file(path):
                return named
    names = [path.stem for path in library()]
    hint = did_you_mean(file, names) or (f"; there are {', '.join(names[:8])}" if names else "")
    raise RequestError("lora", file, f"is no file, and none of {loras_folder()}{hint}")


def file_hash(path: Path) -> str:
    """SHA-256 of a file, which is read once while its size and date stay.

    Raises:
        RequestError: if it can't be read.
    """
    known, key = _read_known(), str(path.absolute())
    try:
        state = _state(path)
        if (entry := known.get(key)) and entry[:2] == state:
            return entry[2]
        digest = hashing.sha256(path)
    except OSError as error:
        raise RequestError("lora", str(path), f"can't be read ({error.strerror})") from error
    known.pop(key, None)
    known[key] = [*state, digest]
    with contextlib.suppress(OSError):  # a folder that can't be written costs only time
        path = settings.outputs_dir() / KNOWN
        path.parent.mkdir(parents=True, exist_ok=True)
        newest = dict(list(known.items())[-MOST_KNOWN:])
        write_whole(path, json.dumps(newest).encode(), sync=False)
    return digest


def _find_content(name: str, sha256: str) -> Path:
    places = dict.fromkeys(_places(name, sha256))
    for path in places:
        with contextlib.suppress(RequestError, OSError):
            if path.is_file() and file_hash(path) == sha256:
                return path
    elsewhere = [str(path.parent) for path in places if path.parent != loras_folder()]
    looked = ", ".join(dict.fromkeys((str(loras_folder()), *elsewhere)))
    raise RequestError(
        "lora",
        name,
        f"with SHA-256 {sha256[:12]}… isn't here any more; looked in {looked}: put the file into "
        f"{loras_folder()}",
    )


def _places(name: str, sha256: str) -> Iterator[Path]:
    """Files that may have a content, the likeliest first."""
    yield loras_folder() / f"{name}{ENDING}"
    yield from (Path(path) for path, entry in _read_known().items() if entry[2] == sha256)
    yield from library()


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _read_known() -> dict[str, list]:
    try:
        content = read_json(settings.outputs_dir() / KNOWN)
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {
        path: entry
        for path, entry in content.items()
        if isinstance(entry, list) and list(map(type, entry)) == [int, int, str]
    }
