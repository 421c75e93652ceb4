"""Widgets as this workbench has them: each with a label, an own class, and room to wrap."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterable
from html import escape

import ipywidgets as widgets

from ..planning.request import Adjustment
from ..results import video
from ..results.result import Result

WIDE = {"width": "98%"}
NARROW = {"width": "14em"}
"""Layouts; not made into widgets here, for a headless notebook imports this too."""

TEXT_STYLE = {"description_width": "9em"}

SETTLE_SECONDS = 0.5
"""What is typed while the kernel is busy waits in the page until the kernel has dealt with what was
typed before, so a click overtakes it: by one round trip from page to kernel and back."""


def text_area(label: str, value: str, name: str) -> widgets.Textarea:
    """A field for a prompt; ``name`` becomes its class, ``cogvx-<name>``."""
    made = widgets.Textarea(
        value=value, description=label, layout=WIDE, rows=3, style=TEXT_STYLE, tooltip=label
    )
    return made.add_class(f"cogvx-{name}")


def text_line(label: str, value: str = "", placeholder: str = "") -> widgets.Text:
    """A field for a line of text."""
    made = widgets.Text(value=value, description=label, placeholder=placeholder, style=TEXT_STYLE)
    return made.add_class(f"cogvx-{_class_of(label)}")


def number_field(
    kind: type, label: str, value: float, low: float, high: float, step: float | None = None
) -> widgets.Widget:
    """A field for a number between two bounds."""
    more = {} if step is None else {"step": step}
    made = kind(
        value=value, min=low, max=high, description=label, layout=NARROW, tooltip=label, **more
    )
    return made.add_class(f"cogvx-{_class_of(label)}")


def choice_field(label: str, options: Iterable, value=None) -> widgets.Dropdown:
    """A field for one of several values."""
    options = list(options)
    made = widgets.Dropdown(options=options, description=label, style=TEXT_STYLE, tooltip=label)
    if value is not None:
        made.value = value
    return made.add_class(f"cogvx-{_class_of(label)}")


def button(label: str, icon: str, tooltip: str, act: Callable[[], object]) -> widgets.Button:
    """A button that calls ``act``; one without a label is named by its tooltip."""
    made = widgets.Button(description=label, icon=icon, tooltip=tooltip or label)
    made.layout.width = "auto" if label else "3em"
    made.on_click(lambda clicked: act())
    return made.add_class(f"cogvx-{_class_of(label or tooltip)}")


def after_typing(act: Callable[[], object]) -> Callable[[], None]:
    """What a button calls that reads fields: ``act``, once what was typed before has arrived."""

    def later() -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no kernel runs this, so no page is on its way
            act()
        else:
            loop.call_later(SETTLE_SECONDS, act)

    return later


def control_row(*items: widgets.Widget) -> widgets.HBox:
    """Widgets beside each other, and below where there is no room."""
    return widgets.HBox(items, layout={"flex_flow": "row wrap", "align_items": "center"})


def html_note(text: str = "", name: str = "note") -> widgets.HTML:
    """A line of HTML, ``escape``\\ d by whoever makes it."""
    return widgets.HTML(text).add_class(f"cogvx-{name}")


def html_lines(texts: Iterable[object]) -> str:
    """Texts of anybody's as HTML, one a line."""
    return "<br>".join(escape(str(text)) for text in texts)


def html_paragraph(html: str) -> str:
    """HTML set closer than the fields around it."""
    return f"<div style='line-height:1.4'>{html}</div>"


def bold_html(text: object) -> str:
    """Text of anybody's as bold HTML."""
    return f"<b>{escape(str(text))}</b>"


def replace_children(box: widgets.Box, children: Iterable[widgets.Widget]) -> None:
    """Put others into a box and close what was there: a widget is kept until it is closed."""
    before, box.children = box.children, tuple(children)
    for widget in before:
        if widget not in box.children:
            close_widgets(widget)


def close_widgets(widget: widgets.Widget) -> None:
    """Close a widget and all that is in it."""
    for child in getattr(widget, "children", ()):
        close_widgets(child)
    for part in ("layout", "style"):
        if isinstance(getattr(widget, part, None), widgets.Widget):
            getattr(widget, part).close()
    widget.close()


def _class_of(label: str) -> str:
    return label.split(",")[0].split(" (")[0].strip().lower().replace(" ", "-")


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
        picture = io.BytesIO()
        video.filmstrip(video.decode_video(result.path)).save(picture, "PNG")
        strip = widgets.Image(value=picture.getvalue(), layout=WIDE).add_class("cogvx-strip")
        super().__init__(
            [html_note(_result_text(result, notes)), player, strip, control_row(*buttons)]
        )
        self.add_class("cogvx-viewer")


def result_summary(kept: dict) -> str:
    """A sidecar's settings in a line, without the prompt."""
    wanted = kept["request"]
    values = " · ".join(f"{name} {wanted[name]:g}" for name in MODE)
    return f"{kept['checkpoint']['name']} · {values}"


def _result_text(result: Result, notes: Iterable[str]) -> str:
    kept = result.settings
    stages = ", ".join(f"{name} {value:.1f} s" for name, value in kept["seconds"].items())
    changes = [Adjustment(**change) for change in kept["adjustments"]]
    typed = [f"as typed: {kept['enriched_from']}"] if kept.get("enriched_from") else []
    said = [*typed, result_summary(kept), stages, result.path, *changes, *kept["notes"], *notes]
    return html_paragraph(f"{bold_html(kept['request']['prompt'])}<br>{html_lines(said)}")
