"""Pictures of videos: stills, small copies, film strips and thumbnails."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import settings, text
from ..errors import CogvxError, ResultError
from ..files import temporary_folder, write_whole
from ..media.ffmpeg import input_file, run_ffmpeg
from ..planning import probe

MAX_SIDE = 8192
"""Pixels of a picture's longer side. WebP has at most 16,383, and players of H.264 show fewer."""


def fitted_size(height: int, width: int, most_height: int, most_width: int) -> tuple[int, int]:
    """(width, height) of a picture scaled to fill a box, in pixels; at least 1 each."""
    scale = min(most_height / height, most_width / width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _scale_filter(most_width: int, most_height: int) -> str:
    """ffmpeg's filter that scales to fill a box, to even sides."""
    scale = f"min({most_width}/iw,{most_height}/ih)"
    sides = (f"'max(2,2*round({side}*{scale}/2))'" for side in ("iw", "ih"))
    return f"scale={':'.join(sides)}"


def still_image(path: Path, seconds: float, width: int) -> bytes:
    """One frame of a video as a WebP of that width, in pixels.

    Args:
        seconds: its time; the first frame if the video is shorter.

    Raises:
        ResultError: if there is no video to read.
    """
    arguments = ["-ss", f"{seconds:.3f}", *input_file(path), "-frames:v", "1"]
    arguments += ["-vf", f"{_scale_filter(width, MAX_SIDE)},format=bgra"]
    done = run_ffmpeg([*arguments, "-c:v", "libwebp", "-f", "webp", "pipe:"])
    if not done.stdout and seconds:
        return still_image(path, 0, width)
    if not done.stdout:
        raise ResultError(f"{path} can't be read as a video")
    return done.stdout


def shrink_video(path: Path, most_bytes: int, height: int = 240) -> bytes:
    """A copy of a video, as mp4, of at most ``most_bytes``.

    Args:
        height: in pixels; halved until the copy is small enough.

    Raises:
        ResultError: if there is no video to read, or no copy is small enough.
    """
    with temporary_folder() as folder:
        copy = folder / "small.mp4"
        arguments = [
            "-y",
            *input_file(path),
            "-vf",
            _scale_filter(MAX_SIDE, height),
            "-c:v",
            "libx264",
        ]
        arguments += ["-crf", "26", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(copy)]
        if run_ffmpeg(arguments).returncode:
            raise ResultError(f"{path} can't be read as a video")
        data = copy.read_bytes()
    return data if len(data) <= most_bytes else shrink_video(path, most_bytes, height // 2)


CLIP_WIDTH = 216
"""Of a still, in pixels."""

BATCH = 16
"""Copies encoded at once; those of a batch that don't fit are discarded."""

MAX_COPY_BYTES = 2_000_000
"""Larger copies are shrunk further."""


@dataclass(frozen=True, slots=True)
class EmbeddedClip:
    """A video inside an HTML page, as data URLs; empty where there was no room."""

    still: str = ""  # its first frame
    moving: str = ""  # a small copy


def embed_clips(
    videos: Sequence[Path], most_bytes: int, height: int = 240
) -> dict[Path, EmbeddedClip]:
    """Stills of all videos, then copies, in their order, until there is no room.

    Stills are embedded as well because browsers support only some dozens of players at once.

    Args:
        most_bytes: of all together, in base64.
        height: of a copy, in pixels.
    """
    stills = _as_many_as_fit(videos, _still, most_bytes)
    room = most_bytes - sum(map(len, stills.values()))
    copies = _as_many_as_fit(videos, lambda path: _copy(path, height), room)
    return {path: EmbeddedClip(stills.get(path, ""), copies.get(path, "")) for path in videos}


def _as_many_as_fit(
    videos: Sequence[Path], encode: Callable[[Path], str], room: int
) -> dict[Path, str]:
    addresses: dict[Path, str] = {}
    with ThreadPoolExecutor(probe.usable_cores()) as pool:
        for start in range(0, len(videos), BATCH):
            batch = videos[start : start + BATCH]
            for path, address in zip(batch, pool.map(encode, batch), strict=True):
                if len(address) > room:
                    return addresses
                addresses[path] = address
                room -= len(address)
    return addresses


def _copy(path: Path, height: int) -> str:
    try:
        return text.data_url("video/mp4", shrink_video(path, MAX_COPY_BYTES, height))
    except CogvxError:  # deleted, no video, or no ffmpeg
        return ""


def _still(path: Path) -> str:
    try:
        return text.data_url("image/webp", still_image(path, 0, CLIP_WIDTH))
    except CogvxError:
        return ""


STRIP_GAP = 4
"""Pixels between the frames of a strip."""


def filmstrip_png(
    frames: np.ndarray, count: int = 7, height: int = 120, before: Sequence[np.ndarray] = ()
) -> bytes:
    """``filmstrip`` as PNG."""
    return filmstrip(frames, count, height, before, "PNG")


def filmstrip(
    frames: np.ndarray,
    count: int = 7,
    height: int = 120,
    before: Sequence[np.ndarray] = (),
    kind: str = "WEBP",
) -> bytes:
    """A row of frames, evenly spread from the first to the last, as a picture file.

    Args:
        frames: uint8 (frames, height, width, 3), RGB.
        count: frames in the row, at most as many as there are.
        height: of the row, in pixels.
        before: what they were made from, each of the size of a frame; a wider gap follows.
        kind: Pillow's name of the format.
    """
    from PIL import Image  # late: most users of this module need no images

    indices = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    chosen = [*before, *frames[indices]]
    width, height = fitted_size(*frames.shape[1:3], height, MAX_SIDE // len(chosen))
    wider = 3 * STRIP_GAP * bool(before)
    size = (len(chosen) * (width + STRIP_GAP) - STRIP_GAP + wider, height)
    row = Image.new("RGB", size, "white")
    for column, frame in enumerate(chosen):
        picture = Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)
        row.paste(picture, (column * (width + STRIP_GAP) + wider * (column >= len(before)), 0))
    data = io.BytesIO()
    row.save(data, kind)
    return data.getvalue()


THUMBNAIL_WIDTH = 240
"""Of a poster or clip, in pixels."""

CLIP_SECONDS = 10
"""A clip shows no more of a video."""

CLIP_QUALITY = 55
"""Of a clip's WebP, of 100: it is looked at in passing."""


def thumbnails(entries: Iterable) -> list[bytes]:
    """A WebP of the middle frame of each catalogue entry; empty if its video can't be read."""
    return _cached_pictures(entries, f"{THUMBNAIL_WIDTH}.webp", _poster)


def moving_thumbnails(entries: Iterable) -> list[bytes]:
    """A small animated WebP of each catalogue entry; empty if its video can't be read."""
    return _cached_pictures(entries, f"{THUMBNAIL_WIDTH}.moving.webp", _clip)


def _cached_pictures(entries: Iterable, end: str, draw: Callable) -> list[bytes]:
    with ThreadPoolExecutor(probe.usable_cores()) as pool:
        return list(pool.map(lambda entry: _cached_picture(entry, end, draw), entries))


def _cached_picture(entry, end: str, draw: Callable) -> bytes:
    # A sidecar may come from anywhere: its hash must not lead out of the folder.
    name = "".join(filter(str.isalnum, entry.frame_hash))[:64]
    cached = settings.outputs_dir() / ".posters" / f"{name}-{end}"
    with contextlib.suppress(OSError):
        return cached.read_bytes()
    try:
        data = draw(entry)
    except CogvxError:
        return b""
    with contextlib.suppress(OSError):  # without a cache it is only slower
        cached.parent.mkdir(exist_ok=True)
        write_whole(cached, data, sync=False)
    return data


def _poster(entry) -> bytes:
    return still_image(entry.path, entry.frames / entry.fps / 2, THUMBNAIL_WIDTH)


def _clip(entry) -> bytes:
    arguments = [*input_file(entry.path), "-t", str(CLIP_SECONDS), "-map", "0:v:0"]
    arguments += ["-vf", _scale_filter(THUMBNAIL_WIDTH, MAX_SIDE), "-c:v", "libwebp_anim"]
    arguments += ["-quality", str(CLIP_QUALITY), "-compression_level", "2", "-loop", "0"]
    done = run_ffmpeg([*arguments, "-f", "webp", "pipe:"])
    if done.returncode or not done.stdout:
        raise ResultError(f"{entry.path} can't be read as a video")
    return done.stdout
