"""Find, inspect and execute notebooks with parameters, through papermill."""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import os
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from .. import errors, settings
from ..errors import NotebookError, ParameterError, ResultError, SpecError
from ..files import is_disk_full, translate_errors
from ..paths import user_path
from ..planning.fields import FRAMES, names_deciding

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text: quote it",
    "bool": "true or false",
}
"""What a value must be, by the name of the type that a parameter is annotated with."""

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""ANSI colours, which IPython puts into tracebacks."""


def run_notebook(
    name: str,
    parameters: dict[str, str],
    raw: dict[str, str],
    output: str | Path | None = None,
) -> Path:
    """Execute a notebook in the current directory and keep the executed copy.

    Args:
        name: ``03_generate``, or the path of any notebook.
        parameters: by name, as typed; converted to the type that the notebook declares, so that a
            text parameter stays text.
        raw: by name; passed on as text.
        output: path of the executed copy; by default ``outputs/<date>/<time>-<name>.ipynb``.

    Returns:
        Path of the executed copy.

    Raises:
        ParameterError: if the notebook has no such parameter, or the value isn't of its type.
        NotebookError: if a cell fails, with its error and exit code.
        ResultError: if there is no such notebook.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    path = find_notebook(name)
    declared = papermill.inspect_notebook(escape_path(path))
    for given in (*parameters, *raw):
        if given not in declared:
            known = ", ".join(declared) or "none"
            raise ParameterError("parameter", given, f"{path.name} has no such one; known: {known}")
    values = {
        key: parse_parameter(key, text, declared[key]) for key, text in parameters.items()
    } | raw
    target = user_path(output, "output notebook", new=True) if output else _default_copy(path)
    with translate_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    os.environ.update(settings.headless_environment())
    try:
        papermill.execute_notebook(
            escape_path(path),
            escape_path(target),
            parameters=values,
            progress_bar=False,
            extra_arguments=["--log-level=CRITICAL"],  # users don't need the kernel's own log
        )
    except (KeyboardInterrupt, SystemExit):
        # The kernel ends with us, and a task that still waits for it would log a traceback.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        failure = explain_failure(error)
        message = f"{failure.message} (the notebook so far: {target})"
        raise NotebookError(message, failure.exit_code) from error
    return target


@dataclass(frozen=True, slots=True)
class NotebookFailure:
    """Why papermill failed to execute a notebook."""

    message: str  # one of ours as it is, others with the name of their class
    exit_code: int = 1
    traceback: str = field(default="", repr=False)  # without colours
    kernel_died: bool = False
    disk_full: bool = False


def explain_failure(error: Exception, timeout: float | None = None) -> NotebookFailure:
    """Explain an exception of ``papermill.execute_notebook``.

    An error of a cell comes as text: class, message and traceback. Where the class is one of
    ``cogvx_nb.errors``, message and exit code are those that the command would give.

    Args:
        timeout: seconds that the notebook was given, for the message.
    """
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        kind = getattr(errors, error.ename, None)
        known = isinstance(kind, type) and issubclass(kind, errors.CogvxError)
        return NotebookFailure(
            message=error.evalue if known else f"{error.ename}: {error.evalue}",
            exit_code=kind.exit_code if known else 1,
            traceback=COLOURS.sub("", "\n".join(error.traceback)),
            disk_full=error.ename == "DiskFull" or "No space left on device" in str(error.evalue),
        )
    if isinstance(error, CellTimeoutError):
        limit = f" after {timeout:g} s" if timeout else " in time"
        return NotebookFailure(f"no end{limit}", traceback=str(error))
    if isinstance(error, DeadKernelError):
        return NotebookFailure("the kernel died", traceback=str(error), kernel_died=True)
    return NotebookFailure(
        message=f"{type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
        disk_full=is_disk_full(error),
    )


def find_notebook(name: str) -> Path:
    """Path of a notebook, given by its path or by its name in the workbench.

    Raises:
        ResultError: if there is none.
    """
    given = user_path(name, "notebook")
    for path in (given, settings.notebooks_dir() / f"{name.removesuffix('.ipynb')}.ipynb"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in settings.notebooks_dir().glob("*.ipynb")))
    raise ResultError(f"no notebook {name!r}; known: {known}")


