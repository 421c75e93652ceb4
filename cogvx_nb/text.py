"""Text made safe for a line, a terminal or a page; durations and sizes for people."""

from __future__ import annotations

import base64
import functools
import html
import os
import re
import sys
import unicodedata
from pathlib import Path
from urllib.parse import quote

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but tabs and line ends: HTML has none of them."""

SHORT = 14
"""Letters of a value that takes no more than a line."""

STYLE = """
.look.look { line-height: 1.45 } .look.look h2 { margin: 1.6em 0 .4em }
.look.look h3 { margin: 1em 0 .2em }
.look.look .wide { overflow-x: auto; max-width: 100% }
.look.look table { border-collapse: collapse; margin: .6em 0; font-size: .93em }
.look.look td, .look.look th { text-align: left; vertical-align: top; padding: .3em .8em .3em 0;
  border-top: 1px solid rgba(128,128,128,.35); white-space: nowrap }
.look.look td.number { text-align: right; font-variant-numeric: tabular-nums }
.look.look th.number { text-align: right }
.look.look .said { white-space: normal; min-width: 11em; max-width: 26em; overflow-wrap: anywhere }
.look.look .clamp { display: -webkit-box; -webkit-line-clamp: 4; -webkit-box-orient: vertical;
  overflow: hidden }
.look.look .sheet td, .look.look .sheet th { padding: .4em .8em .4em 0; white-space: normal }
.look.look .runs th:first-child, .look.look .runs td:first-child { position: sticky; left: 0;
  background: var(--paper, var(--jp-layout-color0, Canvas)) }
.look.look .sheet th.down { width: 12em; min-width: 8em; max-width: 16em;
  overflow-wrap: anywhere; font-weight: 600 }
.look.look figure { display: inline-block; margin: 0 .6em .6em 0; width: 216px; vertical-align: top;
  white-space: normal }
.look.look figure video, .look.look figure img { display: block; width: 216px; border-radius: 3px;
  background: rgba(128,128,128,.2) }
.look.look figcaption { font-size: .86em; margin-top: .25em; overflow-wrap: anywhere }
.look.look .plots { display: flex; flex-wrap: wrap; gap: .6em 1.2em }
.look.look .plots img { width: 300px; max-width: 100%; height: auto; border: 0 }
.look.look .mark { background: rgba(230,160,0,.3); border-radius: 3px; padding: 0 .35em;
  white-space: nowrap }
.look.look .failed { background: rgba(220,60,50,.25); border-radius: 3px; padding: 0 .35em }
.look.look pre { overflow-x: auto; font-size: .86em; padding: .6em;
  background: rgba(128,128,128,.14) }
