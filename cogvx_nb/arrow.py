"""Rows of the catalogue as Arrow's tables, for pandas and Parquet; the packages are optional."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from . import sidecars
from .errors import CogvxError

if TYPE_CHECKING:
    import pandas
    import pyarrow


KINDS = {"path": str} | {name: column.kind for name, column in sidecars.COLUMNS.items()}
"""Columns of the tables, in this order, and what is in them: see ``sidecars.Column``."""

Rows = list[tuple]
"""Each (seconds since 1970 when it was made, values of ``KINDS``...)."""


def check(*packages: str) -> None:
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


def frame(pages: Iterable[Rows]) -> pandas.DataFrame:
    """One DataFrame of all pages.

    Raises:
        CogvxError: if pandas or pyarrow is missing.
    """
    check("pandas", "pyarrow")
    import pandas
    import pyarrow

    kinds = {pyarrow.bool_(): pandas.BooleanDtype()}  # else a column of objects where one is None
    return pyarrow.Table.from_batches(batches(pages), schema()).to_pandas(types_mapper=kinds.get)
