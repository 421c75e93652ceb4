"""Text made safe for a line, a terminal or a page; durations and sizes for people."""

from __future__ import annotations

import base64
import functools
import html
import os
import re
import sys
import unicodedata
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters except tab and line feed; HTML can't hold them."""

SHORT_VALUE = 14
"""Characters of a value up to which it is shown in a line in a table of a page."""


def render_template(name: str, **values: object) -> str:
    """Render ``cogvx_nb/templates/<name>`` with jinja2.

    Every value is escaped, and characters that HTML can't hold are replaced, unless the value is
    itself the result of this function. A name that the template uses but that isn't passed raises
    ``jinja2.UndefinedError``. Filters besides jinja2's:

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
    """A number with ``digits`` decimals; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def full_number(value: float) -> str:
    """A number with all of its digits, so that no two look the same, such as ``7`` or ``7.5``."""
    return repr(value).removesuffix(".0")


def data_url(mime_type: str, data: bytes) -> str:
    """A ``data:`` URL with the bytes in it."""
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"


def relative_link(target: Path, folder: Path) -> str:
    """URL of a file relative to a page in ``folder``, so that both can be moved together."""
    relative = os.path.relpath(target.absolute(), folder.absolute())
    return quote(os.fsencode(relative))


def plain_line(value: object) -> str:
    r"""A value as one printable line: control characters, line breaks and characters that change
    the direction of writing are escaped, such as ``\n`` and ``\u202e``."""
    line = value if isinstance(value, str) else repr(value)
    if line.isprintable():
        return line
    return "".join(
        character
        if character.isprintable()
        else " "
        if unicodedata.category(character) == "Zs"
        else character.encode("unicode_escape").decode()
        for character in line
    )


def terminal_width(text: str) -> int:
    """Columns that a plain line takes in a terminal: two for a Chinese character, none for a
    combining one."""
    import wcwidth  # late: ``cogvx check`` runs where no package is installed

    columns = wcwidth.wcswidth(text)
    return len(text) if columns < 0 else columns  # -1: it holds control characters


def cut_line(text: str, width: int) -> str:
    """As much of a plain line as fits ``width`` terminal columns, with ``…`` where it was cut."""
    if terminal_width(text) <= width:
        return text
    end = next(end for end in range(len(text)) if terminal_width(text[: end + 1]) >= width)
    return f"{text[:end]}…"


def pad_cell(cell: str, width: int) -> str:
    return cell + " " * (width - terminal_width(cell))


def telling_end(own: tuple[str, ...], parts: Collection[tuple[str, ...]]) -> str:
    """The last parts of a path, so many that no other path ends in them.

    Args:
        parts: of all paths, its own among them.
    """
    for count in range(1, len(own)):
        if sum(other[-count:] == own[-count:] for other in parts) == 1:
            return "/".join(own[-count:])
    return "/".join(own)


def format_rate(seconds: float) -> str:
    """Runs per minute or hour, from the seconds of one."""
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


def format_bytes(count: int) -> str:
    """A number of bytes in decimal units, as the hubs show them."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def first_line(error: BaseException) -> str:
    """First line of an exception's message; its class where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def error_line(error: BaseException) -> str:
    """Class and message of an exception's root cause in one line of at most 300 characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__


URL_PASSWORD = re.compile(r"(?<=://)[^\s'\"<>]*@")

TOKENS = re.compile(
    r"\b(hf_[A-Za-z0-9]{16,}|ms-[0-9a-f-]{16,}|sk-[\w-]{16,})|(?<=[?&]token=)[^&\s]+"
)
"""Tokens of Hugging Face, ModelScope and OpenAI, and one in an address."""


def hide_secrets(text: str) -> str:
    """A message without tokens, and without user names and passwords in addresses."""
    return TOKENS.sub("***", URL_PASSWORD.sub("***@", text))


GIB = 2**30


def print_error(line: str) -> None:
    """Print a line on stderr, without passwords and tokens."""
    print(hide_secrets(line), file=sys.stderr, flush=True)
