"""A result on a page: its player, its strip of frames, and how it was made."""

from __future__ import annotations

from collections.abc import Iterable

import ipywidgets as widgets

from . import display
from .controls import WIDE, bold, lines, note, paragraph, row
from .planning.request import Adjustment
from .results import video
from .results.result import Result

MODE = ("frames", "steps", "guidance", "seed")


class Viewer(widgets.VBox):
    """A video that plays, and what is known of it.

    Args:
        result: the video.
        notes: more lines to show.
        buttons: what can be done with it.
    """

    def __init__(
        self, result: Result, notes: Iterable[str] = (), buttons: Iterable[widgets.Button] = ()
    ) -> None:
        player = widgets.Video.from_file(result.path, autoplay=True, loop=True)
        player.layout = {"width": "432px", "max_width": "98%"}
        player.add_class("cogvx-video")
        strip = widgets.Image(value=display.strip(video.decode(result.path)).data, layout=WIDE)
        strip.add_class("cogvx-strip")
        super().__init__([note(_text(result, notes)), player, strip, row(*buttons)])
        self.add_class("cogvx-viewer")


def summary(kept: dict) -> str:
    """A sidecar's settings in a line, without the prompt."""
    wanted = kept["request"]
    values = " · ".join(f"{name} {wanted[name]:g}" for name in MODE)
    return f"{kept['checkpoint']['name']} · {values}"


def _text(result: Result, notes: Iterable[str]) -> str:
    kept = result.settings
    stages = ", ".join(f"{name} {value:.1f} s" for name, value in kept["seconds"].items())
    changes = [Adjustment(**change) for change in kept["adjustments"]]
    typed = [f"as typed: {kept['enriched_from']}"] if kept.get("enriched_from") else []
    said = [*typed, summary(kept), stages, result.path, *changes, *kept["notes"], *notes]
    return paragraph(f"{bold(kept['request']['prompt'])}<br>{lines(said)}")
