"""The pictures and clips that results were made from, as they were used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CogvxError
from ..media import kept, pixels
from ..planning.fields import FIELDS, INPUTS, PICTURE
from .records import Sidecar

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class UsedInput:
    """A picture or a clip of a result."""

    field: str  # of the request
    name: str  # of the file that was given
    value: str  # what it is kept as

    @property
    def line(self) -> str:
        """For a person: the file, and where it is kept."""
        return f"{self.name} ({self.value})" if self.name not in self.value else self.value


def used_inputs(sidecar: Sidecar) -> list[UsedInput]:
    """Those of a result, in the order of the fields."""
    found = []
    for field in INPUTS:
        if value := getattr(sidecar.request, field):
            recorded = sidecar.inputs.get(field)
            found.append(UsedInput(field, recorded.name if recorded else Path(value).name, value))
    return found


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
