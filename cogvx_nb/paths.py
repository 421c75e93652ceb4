"""Paths and small files that people name: on the command line, in notebooks, in variables."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
import unicodedata
from pathlib import Path

from .errors import PathError

NAME_BYTES, PATH_BYTES = 255, 4095
"""Most bytes of a part of a path, where the file system doesn't say, and of a path (``NAME_MAX``
and ``PATH_MAX`` of Linux, limits.h)."""

SHOWN = 60
"""Characters of a name that messages show."""

TRASH = "trash"
"""Folder in the outputs folder for results that were moved away."""

FILE_BYTES = 64 * 2**20
"""Most bytes of a file that is read as a whole: settings, lists and reports are far smaller."""

UNPRINTABLE = ("Cc", "Zl", "Zp")
"""Unicode categories of control characters, line and paragraph separators."""


def user_path(
    name: object, what: str, *, folder: bool = False, new: bool = False, start: Path | None = None
) -> Path:
    """The absolute path that a user's text names, if this system can have a file of that name.

    Args:
        name: as given; ``~`` and ``~user`` are expanded.
        what: what messages call it, such as ``output``, or the variable that holds it.
        folder: whether it may name a folder; a file's name can't end in a slash.
        new: whether a file is to be made there: its path must then be one line.
        start: where a relative name starts, by default the current folder.

    Raises:
        PathError: with the name and what is wrong with it.
    """
    if not isinstance(name, str | os.PathLike):
        raise PathError(f"{what} {shorten(name)}: a path must be text")
    text = decode_argument(os.fspath(name))
    problem = _name_problem(text, folder, new)
    if not problem:
        try:
            path = (start or Path()).joinpath(Path(text).expanduser()).absolute()
            problem = _path_problem(path)
        except RuntimeError:
            user = Path(text).parts[0]
            problem = "HOME isn't set" if user == "~" else f"there is no user {user[1:40]!r}"
        except OSError:
            problem = "the current folder was deleted: change to one that exists"
    if problem:
        raise PathError(f"{what} {shorten(text)}: {problem}")
    return path


def shorten(name: object) -> str:
    """A name as Python text of at most ``SHOWN`` characters, printable in one line."""
    if not isinstance(name, str):
        name = repr(name)
        return name if len(name) <= SHOWN else f"{name[:SHOWN]}..."
    return repr(name) if len(name) <= SHOWN else f"{name[:SHOWN]!r}... ({len(name):,} characters)"


def decode_argument(text: str) -> str:
    """An argument or variable of the process as UTF-8, also where the locale is of another
    encoding, which makes Python escape the bytes; unchanged if it is none.
    """
    if text.isascii():
        return text
    try:
        return text.encode(sys.getfilesystemencoding(), "surrogateescape").decode()
    except UnicodeError:
        return text


def _name_problem(text: str, folder: bool, new: bool) -> str:
    """What is wrong with a name as text; empty if nothing is."""
    encoding = sys.getfilesystemencoding()
    if not text:
        return "it is empty: name a file" if not folder else "it is empty: name a folder"
    if "\0" in text:
        return "it holds a NUL character, which no name can"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "it isn't valid UTF-8: use another name"
    if new and any(unicodedata.category(character) in UNPRINTABLE for character in text):
        return "it holds a line break or another control character: use another name"
    if text.endswith(os.sep) and not folder:
        return "it ends in a slash, as a folder's does: name a file"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return f"this locale's encoding, {encoding}, lacks some of its characters: set PYTHONUTF8=1"
    return ""


def _path_problem(path: Path) -> str:
    """Why the system can't look up a path; empty if it can, whether there is something or not."""
    length = len(os.fsencode(path))
    if length > PATH_BYTES:
        return f"its path has {length:,} bytes; the system takes {PATH_BYTES:,}"
    existing = next((p for p in (path, *path.parents) if os.path.lexists(p)), Path(path.anchor))
    most = NAME_BYTES
    with contextlib.suppress(OSError, ValueError, AttributeError):  # not every system can say
        most = os.pathconf(existing, "PC_NAME_MAX")
    longest = max(len(os.fsencode(part)) for part in path.parts)
    if longest > most:
        return f"a part of it has {longest:,} bytes; this disk takes {most}: use a shorter one"
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return ""


def read_bounded(path: Path, most_bytes: int = FILE_BYTES) -> bytes:
    """A regular file as a whole. Reading a pipe or a terminal would wait.

    Raises:
        OSError: if it can't be read, is no regular file, or is larger.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes / 1e6:.0f} MB", str(path))
    return content


def read_json(path: Path, most_bytes: int = FILE_BYTES) -> object:
    """The content of a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        OSError: see ``read_bounded``.
        ValueError: if it isn't JSON, or nested too deeply.
    """
    content = read_bounded(path, most_bytes)
    try:
        return json.loads(content.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
