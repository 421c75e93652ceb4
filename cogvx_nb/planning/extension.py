"""Going on from a clip: what the next one begins with, and the clips that new frames come in."""

from __future__ import annotations

import glob
import hashlib
from pathlib import Path

from .. import settings
from ..checkpoints.registry import IMAGE, Checkpoint
from ..errors import PathError, RequestError
from ..paths import TRASH, user_path
from .fields import DRAWN_BELOW

FIELD = "extend"

OVERLAP = 9
"""Frames that the next clip begins with where it continues latents: three latent frames, from which
it takes position and speed. Tried on a few clips of the embedded checkpoint: 5 frames are too few
for that, 13 gain nothing and cost a latent frame."""

SHARP_AMONG = 4
"""Frames at the end of a clip of which the last sharp one is the next one's first image."""


def takes_image(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint goes on from an image; others from the latents of several frames."""
    return IMAGE in checkpoint.tasks and not checkpoint.is_masked


def overlap(checkpoint: Checkpoint) -> int:
    """Frames of the clip before that a next one begins with, 4 N + 1."""
    return 1 if takes_image(checkpoint) else OVERLAP


def pieces(checkpoint: Checkpoint, frames: int) -> tuple[int, ...]:
    """Frames of each clip that is made for so many new ones, the known ones at its start included.

    All but the last are as long as the longest that the checkpoint was trained at.
    """
    known, longest = overlap(checkpoint), checkpoint.frames[-1]
    whole, rest = divmod(frames, longest - known)
    return (longest,) * whole + ((rest + known,) if rest else ())


def find_source(value: str, field: str = FIELD) -> str:
    """The path of a clip, or of the result of a name: one in the outputs folder, or in any folder
    of it but the trash, without its ending too. Anything else as it is, for the message that it
    can't be used.

    Args:
        field: what messages call it.

    Raises:
        RequestError: if several folders have one of that name.
    """
    try:
        if user_path(value, field).exists():
            return value
        outputs = settings.outputs_dir()
        for name in (value, f"{value}.mp4"):
            path = user_path(name, field, start=outputs)
            if path.is_file():
                return str(path)
            if name == Path(name).name:
                found = sorted(outputs.glob(f"*/{glob.escape(name)}"))
                found = [one for one in found if one.parent.name != TRASH]
                if len(found) == 1:
                    return str(found[0])
                if found:
                    where = " and ".join(str(one.parent.name) for one in found[:2])
                    raise RequestError(field, value, f"is in {where}: give its path")
    except PathError:
        pass  # which reading it says too
    return value


def seed_of(seed: int, piece: int) -> int:
    """The seed of a clip: the request's own for the first (0); with the same one all would move
    alike."""
    if not piece:
        return seed
    digest = hashlib.sha256(f"{seed} {piece}".encode()).digest()
    return int.from_bytes(digest[:8]) % DRAWN_BELOW
