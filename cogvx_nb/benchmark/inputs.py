"""The picture and the clip that benchmarks start from; time doesn't depend on what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..checkpoints.registry import Checkpoint
from ..planning.inputs import INPUTS_OF
from ..results import video

SIZE = (480, 720)
"""Height and width in pixels; fitted to the native size, as any picture is."""


def task_values(task: str, checkpoint: Checkpoint, frames: int, folder: Path) -> dict[str, object]:
    """Values of a request's fields for a task, besides prompt, frames and steps.

    A clip is changed at strength 1, so that all steps are done.

    Args:
        folder: where the files are written; they are kept as all inputs are.
    """
    names = INPUTS_OF[task]
    # The native size, where it would follow the picture.
    values: dict[str, object] = {"height": checkpoint.height, "width": checkpoint.width}
    values |= {name: _picture(folder) for name in names if name != "video"}
    if "video" in names:
        values |= {"video": _clip(folder, frames, checkpoint.fps), "strength": 1.0}
    return values


def _picture(folder: Path) -> str:
    path = folder / "picture.png"
    Image.fromarray(_waves(1)[0]).save(path)
    return str(path)


def _clip(folder: Path, frames: int, fps: int) -> str:
    path = folder / f"clip-{frames}.mp4"
    video.encode_video(_waves(frames), path, fps, "")
    return str(path)


def _waves(frames: int) -> np.ndarray:
    """Moving colour waves, uint8 (frames, height, width, 3)."""
    time, row, column = np.ogrid[:frames, : SIZE[0], : SIZE[1]]
    phase = 0.3 * time + 0.02 * row + 0.013 * column
    waves = [np.sin(phase + shift) for shift in (0.0, 2.1, 4.2)]
    return (127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8)
