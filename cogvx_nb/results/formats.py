"""The formats that a video can be exported to, and how each is written by ffmpeg."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import RequestError, ResultError
from ..files import temporary_folder
from ..media.clips import read_clip
from ..media.ffmpeg import failure_reason, input_file, known_encoders, run_ffmpeg
from ..media.kinds import Unusable, guess_kind
from .mp4 import TAG, find_tag, read_box

QUALITY = 85
"""Of what is compressed again, of 100: higher is nearer to the video."""

MOST_PLAYS = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """How a video is exported; None leaves it as it is.

    Raises:
        RequestError: for a value that can't be.
    """

    quality: int | None = None  # 1 to 100
    fps: int | None = None  # shown frames a second, at the same speed: others are left out
    loop: int | None = None  # how often it is played; 0: for ever
    without_settings: bool = False

    def __post_init__(self) -> None:
        for name, least, most in (("quality", 1, 100), ("fps", 1, 240), ("loop", 0, MOST_PLAYS)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not least <= value <= most):
                raise RequestError(name, value, f"give a whole number from {least} to {most:,}")


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file that a video can be exported to."""

    suffix: str
    mime_type: str
    about: str  # in a menu
    write: Callable[[Path, Path, Options], None]  # (video, new file, how)
    takes: tuple[str, ...] = ()  # fields of ``Options`` that it has
    encoders: tuple[str, ...] = ()  # of ffmpeg, one of which it needs
    codec: str = ""  # by which an mp4 is chosen

    @property
    def encoder(self) -> str:
        """The encoder to use; empty if this ffmpeg has none of them."""
        return next((name for name in self.encoders if name in known_encoders()), "")

    @property
    def is_available(self) -> bool:
        return not self.encoders or bool(self.encoder)


def _convert(source: Path, target: Path, *arguments: str) -> None:
    done = run_ffmpeg(["-y", *input_file(source), "-map", "0:v:0", *arguments, f"file:{target}"])
    if done.returncode:
        raise ResultError(f"{source} can't be exported: {failure_reason(done)}")


def _write_mp4(source: Path, target: Path, how: Options) -> None:
    """The same file; or compressed again, where that is asked for."""
    if how.quality is not None or how.fps is not None:
        # x264's constant rate factor: 14, as of new videos, for a quality of 85.
        _encode(source, target, how, "libx264", lambda quality: 43 - 0.34 * quality)
    elif how.without_settings:
        kept = ("-c", "copy", *WITHOUT_SETTINGS)
        _convert(source, target, *kept, "-movflags", "+faststart", "-f", "mp4")
    else:
        with source.open("rb") as read, target.open("wb") as write:
            while block := read.read(2**20):
                write.write(block)


def _write_plain(source: Path, target: Path, how: Options) -> None:
    """The same pictures, bit for bit, without what the file says about itself."""
    _write_mp4(source, target, replace(how, without_settings=True))


def _write_h265(source: Path, target: Path, how: Options) -> None:
    # By this tag players of Apple know it.
    _encode(source, target, how, "libx265", lambda quality: 46 - 0.34 * quality, "-tag:v", "hvc1")


def _write_av1(source: Path, target: Path, how: Options) -> None:
    _encode(source, target, how, FORMATS["av1"].encoder, lambda quality: 63 - 0.5 * quality)


WITHOUT_SETTINGS = ("-map_metadata", "-1", "-fflags", "+bitexact")
"""Arguments that leave out what a file says about itself."""


def _encode(
    source: Path,
    target: Path,
    how: Options,
    encoder: str,
    rate_factor: Callable[[int], float],
    *more: str,
) -> None:
    """Compress an mp4 again, with its settings unless they are unwanted."""
    factor = max(1, round(rate_factor(how.quality or QUALITY)))
    coded = ("-c:v", encoder, "-crf", str(factor), "-pix_fmt", "yuv420p", *more)
    kept = WITHOUT_SETTINGS if how.without_settings else ("-map_metadata", "0")
    flags = ("-movflags", "+faststart+use_metadata_tags", "-f", "mp4")
    filters = ("-vf", f"fps={how.fps}") if how.fps else ()
    _convert(source, target, *filters, *coded, *kept, *flags)


