"""Find a notebook, read its file, and find the kernel that it needs: all before it is run."""

from __future__ import annotations

import codecs
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

from .. import settings
from ..errors import NotebookError, ResultError
from ..paths import shorten, user_path
from ..text import format_bytes, plain_line

MAX_BYTES = 200_000_000
"""Of a notebook's file; one with larger outputs doesn't open in JupyterLab either."""

READABLE = (3, 4)
"""Major versions of the format that papermill can execute."""

BAD_INPUT = 2
"""Exit code."""


def find_notebook(name: str) -> Path:
    """Path of a notebook, given by its path or by its name in the workbench.

    Raises:
        ResultError: if there is none.
        PathError: if no file can have that name.
    """
    path = user_path(name, "notebook")
    for candidate in (path, settings.notebooks_dir() / f"{name.removesuffix('.ipynb')}.ipynb"):
        if candidate.is_file():
            return candidate
    if os.path.lexists(path):
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ResultError(f"{plain_line(str(path))} is {kind}: name a notebook's file")
    known = ", ".join(sorted(path.stem for path in settings.notebooks_dir().glob("*.ipynb")))
    raise ResultError(f"no notebook {shorten(name)}; known: {known}")


def read_notebook(path: Path):
    """A notebook's file, as nbformat's node of version 4.

    Raises:
        NotebookError: if it isn't a notebook, with the reason.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"it has {format_bytes(size)}: clear its outputs")
        str(path).encode()  # papermill writes the name into the executed copy
        return _parse_notebook(path.read_bytes())
    except UnicodeEncodeError as error:
        raise _unreadable(path, "its name is not valid UTF-8: rename it") from error
    except Exception as error:  # nbformat raises what its parsers do
        raise _unreadable(path, _explain(error)) from error


def _parse_notebook(content: bytes):
    import nbformat

    if content.startswith(codecs.BOM_UTF8):
        raise ValueError("it starts with a byte order mark: save it as UTF-8 without one")
    text = content.decode()
    with warnings.catch_warnings():  # of ids that are missing: JupyterLab adds them silently
        warnings.simplefilter("ignore")
        version = nbformat.reader.parse_json(text)["nbformat"]
        if version not in READABLE:
            raise ValueError(f"its format is {version!r}: save it as 4, as JupyterLab does")
        notebook = nbformat.reads(text, as_version=4)
        notebook = nbformat.v4.upgrade(notebook) or notebook
    _check_cells(notebook)
    return notebook


def _explain(error: Exception) -> str:
    import json

    from nbformat.reader import NotJSONError

    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, NotJSONError | json.JSONDecodeError | RecursionError):
        return "it is not JSON"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(error, ValueError):
        return " ".join(str(error).split())[:200]
    return "it is JSON of something else"


def _unreadable(path: Path, reason: str) -> NotebookError:
    name = plain_line(str(path))
    return NotebookError(f"{name} can't be read as a notebook: {plain_line(reason)}", BAD_INPUT)


def _check_cells(notebook) -> None:
    """Raise ValueError for what papermill would fail on."""
    if not isinstance(notebook.get("metadata"), dict) or not isinstance(
        notebook.get("cells"), list
    ):
        raise ValueError("it has no cells or no metadata")
    for number, cell in enumerate(notebook.cells, 1):
        for key, kind in (("cell_type", str), ("source", str), ("metadata", dict)):
            if not isinstance(cell, dict) or not isinstance(cell.get(key), kind):
                raise ValueError(f"cell {number} has no {key}")
        tags = cell.metadata.get("tags", [])
        if not isinstance(tags, list):
            raise ValueError(f"cell {number} has tags that are no list: {tags!r}")


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel that a notebook is run in."""

    name: str
    language: str
    note: str = ""  # where the notebook doesn't name it


def find_kernel(notebook, path: Path) -> Kernel:
    """The kernel that a notebook names, or this environment's where it names none.

    Args:
        path: of the notebook, for messages.

    Raises:
        NotebookError: if it isn't installed, or can't be started.
    """
    from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager, NoSuchKernel

    named = notebook.metadata.get("kernelspec")
    name = named.get("name") if isinstance(named, dict) else None
    written_in = _language_of(notebook)
    note, known = "", KernelSpecManager()
    if not (isinstance(name, str) and name):
        if written_in.lower() not in ("", "python"):
            remedy = "set metadata.kernelspec.name"
            raise NotebookError(
                f"{path.name} is written in {written_in}, and names no kernel: {remedy}"
            )
        name = NATIVE_KERNEL_NAME
        note = f"{path.name} names no kernel: it runs in this environment's, {name}"
    try:
        spec = known.get_kernel_spec(name)
    except NoSuchKernel as error:
        installed = ", ".join(sorted(known.find_kernel_specs()))
        raise NotebookError(
            f"{path.name} needs the kernel {name!r}, which isn't installed; installed: "
            f"{installed or 'none'}",
            BAD_INPUT,
        ) from error
    except Exception as error:  # what jupyter_client's parsers raise
        raise NotebookError(
            f"the kernel {name!r} can't be read: its kernel.json is damaged"
        ) from error
    _check_command(name, spec)
    language = (spec.language or written_in or "python").lower()
    return Kernel(name, language, note)


def _check_command(name: str, spec) -> None:
    command = spec.argv[0] if spec.argv else ""
    if not shutil.which(command) and not command.startswith("python"):
        raise NotebookError(
            f"the kernel {name!r} can't be started: there is no {command!r}; install the kernel "
            f"again, or delete {spec.resource_dir}"
        )


def _language_of(notebook) -> str:
    for part in ("language_info", "kernelspec"):
        values = notebook.metadata.get(part)
        key = "name" if part == "language_info" else "language"
        name = values.get(key) if isinstance(values, dict) else ""
        if isinstance(name, str) and name:
            return name
    return ""


def name_kernel(notebook, kernel: Kernel) -> None:
    """Complete what papermill needs of a notebook's metadata: kernel and language."""
    complete = {
        "kernelspec": {"display_name": kernel.name, "language": kernel.language},
        "language_info": {"name": kernel.language},
    }
    for part, values in complete.items():
        named = notebook.metadata.get(part)
        notebook.metadata[part] = values | (named if isinstance(named, dict) else {})
    notebook.metadata["kernelspec"]["name"] = kernel.name


def injected_names(notebook) -> list[str]:
    """Parameters that an executed copy was run with; running it with others replaces them all."""
    parameters = (notebook.metadata.get("papermill") or {}).get("parameters")
    return list(parameters) if isinstance(parameters, dict) else []
