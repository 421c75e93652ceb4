"""A video in other formats, for slides and chats: mp4, GIF, animated WebP, and its frames."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import OutputExists, RequestError, ResultError
from ..files import fsync, partial_file, publish, temporary_folder, translate_errors
from ..media.ffmpeg import failure_reason, input_file, run_ffmpeg
from ..paths import user_path
from ..text import format_bytes
from .mp4 import TAG, find_tag, read_box

QUALITY = 85
"""Of an animated WebP, of 100."""

MAX_DOWNLOAD = 2**28
"""Bytes of an export that is handed to a browser."""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file that a video can be exported to."""

    suffix: str
    mime_type: str
    about: str  # in a menu
    write: Callable[[Path, Path], None]  # (video, new file)


def _convert(source: Path, target: Path, *arguments: str) -> None:
    done = run_ffmpeg(["-y", *input_file(source), "-map", "0:v:0", *arguments, f"file:{target}"])
    if done.returncode:
        raise ResultError(f"{source} can't be exported: {failure_reason(done)}")


def _write_copy(source: Path, target: Path) -> None:
    _check_readable(source)
    with source.open("rb") as read, target.open("wb") as write:
        while block := read.read(2**20):
            write.write(block)


def _write_plain(source: Path, target: Path) -> None:
    """The same pictures, bit for bit, without what the file says about itself."""
    kept = ("-c", "copy", "-map_metadata", "-1", "-fflags", "+bitexact")
    _convert(source, target, *kept, "-movflags", "+faststart", "-f", "mp4")


def _write_gif(source: Path, target: Path) -> None:
    """256 colours chosen for this video."""
    colours = "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=sierra2_4a"
    _convert(source, target, "-vf", colours, "-loop", "0", "-f", "gif")


def _write_webp(source: Path, target: Path) -> None:
    quality = ("-c:v", "libwebp_anim", "-quality", str(QUALITY), "-loop", "0")
    _convert(source, target, *quality, "-f", "webp")


def _write_frames(source: Path, target: Path) -> None:
    """Every frame as PNG with the video's settings, ``001.png`` onwards, in a zip."""
    from PIL import Image, PngImagePlugin  # late: other formats need no images

    box = find_tag(source, TAG)
    about = PngImagePlugin.PngInfo()
    if box is not None:
        about.add_itxt(TAG, read_box(source, box).decode(errors="replace"))
    with temporary_folder() as folder, zipfile.ZipFile(target, "w") as archive:  # PNG is compressed
        _convert(source, folder / "%03d.png", "-fps_mode", "passthrough", "-f", "image2")
        for path in sorted(folder.iterdir(), key=lambda path: int(path.stem)):
            with Image.open(path) as picture:
                picture.save(path, pnginfo=about)
            archive.write(path, path.name)


def _check_readable(source: Path) -> None:
    input_file(source)  # raises if there is no regular file


FORMATS = {
    "mp4": Format(".mp4", "video/mp4", "MP4 with its settings", _write_copy),
    "plain": Format(".mp4", "video/mp4", "MP4 without its settings", _write_plain),
    "gif": Format(".gif", "image/gif", "GIF, 256 colours", _write_gif),
    "webp": Format(".webp", "image/webp", "animated WebP", _write_webp),
    "frames": Format(".zip", "application/zip", "frames as PNG, in a zip", _write_frames),
}
"""By the names that the page uses."""


def named_format(output: str | Path, without_settings: bool = False) -> str:
    """The key in ``FORMATS`` for the name of a file.

    Raises:
        RequestError: if it has no end of a format.
    """
    suffix = Path(output).suffix.lower()
    keys = [key for key, kind in FORMATS.items() if kind.suffix == suffix]
    if not keys:
        ends = dict.fromkeys(kind.suffix for kind in FORMATS.values())
        raise RequestError("output", str(output), f"end it in {', '.join(ends)}")
    return keys[-1 if without_settings else 0]


def export_clip(source: Path, output: str | Path, without_settings: bool = False) -> Path:
    """Write a video to another file, whole or not at all; its format follows from the name.

    Args:
        without_settings: of an mp4, drop what it says about itself. PNG frames carry the settings
            too, GIF and WebP never.

    Raises:
        RequestError: if the name has no end of a format.
        OutputExists: if the file exists.
        ResultError: if there is no video to read.
        DiskFull, OutputError: if it can't be written.
    """
    kind = FORMATS[named_format(output, without_settings)]
    path = user_path(output, "output", new=True)
    if path.exists() or path.is_symlink():
        raise OutputExists(f"{path} exists: choose another name")
    with translate_errors(path):
        with contextlib.suppress(FileExistsError):  # a file: opening one in it raises
            path.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(path) as partial:
            kind.write(source, partial)
            fsync(partial)
            publish(partial, path)
    return path


def clip_bytes(source: Path, name: str) -> bytes:
    """A video in a format of ``FORMATS``, for a download.

    Raises:
        RequestError: if there is no such format.
        ResultError: if there is no video to read, or the file is too large.
        DiskFull, OutputError: if the temporary folder can't be written.
    """
    if name not in FORMATS:
        raise RequestError("format", name, f"use one of {', '.join(FORMATS)}")
    with translate_errors("the temporary folder"), temporary_folder() as folder:
        target = folder / f"clip{FORMATS[name].suffix}"
        FORMATS[name].write(source, target)
        size = target.stat().st_size
        if size > MAX_DOWNLOAD:
            command = "use cogvx export, which writes it to a file"
            raise ResultError(f"{source.name} as {name} has {format_bytes(size)}: {command}")
        return target.read_bytes()
