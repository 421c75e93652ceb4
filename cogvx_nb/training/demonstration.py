"""Example clips in a new style, drawn by the embedded checkpoint's own code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .. import settings
from ..checkpoints import store
from ..errors import RequestError

STYLES = ("large", "shadow")

MOST_CLIPS = 686
"""Combinations of the world in which a shadow can be told from the shape, each drawn once."""


def draw_examples(style: str = "shadow", clips: int = 24) -> Path:
    """A folder of clips of the embedded model's world with captions, the same at each call.

    Args:
        style: one of ``STYLES``.
        clips: 1 to ``MOST_CLIPS``.

    Raises:
        RequestError: for another style or number.
    """
    if style not in STYLES:
        raise RequestError("style", style, f"give one of {', '.join(STYLES)}")
    if not isinstance(clips, int) or not 1 <= clips <= MOST_CLIPS:
        raise RequestError("clips", clips, f"give a whole number from 1 to {MOST_CLIPS}")
    folder = settings.models_dir() / "loras" / ".training" / f"{style}-{clips}"
    script = store.locate_checkpoint("tiny").folder / "styles.py"
    options = ["--style", style, "--clips", str(clips)]
    subprocess.run([sys.executable, str(script), str(folder), *options], check=True)
    return folder
