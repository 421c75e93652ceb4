"""Files of wildcards: ``__colour__`` picks a line of ``colour.txt`` in ``wildcards/``.

One entry a line, ``#`` before a comment, ``2::`` before an entry that is picked twice as often;
``__shapes/round__`` is in a folder, and ``__col*__`` all files whose names match.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import os
from pathlib import Path

from .. import settings
from ..errors import RequestError
from ..text import first_line, plain_line
from .text_files import read_text_file
from .wildcard_syntax import Option, read_option, refuse

MOST_BYTES = 1_000_000
"""Of a file: each of its entries is weighed at each pick."""

MOST_FILES = 10_000
"""Files that are looked through for a pattern or a near name."""

SUFFIX = ".txt"


class Wildcards:
    """The files of the folder, each looked up once."""

    def __init__(self) -> None:
        self._folder = settings.wildcards_dir()
        self._found: dict[str, tuple[str, ...]] = {}

    def find(self, name: str) -> tuple[str, ...]:
        """Names of the files that a wildcard means, without their ending.

        Raises:
            RequestError: if there is none, or it is outside of the folder.
        """
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def options(self, name: str) -> tuple[Option, ...]:
        """The entries of all files that a wildcard means.

        Raises:
            RequestError: see ``find`` and ``entries``.
        """
        return tuple(entry for file in self.find(name) for entry in self.entries(file))

    def entries(self, name: str) -> tuple[Option, ...]:
        """The entries of a file.

        Raises:
            RequestError: if it can't be read, is empty, or has an entry that can't be.
        """
        path = self._folder / f"{name}{SUFFIX}"
        try:
            entries = _read(path, path.stat().st_mtime_ns, path.stat().st_size)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or plain_line(first_line(error))
            raise refuse(f"__{name}__", f"{path} can't be read: {reason}") from error
        if not any(entry.weight for entry in entries):
            raise refuse(f"__{name}__", f"{path} has no entries: write one a line")
        return entries

    def _find(self, name: str) -> tuple[str, ...]:
        wildcard = f"__{name}__"
        if any(not part or part.startswith(".") for part in name.split("/")):
            raise refuse(wildcard, f"must name a file inside of {self._folder}")
        if set(name) & set("*?"):
            found = tuple(fnmatch.filter(self._names(), name))
        else:
            found = (name,) if self._is_inside(self._folder / f"{name}{SUFFIX}") else ()
        if found:
            return found
        near = difflib.get_close_matches(name[:100], self._names(), 3)
        near = [f"__{one}__" for one in near]
        tip = f"did you mean {' or '.join(near)}" if near else r"write \_\_ for plain underscores"
        raise refuse(wildcard, f"{self._folder} has no file {name}{SUFFIX}; {tip}")

    def _is_inside(self, path: Path) -> bool:
        """Whether a file is there, and no link leads out of the folder."""
        try:
            real = path.resolve()
            return real.is_file() and real.is_relative_to(self._folder.resolve())
        except (OSError, ValueError, RuntimeError):  # a name that the system can't have, a circle
            return False

    def _names(self) -> list[str]:
        names: list[str] = []
        for folder, below, files in os.walk(self._folder):
            below[:] = sorted(one for one in below if not one.startswith("."))
            texts = [Path(folder, one) for one in files if one.endswith(SUFFIX) and one[0] != "."]
            inside = [one for one in texts if self._is_inside(one)]
            names += [one.relative_to(self._folder).with_suffix("").as_posix() for one in inside]
            if len(names) >= MOST_FILES:
                break
        return sorted(names)[:MOST_FILES]


@functools.lru_cache(maxsize=64)
def _read(path: Path, changed: int, size: int) -> tuple[Option, ...]:
    """The entries of a file that was changed at a time.

    Raises:
        OSError: if it can't be read.
        ValueError: if it isn't text, or one of its entries can't be read.
    """
    if size > MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes; at most {MOST_BYTES:,}: split it")
    entries = []
    for number, line in enumerate(read_text_file(path).splitlines(), 1):
        if not (entry := line.strip()) or entry.startswith("#"):
            continue
        try:
            entries.append(read_option(entry))
        except RequestError as error:
            raise ValueError(f"line {number}: {error}") from error
    return tuple(entries)
