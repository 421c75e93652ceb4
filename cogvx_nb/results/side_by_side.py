"""Results beside each other: clips in step in one labelled video, and what differs."""

from __future__ import annotations

import difflib
import functools
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from . import video
from .result import Result

MOST = 6
MARK = "background:#ffe58a;color:#111"
"""Of what differs; light enough for black letters, in a dark page too."""

CHANCE = ("denoising", "made")
"""What differs anyway."""

CELL = "text-align:left;vertical-align:top;overflow-wrap:anywhere;line-height:1.4"


def differing_settings(found: Sequence[Result]) -> dict[str, tuple[str, ...]]:
    """What each result was made with, by name: those values that not all of them share."""
    told = [_settings_texts(one.settings) for one in found]
    names = dict.fromkeys(name for one in told for name in one)
    values = {name: tuple(one.get(name, "–") for one in told) for name in names}
    return {name: row for name, row in values.items() if len(set(row)) > 1 and name not in CHANCE}


def comparison_table(found: Sequence[Result]) -> str:
    """Every setting of each result as an HTML table; what differs is marked, in prompts by word."""
    told, apart = [_settings_texts(one.settings) for one in found], differing_settings(found)
    head = "".join(f"<th>{_letter(n)}</th>" for n in range(len(found)))
    rows = [f"<tr><th></th>{head}</tr>"]
    for name in dict.fromkeys([*apart, *told[0]]):
        values = [one.get(name, "–") for one in told]
        cells = _mark_differences(values) if name in apart else [escape(value) for value in values]
        row = "".join(f"<td style='{CELL}'>{cell}</td>" for cell in cells)
        rows.append(f"<tr><th style='{CELL};white-space:nowrap'>{escape(name)}</th>{row}</tr>")
    return f"<table style='border-spacing:1em 0.3em'>{''.join(rows)}</table>"


def _settings_texts(kept: dict) -> dict[str, str]:
    """A sidecar's settings as short texts."""
    wanted, plan = kept["request"], kept["plan"]
    told = {"prompt": wanted["prompt"], "as typed": kept.get("enriched_from", "")}
    told["negative prompt"] = wanted["negative_prompt"]
    told["model"] = kept["checkpoint"]["name"]
    told |= {name: str(wanted[name]) for name in ("frames", "steps")}
    told["guidance"] = f"{wanted['guidance']:g}"
    told |= {name: str(wanted[name]) for name in ("seed", "fps")}
    told["size"] = f"{wanted['height']} × {wanted['width']}"
    told["plan"] = f"{plan['device']}, {plan['dtype']}, {plan['placement']}"
    told["tiled"] = "yes, approximate" if plan["tiled"] else "no"
    told["denoising"] = f"{kept['seconds']['denoise']:.1f} s"
    told["made"] = kept["made"].replace("T", " ")[:16]
    told["diffusers, torch"] = ", ".join(
        str(kept["versions"].get(n)) for n in ("diffusers", "torch")
    )
    return {name: value for name, value in told.items() if value}


def _mark_differences(values: Sequence[str]) -> list[str]:
    """Texts as HTML, each with what the first doesn't have marked; the first against the next."""
    return [_mark_words(value, values[0] if n else values[1]) for n, value in enumerate(values)]


def _mark_words(value: str, other: str) -> str:
    words, others = value.split(), other.split()
    matcher = difflib.SequenceMatcher(None, others, words, autojunk=False)
    parts = []
    for kind, _, _, start, end in matcher.get_opcodes():
        text = escape(" ".join(words[start:end]))
        parts.append(text if kind == "equal" else f"<mark style='{MARK}'>{text}</mark>")
    return " ".join(part for part in parts if part)


def side_by_side(found: Sequence[Result]) -> bytes:
    """Two to six results in one video, in step, each with the letter that it has in ``comparison_table``."""
    clips, fps = clips_in_step(
        [video.decode_video(one.path) for one in found],
        [one.settings["request"]["fps"] for one in found],
    )
    across = len(clips) if len(clips) < 4 else (len(clips) + 1) // 2
    width = max(240, min(360, *(clip.shape[2] for clip in clips)))
    labels = [_letter(number) for number in range(len(clips))]
    bands = [
        compose_sheet([clips[n : n + across]], labels[n : n + across], [""], width)
        for n in range(0, len(clips), across)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in-step.mp4"
        video.encode_video(stack_bands(bands), path, fps, "")
        return path.read_bytes()


def _letter(number: int) -> str:
    return "ABCDEF"[number]


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


def clips_in_step(clips: Sequence[np.ndarray], fps: Sequence[int]) -> tuple[list[np.ndarray], int]:
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


def compose_sheet(
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


def stack_bands(pages: Sequence[np.ndarray]) -> np.ndarray:
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
