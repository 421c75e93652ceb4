"""Example clips in a new style, drawn by the embedded checkpoint's own code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .. import settings
from ..checkpoints import store

STYLES = ("large", "shadow")


def draw_examples(style: str = "shadow", clips: int = 24) -> Path:
    """A folder of clips of the embedded model's world with captions; drawn once.

    Args:
        style: one of ``STYLES``.
    """
    folder = settings.models_dir() / "loras" / ".training" / f"{style}-{clips}"
    script = store.locate_checkpoint("tiny").folder / "styles.py"
    options = ["--style", style, "--clips", str(clips)]
    subprocess.run([sys.executable, str(script), str(folder), *options], check=True)
    return folder
