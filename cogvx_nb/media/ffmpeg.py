"""The ffmpeg program: found and run in one place; errors say how to get one that works."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from .. import settings
from ..errors import FfmpegError, ResultError

QUIET = ("-nostdin", "-hide_banner", "-loglevel", "error")


def find_ffmpeg() -> str:
    """The program: the one that ``IMAGEIO_FFMPEG_EXE`` names, else that of imageio-ffmpeg.

    Raises:
        FfmpegError: if there is none.
    """
    import imageio_ffmpeg  # late: ``cogvx check`` runs where no package is

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise broken_ffmpeg("there is none") from error


def broken_ffmpeg(reason: str, program: str = "") -> FfmpegError:
    """The exception that ffmpeg doesn't work, with the remedy for the one that was run."""
    if named := settings.named_ffmpeg():
        return FfmpegError(
            f"ffmpeg doesn't work: {named}, which {settings.FFMPEG_VARIABLE} names: {reason}; set "
            "that to an ffmpeg with libx264, or unset it to use the one of imageio-ffmpeg"
        )
    where = f"{program}: " if program else ""
    return FfmpegError(
        f"ffmpeg doesn't work: {where}{reason}; pip install --force-reinstall imageio-ffmpeg, or "
        f"set {settings.FFMPEG_VARIABLE} to an ffmpeg with libx264"
    )


def input_file(path: Path) -> list[str]:
    """Arguments that read an mp4, by no other demuxer: a playlist could name other files.

    Raises:
        ResultError: if there is no regular file; a pipe would be waited for.
    """
    if not path.is_file():
        no_file = f"{path} is no regular file" if path.exists() else f"there is no file {path}"
        raise ResultError(no_file)
    return ["-f", "mp4", "-i", f"file:{path.absolute()}"]


def run_ffmpeg(
    arguments: Sequence[str],
    data: bytes | memoryview = b"",
    timeout: float | None = None,
) -> subprocess.CompletedProcess:
    """Run ffmpeg to its end. What it prints holds texts of users: it is no source of facts.

    Args:
        data: for its standard input.
        timeout: in seconds.

    Raises:
        FfmpegError: if it can't be started, or takes longer.
    """
    program = find_ffmpeg()
    command = [program, *(QUIET[1:] if data else QUIET), *arguments]
    try:
        return subprocess.run(
            command, input=data, capture_output=True, timeout=timeout, check=False
        )
    except OSError as error:
        raise broken_ffmpeg(error.strerror or str(error), program) from error
    except subprocess.TimeoutExpired as error:
        raise broken_ffmpeg(f"no answer within {timeout:g} s", program) from error


def feed_ffmpeg(
    arguments: Sequence[str], chunks: Iterable[bytes | memoryview]
) -> subprocess.CompletedProcess:
    """Run ffmpeg on data that is made while it runs; killed if making them raises.

    Args:
        chunks: for its standard input, read no further than ffmpeg reads.

    Raises:
        FfmpegError: if it can't be started.
    """
    command = [find_ffmpeg(), *QUIET[1:], *arguments]
    with tempfile.TemporaryFile() as messages:  # not a pipe, which would have to be read meanwhile
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages
            )
        except OSError as error:
            raise broken_ffmpeg(error.strerror or str(error), command[0]) from error
        try:
            with contextlib.suppress(BrokenPipeError):  # it failed, and its messages say why
                for chunk in chunks:
                    process.stdin.write(chunk)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()
        messages.seek(0)
        return subprocess.CompletedProcess(command, process.returncode, b"", messages.read())


def known_encoders() -> frozenset[str]:
    """Names of the encoders that the program was built with.

    Raises:
        FfmpegError: if it can't be started.
    """
    return _encoders_of(find_ffmpeg())


@functools.lru_cache(maxsize=4)
def _encoders_of(program: str) -> frozenset[str]:
    lines = run_ffmpeg(["-encoders"]).stdout.decode(errors="replace").splitlines()
    return frozenset(words[1] for line in lines if len(words := line.split()) > 1)


def failure_reason(done: subprocess.CompletedProcess) -> str:
    """Why a run failed, in one line: the last line of its messages, or the signal that ended it."""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    if lines:
        return lines[-1]
    if done.returncode < 0:
        return f"it was ended by signal {-done.returncode}"
    return f"exit code {done.returncode}, without a message"


@contextlib.contextmanager
def ffmpeg_output(arguments: Sequence[str], data: bytes = b"") -> Iterator[BinaryIO]:
    """The standard output of a run, which ends with the block.

    Args:
        data: for its standard input, written by a thread.

    Raises:
        FfmpegError: if it can't be started.
    """
    program = find_ffmpeg()
    try:
        process = subprocess.Popen(
            [program, *(QUIET[1:] if data else QUIET), *arguments],
            stdin=subprocess.PIPE if data else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise broken_ffmpeg(error.strerror or str(error), program) from error
    writer = threading.Thread(target=_write_all, args=(process, data), daemon=True)
    with process:
        try:
            if data:
                writer.start()
            yield process.stdout
        finally:
            process.kill()
            if data:
                writer.join()


def _write_all(process: subprocess.Popen, data: bytes) -> None:
    with contextlib.suppress(OSError):  # it ended before it had read all
        process.stdin.write(data)
    with contextlib.suppress(OSError):
        process.stdin.close()
