"""Results as a pandas DataFrame, CSV or Parquet."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import OutputExists, RequestError, optional_import
from ..files import partial_file, publish, translate_errors
from ..paths import user_path
from . import columns

if TYPE_CHECKING:
    import pandas
    import pyarrow


KINDS = {"path": str} | {name: column.kind for name, column in columns.COLUMNS.items()}
"""Columns of the tables in their order, with their types: str, int, float or bool."""

Rows = list[tuple]
"""Each (time made in seconds since 1970, values of ``KINDS``...)."""


def check_packages(*packages: str) -> None:
    """Raise CogvxError if one of these optional packages can't be imported."""
    for name in packages:
        optional_import(name, "frame", "a DataFrame or a Parquet file")


def schema() -> pyarrow.Schema:
    """Names and types of the columns; they don't depend on the rows."""
    import pyarrow

    text = pyarrow.string()
    types = {str: text, int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    fields = {name: types[kind] for name, kind in KINDS.items()}
    return pyarrow.schema(fields | {"made": pyarrow.timestamp("us", "UTC")})


def batches(pages: Iterable[Rows]) -> Iterator[pyarrow.RecordBatch]:
    """One record batch per page, of ``schema``."""
    import pyarrow

    table = schema()
    for rows in pages:
        at, *values = zip(*rows, strict=True)
        values[table.get_field_index("made")] = [round(seconds * 1e6) for seconds in at]
        arrays = [
            pyarrow.array(column_values).cast(column.type)
            for column_values, column in zip(values, table, strict=True)
        ]
        yield pyarrow.record_batch(arrays, schema=table)


def dataframe(pages: Iterable[Rows]) -> pandas.DataFrame:
    """One DataFrame of all pages.

    Raises:
        CogvxError: if pandas or pyarrow is missing.
    """
    check_packages("pandas", "pyarrow")
    import pandas
    import pyarrow

    kinds = {pyarrow.bool_(): pandas.BooleanDtype()}  # None would make it a column of objects
    return pyarrow.Table.from_batches(batches(pages), schema()).to_pandas(types_mapper=kinds.get)


FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""First characters of cells that spreadsheets may evaluate as a formula, which can run commands and
leak data (https://owasp.org/www-community/attacks/CSV_Injection)."""


def resolve_output_path(output: str | Path) -> Path:
    """The absolute path of an export that can be written. Called before the work as well.

    Raises:
        RequestError: if it ends neither in .csv nor in .parquet.
        OutputExists: if it exists.
        CogvxError: if a package that it needs is missing.
    """
    if Path(output).suffix.lower() not in WRITERS:
        raise RequestError("export", str(output), "end it in .csv or .parquet")
    path = user_path(output, "export", new=True)
    if os.path.lexists(path):
        raise OutputExists(f"{path} exists: choose another name")
    if WRITERS[path.suffix.lower()] is write_parquet:
        check_packages("pyarrow")
    return path


def save_export(pages: Iterable[Rows], output: str | Path) -> Path:
    """Write the rows of ``Catalogue.pages`` to a file, whole or not at all, with one page in memory
    at a time. The columns are those of ``Catalogue.frame``.

    Raises:
        RequestError, OutputExists, CogvxError: see ``resolve_output_path``.
        DiskFull, OutputError: if it can't be written.
    """
    path = resolve_output_path(output)
    with translate_errors(path):
        with contextlib.suppress(FileExistsError):  # a file: opening one in it raises
            path.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(path) as partial:
            with partial.open("wb") as file:
                WRITERS[path.suffix.lower()](pages, file)
                file.flush()
                os.fsync(file.fileno())
            publish(partial, path)
    return path


def write_csv(pages: Iterable[Rows], file: BinaryIO) -> None:
    """Write rows as CSV in UTF-8, with a byte order mark, by which spreadsheets detect that.

    Texts that begin with one of ``FORMULA`` are prefixed with an apostrophe. Cells are empty for
    values that a sidecar doesn't have. ``made`` is in ISO 8601, as in the sidecar.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(KINDS)
    for rows in pages:
        for _, *values in rows:
            writer.writerow(map(_cell, values, KINDS.values()))
    text.flush()
    text.detach()  # else it would close the file


def write_parquet(pages: Iterable[Rows], file: BinaryIO) -> None:
    """Write rows as Parquet; texts are unchanged and ``made`` is a time in UTC."""
    from pyarrow import parquet

    with parquet.ParquetWriter(file, schema()) as writer:
        for batch in batches(pages):
            writer.write_batch(batch)


WRITERS: dict[str, Callable[[Iterable[Rows], BinaryIO], None]] = {
    ".csv": write_csv,
    ".parquet": write_parquet,
}


def _cell(value: object, kind: type) -> object:
    if kind is bool and value is not None:
        return bool(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
