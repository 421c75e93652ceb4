"""All results that match in one file, CSV or Parquet; whole, or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import CogvxError, OutputExists, RequestError
from ..files import translate_errors
from . import records

if TYPE_CHECKING:
    import pandas
    import pyarrow


KINDS = {"path": str} | {name: column.kind for name, column in records.COLUMNS.items()}
"""Columns of the tables, in this order, and what is in them: see ``records.Column``."""

Rows = list[tuple]
"""Each (seconds since 1970 when it was made, values of ``KINDS``...)."""


def check_packages(*packages: str) -> None:
    """Import optional packages.

    Raises:
        CogvxError: if one of them is missing.
    """
    for name in packages:
        try:
            __import__(name)
        except ImportError:
            raise CogvxError(
                f"a DataFrame or a Parquet file needs the {name} package: "
                'pip install -e ".[frame]" in the workbench\'s folder'
            ) from None


def schema() -> pyarrow.Schema:
    """Names and types of the columns, the same for any rows."""
    import pyarrow

    text = pyarrow.string()
    types = {
        str: text,
        list: text,
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        bool: pyarrow.bool_(),
    }
    fields = {name: types[kind] for name, kind in KINDS.items()}
    return pyarrow.schema(fields | {"made": pyarrow.timestamp("us", "UTC")})


def batches(pages: Iterable[Rows]) -> Iterator[pyarrow.RecordBatch]:
    """One table a page, of ``schema``."""
    import pyarrow

    columns = schema()
    for rows in pages:
        at, *values = zip(*rows, strict=True)
        values[columns.get_field_index("made")] = [round(seconds * 1e6) for seconds in at]
        arrays = [
            pyarrow.array(some).cast(column.type)
            for some, column in zip(values, columns, strict=True)
        ]
        yield pyarrow.record_batch(arrays, schema=columns)


def dataframe(pages: Iterable[Rows]) -> pandas.DataFrame:
    """One DataFrame of all pages.

    Raises:
        CogvxError: if pandas or pyarrow is missing.
    """
    check_packages("pandas", "pyarrow")
    import pandas
    import pyarrow

    kinds = {pyarrow.bool_(): pandas.BooleanDtype()}  # else a column of objects where one is None
    return pyarrow.Table.from_batches(batches(pages), schema()).to_pandas(types_mapper=kinds.get)


FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""First characters of a cell that spreadsheets may take for a formula, which can run commands and
send data away (https://owasp.org/www-community/attacks/CSV_Injection)."""


def resolve_output_path(output: str | Path) -> Path:
    """The absolute path of a file that can be written there; doors ask before the work.

    Raises:
        RequestError: if it ends neither in .csv nor in .parquet.
        OutputExists: if there is something already.
        CogvxError: if it takes a package that is missing.
    """
    path = Path(output).expanduser().absolute()
    if path.suffix.lower() not in WRITERS:
        raise RequestError("export", str(output), "end it in .csv or .parquet")
    if os.path.lexists(path):
        raise OutputExists(f"{path} exists: choose another name")
    if WRITERS[path.suffix.lower()] is write_parquet:
        check_packages("pyarrow")
    return path


def save_export(pages: Iterable[Rows], output: str | Path) -> Path:
    """Write the rows of ``Catalogue.pages``, a page in memory at a time; the columns are those of
    ``Catalogue.frame``.

    Raises:
        RequestError, OutputExists, CogvxError: see ``resolve_output_path``.
        DiskFull, OutputError: if it can't be written.
    """
    path = resolve_output_path(output)
    partial = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.partial")
    with translate_errors(path):
        with contextlib.suppress(FileExistsError):  # a file: opening one in it says so
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                WRITERS[path.suffix.lower()](pages, file)
                file.flush()
                os.fsync(file.fileno())
            _publish(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return path


def write_csv(pages: Iterable[Rows], file: BinaryIO) -> None:
    """Rows as CSV in UTF-8, with the mark at its start by which spreadsheets know that.

    A cell of text that a spreadsheet could take for a formula begins with an apostrophe, which is
    not in the result: see ``FORMULA``. A cell is empty where a sidecar says nothing. ``made`` is as
    the sidecar has it, in ISO 8601.
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
    """Rows as Parquet: text is as it is, and ``made`` a time in UTC."""
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


def _publish(partial: Path, path: Path) -> None:
    """Give a file its name, but not if somebody has taken it meanwhile."""
    try:
        os.link(partial, path)  # unlike a rename, fails if there is one
    except FileExistsError:
        raise OutputExists(f"{path} exists by now: choose another name") from None
    except OSError:  # a file system without hard links
        partial.replace(path)