def _write_gif(source: Path, target: Path, how: Options) -> None:
    """256 colours chosen for this video."""
    shown = (
        f"fps={min(how.fps or MOST_GIF_FPS, MOST_GIF_FPS)}," if _is_too_fast(source, how) else ""
    )
    colours = "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=sierra2_4a"
    plays = how.loop or 0
    loop = -1 if plays == 1 else max(plays - 1, 0)  # GIF counts what follows the first time
    _convert(source, target, "-vf", f"{shown}{colours}", "-loop", str(loop), "-f", "gif")


MOST_GIF_FPS = 50
"""A GIF counts hundredths of a second, and browsers show one of them as ten."""


def _is_too_fast(source: Path, how: Options) -> bool:
    """Whether a GIF has to leave out frames."""
    return how.fps is not None or frame_rate(source) > MOST_GIF_FPS


def _write_webp(source: Path, target: Path, how: Options) -> None:
    filters = ("-vf", f"fps={how.fps}") if how.fps else ()
    quality = ("-c:v", "libwebp_anim", "-quality", str(how.quality or QUALITY))
    _convert(source, target, *filters, *quality, "-loop", str(how.loop or 0), "-f", "webp")


def _write_frames(source: Path, target: Path, how: Options) -> None:
    """Every frame as PNG with the video's settings, ``001.png`` onwards, in a zip."""
    from PIL import Image, PngImagePlugin  # late: other formats need no images

    box = None if how.without_settings else find_tag(source, TAG)
    about = PngImagePlugin.PngInfo()
    if box is not None:
        about.add_itxt(TAG, read_box(source, box).decode(errors="replace"))
    with temporary_folder() as folder, zipfile.ZipFile(target, "w") as archive:  # PNG is compressed
        # A "%" in the name of the folder would be one of the pattern.
        pictures = Path(str(folder).replace("%", "%%")) / "%03d.png"
        _convert(source, pictures, "-fps_mode", "passthrough", "-f", "image2")
        for path in sorted(folder.iterdir(), key=lambda path: int(path.stem)):
            with Image.open(path) as picture:
                picture.save(path, pnginfo=about)
            archive.write(path, path.name)


def frame_rate(source: Path) -> float:
    """Frames a second of a video.

    Raises:
        ResultError: if it can't be read.
    """
    input_file(source)  # raises if there is no regular file
    try:
        kind = guess_kind(source)
        if kind is None or kind.demuxer != "mov":
            raise Unusable(f"is {kind.name if kind else 'no video'}: give an mp4")
        return read_clip(source, kind).rate
    except Unusable as error:
        raise ResultError(f"{source} can't be exported: it {error}") from error


FORMATS = {
    "mp4": Format(
        ".mp4", "video/mp4", "MP4 with its settings", _write_mp4, ("quality", "fps"), codec="h264"
    ),
    "plain": Format(
        ".mp4", "video/mp4", "MP4 without its settings", _write_plain, ("quality", "fps")
    ),
    "gif": Format(".gif", "image/gif", "GIF, 256 colours", _write_gif, ("fps", "loop")),
    "webp": Format(".webp", "image/webp", "animated WebP", _write_webp, ("quality", "fps", "loop")),
    "frames": Format(".zip", "application/zip", "frames as PNG, in a zip", _write_frames),
    "h265": Format(
        ".mp4", "video/mp4", "MP4, H.265", _write_h265, ("quality", "fps"), ("libx265",), "h265"
    ),
    "av1": Format(
        ".mp4",
        "video/mp4",
        "MP4, AV1",
        _write_av1,
        ("quality", "fps"),
        ("libsvtav1", "libaom-av1"),
        "av1",
    ),
}
"""By the names that the page uses."""


CODECS = tuple(kind.codec for kind in FORMATS.values() if kind.codec)
"""Of an mp4, the first by default."""


def available_formats() -> dict[str, Format]:
    """Those of ``FORMATS`` that this ffmpeg can write."""
    return {name: kind for name, kind in FORMATS.items() if kind.is_available}
