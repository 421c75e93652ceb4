"""Run a numbered notebook headless, with parameters, through papermill."""

from __future__ import annotations

import logging
import os
from datetime import datetime
from pathlib import Path

from . import errors, settings
from .errors import NotebookError, ParameterError, ResultError

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def run(
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

    path = find(name)
    declared = papermill.inspect_notebook(escaped(path))
    for given in (*parameters, *raw):
        if given not in declared:
            known = ", ".join(declared) or "none"
            raise ParameterError("parameter", given, f"{path.name} has no such one; known: {known}")
    values = {key: typed(key, text, declared[key]) for key, text in parameters.items()} | raw
    target = Path(output).expanduser().absolute() if output else _default_copy(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.environ.update(settings.headless_environment())
    try:
        papermill.execute_notebook(
            escaped(path),
            escaped(target),
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


def find(name: str) -> Path:
    """The notebook of that name in the workbench, or at that path.

    Raises:
        ResultError: if there is none.
    """
    for path in (Path(name), settings.notebooks_dir() / f"{name.removesuffix('.ipynb')}.ipynb"):
        if path.is_file():
            return path.absolute()
    known = ", ".join(sorted(path.stem for path in settings.notebooks_dir().glob("*.ipynb")))
    raise ResultError(f"no notebook {name!r}; known: {known}")


def typed(name: str, text: str, declared: dict) -> object:
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


def escaped(path: Path) -> str:
    """A path for papermill, which formats its paths with the parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")
