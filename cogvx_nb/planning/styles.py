"""Styles: named texts around a prompt, in a file that one can share.

The format is that of stable-diffusion-webui, ``styles.csv``: columns ``name``, ``prompt`` and
``negative_prompt``; ``{prompt}`` is where the prompt goes, and without it the style follows the
prompt after a comma.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path

from .. import settings
from ..errors import RequestError, did_you_mean
from ..files import translate_errors, write_whole
from ..paths import read_bounded
from .fields import FIELDS

FILE = "styles.csv"
"""In the outputs folder."""

COLUMNS = ("name", "prompt", "negative_prompt")

PLACE = "{prompt}"

MAX_BYTES, MAX_STYLES, MAX_NAME = 2**22, 1000, 100


@dataclass(frozen=True, slots=True)
class Style:
    """A named text around a prompt, and one around the negative prompt."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""

    def apply(self, prompt: str, negative_prompt: str = "") -> tuple[str, str]:
        """(prompt, negative prompt) with this style.

        Raises:
            RequestError: if one of them is too long then.
        """
        composed = (
            _composed(self.prompt, prompt),
            _composed(self.negative_prompt, negative_prompt),
        )
        for name, text in zip(COLUMNS[1:], composed, strict=True):
            replace(FIELDS[name], required=False).check(text)
        return composed


def styles_path() -> Path:
    return settings.outputs_dir() / FILE


def read_styles() -> tuple[Style, ...]:
    """The styles of the file, in its order; none where there is no file.

    Raises:
        RequestError: with the line, if the file can't be read or used.
    """
    path = styles_path()
    try:
        text = read_bounded(path, MAX_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise RequestError(FILE, str(path), f"can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RequestError(FILE, str(path), "is not UTF-8 text: save it in UTF-8") from error
    return tuple(_parse(text))


def find_style(name: str) -> Style:
    """The style of a name.

    Raises:
        RequestError: if there is none, or the file can't be used.
    """
    styles = {style.name: style for style in read_styles()}
    if name not in styles:
        raise RequestError("style", name, f"is not in {styles_path()}{did_you_mean(name, styles)}")
    return styles[name]


def save_style(style: Style) -> tuple[Style, ...]:
    """Add a style to the file, in place of one of its name.

    Returns:
        All styles.

    Raises:
        RequestError: if it isn't one, or the file can't be used.
        OutputError: if it can't be written.
    """
    _check(style, "style")
    before = read_styles()
    if any(other.name == style.name for other in before):
        return _write(tuple(style if other.name == style.name else other for other in before))
    if len(before) >= MAX_STYLES:
        raise RequestError(
            "style", style.name, f"would be one more than {MAX_STYLES:,}: delete one"
        )
    return _write((*before, style))


def delete_style(name: str) -> tuple[Style, ...]:
    """Delete a style from the file; returns those that are left.

    Raises:
        RequestError: if there is none of that name, or the file can't be used.
        OutputError: if it can't be written.
    """
    gone = find_style(name)
    return _write(tuple(style for style in read_styles() if style != gone))


def _composed(style: str, prompt: str) -> str:
    if PLACE in style:
        return style.replace(PLACE, prompt.strip())
    return ", ".join(filter(None, (prompt.strip(), style.strip())))


def _parse(text: str) -> list[Style]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    styles: dict[str, Style] = {}
    head, line = None, 1
    try:
        for cells in reader:
            where, line = f"line {line} of {FILE}", reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if head is None:
                head = [cell.strip().lower() for cell in cells]
                if "name" not in head or "prompt" not in head:
                    raise RequestError(where, cells[0], f"name the columns {','.join(COLUMNS)}")
                continue
            values = dict(zip(head, cells, strict=False))
            style = Style(**{name: values.get(name, "") for name in COLUMNS})
            _check(style, where)
            if style.name in styles:
                raise RequestError(where, style.name, "is there twice: rename one")
            styles[style.name] = style
    except csv.Error as error:
        reason = "its quotes aren't closed" if "unexpected end" in str(error) else str(error)
        raise RequestError(f"line {line} of {FILE}", "", f"can't be read: {reason}") from error
    if len(styles) > MAX_STYLES:
        raise RequestError(
            FILE, len(styles), f"styles are more than {MAX_STYLES:,}: split the file"
        )
    return list(styles.values())


def _check(style: Style, where: str) -> None:
    name = style.name
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        remedy = f"a style needs a name of one line and at most {MAX_NAME} characters"
        raise RequestError(where, name, remedy)
    for column in COLUMNS[1:]:
        field = replace(FIELDS[column], name=f"{where}, {column}"[:40], required=False)
        field.check(getattr(style, column))


def _write(styles: tuple[Style, ...]) -> tuple[Style, ...]:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows((style.name, style.prompt, style.negative_prompt) for style in styles)
    path = styles_path()
    with translate_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # With a byte order mark, by which spreadsheets and stable-diffusion-webui detect UTF-8.
        write_whole(path, text.getvalue().encode("utf-8-sig"))
    return styles
