"""What a file is, by its first bytes: its name can say anything."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ResultError
from ..text import format_bytes, plain_line

MOST_BYTES = 2**30
"""Of a file."""

HEAD = 512
"""Bytes that are looked at."""

HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Of pictures of iPhones; see the registry at mp4ra.org."""

QUICKTIME_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""Types of the first box of an mp4, or of a mov that is older than ``ftyp``."""


class Unusable(ResultError):
    """A file can't be used; the message goes on after its name."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A format of files."""

    name: str  # for people
    ending: str  # of kept names
    matches: Callable[[bytes], bool]  # whether a file begins like one
    pillow: str = ""  # Pillow's format; empty for clips
    demuxer: str = ""  # ffmpeg's; empty for what Pillow reads

    @property
    def is_picture(self) -> bool:
        """Whether it is one, which may move, also where it isn't read."""
        return not self.demuxer


def _starts(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(beginnings)


def _riff(form: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[:4] == b"RIFF" and head[8:12] == form


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[4:8] == b"ftyp" and head[8:12] in brands


def _is_avif(head: bytes) -> bool:
    """Whether ``avif`` is among the brands, which another may come before."""
    length = int.from_bytes(head[:4], "big")
    return head[4:8] == b"ftyp" and any(b in head[8:length] for b in (b"avif", b"avis"))


def _is_transport_stream(head: bytes) -> bool:
    """Packets of 188 bytes, or of 192 with a time before each."""
    starts = (slice(0, None, 188), slice(4, None, 192))
    return any(len(s := head[start]) > 2 and set(s) == {0x47} for start in starts)


KINDS = (
    Kind("PNG", "png", _starts(b"\x89PNG\r\n\x1a\n"), "PNG"),
    Kind("JPEG", "jpg", _starts(b"\xff\xd8\xff"), "JPEG"),
    Kind("WebP", "webp", _riff(b"WEBP"), "WEBP"),
    Kind("GIF", "gif", _starts(b"GIF87a", b"GIF89a"), "GIF"),
    Kind("AVIF", "avif", _is_avif, "AVIF"),
    Kind("TIFF", "tif", _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
    Kind("BMP", "bmp", lambda head: head[:2] == b"BM" and head[6:10] == bytes(4), "BMP"),
    Kind("JPEG 2000", "jp2", _starts(b"\0\0\0\x0cjP  \r\n\x87\n"), "JPEG2000"),
    Kind("HEIC", "heic", _brand(*HEIF_BRANDS)),
    Kind("mov", "mov", _brand(b"qt  "), demuxer="mov"),
    Kind("mp4", "mp4", lambda head: head[4:8] in QUICKTIME_BOXES, demuxer="mov"),
    Kind(
        "WebM",
        "webm",
        lambda head: head[:4] == b"\x1aE\xdf\xa3" and b"\x42\x82\x84webm" in head,
        demuxer="matroska",
    ),
    Kind("Matroska", "mkv", _starts(b"\x1aE\xdf\xa3"), demuxer="matroska"),
    Kind("AVI", "avi", _riff(b"AVI "), demuxer="avi"),
    Kind("MPEG transport stream", "ts", _is_transport_stream, demuxer="mpegts"),
    Kind("MPEG", "mpg", _starts(b"\0\0\1\xba"), demuxer="mpeg"),
    Kind("Flash video", "flv", _starts(b"FLV\1"), demuxer="flv"),
    Kind("WMV", "wmv", _starts(b"0&\xb2u\x8ef\xcf\x11"), demuxer="asf"),
)
"""Formats that are read, none of which names other files or addresses, as playlists do; and HEIC,
which is known by name only. The first that matches counts. Ogg isn't read: ffmpeg 9.0 decodes
Theora by several threads to other frames each time."""

PICTURES = "PNG, JPEG, WebP, AVIF, TIFF, GIF, BMP and JPEG 2000"
CLIPS = (
    ", ".join(kind.ending for kind in KINDS if kind.demuxer)
    + " and animated GIF, WebP, PNG and AVIF"
)
"""What is read, for messages."""


def kind_of(head: bytes) -> Kind:
    """The format of a file that begins so.

    Raises:
        Unusable: if it is none that is read.
    """
    if not head:
        raise Unusable("is empty (0 bytes): give another file")
    kind = _find_kind(head)
    if kind is None:
        raise Unusable(f"is neither a picture nor a clip: {PICTURES} are read, and {CLIPS}")
    if not (kind.pillow or kind.demuxer):
        raise Unusable(f"is {kind.name}, which isn't read: save it as JPEG or PNG")
    return kind


def _find_kind(head: bytes) -> Kind | None:
    return next((kind for kind in KINDS if kind.matches(head)), None)


def guess_kind(path: Path) -> Kind | None:
    """The format of a regular file, also one that isn't read; None where it is unknown."""
    try:
        with path.open("rb") as file:
            return _find_kind(file.read(HEAD))
    except OSError:
        return None


def file_kind(path: Path) -> Kind:
    """The format of a regular file of at most ``MOST_BYTES``.

    Raises:
        Unusable: if it is missing, something else, too large or of no format that is read.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise Unusable("is a folder: name a file in it")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait
            raise Unusable("is no regular file: name a picture or a clip")
        check_size(status.st_size)
        with path.open("rb") as file:
            return kind_of(file.read(HEAD))
    except FileNotFoundError:
        where = plain_line(str(path)[:200])
        raise Unusable(f"is no file: check its name; looked for {where}") from None
    except NotADirectoryError:
        raise Unusable("is no file: a part of its path is no folder") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unusable(f"can't be read ({reason}): check its permissions, or copy it") from error


def check_size(count: int) -> None:
    """Raise ``Unusable`` for more bytes than are read."""
    if count > MOST_BYTES:
        most = MOST_BYTES // 2**30
        raise Unusable(f"has {format_bytes(count)}, more than {most} GiB: cut or shrink it first")
