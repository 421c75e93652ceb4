"""What others wrote as HTML that it can't get out of, and how pages of a sweep look."""

from __future__ import annotations

import base64
import html
import os
import re
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


def text(value: object) -> str:
    """A text as HTML: inert, and in a direction of its own, so that it can't turn what is around
    it."""
    return f"<bdi>{escaped(value)}</bdi>"


def escaped(value: object) -> str:
    """A text that may stand between tags and in quoted attributes. What no page can hold, control
    characters and halves of characters, is replaced."""
    plain = str(value).encode("utf-8", "replace").decode()
    return html.escape(CONTROL.sub("\N{REPLACEMENT CHARACTER}", plain))


def clamped(value: object) -> str:
    """A text in a few lines; a pointer that rests on it shows all of it."""
    return f"<div class='clamp' title='{escaped(value)}'>{text(value)}</div>"


def number(value: float | None, digits: int) -> str:
    """A number with so many digits behind the point; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def embedded(kind: str, data: bytes) -> str:
    """An address that holds its data."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def link(target: Path, folder: Path) -> str:
    """The address of a file from a page in a folder: relative, so that both can be moved."""
    relative = os.path.relpath(target.absolute(), folder.absolute())
    return escaped(quote(os.fsencode(relative)))
