"""Standard streams that can't break the work: closed, full, or of an encoding that lacks signs."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import sys
from collections.abc import Iterator
from typing import TextIO

from .. import settings
from ..text import cut_line

READER_GONE = 141
"""Exit code of a program that SIGPIPE ends, as a shell reports it."""


class SafeStream:
    """A text stream in front of another. A write never fails: signs that the other can't encode
    are replaced, and after the first failure everything is dropped.

    Args:
        stream: None where the process was started without it, as by ``>&-``.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._closed = stream is None
        self._stream = stream or io.StringIO()
        self.error: Exception | None = None  # why text was lost

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if self.error is None and text:
            if self._closed:
                self.error = OSError(errno.EBADF, os.strerror(errno.EBADF))
            else:
                self._try(self._write_encodable, text)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        if self.error is None:
            self._try(self._stream.flush)

    def _write_encodable(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            self._stream.write(text.encode(encoding, "replace").decode(encoding))

    def _try(self, function, *arguments: object) -> None:
        try:
            function(*arguments)
        except (OSError, ValueError) as error:  # ValueError: closed by the program itself
            self.error = error
            # What is left in the buffer would fail again when Python flushes it at exit.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                handle = os.open(os.devnull, os.O_WRONLY)
                os.dup2(handle, self._stream.fileno())
                os.close(handle)


@contextlib.contextmanager
def safe_streams() -> Iterator[tuple[SafeStream, SafeStream]]:
    """Put a ``SafeStream`` in front of stdout and stderr; yields both.

    Missing file descriptors 0 to 2 are opened, so that no other file gets their numbers and no
    child is started without them.
    """
    _open_missing()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = streams = SafeStream(before[0]), SafeStream(before[1])
    try:
        yield streams
    finally:
        sys.stdout, sys.stderr = before


def finish_output(code: int, out: SafeStream, err: SafeStream) -> int:
    """Flush both streams; returns the exit code, which is not 0 if stdout lost text.

    The reader of a pipe that ends early, such as ``head``, is no error to report.
    """
    out.flush()
    err.flush()
    if out.error is None:
        return code
    if getattr(out.error, "errno", None) == errno.EPIPE:
        return code or READER_GONE
    err.write(f"cogvx: write error: {getattr(out.error, 'strerror', None) or out.error}\n")
    err.flush()
    return code or 1


def _open_missing() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number


def output_width() -> int:
    """Columns of the terminal that standard output is; 0 where it is none, and nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def fit_line(line: str) -> str:
    """A line cut to the terminal's width, where there is one."""
    width = output_width()
    return cut_line(line, width) if width else line


def output_colour() -> bool:
    """Whether standard output may be coloured: a terminal, and the user wants colours."""
    return sys.stdout.isatty() and settings.wants_colour()
