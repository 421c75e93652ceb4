"""Comparison of results: their clips in step in one labelled video, and a table of settings."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..planning.plan import PREDICTED
from ..text import render_template
from . import video
from .result import Result

MOST = 6
"""Results that can be compared at once."""

LETTERS = "ABCDEF"

TIMES = {"seconds.denoise": "denoising", "made": "made"}
"""Fields that are shown, but differ by chance, with their names in the table."""

NAMES = {"enriched_from": "as typed", "checkpoint.name": "model"}
"""Names in the table of fields that aren't called by their own."""

NOTHING = "–"

AS_USED = "as used"
"""In place of a value of ``asked`` that is the same in the request or the plan."""


def differing_settings(results: Sequence[Result]) -> dict[str, tuple[str, ...]]:
    """Every setting that isn't the same in all results, as texts, by name.

    These are all fields of the sidecars but the times.
    """
    fields, differing = _values_by_field(results)
    return {_field_name(path): tuple(map(_value_text, fields[path])) for path in differing}


def comparison_table(results: Sequence[Result]) -> str:
    """The settings of each result as an HTML table: first those that differ, with the different
    words marked; then the rest of request and plan, the checkpoint and the times."""
    fields, differing = _values_by_field(results)
    rows = []
    for path in dict.fromkeys([*differing, *filter(_is_always_shown, fields), *TIMES]):
        texts = [_value_text(value) for value in fields[path]]
        if path in differing or set(texts) != {NOTHING}:
            cells = _mark_differences(texts) if path in differing else [[(t, False)] for t in texts]
            rows.append((_field_name(path), cells))
    letters = LETTERS[: len(results)]
    return render_template("comparison.html", letters=letters, rows=rows)


def _values_by_field(results: Sequence[Result]) -> tuple[dict[str, list[object]], list[str]]:
    """(the results' values of each field, the fields that differ, times excluded)."""
    settings = [dict(_flatten_sidecar(result.settings)) for result in results]
    paths = dict.fromkeys(path for values in settings for path in values)
    fields = {path: [values.get(path) for values in settings] for path in paths}
    differing = [
        path
        for path, values in fields.items()
        if path != "made" and not path.startswith("seconds.")
        if any((value or None) != (values[0] or None) for value in values)
    ]
    return fields, differing


def _flatten_sidecar(section: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(path, value) of each field of a sidecar and its sections."""
    for field in dataclasses.fields(section):
        path, value = f"{prefix}{field.name}", getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flatten_sidecar(value, f"{path}.")
        elif path == "asked":
            for name, asked in value.items():
                used = getattr(section.request, name, getattr(section.plan, name, None))
                yield f"asked.{name}", AS_USED if asked == used else asked
        elif path == "seconds":
            yield from ((f"seconds.{stage}", seconds) for stage, seconds in value.items())
        elif path == "checkpoint.sha256":
            digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
            yield path, f"{len(value)} files, together {digest[:16]}"
        else:
            yield path, value


def _is_always_shown(path: str) -> bool:
    section, _, name = path.partition(".")
    return (section in ("request", "plan") and name not in PREDICTED) or path in NAMES


def _field_name(path: str) -> str:
    """What a field is called in the table; request and plan have no name in common."""
    if path in TIMES or path in NAMES:
        return (TIMES | NAMES)[path]
    section, _, name = path.partition(".")
    plain = name if section in ("request", "plan") else f"{section} {name}".strip()
    return plain.replace("_", " ")


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, dict):
        value = [f"{name} {part or NOTHING}" for name, part in value.items()]
    text = "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return NOTHING if value is None else text or NOTHING


def _mark_differences(texts: Sequence[str]) -> list[list[tuple[str, bool]]]:
    """The words of each text, marked where the first doesn't have them; the first against the
    second."""
    return [
        _mark_words(text, texts[0] if number else texts[1]) for number, text in enumerate(texts)
    ]


def _mark_words(text: str, other: str) -> list[tuple[str, bool]]:
    words, others = text.split(), other.split()
    matcher = difflib.SequenceMatcher(None, others, words, autojunk=False)
    parts = [
        (" ".join(words[start:end]), kind != "equal")
        for kind, _, _, start, end in matcher.get_opcodes()
    ]
    return [part for part in parts if part[0]]


def side_by_side(results: Sequence[Result]) -> bytes:
    """Two to six results in one mp4, in step, labelled with their letters in
    ``comparison_table``."""
    clips, fps = clips_in_step(
        [video.decode_video(result.path) for result in results],
        [result.settings.request.fps for result in results],
    )
    across = len(clips) if len(clips) < 4 else (len(clips) + 1) // 2
    width = max(240, min(360, *(clip.shape[2] for clip in clips)))
    bands = [
        compose_sheet([clips[n : n + across]], LETTERS[n : n + across], [""], width)
        for n in range(0, len(clips), across)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in-step.mp4"
        video.encode_video(stack_bands(bands), path, fps, "")
        return path.read_bytes()


GAP = 6
"""Pixels between cells."""

FONT_SIZE = 15
"""Of labels, in pixels."""

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
    """Resample clips to the highest of their frame rates and pad them to the longest duration.

    Returns:
        (clips, fps): frames are repeated to keep their time, the last one to the end.
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
    """Arrange clips in a grid, with a label above each column and left of each row.

    Args:
        cells: clips with the same number of frames, of any size.
        columns, rows: labels; one that no installed font can draw is replaced by its number.
        width: of a cell, in pixels; the height follows from the first clip's aspect ratio.

    Returns:
        uint8 (frames, height, width, 3), RGB; height and width even.
    """
    clips = [clip for row in cells for clip in row if clip is not None]
    frames, tall, wide = clips[0].shape[:3] if clips else (1, 2, 3)
    size = (width, round(width * tall / wide))
    left = width // 2 if any(rows) else 0
    top = FONT_SIZE * (0 if not any(columns) else 2 if max(map(len, columns)) < 20 else 3)
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
    """Stack clips of the same number of frames vertically, padded to the widest."""
    widest = max(page.shape[2] for page in pages)
    padded = [
        np.pad(page, ((0, 0), (0, 0), (0, widest - page.shape[2]), (0, 0)), constant_values=255)
        for page in pages
    ]
    return np.concatenate(padded, axis=1)


def _labelled(
    columns: Sequence[str], rows: Sequence[str], size: tuple[int, int], left: int, top: int
) -> Image.Image:
    """The sheet with its labels and empty cells."""
    across, down = left + len(columns) * (size[0] + GAP), top + len(rows) * (size[1] + GAP)
    page = Image.new("RGB", (across + across % 2, down + down % 2), PAPER)
    draw = ImageDraw.Draw(page)
    for number, text in enumerate(columns):
        x = left + number * (size[0] + GAP)
        _draw_label(draw, (x, 2), text, number, size[0], 2)
        for row in range(len(rows)):
            y = top + row * (size[1] + GAP)
            draw.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), fill=EMPTY)
    for number, text in enumerate(rows):
        _draw_label(draw, (2, top + number * (size[1] + GAP)), text, number, left - GAP, 4)
    return page


def _draw_label(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, number: int, width: int, most: int
) -> None:
    """Draw a label, wrapped at ``width`` pixels to at most ``most`` lines."""
    font = _font(text)
    if font is None:
        text, font = str(number + 1), ImageFont.load_default(FONT_SIZE)
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
