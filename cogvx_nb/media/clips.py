"""The frames of a clip and their times.

They are counted and timed by decoding them all: what a file says of itself may be wrong, and so may
its messages, which hold texts of users. Time 0 is that of the first frame; sound is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from . import pictures
from .ffmpeg import broken_ffmpeg, ffmpeg_output, find_ffmpeg, run_ffmpeg
from .kinds import Kind, Unusable, file_kind
from .pixmaps import ARGUMENTS, SCALING, read_pixmaps

MOST_PIXELS, MOST_SHOWN = 8192 * 4320, "8192 × 4320"
"""Of a frame, checked before it is decoded."""

MOST_FRAMES = 20_000
"""11 minutes at 30 frames per second: all are decoded to be counted."""

TOLERANCE = 2e-3
"""Seconds. Matroska and others round times to milliseconds."""

MOST_RUNS = 400
"""Of frames that ffmpeg picks by one expression, which is an argument of its command."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip as it is shown: turned, and with square pixels."""

    height: int  # pixels
    width: int
    times: tuple[float, ...]  # seconds at which each frame begins to be shown, from 0
    seconds: float  # until the end of the last frame
    notes: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Frames a second, their mean."""
        return round(len(self.times) / self.seconds, 2)

    def frames_at(self, fps: float, start: float, count: int) -> list[int]:
        """Numbers of the frames that are shown at ``start``, ``start + 1 / fps``, ...

        As in a player, a frame is shown until the next one begins, which counts with a clip of a
        variable rate; only the last frames of a clip that is too short are missing.
        """
        moments = start + np.arange(min(count, self.count(fps, start))) / fps
        after = np.searchsorted(self.times, moments + TOLERANCE, side="right")
        return np.maximum(after - 1, 0).tolist()

    def count(self, fps: float, start: float) -> int:
        return count_frames(self.seconds, fps, start)


def count_frames(seconds: float, fps: float, start: float) -> int:
    """How many of the times ``start``, ``start + 1 / fps``, ... a clip of so many seconds has."""
    left = seconds - start - TOLERANCE
    return max(0, int(np.ceil(left * fps))) if left > 0 else 0


def read_clip(path: Path, kind: Kind | None = None) -> Clip:
    """What a clip is.

    Args:
        kind: of a file that may be of any size; by default it is looked at, with its size.

    Raises:
        Unusable: if it is none, can't be decoded, is too long, too large or too small.
        FfmpegError: if ffmpeg doesn't start.
    """
    kind = kind or file_kind(path)
    return _read_animation(path) if kind.pillow else _read_video(path, kind)


def read_frames(path: Path, clip: Clip, numbers: Sequence[int]) -> Iterator[Image.Image]:
    """Frames of a clip as RGB, in the order of their numbers, which doesn't fall.

    Raises:
        Unusable: if they can't be decoded any more.
        FfmpegError: if ffmpeg doesn't start.
    """
    kind = file_kind(path)
    decoded = _animation_frames(path) if kind.pillow else _video_frames(path, kind, clip, numbers)
    wanted = iter(numbers)
    number = next(wanted, None)
    for at, frame in decoded:
        while number == at:
            yield frame
            number = next(wanted, None)
        if number is None:
            return
    if number is not None:
        raise Unusable(f"can't be decoded from its frame {number + 1} on: convert it to mp4 first")


def _read_animation(path: Path) -> Clip:
    shown = []
    for frame, seconds in pictures.frames_of(path):
        size = frame.size
        shown.append(seconds)
        _check_count(len(shown))
    ends = list(itertools.accumulate(shown))
    return Clip(size[1], size[0], (0.0, *ends[:-1]), ends[-1])


def _animation_frames(path: Path) -> Iterator[tuple[int, Image.Image]]:
    for number, (frame, _) in enumerate(pictures.frames_of(path)):
        yield number, frame


REFUSED_OPTION = b"Unrecognized option"
"""In the messages of an ffmpeg that lacks an option that it is given."""


def _read_video(path: Path, kind: Kind) -> Clip:
    """Decode a clip to a list of its frames' times and checksums, which holds no text of it."""
    listing = ["-frames:v", str(MOST_FRAMES + 1), "-fps_mode", "passthrough"]
    listing += ["-enc_time_base", "demux", "-c:v", "rawvideo", "-f", "framecrc", "pipe:"]
    done = run_ffmpeg([*_source(path, kind), *listing])
    head, rows = {}, []
    for line in done.stdout.decode("ascii", "replace").splitlines():
        if line.startswith("#"):
            name, _, value = line.partition(": ")
            head[name] = value
        else:
            rows.append(line.split(","))
    if not rows:
        if REFUSED_OPTION in done.stderr:
            raise broken_ffmpeg("it is too old: clips need version 5.1 or newer", find_ffmpeg())
        why = f"{kind.name}: cut short, sound alone, or over {MOST_SHOWN}"
        raise Unusable(f"has no frames that can be decoded ({why}): convert or copy it again")
    _check_count(len(rows))
    height, width = _shown_size(head)
    pictures.check_size(height, width)
    times, seconds = _times(head, rows)
    notes = ()
    if done.stderr:
        notes = (f"ffmpeg reports errors in it: the {len(rows):,} frames that it reads are used",)
    return Clip(height, width, times, seconds, notes)


