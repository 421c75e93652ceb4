"""A grid of requests over two parameters, and the contact sheet of their videos."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from PIL import Image

from .. import files, settings
from ..errors import CogvxError, RequestError
from ..planning.request import VideoRequest
from ..results import output, video
from ..results.sheet import Sheet, SheetLayout, common_pace, plan_sheet
from ..text import full_number
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
        return tuple(f"{self.name} {full_number(value)}" for value in self.values)

    def change(self, request: dict, value: object) -> dict:
        """The values of a request with this parameter set."""
        if self.name == NONE:
            return request
        if self.name == WORDS:
            words = whole_words(self.values[0])
            return request | {"prompt": words.sub(lambda _: value, request["prompt"])}
        return request | {self.name: value}


JOINED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
JOINED += "\U00020000-\U0003ffff"
"""Letters of languages that are written without spaces, or with endings joined to words: Thai, Lao,
Burmese, Khmer, Chinese, Japanese and Korean."""

SPACED = f"(?:[^\\W{JOINED}]|[\u0300-\u036f])"
"""A letter, digit or accent of the other languages."""


def whole_words(words: str) -> re.Pattern:
    """Matches some words where they aren't parts of longer ones: ``cat``, but not in
    ``catalogue``."""
    before = f"(?<!{SPACED})" if re.match(SPACED, words) else ""
    after = f"(?!{SPACED})" if re.match(SPACED, words[-1:]) else ""
    return re.compile(before + re.escape(words) + after)


def parse_axis(name: str, text: str) -> GridAxis:
    """Parse a list such as ``1, 2, 5-8`` or ``red, "blue, dark"``.

    Raises:
        RequestError: with the part that is not a value, or is there twice.
    """
    if name == NONE:
        return GridAxis(NONE, (None,))
    parts = _split_list(name, text)
    if not parts:
        raise RequestError(name, text, "name its values, with commas between them")
    values = parts if name == WORDS else [v for part in parts for v in _parse_numbers(name, part)]
    value, count = Counter(values).most_common(1)[0]
    if count > 1:
        raise RequestError(name, value, "is there twice")
    return GridAxis(name, tuple(values))


LISTED = re.compile(r'\s*"((?:[^"]|"")*)"\s*(?:[,，]|$)|([^,，]*)(?:[,，]|$)')
"""A value of a list: quoted as in CSV, or up to the next comma."""


def _split_list(name: str, text: str) -> list[str]:
    parts = []
    for match in LISTED.finditer(text):
        quoted, plain = match.groups()
        if quoted is not None and not quoted.strip():
            raise RequestError(name, quoted, "is empty")
        if plain and plain.lstrip().startswith('"'):
            raise RequestError(name, plain.strip(), "close its quotes, and double those in it")
        part = quoted.replace('""', '"') if quoted else plain
        if part and part.strip():
            parts.append(part.strip())
    return parts


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
        if axis.name == WORDS and not whole_words(axis.values[0]).search(values["prompt"]):
            remedy = "the first one must stand in the prompt, as a whole word"
            raise RequestError(WORDS, axis.values[0], remedy)
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

    def plan_layout(self) -> SheetLayout:
        """The layout of the sheet; called before the first video too.

        Raises:
            OutputError: if no sheet of these videos can be made.
        """
        request = self.jobs[0][0].request
        return plan_sheet(self.columns, self.rows, (request.height, request.width), self._pace[0])

    @property
    def _pace(self) -> tuple[int, int]:
        """(frames, frames a second) of the sheet."""
        requests = [job.request for row in self.jobs for job in row]
        return common_pace([r.frames for r in requests], [r.fps for r in requests])

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
        sheet = Sheet(self.plan_layout(), *self._pace)
        for y, row in enumerate(self.jobs):
            for x, job in enumerate(row):
                if job.state == DONE:  # one at a time: a hundred decoded videos take gigabytes
                    sheet.paste(y, x, video.decode_video(job.result.path), job.request.fps)
        name = f"{datetime.now():%Y-%m-%d-%H%M%S}-{output.slug(done[0].request.prompt)}"
        tag = json.dumps({"grid": self._description()}, ensure_ascii=True)
        self.saved = _write_sheet(settings.outputs_dir() / "grids" / name, sheet, tag)
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
        first, _, last = part.replace("–", "-").partition("-")
        first, last = int(first), int(last or first)
    except ValueError:
        raise RequestError(name, part, "is no number") from None
    if last < first:
        raise RequestError(name, part, "the lower number comes first")
    if last - first >= MOST:
        raise RequestError(
            name, part, f"has more than {MOST} values: make it of 2 to {MOST} videos"
        )
    return range(first, last + 1)


def _cell_request(
    validate, values: dict, x: GridAxis, y: GridAxis, across: object, down: object
) -> VideoRequest:
    try:
        request = validate(**y.change(x.change(values, across), down))
        for change in request.adjustments:
            if change.field in (x.name, y.name):  # else its label would be wrong
                raise RequestError(change.field, change.asked, change.reason)
        return request
    except CogvxError as error:
        position = ", ".join(str(value) for value in (across, down) if value is not None)
        raise RequestError("grid", position, str(error)) from error


def _write_sheet(stem: Path, sheet: Sheet, tag: str) -> tuple[Path, Path]:
    """Write the middle frame as ``<stem>.png`` and all as ``<stem>.mp4``."""
    png, mp4 = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.mp4")
    poster = io.BytesIO()
    Image.fromarray(sheet.pages[len(sheet.pages) // 2]).save(poster, "PNG")
    with files.translate_errors(stem.parent):
        stem.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(png, poster.getvalue())
        with files.partial_file(mp4) as partial:
            video.encode_video(sheet.pages, partial, sheet.fps, tag)
            partial.replace(mp4)
    return png, mp4
