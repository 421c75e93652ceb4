"""Two to six results beside each other, playing in step, with what differs between them."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

import ipywidgets as widgets

from . import result, sheet, video
from .controls import note, replace
from .errors import RequestError
from .result import Result

MOST = 6
MARK = "background:#ffe58a;color:#111"
"""Of what differs; light enough for black letters, in a dark page too."""

CHANCE = ("denoising", "made")
"""What differs anyway."""

CELL = "text-align:left;vertical-align:top;overflow-wrap:anywhere;line-height:1.4"


class Compare(widgets.VBox):
    """Results side by side.

    Args:
        paths: mp4 files of this workbench, two to six; later ones by ``show``.

    Raises:
        CogvxError: if there are fewer or more, or one is no result.
    """

    def __init__(self, paths: Sequence[str | Path] = ()) -> None:
        super().__init__([note("Choose two to six results in the gallery.")])
        self.add_class("cogvx-compare")
        if paths:
            self.show(paths)

    def show(self, paths: Sequence[str | Path]) -> None:
        """Compare other results."""
        if not 2 <= len(paths) <= MOST:
            raise RequestError("results", len(paths), f"choose two to {MOST} to compare")
        found = [result.read(path) for path in paths]
        player = widgets.Video(value=side_by_side(found), format="mp4", autoplay=True, loop=True)
        player.layout = {"max_width": "98%"}
        player.add_class("cogvx-video")
        replace(self, [player, note(table(found), "differences")])


def differences(found: Sequence[Result]) -> dict[str, tuple[str, ...]]:
    """What each result was made with, by name: those values that not all of them share."""
    told = [_told(one.settings) for one in found]
    names = dict.fromkeys(name for one in told for name in one)
    values = {name: tuple(one.get(name, "–") for one in told) for name in names}
    return {name: row for name, row in values.items() if len(set(row)) > 1 and name not in CHANCE}


def table(found: Sequence[Result]) -> str:
    """Every setting of each result as an HTML table; what differs is marked, in prompts by word."""
    told, apart = [_told(one.settings) for one in found], differences(found)
    head = "".join(f"<th>{_letter(n)}</th>" for n in range(len(found)))
    rows = [f"<tr><th></th>{head}</tr>"]
    for name in dict.fromkeys([*apart, *told[0]]):
        values = [one.get(name, "–") for one in told]
        cells = _marked(values) if name in apart else [escape(value) for value in values]
        row = "".join(f"<td style='{CELL}'>{cell}</td>" for cell in cells)
        rows.append(f"<tr><th style='{CELL};white-space:nowrap'>{escape(name)}</th>{row}</tr>")
    return f"<table style='border-spacing:1em 0.3em'>{''.join(rows)}</table>"


def _told(kept: dict) -> dict[str, str]:
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


def _marked(values: Sequence[str]) -> list[str]:
    """Texts as HTML, each with what the first doesn't have marked; the first against the next."""
    return [_against(value, values[0] if n else values[1]) for n, value in enumerate(values)]


def _against(value: str, other: str) -> str:
    words, others = value.split(), other.split()
    matcher = difflib.SequenceMatcher(None, others, words, autojunk=False)
    parts = []
    for kind, _, _, start, end in matcher.get_opcodes():
        text = escape(" ".join(words[start:end]))
        parts.append(text if kind == "equal" else f"<mark style='{MARK}'>{text}</mark>")
    return " ".join(part for part in parts if part)


def side_by_side(found: Sequence[Result]) -> bytes:
    """Two to six results in one video, in step, each with the letter that it has in ``table``."""
    clips, fps = sheet.in_step(
        [video.decode(one.path) for one in found], [one.settings["request"]["fps"] for one in found]
    )
    across = len(clips) if len(clips) < 4 else (len(clips) + 1) // 2
    width = max(240, min(360, *(clip.shape[2] for clip in clips)))
    labels = [_letter(number) for number in range(len(clips))]
    bands = [
        sheet.compose([clips[n : n + across]], labels[n : n + across], [""], width)
        for n in range(0, len(clips), across)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in-step.mp4"
        video.encode(sheet.stack(bands), path, fps, "")
        return path.read_bytes()


def _letter(number: int) -> str:
    return "ABCDEF"[number]
