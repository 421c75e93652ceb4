"""A grid of requests over two parameters, and the contact sheet of their videos."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image

from .. import files, settings
from ..errors import CogvxError, RequestError
from ..planning.request import VideoRequest
from ..results import result, side_by_side, video
from .jobs import DONE, Job

NONE, WORDS = "none", "prompt words"
PARAMETERS = (NONE, WORDS, "seed", "guidance", "steps", "frames")
MOST = 100
"""Limit of videos in a grid."""


@dataclass(frozen=True, slots=True)
class GridAxis:
    """A parameter and its values along one side of a grid."""

    name: str  # one of ``PARAMETERS``
    values: tuple  # of ``WORDS``: the first is in the prompt, and each replaces it in turn

    @property
    def labels(self) -> tuple[str, ...]:
        if self.name == NONE:
            return ("",)
        if self.name == WORDS:
            return self.values
        return tuple(f"{self.name} {value:g}" for value in self.values)

    def change(self, request: dict, value: object) -> dict:
        """The values of a request with this parameter set."""
        if self.name == NONE:
            return request
        if self.name == WORDS:
            return request | {"prompt": request["prompt"].replace(self.values[0], value)}
        return request | {self.name: value}


def parse_axis(name: str, text: str) -> GridAxis:
    """Parse a list such as ``1, 2, 5-8`` or ``red, blue``.

    Raises:
        RequestError: with the part that is not a value.
    """
    if name == NONE:
        return GridAxis(NONE, (None,))
    parts = [part.strip() for part in text.replace("，", ",").split(",") if part.strip()]
    if not parts:
        raise RequestError(name, text, "name its values, with commas between them")
    if name == WORDS:
        return GridAxis(name, tuple(parts))
    return GridAxis(name, tuple(value for part in parts for value in _parse_numbers(name, part)))


def expand_requests(
    validate: Callable[..., VideoRequest], values: dict, x: GridAxis, y: GridAxis
) -> list[list[VideoRequest]]:
    """The validated requests of a grid, row by row.

    Args:
        validate: makes a request of its values, such as ``Form.request``.
        values: of the request that the grid varies, with ``prompt``.

    Raises:
        CogvxError: with the grid position of the first that isn't valid.
    """
    count = len(x.values) * len(y.values)
    if not 2 <= count <= MOST:
        raise RequestError("grid", count, f"make it of 2 to {MOST} videos")
    for axis in (x, y):
        if axis.name == WORDS and axis.values[0] not in values["prompt"]:
            raise RequestError(WORDS, axis.values[0], "the first one must stand in the prompt")
    if x.name == y.name:
        raise RequestError("grid", x.name, "vary another parameter along the other side")
    return [
        [_cell_request(validate, values, x, y, across, down) for across in x.values]
        for down in y.values
    ]


@dataclass
class Grid:
    """The jobs of a grid, and its saved sheet."""

    columns: tuple[str, ...]  # labels
    rows: tuple[str, ...]
    jobs: list[list[Job]]  # row by row
    saved: tuple[Path, ...] = ()  # the sheet as PNG and as mp4, once all jobs are over

    @property
    def over(self) -> bool:
        """Whether each job is done, failed or cancelled."""
        return all(job.over for row in self.jobs for job in row)

    def save(self) -> tuple[Path, ...]:
        """Write the sheet to ``outputs/grids/`` as PNG and as mp4, if it isn't there yet.

        Returns:
            Both paths; empty if no job is done.

        Raises:
            DiskFull, OutputError: if it can't be written.
            ResultError: if a video can't be read.
        """
        done = [job for row in self.jobs for job in row if job.state == DONE]
        if self.saved or not done:
            return self.saved
        clips, fps = side_by_side.clips_in_step(
            [video.decode_video(job.result.path) for job in done], [job.request.fps for job in done]
        )
        clip_of = dict(zip((job.number for job in done), clips, strict=True))
        cells = [[clip_of.get(job.number) for job in row] for row in self.jobs]
        pages = side_by_side.compose_sheet(cells, self.columns, self.rows)
        name = f"{datetime.now():%Y-%m-%d-%H%M%S}-{result.slug(done[0].request.prompt)}"
        tag = json.dumps({"grid": self._description()}, ensure_ascii=True)
        self.saved = _write_sheet(settings.outputs_dir() / "grids" / name, pages, fps, tag)
        return self.saved

    def _description(self) -> dict:
        """Metadata of the mp4: the labels, and the file or state of each cell."""
        names = [
            [job.result.path.name if job.state == DONE else job.state for job in row]
            for row in self.jobs
        ]
        return {"columns": self.columns, "rows": self.rows, "videos": names}


def _parse_numbers(name: str, part: str) -> Sequence[float]:
    """One value, or the whole numbers of a range ``first-last``."""
    try:
        if name == "guidance":
            return (float(part),)
        first, _, last = part.partition("-")
        return range(int(first), int(last or first) + 1)[: MOST + 1]
    except ValueError:
        raise RequestError(name, part, "is no number") from None


def _cell_request(
    validate, values: dict, x: GridAxis, y: GridAxis, across: object, down: object
) -> VideoRequest:
    try:
        return validate(**y.change(x.change(values, across), down))
    except CogvxError as error:
        position = ", ".join(str(value) for value in (across, down) if value is not None)
        raise RequestError("grid", position, str(error)) from error


def _write_sheet(stem: Path, pages: np.ndarray, fps: int, tag: str) -> tuple[Path, Path]:
    """Write the middle page as ``<stem>.png`` and all as ``<stem>.mp4``."""
    png, mp4 = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.mp4")
    poster = io.BytesIO()
    Image.fromarray(pages[len(pages) // 2]).save(poster, "PNG")
    with files.translate_errors(stem.parent):
        stem.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(png, poster.getvalue())
        with files.partial_file(mp4) as partial:
            video.encode_video(pages, partial, fps, tag)
            partial.replace(mp4)
    return png, mp4
