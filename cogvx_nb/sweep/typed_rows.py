"""Rows of parameters as a notebook takes them."""

from __future__ import annotations

from pathlib import Path

from ..errors import CogvxError, ParameterError, SpecError
from ..loras.given import placed_text
from ..notebooks.cell_reader import Parameter
from ..notebooks.template import NotebookTemplate
from ..notebooks.value_types import is_plain_value
from ..planning.cells import read_cell
from ..planning.fields import INPUTS
from ..planning.inputs import absolute_name
from ..planning.rows import ParameterRow
from ..planning.yaml_loading import explain_value
from .given_loras import is_weight_column, weight_entry


def typed_row_or_explain(
    row: ParameterRow, book: NotebookTemplate, folder: Path, origin: str = ""
) -> dict[str, object]:
    """``typed_row``, whose error says where the row is from."""
    origin = origin or row.origin
    try:
        return typed_row(row, book, folder)
    except CogvxError as error:
        where = f"{origin}: " if origin else ""
        raise SpecError(f"{where}{error}{_hint(error, row, book)}", error.exit_code) from error


def _hint(error: CogvxError, row: ParameterRow, book: NotebookTemplate) -> str:
    """What YAML made of a value that the notebook can't use, as the end of a message."""
    parameter = isinstance(error, ParameterError) and error.field in book.declared
    if row.delimiter or not parameter:
        return ""
    hint = explain_value(error.value, book.declared[error.field].kind)
    return f" ({hint})" if hint else ""


def typed_row(row: ParameterRow, book: NotebookTemplate, folder: Path) -> dict[str, object]:
    """A row's values, converted to the types that the notebook declares; where it makes videos,
    pictures, clips and LoRAs by absolute paths, and in place of a LoRA's weight its ``LoraEntry``.

    Args:
        folder: where relative paths start, unless the row says.

    Raises:
        ParameterError: if the notebook has no such parameter, or can't use the value.
        RequestError: for a text that names no LoRA.
        PathError: for a path that no file can have.
    """
    values, start = {}, row.folder or folder
    for name in row.values:
        if book.makes_video and is_weight_column(name):
            book.cell.find("lora", book.path.name)
            entry = weight_entry(name, row.values[name], start, row.delimiter)
            values |= {name: entry} if entry else {}
            continue
        parameter = book.cell.find(name, book.path.name)
        value = _plain_value(row, name, parameter)
        if value is None and row.delimiter:
            continue  # a cell such as NaN, which sets nothing
        values[name] = parameter.fit(value)
        if not is_plain_value(values[name]):  # a date, say
            raise ParameterError(name, value, "quote it, or use plain values, with names of text")
    texts = [name for name in values if book.makes_video and isinstance(values[name], str)]
    values |= {name: absolute_name(name, values[name], start) for name in texts if name in INPUTS}
    return values | {name: placed_text(values[name], start) for name in texts if name == "lora"}


def _plain_value(row: ParameterRow, name: str, parameter: Parameter) -> object:
    """A value of a row as the notebook's type writes it; None for a cell without one."""
    value, kind = row.values[name], parameter.kind
    if row.delimiter and kind in ("int", "float", "bool"):
        try:
            return read_cell(value, kind, row.delimiter)
        except ValueError as error:
            raise ParameterError(name, value, str(error)) from error
    if row.delimiter:
        return parameter.parse(value)
    whole = row.from_file and kind == "int" and isinstance(value, float) and value.is_integer()
    return int(value) if whole else value  # pandas writes 42.0 into a column with gaps
