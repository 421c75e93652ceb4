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
        "--without-settings", action="store_true", help="an mp4 that doesn't carry its settings"
    )


def export_video(options: argparse.Namespace) -> int:
    """Write a video as GIF, animated WebP, PNG frames or mp4."""
    from ..paths import user_path
    from ..results import clips

    source: Path = user_path(options.file, "video")
    print(clips.export_clip(source, options.output, options.without_settings))
    return 0