def _source(path: Path, kind: Kind) -> list[str]:
    """Arguments that read the first video of a file, by its own demuxer and from no other file;
    ``V`` leaves out pictures that are attached, such as a cover."""
    bounds = ["-protocol_whitelist", "file", "-max_pixels", str(MOST_PIXELS)]
    return [*bounds, "-f", kind.demuxer, "-i", f"file:{path.absolute()}", "-map", "0:V:0"]


def _shown_size(head: dict[str, str]) -> tuple[int, int]:
    """Height and width with square pixels."""
    width, height = map(int, head["#dimensions 0"].split("x"))
    across, down = map(int, head.get("#sar 0", "1/1").split("/"))
    shape = Fraction(across, down) if across > 0 and down > 0 else Fraction(1)
    width = max(1, round(width * shape))
    if height * width > MOST_PIXELS:
        raise Unusable(f"is shown at {height:,} × {width:,} pixels: scale it down first")
    return height, width


def _times(head: dict[str, str], rows: list[list[str]]) -> tuple[tuple[float, ...], float]:
    """When each frame begins, and when the last one ends, in seconds from the first."""
    base = Fraction(head["#tb 0"])
    ticks, last = [], 0
    for row in rows:
        stamp = row[2].strip()
        last = int(stamp) if stamp.lstrip("-").isdigit() else last + 1  # none in a damaged file
        ticks.append(last)
    ticks = np.maximum.accumulate(ticks) - ticks[0]
    gaps = np.diff(ticks)
    usual = int(np.median(gaps)) if len(gaps) else 0
    lasting = int(rows[-1][3]) or usual
    end = int(ticks[-1]) + lasting or Fraction(1, 25) / base
    return tuple(float(tick * base) for tick in ticks.tolist()), float(end * base)


def _video_frames(
    path: Path, kind: Kind, clip: Clip, numbers: Sequence[int]
) -> Iterator[tuple[int, Image.Image]]:
    runs = _runs(numbers)
    if len(runs) > MOST_RUNS:  # what lies between them is decoded and left out
        runs = [(runs[0][0], runs[-1][1])]
    wanted = "+".join(f"between(n,{first},{last})" for first, last in runs)
    scaled = f"scale={clip.width}:{clip.height}:flags={SCALING},setsar=1"
    count = sum(last - first + 1 for first, last in runs)
    chosen = f"select='{wanted}',{scaled},format=rgb24"
    arguments = ["-vf", chosen, "-fps_mode", "passthrough", "-frames:v", str(count)]
    with ffmpeg_output([*_source(path, kind), *arguments, *ARGUMENTS]) as stream:
        written = itertools.chain.from_iterable(range(first, last + 1) for first, last in runs)
        for number, frame in zip(written, read_pixmaps(stream), strict=False):
            yield number, Image.fromarray(frame)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Numbers as runs (first, last) without a gap, in order."""
    runs: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _check_count(count: int) -> None:
    if count > MOST_FRAMES:
        raise Unusable(f"has more than {MOST_FRAMES:,} frames: cut out the part that is wanted")
