"""Notebooks: found, inspected, and executed headless with parameters through papermill."""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from .. import errors, settings
from ..errors import NotebookError, ParameterError, ResultError, SpecError
from ..planning.fields import FRAMES, names_deciding

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def run_notebook(
    name: str,
    parameters: dict[str, str],
    raw: dict[str, str],
    output: str | Path | None = None,
) -> Path:
    """Execute a notebook in the current directory and keep the executed copy.

    Args:
        name: ``03_generate``, or the path of any notebook.
        parameters: by name, as typed; read as the type that the notebook declares, so that a text
            parameter stays text.
        raw: by name; always text.
        output: the executed copy; by default ``outputs/<date>/<time>-<name>.ipynb``.

    Returns:
        Path of the executed copy.

    Raises:
        ParameterError: if the notebook has no such parameter, or the value isn't of its type.
        NotebookError: if a cell fails, with its error and exit code.
        ResultError: if there is no such notebook.
    """
    import papermill

    path = find_notebook(name)
    declared = papermill.inspect_notebook(escape_path(path))
    for given in (*parameters, *raw):
        if given not in declared:
            known = ", ".join(declared) or "none"
            raise ParameterError("parameter", given, f"{path.name} has no such one; known: {known}")
    values = {
        key: parse_parameter(key, text, declared[key]) for key, text in parameters.items()
    } | raw
    target = Path(output).expanduser().absolute() if output else _default_copy(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.environ.update(settings.headless_environment())
    try:
        papermill.execute_notebook(
            escape_path(path),
            escape_path(target),
            parameters=values,
            progress_bar=False,
            extra_arguments=["--log-level=CRITICAL"],  # the kernel's own log is not for users
        )
    except (KeyboardInterrupt, SystemExit):
        # The kernel ends with us, and a task that still waits for it would log a traceback.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise
    except papermill.PapermillExecutionError as error:
        kind = getattr(errors, error.ename, None)
        known = isinstance(kind, type) and issubclass(kind, errors.CogvxError)
        reason = error.evalue if known else f"{error.ename}: {error.evalue}"
        code = kind.exit_code if known else 1
        raise NotebookError(f"{reason} (the notebook so far: {target})", code) from error
    return target


def find_notebook(name: str) -> Path:
    """The notebook of that name in the workbench, or at that path.

    Raises:
        ResultError: if there is none.
    """
    for path in (Path(name), settings.notebooks_dir() / f"{name.removesuffix('.ipynb')}.ipynb"):
        if path.is_file():
            return path.absolute()
    known = ", ".join(sorted(path.stem for path in settings.notebooks_dir().glob("*.ipynb")))
    raise ResultError(f"no notebook {name!r}; known: {known}")


def parse_parameter(name: str, text: str, declared: dict) -> object:
    """A parameter's text as the type of its annotation, or as YAML where there is none.

    Raises:
        ParameterError: if it isn't of that type.
    """
    import yaml

    kind = declared["inferred_type_name"]
    if kind == "str":
        return text
    if text == "None" and declared["default"].strip() == "None":
        return None
    try:
        if kind in ("int", "float"):
            return int(text) if kind == "int" else float(text)
        value = yaml.safe_load(text)
        if kind == "bool" and not isinstance(value, bool):
            raise ValueError(value)  # any text would count as true
        return value
    except (ValueError, yaml.YAMLError) as error:
        raise ParameterError(name, text, f"must be {KINDS.get(kind, kind)}") from error


def _default_copy(path: Path) -> Path:
    now = datetime.now()
    folder = settings.outputs_dir() / f"{now:%Y-%m-%d}"
    return folder / f"{now:%H%M%S}-{path.stem}-{os.getpid()}.ipynb"


def escape_path(path: Path) -> str:
    """A path for papermill, which formats its paths with the parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


LITERALS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text: quote it",
    "bool": "true or false",
}


@dataclass(frozen=True, slots=True)
class NotebookTemplate:
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


def read_template(name: str, folder: Path) -> NotebookTemplate:
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
    path = find_notebook(str(beside) if beside.is_file() else name)
    try:
        content = path.read_bytes()
        notes = nbformat.reads(content.decode(), as_version=4)
        KernelSpecManager().get_kernel_spec(nb_kernel_name(notes))
        declared = papermill.inspect_notebook(escape_path(path))
    except NoSuchKernel as error:
        raise SpecError(f"{path} wants the kernel {error.name!r}, which isn't here") from error
    except Exception as error:  # nbformat raises what its parsers do
        reason = " ".join(str(error).split())[:100]
        raise SpecError(f"{path} can't be read as a notebook: {reason}") from error
    if not any("parameters" in cell.metadata.get("tags", ()) for cell in notes.cells):
        raise SpecError(f"{path} has no cell tagged 'parameters': tag the cell that sets them")
    takes = {*names_deciding(FRAMES), "model", "output"}
    defaults = dict(_literal_defaults(declared))
    if takes <= declared.keys() and (odd := sorted(takes - defaults.keys())):
        raise SpecError(f"{path.name}: the default of {odd[0]} must be a plain value, such as 25")
    code = [cell.source for cell in notes.cells if cell.cell_type == "code"]
    return NotebookTemplate(
        path=path,
        content=content,
        declared=declared,
        defaults=defaults,
        code_hash=hashlib.sha256(json.dumps(code).encode()).hexdigest(),
        makes_video=takes <= defaults.keys(),
    )


def fit_value(name: str, value: object, declared: dict) -> object:
    kind = declared["inferred_type_name"]
    if value is None and declared["default"].strip() == "None":
        return None
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ParameterError(name, value, f"must be {LITERALS[kind]}") from error
    if kind in LITERALS and type(value).__name__ != kind:
        raise ParameterError(name, value, f"must be {LITERALS[kind]}")
    return value


def is_plain_value(value: object) -> bool:
    """Whether it is what JSON and a notebook can hold."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain_value(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain_value, value))
    return value is None or isinstance(value, str | int | float)


def _literal_defaults(declared: dict[str, dict]) -> Iterator[tuple[str, object]]:
    for name, one in declared.items():
        try:
            yield name, fit_value(name, ast.literal_eval(one["default"]), one)
        except (ValueError, SyntaxError, ParameterError):
            continue
