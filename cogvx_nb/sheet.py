"""Clips beside each other in one labelled picture or video, so that they play in step."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 6
"""Pixels between cells."""

LETTERS = 15
"""Height of a label's letters, in pixels."""

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

Cells = Sequence[Sequence[np.ndarray | None]]
"""Rows of clips, uint8 (frames, height, width, 3), RGB; None where there is none."""


def in_step(clips: Sequence[np.ndarray], fps: Sequence[int]) -> tuple[list[np.ndarray], int]:
    """Clips of one length and pace: the fastest's pace, and the longest's time.

    Returns:
        (clips, fps): each frame stays as long as it did, the last one to the end.
    """
    pace = max(fps)
    count = max(round(len(clip) * pace / rate) for clip, rate in zip(clips, fps, strict=True))
    moments = np.arange(count) / pace
    return [
        clip[np.minimum((moments * rate + 1e-6).astype(int), len(clip) - 1)]
        for clip, rate in zip(clips, fps, strict=True)
    ], pace


def compose(
    cells: Cells, columns: Sequence[str], rows: Sequence[str], width: int = 240
) -> np.ndarray:
    """One clip of many, with a label over each column and before each row.

    Args:
        cells: clips of one number of frames, any sizes.
        columns, rows: labels; one that no font here can draw becomes its number.
        width: of a cell, in pixels; heights follow the first clip's shape.

    Returns:
        uint8 (frames, height, width, 3), RGB; height and width even.
    """
    clips = [clip for row in cells for clip in row if clip is not None]
    frames, tall, wide = clips[0].shape[:3] if clips else (1, 2, 3)
    size = (width, round(width * tall / wide))
    left = width // 2 if any(rows) else 0
    top = LETTERS * (0 if not any(columns) else 2 if max(map(len, columns)) < 20 else 3)
    page = _labelled(columns, rows, size, left, top)
    pages = np.repeat(np.asarray(page)[None], frames, axis=0)
    for y, row in enumerate(cells):
        for x, clip in enumerate(row):
            at_x, at_y = left + x * (size[0] + GAP), top + y * (size[1] + GAP)
            for frame, picture in enumerate(clip if clip is not None else ()):
                small = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
                pages[frame, at_y : at_y + size[1], at_x : at_x + size[0]] = small
    return pages


def stack(pages: Sequence[np.ndarray]) -> np.ndarray:
    """Clips of one length below each other, padded to the widest."""
    widest = max(page.shape[2] for page in pages)
    padded = [
        np.pad(page, ((0, 0), (0, 0), (0, widest - page.shape[2]), (0, 0)), constant_values=255)
        for page in pages
    ]
    return np.concatenate(padded, axis=1)


def _labelled(
    columns: Sequence[str], rows: Sequence[str], size: tuple[int, int], left: int, top: int
) -> Image.Image:
    """The page with its labels and empty cells."""
    across, down = left + len(columns) * (size[0] + GAP), top + len(rows) * (size[1] + GAP)
    page = Image.new("RGB", (across + across % 2, down + down % 2), PAPER)
    draw = ImageDraw.Draw(page)
    for number, text in enumerate(columns):
        x = left + number * (size[0] + GAP)
        _write(draw, (x, 2), text, number, size[0], 2)
        for row in range(len(rows)):
            y = top + row * (size[1] + GAP)
            draw.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), fill=EMPTY)
    for number, text in enumerate(rows):
        _write(draw, (2, top + number * (size[1] + GAP)), text, number, left - GAP, 4)
    return page


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, number: int, width: int, most: int
) -> None:
    """A label, in as many lines as fit."""
    font = _font(text)
    if font is None:
        text, font = str(number + 1), ImageFont.load_default(LETTERS)
    lines, line = [], ""
    for letter in " ".join(text.split()):
        if line and draw.textlength(line + letter, font) > width:
            lines, line = [*lines, line], ""
        line += letter
    lines = [*lines, line] if line else lines
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1][:-1]}…"]
    draw.multiline_text(at, "\n".join(lines), INK, font, spacing=2)


def _font(text: str) -> ImageFont.FreeTypeFont | None:
    """A font that can draw a text; None if there is none here."""
    if all(ord(letter) < 0x250 or letter in "…–×·" for letter in text):
        return ImageFont.load_default(LETTERS)
    return _wide_font()


@functools.cache
def _wide_font() -> ImageFont.FreeTypeFont | None:
    for name in FONTS:
        try:
            return ImageFont.truetype(name, LETTERS)
        except OSError:
            continue
    return None
