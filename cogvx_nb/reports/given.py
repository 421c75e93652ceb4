"""Small pictures of what a sweep's videos were made from."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ResultError
from ..results.inputs import first_frame
from ..results.records import Sidecar, UsedInput, used_inputs
from ..results.stored import stored_settings
from ..text import data_url
from .experiment import RunView

WIDTH = 96
"""Of a picture, in pixels."""

ROOM = 0.2
"""Most of a page's bytes for them; videos have the rest."""


@dataclass(frozen=True, slots=True)
class GivenPicture:
    """A picture, or the first frame of a clip."""

    field: str  # of the request
    name: str  # of the file
    address: str  # a data URL; empty where the file can't be read, or there is no room


def given_pictures(runs: Iterable[RunView], most_bytes: int) -> dict[str, list[GivenPicture]]:
    """What each run's video was made from, as the model got it, by run id.

    Args:
        most_bytes: of all addresses together, each counted once.
    """
    addresses: dict[tuple, str] = {}
    found: dict[str, list[GivenPicture]] = {}
    for run in runs:
        sidecar = _settings(run)
        for used in used_inputs(sidecar) if sidecar else ():
            request = sidecar.request
            key = (used.value, request.height, request.width, request.fit, request.video_start)
            if key not in addresses:
                address = _address(sidecar, used)
                addresses[key] = address if len(address) <= most_bytes else ""
                most_bytes -= len(addresses[key])
            one = GivenPicture(used.field, used.name, addresses[key])
            found.setdefault(run.id, []).append(one)
    return found


def _settings(run: RunView) -> Sidecar | None:
    try:
        return stored_settings(run.video)[0]
    except ResultError:  # deleted meanwhile
        return None


def _address(sidecar: Sidecar, used: UsedInput) -> str:
    from PIL import Image  # late: most reports have no pictures of these

    frame = first_frame(sidecar, used)
    if frame is None:
        return ""
    height, width, _ = frame.shape
    data = io.BytesIO()
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS).save(data, "WEBP", quality=80)
    return data_url("image/webp", data.getvalue())
