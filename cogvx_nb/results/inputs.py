"""Pictures of what results were made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import CogvxError
from ..media import kept, pixels
from ..planning.field import PICTURE
from ..planning.fields import FIELDS
from .records import Sidecar, UsedInput

if TYPE_CHECKING:
    import numpy as np


def first_frame(sidecar: Sidecar, used: UsedInput) -> np.ndarray | None:
    """uint8 (height, width, 3) of a picture, or of a clip where it starts, fitted as it was used;
    None if it is no longer kept or can't be read."""
    request = sidecar.request
    size = (request.height, request.width, request.fit)
    if not kept.is_kept_name(used.value):  # a sidecar may come from anywhere
        return None
    try:
        if FIELDS[used.field].media == PICTURE:
            return pixels.picture_pixels(used.value, *size)[0]
        return pixels.clip_pixels(used.value, 1, request.fps, *size, request.video_start)[0]
    except (CogvxError, OSError, ValueError):
        return None
