"""A grid of videos over two parameters: the requests it takes, and the sheet they make."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from PIL import Image

from .. import settings
from ..errors import CogvxError, OutputError, RequestError
from ..planning.request import VideoRequest
from ..results import result, side_by_side, video
from .jobs import DONE, Job

NONE, WORDS = "none", "prompt words"
PARAMETERS = (NONE, WORDS, "seed", "guidance", "steps", "frames")
MOST = 100
"""Videos in a grid."""


@dataclass(frozen=True, slots=True)
class GridAxis:
    """A parameter and the values that it takes along a grid.

    Attributes:
        name: one of ``PARAMETERS``.
        values: its values; of ``prompt words`` the first stands in the prompt, and each takes its
            place in turn.
    """

    name: str
    values: tuple

    @property
    def labels(self) -> tuple[str, ...]:
        if self.name == NONE:
            return ("",)
        if self.name == WORDS:
            return self.values
        return tuple(f"{self.name} {value:g}" for value in self.values)

    def change(self, wanted: dict, value: object) -> dict:
        """Values of a request with this parameter set."""
        if self.name == NONE:
            return wanted
        if self.name == WORDS:
            return wanted | {"prompt": wanted["prompt"].replace(self.values[0], value)}
        return wanted | {self.name: value}


def parse_axis(name: str, text: str) -> GridAxis:
    """An axis from a list as people write it: ``1, 2, 5-8``, or ``red, blue``.

    Raises:
        RequestError: with the part that is no value.
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
    make: Callable[..., VideoRequest], wanted: dict, x: GridAxis, y: GridAxis
) -> list[list[VideoRequest]]:
    """The requests of a grid, row by row, all of them valid.

    Args:
        make: takes the values of a request and validates them.
        wanted: the values that the grid doesn't vary, ``prompt`` among them.

    Raises:
        CogvxError: with the place in the grid of the first that isn't valid.
    """
    count = len(x.values) * len(y.values)
    if not 2 <= count <= MOST:
        raise RequestError("grid", count, f"make it of 2 to {MOST} videos")
    for one in (x, y):
        if one.name == WORDS and one.values[0] not in wanted["prompt"]:
            raise RequestError(WORDS, one.values[0], "the first one must stand in the prompt")
    if x.name == y.name:
        raise RequestError("grid", x.name, "vary another parameter along the other side")
    return [
        [_cell_request(make, wanted, x, y, across, down) for across in x.values]
        for down in y.values
    ]


@dataclass
class Grid:
    """A grid on its way.

    Attributes:
        columns, rows: labels.
        jobs: row by row.
        saved: the sheet as PNG and as mp4, once all are over.
    """

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    jobs: list[list[Job]]
    saved: tuple[Path, ...] = ()

    @property
    def over(self) -> bool:
        """Whether each of its videos is done, failed or cancelled."""
        return all(job.over for row in self.jobs for job in row)

    def save(self) -> tuple[Path, ...]:
        """Write the sheet to ``outputs/grids/``, as PNG and as mp4, once.

        Returns:
            Both paths; none if no video was made.

        Raises:
            OutputError, ResultError: if it can't be written, or a video can't be read.
        """
        done = [job for row in self.jobs for job in row if job.state == DONE]
        if self.saved or not done:
            return self.saved
        clips, fps = side_by_side.clips_in_step(
            [video.decode_video(job.result.path) for job in done], [job.request.fps for job in done]
        )
        found = dict(zip(map(id, done), clips, strict=True))
        cells = [[found.get(id(job)) for job in row] for row in self.jobs]
        pages = side_by_side.compose_sheet(cells, self.columns, self.rows)
        name = f"{datetime.now():%Y-%m-%d-%H%M%S}-{result.slug(done[0].request.prompt)}"
        self.saved = _write_sheet(
            settings.outputs_dir() / "grids", name, pages, fps, self._described()
        )
        return self.saved

    def _described(self) -> dict:
        """What the mp4 carries: its labels, and which videos are in it."""
        names = [
            [job.result.path.name if job.state == DONE else job.state for job in row]
            for row in self.jobs
        ]
        return {"columns": self.columns, "rows": self.rows, "videos": names}


def _parse_numbers(name: str, part: str) -> Sequence[float]:
    """The values that a part of a list stands for: one, or all from … to."""
    try:
        if name == "guidance":
            return (float(part),)
        first, _, last = part.partition("-")
        return range(int(first), int(last or first) + 1)[: MOST + 1]
    except ValueError:
        raise RequestError(name, part, "is no number") from None


def _cell_request(make, wanted: dict, x: GridAxis, y: GridAxis, across, down) -> VideoRequest:
    try:
        return make(**y.change(x.change(wanted, across), down))
    except CogvxError as error:
        place = ", ".join(str(value) for value in (across, down) if value is not None)
        raise RequestError("grid", place, str(error)) from error


def _write_sheet(folder: Path, name: str, pages, fps: int, described: dict) -> tuple[Path, Path]:
    tag = json.dumps({"grid": described}, ensure_ascii=True)
    poster = Image.fromarray(pages[len(pages) // 2])
    partial = folder / f".{name}.{os.getpid()}"
    png, mp4 = folder / f"{name}.png", folder / f"{name}.mp4"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        poster.save(partial, "PNG")
        partial.replace(png)
        video.encode_video(pages, partial, fps, tag)
        partial.replace(mp4)
        return png, mp4
    except OSError as error:
        raise OutputError(f"{folder} can't be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
