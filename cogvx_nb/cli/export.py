"""``cogvx export``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_export(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx export``."""
    command.add_argument("file", help="an mp4")
    command.add_argument(
        "output", help="a new file that ends in .gif, .webp, .zip (frames as PNG) or .mp4"
    )
    command.add_argument(
        "--codec",
        default="",
        help="of an mp4: h265 or av1, which are smaller (default: h264, the same pictures)",
    )
    command.add_argument(
        "--quality",
        type=int,
        metavar="N",
        help="of .mp4 and .webp, 1 to 100 (default: 85; an mp4 in h264 isn't compressed again)",
    )
    command.add_argument(
        "--fps",
        type=int,
        metavar="N",
        help="of .mp4, .webp and .gif: show so many frames a second, at the same speed (default: "
        "all; a GIF has at most 50)",
    )
    command.add_argument(
        "--loop",
        type=int,
        metavar="N",
        help="of .gif and .webp: play N times (default: 0, for ever)",
    )
    command.add_argument(
        "--without-settings",
        action="store_true",
        help="an mp4, or PNGs, that don't carry the video's settings",
    )


def export_video(options: argparse.Namespace) -> int:
    """Write a video as GIF, animated WebP, PNG frames or mp4."""
    from ..paths import user_path
    from ..results import clips
    from ..results.formats import Options

    source: Path = user_path(options.file, "video")
    how = Options(options.quality, options.fps, options.loop, options.without_settings)
    print(clips.export_clip(source, options.output, options.codec, how))
    return 0
