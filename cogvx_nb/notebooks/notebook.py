"""Execute a notebook with parameters, through papermill."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from .. import settings
from ..errors import NotebookError, OutputError, OutputExists, ParameterError
from ..files import is_disk_full, translate_errors, write_whole
from ..paths import user_path
from ..text import plain_line, print_error
from .failure import explain_early_end, explain_failure
from .parameters import ParameterCell, read_parameters
from .source import Kernel, find_kernel, find_notebook, injected_names, read_notebook

SLOT = "run"
"""Of the kernel, among those of the engine."""

QUIET_SECONDS = 10
"""Seconds until a user is told what is waited for."""


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
        NotebookError: if it is no notebook, its kernel can't be started, a cell fails (with its
            error and exit code), or it ends early.
        ResultError: if there is no such notebook.
        OutputError: if the executed copy can't be written.
    """
    path = find_notebook(name)
    notebook = read_notebook(path)
    kernel = find_kernel(notebook, path)
    cell = read_parameters(notebook.cells, kernel.language)
    values = _convert_values(cell, path.name, parameters, raw)
    lost = [key for key in injected_names(notebook) if values and key not in values]
    notes = [kernel.note] if kernel.note else []
    if lost:
        notes.append(
            f"{path.name} is an executed copy: its values of {', '.join(lost)} don't apply"
        )
    for note in (*notes, *cell.notes_on(set(values), path.name)):
        print_error(f"cogvx: {note}")
    target = _prepare_copy(path, output)
    with _explain_failures(target):
        executed = _execute(path, target, values, kernel)
    if reason := explain_early_end(executed):
        raise NotebookError(f"{path.name} {reason} (the notebook so far: {target})")
    return target


def _execute(path: Path, target: Path, values: dict[str, object], kernel: Kernel):
    """The executed notebook, in a kernel of its own that ends with all that it started."""
    import papermill

    from . import warm_engine

    warm_engine.register_engine()
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what matters is raised too
    try:
        with (
            warnings.catch_warnings(),
            written_whole(target),
            _note_if_slow(kernel) as on_start,
        ):
            warnings.simplefilter("ignore")  # of papermill: on ids of cells, and endings of names
            return papermill.execute_notebook(
                escape_path(path),
                escape_path(target),
                parameters=values,
                engine_name=warm_engine.NAME,
                slot=SLOT,
                progress_bar=False,
                kernel_name=kernel.name,
                language=kernel.language,
                on_cell_execute=on_start,
            )
    finally:
        warm_engine.close_kernels(SLOT)


@contextlib.contextmanager
def written_whole(target: Path) -> Iterator[None]:
    """Have papermill write the copy whole or not at all: it writes it again after each cell, and
    would leave half of it where the disk is full, or where it is killed."""
    from papermill.iorw import LocalHandler, papermill_io

    class WholeFile(LocalHandler):
        def write(self, buf: str, path: str) -> None:
            write_whole(Path(path), buf.encode(), sync=False)

    entry = str(target), WholeFile()
    papermill_io.register(*entry)
    try:
        yield
    finally:
        papermill_io._handlers.remove(entry)


@contextlib.contextmanager
def _note_if_slow(kernel: Kernel) -> Iterator[Callable]:
    """Tell the user what is waited for; yields nbclient's hook of a cell that begins."""
    timer = threading.Timer(
        QUIET_SECONDS, print_error, [f"cogvx: waiting for the kernel {kernel.name!r} to start"]
    )
    timer.daemon = True
    timer.start()
    try:
        yield lambda **_: timer.cancel()
    finally:
        timer.cancel()


@contextlib.contextmanager
def _explain_failures(target: Path) -> Iterator[None]:
    """Raise what ends a notebook as one line that names the copy so far."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        # The kernel ends with us, and a task that still waits for it would log a traceback.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise
    except Exception as error:
        failure = explain_failure(error)
        if isinstance(error, OSError) and is_disk_full(error):
            with translate_errors(target):
                raise
        message = failure.message
        if target.exists():
            message += f" (the notebook so far: {plain_line(str(target))})"
        raise NotebookError(message, failure.exit_code) from error


def _convert_values(
    cell: ParameterCell, notebook: str, parameters: dict[str, str], raw: dict[str, str]
) -> dict[str, object]:
    """The values by the parameters' own names.

    Raises:
        ParameterError: for the first one that can't be used.
    """
    values = {}
    for name, text in (*parameters.items(), *raw.items()):
        parameter = cell.find(name, notebook)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ParameterError(name, text, "is not valid Unicode text") from error
        values[parameter.name] = text if name in raw else parameter.parse(text)
    return values


def _prepare_copy(path: Path, output: str | Path | None) -> Path:
    """Where the executed copy goes; its folder is made.

    Raises:
        OutputError: if it can't be written there.
        OutputExists: if that would replace something else than an executed copy.
    """
    target = user_path(output, "output notebook", new=True) if output else _default_copy(path)
    shown = plain_line(str(target))
    with translate_errors(shown, remedy="choose another --output-notebook"):
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.stat().st_mode if target.exists() else stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise OutputError(f"{shown} is a folder: name a file in it")
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        raise OutputError(f"{shown} is no regular file: choose another name")
    if target.exists() and target.samefile(path):
        raise OutputExists(f"{shown} is the notebook itself: choose another name for the copy")
    if target.is_file() and target.suffix != ".ipynb":
        raise OutputExists(f"{shown} exists, and is no notebook: choose another name")
    return target


def _default_copy(path: Path) -> Path:
    now = datetime.now()
    folder = settings.outputs_dir() / f"{now:%Y-%m-%d}"
    return folder / f"{now:%H%M%S}-{path.stem}-{os.getpid()}.ipynb"


def escape_path(path: Path) -> str:
    """Escape a path for papermill, which replaces ``{name}`` in paths by parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")