.look.look summary { cursor: pointer; overflow-wrap: anywhere; margin: .3em 0 }
.look.look .small { font-size: .88em; opacity: .85 }
.look.look code { font-size: .95em }
"""
"""Of what stands in an element of the class ``look``, in a page as in a notebook, light or dark.
The class is named twice to outweigh what JupyterLab says of tables."""


def render_template(name: str, **values: object) -> str:
    """Render ``cogvx_nb/templates/<name>`` with jinja2.

    Every value is escaped, and characters that HTML can't hold are replaced, unless the value is
    itself the result of this function. A name that the template uses but that isn't passed raises
    ``jinja2.UndefinedError``. Filters beside jinja2's own:

    - ``isolate``: the text in ``<bdi>``, so that its direction doesn't affect its surroundings;
    - ``clamp``: the text cut to a few lines by CSS (class ``clamp``), all of it as tooltip;
    - ``number(digits)``: fixed decimals, a dash for None;
    - ``gib``: bytes in GiB with one decimal, a dash for None.

    Returns:
        A ``markupsafe.Markup``, a str that other templates insert as it is. Join several with
        ``"".join`` or an f-string: ``markup + text`` escapes the text.
    """
    from markupsafe import Markup

    return Markup(_template_environment().get_template(name).render(values))


@functools.cache
def _template_environment():
    # jinja2 is imported here because `cogvx check` has to start without any package.
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: object) -> object:
        return value if hasattr(value, "__html__") else replace_control(value)

    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "isolate": lambda value: Markup(html_text(value)),
        "clamp": lambda value: Markup(clamp_html(value)),
        "number": format_number,
        "gib": lambda count: format_number(None if count is None else count / GIB, 1),
    }
    return environment


def replace_control(value: object) -> str:
    """The value as text, with what HTML can't hold (control characters except tab and line feed,
    lone surrogates) replaced."""
    encodable = str(value).encode("utf-8", "replace").decode()
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", encodable)


def html_text(value: object) -> str:
    """Text escaped for HTML and isolated in ``<bdi>``, so that right-to-left text doesn't reorder
    its surroundings."""
    return f"<bdi>{escape_html(value)}</bdi>"


def escape_html(value: object) -> str:
    """Text escaped for element content and quoted attributes; see ``replace_control``."""
    return html.escape(replace_control(value))


def clamp_html(value: object) -> str:
    """Text that CSS cuts to a few lines, all of it as tooltip."""
    return f"<div class='clamp' title='{escape_html(value)}'>{html_text(value)}</div>"


def format_number(value: float | None, digits: int) -> str:
    """A number with so many digits behind the point; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def data_url(kind: str, data: bytes) -> str:
    """An address that holds its data."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def relative_link(target: Path, folder: Path) -> str:
    """The address of a file from a page in a folder: relative, so that both can be moved."""
    relative = os.path.relpath(target.absolute(), folder.absolute())
    return escape_html(quote(os.fsencode(relative)))


def plain_line(text: str) -> str:
    r"""A text in one line: control characters, line breaks and those that turn the direction of
    writing are spelt out, such as ``\n`` and ``\u202e``."""
    return "".join(
        one if one.isprintable() else " " if _is_space_separator(one) else _escape_character(one)
        for one in text
    )


def cut_line(text: str, width: int) -> str:
    """As much of a text as has room in so many places, with ``…`` where it was cut."""
    if terminal_width(text) <= width:
        return text
    end = 0
    while terminal_width(text[: end + 1]) < width:
        end += 1
    return f"{text[:end]}…"


def terminal_width(text: str) -> int:
    """How many of a terminal's places a text takes: two for a Chinese character, none for a mark
    that stands above or below another."""
    wide = sum(unicodedata.east_asian_width(one) in "WF" for one in text)
    return len(text) + wide - sum(unicodedata.category(one) in ("Mn", "Me") for one in text)


def _is_space_separator(character: str) -> bool:
    return unicodedata.category(character) == "Zs"


def _escape_character(character: str) -> str:
    return character.encode("unicode_escape").decode()


def pad_cell(cell: str, width: int) -> str:
    return cell + " " * (width - terminal_width(cell))


CONTROL_RUN = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def format_rate(seconds: float) -> str:
    """Runs in a time that a person can picture, from seconds for one."""
    if seconds < 60:
        return f"{60 / max(seconds, 1e-3):.1f} runs a minute"
    return f"{3600 / seconds:.1f} runs an hour"


def format_duration(seconds: float | None) -> str:
    """A length of time: ``8 s``, ``12 min``, ``3.5 h``; ``?`` for None."""
    if seconds is None:
        return "?"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def plain_value(value: object) -> str:
    """A value in a line, without anything that a terminal would obey."""
    return CONTROL_RUN.sub(" ", value if isinstance(value, str) else repr(value))


def cut_terminal_line(line: str, width: int) -> str:
    """As much of a line as has room; Chinese characters take two places."""
    room = max(width, 10)
    for place, character in enumerate(line):
        room -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if room < 1:
            return f"{line[:place]}…"
    return line


def format_bytes(count: int) -> str:
    """Bytes for a person, in decimal units as the hubs show them."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def error_line(error: BaseException) -> str:
    """An exception's root cause in a line, without its traceback."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__


GIB = 2**30


def print_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
