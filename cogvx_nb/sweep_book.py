"""The notebook that a sweep runs: its parameters, and values fit for them."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import notebook
from .errors import ParameterError, SpecError
from .planning import request
from .sweep_rows import Row

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text: quote it",
    "bool": "true or false",
}


@dataclass(frozen=True, slots=True)
class Book:
    """A notebook that is swept.

    Attributes:
        path: of the file.
        content: its bytes, as they were read once; every run executes these.
        declared: its parameters, as papermill reads them.
        defaults: their defaults, where these are literals.
        code_hash: SHA-256 of its code.
        makes_video: whether it takes what notebook 03 takes, an ``output`` included.
    """

    path: Path
    content: bytes = field(repr=False)
    declared: dict[str, dict] = field(repr=False)
    defaults: dict[str, object] = field(repr=False)
    code_hash: str
    makes_video: bool


def read(name: str, folder: Path) -> Book:
    """Read a notebook by name, or by a path that may be relative to a folder.

    Raises:
        ResultError: if there is none.
        SpecError: if it is no notebook with a cell tagged ``parameters``.
    """
    import nbformat
    import papermill
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    from papermill.utils import nb_kernel_name

    beside = folder / Path(name).expanduser()
    path = notebook.find(str(beside) if beside.is_file() else name)
    try:
        content = path.read_bytes()
        notes = nbformat.reads(content.decode(), as_version=4)
        KernelSpecManager().get_kernel_spec(nb_kernel_name(notes))
        declared = papermill.inspect_notebook(notebook.escaped(path))
    except NoSuchKernel as error:
        raise SpecError(f"{path} wants the kernel {error.name!r}, which isn't here") from error
    except Exception as error:  # nbformat raises what its parsers do
        reason = " ".join(str(error).split())[:100]
        raise SpecError(f"{path} can't be read as a notebook: {reason}") from error
    if not any("parameters" in cell.metadata.get("tags", ()) for cell in notes.cells):
        raise SpecError(f"{path} has no cell tagged 'parameters': tag the cell that sets them")
    takes = {*asked_for(), "model", "output"}
    defaults = dict(_literals(declared))
    if takes <= declared.keys() and (odd := sorted(takes - defaults.keys())):
        raise SpecError(f"{path.name}: the default of {odd[0]} must be a plain value, such as 25")
    code = [cell.source for cell in notes.cells if cell.cell_type == "code"]
    return Book(
        path=path,
        content=content,
        declared=declared,
        defaults=defaults,
        code_hash=hashlib.sha256(json.dumps(code).encode()).hexdigest(),
        makes_video=takes <= defaults.keys(),
    )


def asked_for() -> tuple[str, ...]:
    """Names of the values that ``request.make`` takes in their order, the model apart."""
    taken = inspect.signature(request.make).parameters.values()
    return tuple(one.name for one in taken if one.kind == one.POSITIONAL_OR_KEYWORD)[1:]


def typed(row: Row, book: Book) -> dict[str, object]:
    """A row's values as the notebook declares them.

    Raises:
        ParameterError: if the notebook has no such parameter, or can't use the value.
    """
    found = {}
    for name, value in row.values.items():
        if name not in book.declared:
            known = ", ".join(book.declared) or "none"
            remedy = f"{book.path.name} has no such one; known: {known}"
            raise ParameterError("parameter", name, remedy)
        if row.texts:
            value = notebook.typed(name, value, book.declared[name])
        found[name] = _fit(name, value, book.declared[name])
        if not _is_plain(found[name]):  # a date, say
            raise ParameterError(name, value, "quote it, or use plain values, with names of text")
    return found


def _fit(name: str, value: object, declared: dict) -> object:
    kind = declared["inferred_type_name"]
    if value is None and declared["default"].strip() == "None":
        return None
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ParameterError(name, value, f"must be {KINDS[kind]}") from error
    if kind in KINDS and type(value).__name__ != kind:
        raise ParameterError(name, value, f"must be {KINDS[kind]}")
    return value


def _is_plain(value: object) -> bool:
    """Whether it is what JSON and a notebook can hold."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _literals(declared: dict[str, dict]) -> Iterator[tuple[str, object]]:
    for name, one in declared.items():
        try:
            yield name, _fit(name, ast.literal_eval(one["default"]), one)
        except (ValueError, SyntaxError, ParameterError):
            continue
