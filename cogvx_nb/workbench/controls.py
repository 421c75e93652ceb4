"""Widgets with labels and CSS classes, and the viewer of a result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from html import escape

import ipywidgets as widgets

from ..planning.fields import MAX_PROMPT, Field
from ..results import pictures, video
from ..results.records import Sidecar
from ..results.result import Result
from ..text import full_number

WIDE = {"width": "98%"}
"""A layout as a dict: a ``Layout`` is a widget, and headless notebooks import this module too."""

NARROW = {"width": "14em"}

TEXT_STYLE = {"description_width": "9em"}

CHOICE_LABELS = {"": "none", "fast": "fast, 8-bit", "turbo": "turbo, approximate"}
"""How choices are shown, where not by their own name."""

SETTLE_SECONDS = 0.5
"""Delay of clicks. While the kernel is busy, the page holds typed text back until the kernel has
acknowledged the text before, so a click arrives one round trip too early."""


def field_input(field: Field, label: str) -> widgets.ValueWidget:
    """The widget for a field of a request, by its kind, bounds and choices."""
    if field.kind is bool:
        box = widgets.Checkbox(
            value=False, description=label, indent=False, layout=WIDE, tooltip=field.help
        )
        return _with_class(box, label)
    if field.choices:
        options = [(CHOICE_LABELS.get(choice, choice), choice) for choice in field.choices]
        return choice_field(label, options, field.default, field.help)
    if field.kind is str:
        build = text_area if field.most >= MAX_PROMPT else text_line
        return build(label, field.default, tooltip=field.help)
    return number_field(field, label)


def number_field(field: Field, label: str) -> widgets.ValueWidget:
    """A field for a number within its bounds."""
    whole = field.kind is int
    number = (widgets.BoundedIntText if whole else widgets.BoundedFloatText)(
        min=field.least,
        max=field.most,
        step=max(field.least, 1) if whole else 0.5,  # sizes are multiples of the smallest
        description=label,
        layout=NARROW,
        tooltip=field.help,
    )
    return _with_class(number, label)


def text_area(label: str, value: str = "", tooltip: str = "") -> widgets.Textarea:
    """A field for a prompt."""
    area = widgets.Textarea(value, description=label, layout=WIDE, rows=3, style=TEXT_STYLE)
    area.tooltip = tooltip or label
    return _with_class(area, label)


def text_line(
    label: str, value: str = "", placeholder: str = "", tooltip: str = ""
) -> widgets.Text:
    """A field for a line of text."""
    line = widgets.Text(value, description=label, placeholder=placeholder, style=TEXT_STYLE)
    line.tooltip = tooltip or label
    return _with_class(line, label)


def choice_field(
    label: str, options: Iterable, value: object = None, tooltip: str = ""
) -> widgets.Dropdown:
    """A field for one of several values; ``value`` None selects the first."""
    choice = widgets.Dropdown(options=list(options), description=label, style=TEXT_STYLE)
    choice.tooltip = tooltip or label
    if value is not None:
        choice.value = value
    return _with_class(choice, label)


def button(label: str, icon: str, tooltip: str, act: Callable[[], object]) -> widgets.Button:
    """A button that calls ``act``; without a label its class is taken from the tooltip."""
    pressed = widgets.Button(description=label, icon=icon, tooltip=tooltip or label)
    pressed.layout.width = "auto" if label else "3em"
    pressed.on_click(lambda clicked: act())
    return _with_class(pressed, label or tooltip)


def after_typing(act: Callable[[], object]) -> Callable[[], None]:
    """Delay ``act``, of a button that reads fields, until earlier typing has arrived."""

    def later() -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # outside of a kernel nobody types
            act()
        else:
            loop.call_later(SETTLE_SECONDS, act)

    return later


def control_row(*items: widgets.Widget) -> widgets.HBox:
    """Widgets in a row that wraps."""
    return widgets.HBox(items, layout={"flex_flow": "row wrap", "align_items": "center"})


def html_note(text: str = "", name: str = "note") -> widgets.HTML:
    """A line of HTML; the caller escapes it."""
    return widgets.HTML(text).add_class(f"cogvx-{name}")


def html_lines(texts: Iterable[object]) -> str:
    """Untrusted texts as HTML, one a line."""
    return "<br>".join(escape(str(text)) for text in texts)


def html_paragraph(html: str) -> str:
    """HTML with a smaller line height than the fields around it."""
    return f"<div style='line-height:1.4'>{html}</div>"


def bold_html(text: object) -> str:
    """Untrusted text as bold HTML."""
    return f"<b>{escape(str(text))}</b>"


def replace_children(box: widgets.Box, children: Iterable[widgets.Widget]) -> None:
    """Replace and close the children of a box: ipywidgets keeps widgets until they are closed."""
    before, box.children = box.children, tuple(children)
    for widget in before:
        if widget not in box.children:
            close_widgets(widget)


def close_widgets(widget: widgets.Widget) -> None:
    """Close a widget and its descendants."""
    for child in getattr(widget, "children", ()):
        close_widgets(child)
    for part in ("layout", "style"):
        if isinstance(getattr(widget, part, None), widgets.Widget):
            getattr(widget, part).close()
    widget.close()


def _with_class(widget: widgets.Widget, label: str) -> widgets.Widget:
    """Add the class ``cogvx-<label>``, up to the label's first comma."""
    return widget.add_class(f"cogvx-{label.split(',')[0].strip().lower().replace(' ', '-')}")


SUMMARY = ("frames", "steps", "guidance", "seed")
"""Fields in the line of a result."""


class Viewer(widgets.VBox):
    """A result: its prompt and settings, a player, and a film strip.

    Args:
        notes: further lines of text.
        buttons: actions below the film strip.
    """

    def __init__(
        self, result: Result, notes: Iterable[str] = (), buttons: Iterable[widgets.Button] = ()
    ) -> None:
        player = widgets.Video.from_file(result.path, autoplay=True, loop=True)
        player.layout = {"width": "432px", "max_width": "98%"}
        player.add_class("cogvx-video")
        picture = pictures.filmstrip_png(video.decode_video(result.path))
        strip = widgets.Image(value=picture, layout=WIDE).add_class("cogvx-strip")
        super().__init__(
            [html_note(_result_text(result, notes)), player, strip, control_row(*buttons)]
        )
        self.add_class("cogvx-viewer")


def result_summary(sidecar: Sidecar) -> str:
    """Checkpoint and main fields of a sidecar in one line."""
    values = [f"{name} {full_number(getattr(sidecar.request, name))}" for name in SUMMARY]
    speed = sidecar.plan.speed
    values += [speed] if speed not in (None, "exact") else []
    return " · ".join([sidecar.checkpoint.name, *values])


def _result_text(result: Result, notes: Iterable[str]) -> str:
    sidecar = result.settings
    stages = ", ".join(f"{name} {value:.1f} s" for name, value in sidecar.seconds.items())
    typed = [f"as typed: {sidecar.enriched_from}"] if sidecar.enriched_from else []
    lines = [*typed, result_summary(sidecar), stages, result.path]
    lines += [*sidecar.adjustments, *sidecar.notes, *filter(None, [result.note]), *notes]
    return html_paragraph(f"{bold_html(sidecar.request.prompt)}<br>{html_lines(lines)}")
