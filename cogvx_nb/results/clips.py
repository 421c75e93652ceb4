"""A video in other formats, for slides, chats and archives, as a file or a download."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..errors import OutputExists, RequestError, ResultError
from ..files import fsync, partial_file, publish, temporary_folder, translate_errors
from ..paths import user_path
from ..text import format_bytes
from .formats import CODECS, FORMATS, Options, available_formats, frame_rate

MAX_DOWNLOAD = 2**28
"""Bytes of an export that is handed to a browser."""


def named_format(output: str | Path, codec: str = "") -> str:
    """The key in ``FORMATS`` for the name of a file.

    Args:
        codec: one of ``CODECS``, of an mp4 only; empty: the first.

    Raises:
        RequestError: if it has no end of a format, or no such codec.
    """
    suffix = Path(output).suffix.lower()
    keys = [key for key, kind in FORMATS.items() if kind.suffix == suffix]
    if not keys:
        ends = dict.fromkeys(kind.suffix for kind in FORMATS.values())
        raise RequestError("output", str(output), f"end it in {', '.join(ends)}")
    if not codec:
        return keys[0]
    matching = [key for key in keys if FORMATS[key].codec == codec]
    if not matching:
        known = ", ".join(CODECS)
        is_codec = codec in CODECS
        raise RequestError("codec", codec, "is of an .mp4" if is_codec else f"use one of {known}")
    return matching[0]


def check_export(source: Path, name: str, how: Options) -> None:
    """Raise what speaks against an export, before the work.

    Raises:
        RequestError: if the format has no such option, the video has fewer frames a second than are
            asked for, or this ffmpeg can't write the format.
        ResultError: if there is no video to read.
    """
    kind = FORMATS[name]
    for option in ("quality", "fps", "loop"):
        if getattr(how, option) is not None and option not in kind.takes:
            raise RequestError(
                option, getattr(how, option), f"{kind.about}: there is none, drop it"
            )
    if not kind.is_available:
        usable = ", ".join(one.codec for one in available_formats().values() if one.codec)
        needed = " or ".join(kind.encoders)
        raise RequestError("codec", kind.codec, f"this ffmpeg lacks {needed}: use {usable}")
    rate = frame_rate(source)
    if how.fps is not None and how.fps > rate:
        remedy = f"the video has {rate:.3g}: give less; cogvx finish makes more"
        raise RequestError("fps", how.fps, remedy)


def export_clip(
    source: Path, output: str | Path, codec: str = "", how: Options | None = None
) -> Path:
    """Write a video to another file, whole or not at all; its format follows from the name.

    Args:
        codec: of an mp4, one of ``CODECS``.
        how: PNG frames and mp4s carry the settings unless they are unwanted, GIF and WebP never.

    Raises:
        RequestError: as ``named_format`` and ``check_export``.
        OutputExists: if the file exists.
        ResultError: if there is no video to read.
        DiskFull, OutputError: if it can't be written.
    """
    how = how or Options()
    name = named_format(output, codec)
    path = user_path(output, "output", new=True)
    if path.exists() or path.is_symlink():
        raise OutputExists(f"{path} exists: choose another name")
    check_export(source, name, how)
    with translate_errors(path):
        with contextlib.suppress(FileExistsError):  # a file: opening one in it raises
            path.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(path) as partial:
            FORMATS[name].write(source, partial, how)
            fsync(partial)
            publish(partial, path)
    return path


def clip_bytes(source: Path, name: str, how: Options | None = None) -> bytes:
    """A video in a format of ``FORMATS``, for a download.

    Raises:
        RequestError: if there is no such format, or as ``check_export``.
        ResultError: if there is no video to read, or the file is too large.
        DiskFull, OutputError: if the temporary folder can't be written.
    """
    if name not in FORMATS:
        raise RequestError("format", name, f"use one of {', '.join(FORMATS)}")
    how = how or Options()
    check_export(source, name, how)
    with translate_errors("the temporary folder"), temporary_folder() as folder:
        target = folder / f"clip{FORMATS[name].suffix}"
        FORMATS[name].write(source, target, how)
        size = target.stat().st_size
        if size > MAX_DOWNLOAD:
            command = "use cogvx export, which writes it to a file"
            raise ResultError(f"{source.name} as {name} has {format_bytes(size)}: {command}")
        return target.read_bytes()