def parse_parameter(name: str, text: str, declared: dict) -> object:
    """Convert a parameter's text to the type of its annotation, or read it as YAML if it has none.

    Args:
        declared: the parameter as ``papermill.inspect_notebook`` describes it.

    Raises:
        ParameterError: if the text isn't of that type.
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
            raise ValueError(value)  # bool() of any text is true
        return value
    except (ValueError, yaml.YAMLError) as error:
        raise ParameterError(name, text, f"must be {KINDS.get(kind, kind)}") from error


def _default_copy(path: Path) -> Path:
    now = datetime.now()
    folder = settings.outputs_dir() / f"{now:%Y-%m-%d}"
    return folder / f"{now:%H%M%S}-{path.stem}-{os.getpid()}.ipynb"


def escape_path(path: Path) -> str:
    """Escape a path for papermill, which replaces ``{name}`` in paths by parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


@dataclass(frozen=True, slots=True)
class NotebookTemplate:
    """A notebook that a sweep executes with different parameters."""

    path: Path
    content: bytes = field(repr=False)  # of the file, read once: every run executes these
    declared: dict[str, dict] = field(repr=False)  # parameters, as papermill describes them
    defaults: dict[str, object] = field(repr=False)  # where they are literals
    code_hash: str  # SHA-256 of the code cells
    makes_video: bool  # whether it takes model, output, and the fields that decide the frames


def read_template(name: str, folder: Path) -> NotebookTemplate:
    """Read a notebook by name, or by a path, which may be relative to ``folder``.

    Raises:
        ResultError: if there is none.
        SpecError: if it isn't a notebook with a cell tagged ``parameters``.
    """
    import nbformat
    import papermill
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    from papermill.utils import nb_kernel_name

    relative = user_path(name, "notebook", start=folder)
    path = find_notebook(str(relative) if relative.is_file() else name)
    try:
        content = path.read_bytes()
        notes = nbformat.reads(content.decode(), as_version=4)
        KernelSpecManager().get_kernel_spec(nb_kernel_name(notes))
        declared = papermill.inspect_notebook(escape_path(path))
    except NoSuchKernel as error:
        raise SpecError(f"{path} needs the kernel {error.name!r}, which isn't installed") from error
    except Exception as error:  # nbformat raises what its parsers do
        reason = " ".join(str(error).split())[:100]
        raise SpecError(f"{path} can't be read as a notebook: {reason}") from error
    if not any("parameters" in cell.metadata.get("tags", ()) for cell in notes.cells):
        raise SpecError(f"{path} has no cell tagged 'parameters': tag the cell that sets them")
    # Later fields, such as `attention`, are optional: copies of older notebooks lack them.
    required = {*names_deciding(FRAMES), "model", "output"}
    defaults = dict(_literal_defaults(declared))
    if required <= declared.keys() and (computed := sorted(required - defaults.keys())):
        raise SpecError(
            f"{path.name}: the default of {computed[0]} must be a plain value, such as 25"
        )
    code = [cell.source for cell in notes.cells if cell.cell_type == "code"]
    return NotebookTemplate(
        path=path,
        content=content,
        declared=declared,
        defaults=defaults,
        code_hash=hashlib.sha256(json.dumps(code).encode()).hexdigest(),
        makes_video=required <= defaults.keys(),
    )


def fit_value(name: str, value: object, declared: dict) -> object:
    """Check a value against a parameter's annotation; a whole number becomes a float if need be.

    Raises:
        ParameterError: if it is of another type.
    """
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


def is_plain_value(value: object) -> bool:
    """Whether both JSON and a notebook can hold a value."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain_value(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain_value, value))
    return value is None or isinstance(value, str | int | float)


def _literal_defaults(declared: dict[str, dict]) -> Iterator[tuple[str, object]]:
    for name, parameter in declared.items():
        try:
            yield name, fit_value(name, ast.literal_eval(parameter["default"]), parameter)
        except (ValueError, SyntaxError, ParameterError):
            continue
