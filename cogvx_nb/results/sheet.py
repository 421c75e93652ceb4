"""Sheets of clips: in step, in rows and columns with labels, within what players can show."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import OutputError

GAP = 6
"""Pixels between cells."""

WRAPPED = 4096
"""Pixels after which a single row of cells goes on below."""

MAX_SIDE = 8192
"""Pixels of a sheet's height and width: H.264's level 6.2. x264 makes none beyond 16,384."""

MAX_BYTES = 2**29
"""Of a sheet's frames in memory."""

LEAST_WIDTH = 8
"""Pixels of a cell, where many are to fit."""

FONT_SIZE = 15
"""Of labels, in pixels."""

LINE = 18
"""Pixels from one line of a label to the next."""

LONG = 60
"""Characters of a label beyond which it gets more room."""

MOST_LINES = 8
"""Of a row's label."""

FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "msyh.ttc",
)
"""Files of fonts with Chinese; Pillow looks for them where the system keeps its fonts."""

INK, PAPER, EMPTY = "#111", "#fff", "#ddd"

LANCZOS = Image.Resampling.LANCZOS


@dataclass(frozen=True, slots=True)
class SheetLayout:
    """Where a sheet has its labels and cells. Columns beyond ``across`` go on in a band below."""

    columns: tuple[str, ...]  # labels
    rows: tuple[str, ...]
    across: int  # columns beside each other
    cell: tuple[int, int]  # (width, height), in pixels

    @property
    def bands(self) -> list[range]:
        """The numbers of the columns in each band."""
        count = len(self.columns)
        return [range(at, min(at + self.across, count)) for at in range(0, count, self.across)]

    @property
    def left(self) -> int:
        """Width of the rows' labels, in pixels: that of a cell for whole prompts."""
        if not any(self.rows):
            return 0
        return max(self.cell[0] // (1 if max(map(len, self.rows)) > LONG else 2), 60)

    @property
    def top(self) -> int:
        """Height of a band's labels, in pixels."""
        if not any(self.columns):
            return 0
        longest = max(map(len, self.columns))
        return FONT_SIZE * (2 if longest < 20 else 3 if longest <= LONG else 5)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the sheet, in pixels; both even."""
        width = self.left + self.across * (self.cell[0] + GAP)
        height = len(self.bands) * (self.top + len(self.rows) * (self.cell[1] + GAP))
        return width + width % 2, height + height % 2

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """(x, y) of a cell's upper left corner."""
        band, place = divmod(column, self.across)
        above = (band + 1) * self.top + (band * len(self.rows) + row) * (self.cell[1] + GAP)
        return self.left + place * (self.cell[0] + GAP), above


def plan_sheet(
    columns: Sequence[str],
    rows: Sequence[str],
    picture: tuple[int, int],
    frames: int,
    width: int = 240,
    across: int = 0,
) -> SheetLayout:
    """The layout of a sheet that can be encoded and played; its cells are smaller where needed.

    Args:
        columns, rows: labels; one that no installed font can draw is replaced by its number.
        picture: (height, width) of the clips, which gives the cells their aspect ratio.
        frames: of the sheet.
        width: of a cell, in pixels, if there is room.
        across: columns beside each other; by default all, unless one row of them is too wide.

    Raises:
        OutputError: if there are too many cells or frames.
    """
    for cell_width in range(width, LEAST_WIDTH - 1, -1):
        cell = (cell_width, max(1, round(cell_width * picture[0] / picture[1])))
        layout = SheetLayout(tuple(columns), tuple(rows), across or len(columns), cell)
        if not across and len(rows) == 1 and layout.size[0] > WRAPPED:
            most = max(1, (WRAPPED - layout.left) // (cell_width + GAP))
            bands = math.ceil(len(columns) / most)
            layout = replace(layout, across=math.ceil(len(columns) / bands))
        if max(layout.size) <= MAX_SIDE and 3 * frames * math.prod(layout.size) <= MAX_BYTES:
            return layout
    raise OutputError(
        f"a sheet of {len(columns)} × {len(rows)} videos of {frames} frames is too large: make "
        "fewer, or shorter ones"
    )


class Sheet:
    """The frames of a sheet; its cells are empty until a clip is pasted.

    Attributes:
        pages: uint8 (frames, height, width, 3), RGB; height and width even.
        fps: frames a second.
    """

    def __init__(self, layout: SheetLayout, frames: int, fps: int) -> None:
        self._layout, self.fps = layout, fps
        self.pages = np.repeat(np.asarray(_labelled(layout))[None], frames, axis=0)

    def paste(self, row: int, column: int, clip: np.ndarray, fps: int) -> None:
        """Put a clip into a cell, in step: its frames keep their time, the last one stays.

        Args:
            clip: uint8 (frames, height, width, 3), RGB, of any size.
            fps: its frames a second.
        """
        (x, y), (wide, tall) = self._layout.corner(row, column), self._layout.cell
        moments = np.arange(len(self.pages)) / self.fps
        numbers = np.minimum((moments * fps + 1e-6).astype(int), len(clip) - 1)
        for page, number in zip(self.pages, numbers, strict=True):
            picture = Image.fromarray(clip[number])
            page[y : y + tall, x : x + wide] = picture.resize((wide, tall), LANCZOS)


def common_pace(counts: Sequence[int], fps: Sequence[int]) -> tuple[int, int]:
    """(frames, frames a second) of clips in step: the longest duration and the highest rate.

    Args:
        counts: frames of each clip.
        fps: frames a second of each clip.
    """
    pace = max(fps)
    return max(round(n * pace / rate) for n, rate in zip(counts, fps, strict=True)), pace


def _labelled(layout: SheetLayout) -> Image.Image:
    """A sheet with its labels and empty cells."""
    page = Image.new("RGB", layout.size, PAPER)
    draw = ImageDraw.Draw(page)
    wide, tall = layout.cell
    columns = _wrapped_labels(draw, layout.columns, wide, max(2, layout.top // LINE))
    for number, label in enumerate(columns):
        x, y = layout.corner(0, number)
        _draw_label(draw, (x, y - layout.top + 2), *label)
        for row in range(len(layout.rows)):
            x, y = layout.corner(row, number)
            draw.rectangle((x, y, x + wide - 1, y + tall - 1), fill=EMPTY)
    lines = max(1, min(MOST_LINES, (tall + GAP) // LINE))  # none runs into the next row
    rows = _wrapped_labels(draw, layout.rows, layout.left - GAP, lines)
    for band in layout.bands:
        for number, label in enumerate(rows):
            _draw_label(draw, (2, layout.corner(number, band[0])[1]), *label)
    return page


Label = tuple[str, ImageFont.FreeTypeFont]


def _draw_label(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, font: ImageFont.FreeTypeFont
) -> None:
    draw.multiline_text(at, text, INK, font, spacing=2)


def _wrapped_labels(
    draw: ImageDraw.ImageDraw, texts: Sequence[str], width: int, most: int
) -> list[Label]:
    """Labels wrapped to at most ``most`` lines of ``width`` pixels; numbered where two would then
    look the same."""
    labels = [_wrap(draw, text, number, width, most) for number, text in enumerate(texts, 1)]
    shown = Counter(lines for lines, _ in labels)
    return [
        label if shown[label[0]] == 1 else _wrap(draw, f"{number}: {text}", number, width, most)
        for number, (label, text) in enumerate(zip(labels, texts, strict=True), 1)
    ]


def _wrap(draw: ImageDraw.ImageDraw, text: str, number: int, width: int, most: int) -> Label:
    """A label's lines, or its number where no font has its letters."""
    font = _font(text)
    if font is None:
        text, font = str(number), ImageFont.load_default(FONT_SIZE)
    lines, line = [], ""
    for letter in " ".join(text.split()):
        if line and draw.textlength(line + letter, font) > width:
            if len(lines) == most - 1:
                lines, line = [*lines, f"{line[:-1]}…"], ""
                break
            words, gap, word = line.rpartition(" ")  # most languages break between words
            lines, line = ([*lines, words], word) if gap else ([*lines, line], "")
        line += letter
    return "\n".join([*lines, line] if line else lines), font


def _font(text: str) -> ImageFont.FreeTypeFont | None:
    """A font that can draw a text; None if none is installed."""
    if all(ord(letter) < 0x250 or letter in "…–×·" for letter in text):
        return ImageFont.load_default(FONT_SIZE)
    return _wide_font()


@functools.cache
def _wide_font() -> ImageFont.FreeTypeFont | None:
    for name in FONTS:
        try:
            return ImageFont.truetype(name, FONT_SIZE)
        except OSError:
            continue
    return None
