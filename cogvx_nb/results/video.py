"""mp4 files: encoding, decoding, stills, small copies, film strips and thumbnails."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from .. import settings, text
from ..errors import OutputError, ResultError
from ..files import write_whole
from ..planning import probe

TAG = "cogvx"
"""Name of the mp4 metadata tag that holds the settings as JSON."""

QUALITY = 14
"""x264's constant rate factor; 18 is called visually lossless, and short clips stay small."""

MAX_BLACK = 4
"""Largest uint8 value of a black frame. An overflow in float16 makes all frames black."""


def is_black(frames: np.ndarray) -> bool:
    """Whether no pixel of uint8 frames is brighter than black."""
    return bool(frames.max() <= MAX_BLACK)


def encode_video(frames: np.ndarray, path: Path, fps: int, tag: str) -> None:
    """Write an H.264, yuv420p, faststart mp4.

    Args:
        frames: uint8 (frames, height, width, 3), RGB, height and width even.
        tag: ASCII text for the file's metadata.

    Raises:
        OutputError: if ffmpeg fails, with its last line.
    """
    _, height, width, _ = frames.shape
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)]
    command += ["-i", "pipe:", "-c:v", "libx264", "-crf", str(QUALITY), "-pix_fmt", "yuv420p"]
    # Without explicit parameters players guess the colour space from the picture's size.
    colours = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    command += ["-vf", f"scale=out_color_matrix=bt709:out_range=tv,{colours}"]
    # Without use_metadata_tags the mp4 muxer drops unknown tags.
    command += ["-movflags", "+faststart+use_metadata_tags", "-metadata", f"{TAG}={tag}"]
    command += ["-f", "mp4", f"file:{path}"]
    done = subprocess.run(command, input=frames.tobytes(), capture_output=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise OutputError(f"ffmpeg could not write {path}: {lines[-1] if lines else 'no reason'}")


def decode_video(path: Path) -> np.ndarray:
    """All frames of a video, uint8 (frames, height, width, 3), RGB.

    Raises:
        ResultError: if it is missing or no video.
    """
    if not path.is_file():
        raise ResultError(f"there is no file {path}")
    try:
        reader = imageio_ffmpeg.read_frames(str(path.absolute()))
        width, height = next(reader)["size"]
        frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    except (OSError, RuntimeError, ValueError, StopIteration) as error:
        raise ResultError(f"{path} can't be read as a video") from error
    if not frames:
        raise ResultError(f"{path} holds no frames")
    return np.stack(frames)


def still_image(path: Path, seconds: float, width: int) -> bytes:
    """One frame of a video as a WebP of that width, in pixels.

    Args:
        seconds: its time; the first frame if the video is shorter.

    Raises:
        ResultError: if there is no video to read.
    """
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-ss", f"{seconds:.3f}"]
    command += ["-i", f"file:{path}", "-frames:v", "1", "-vf", f"scale={width}:-2,format=bgra"]
    command += ["-c:v", "libwebp", "-f", "webp", "pipe:"]
    done = subprocess.run(command, capture_output=True, check=False)
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
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "small.mp4"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
        command += ["-i", f"file:{path}", "-vf", f"scale=-2:{height}", "-c:v", "libx264"]
        command += ["-crf", "26", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(copy)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            raise ResultError(f"{path} can't be read as a video")
        data = copy.read_bytes()
    return data if len(data) <= most_bytes else shrink_video(path, most_bytes, height // 2)


def read_tag(path: Path) -> dict | None:
    """The JSON content of a video's ``TAG``; None if it has none.

    Raises:
        ResultError: if the file is missing.
    """
    if not path.is_file():
        raise ResultError(f"there is no file {path}")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", f"file:{path}"]
    done = subprocess.run([*command, "-f", "ffmetadata", "-"], capture_output=True, check=False)
    metadata = done.stdout.decode("utf-8", errors="replace")
    match = re.search(rf"^{TAG}=((?:\\.|[^\\\n])*)", metadata, re.MULTILINE | re.DOTALL)
    if match is None:
        return None
    try:
        # The format escapes = ; # \ and line ends with a backslash.
        return json.loads(re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL))
    except ValueError:
        return None


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
    except ResultError:  # deleted, or no video
        return ""


def _still(path: Path) -> str:
    try:
        return text.data_url("image/webp", still_image(path, 0, CLIP_WIDTH))
    except ResultError:
        return ""


STRIP_GAP = 4
"""Pixels between the frames of a strip."""


def filmstrip_png(frames: np.ndarray, count: int = 7, height: int = 120) -> bytes:
    """A row of frames, evenly spread from the first to the last, as PNG.

    Args:
        frames: uint8 (frames, height, width, 3), RGB.
        count: frames in the row, at most as many as there are.
        height: of the row, in pixels.
    """
    from PIL import Image  # late: most users of this module need no images

    chosen = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    width = round(frames.shape[2] * height / frames.shape[1])
    row = Image.new("RGB", (len(chosen) * (width + STRIP_GAP) - STRIP_GAP, height), "white")
    for column, index in enumerate(chosen):
        picture = Image.fromarray(frames[index]).resize((width, height), Image.Resampling.LANCZOS)
        row.paste(picture, (column * (width + STRIP_GAP), 0))
    data = io.BytesIO()
    row.save(data, "PNG")
    return data.getvalue()


THUMBNAIL_WIDTH = 180
"""In pixels."""


def thumbnails(entries: Iterable) -> list[bytes]:
    """A WebP of the middle frame of each catalogue entry; empty if its video can't be read."""
    with ThreadPoolExecutor(probe.usable_cores()) as pool:
        return list(pool.map(_thumbnail, entries))


def _thumbnail(entry) -> bytes:
    # A sidecar may come from anywhere: its hash must not lead out of the folder.
    name = "".join(filter(str.isalnum, entry.frame_hash))
    cached = settings.outputs_dir() / ".posters" / f"{name}.webp"
    with contextlib.suppress(OSError):
        return cached.read_bytes()
    try:
        data = still_image(entry.path, entry.frames / entry.fps / 2, THUMBNAIL_WIDTH)
    except ResultError:
        return b""
    with contextlib.suppress(OSError):  # without a cache it is only slower
        cached.parent.mkdir(exist_ok=True)
        write_whole(cached, data, sync=False)
    return data
