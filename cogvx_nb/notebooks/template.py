"""A notebook that a sweep runs many times: read and checked once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import NotebookError, ParameterError, SpecError
from ..paths import user_path
from ..planning.fields import FIELDS
from ..text import print_error
from .cell_reader import Parameter
from .parameters import VIDEO_FUNCTIONS, ParameterCell, read_parameters
from .python_cells import names_in, parse_python, plain_python
from .source import find_kernel, find_notebook, injected_names, name_kernel, read_notebook

VIDEO_PARAMETERS = (
    "prompt",
    "negative_prompt",
    "frames",
    "steps",
    "height",
    "width",
    "guidance",
    "seed",
    "model",
    "output",
)
"""Parameters of a notebook of videos. Others are optional: copies of older notebooks lack them."""


@dataclass(frozen=True, slots=True)
class NotebookTemplate:
    """A notebook that a sweep executes with different parameters."""

    path: Path
    content: bytes = field(repr=False)  # read once, and with its kernel: every run executes these
    cell: ParameterCell = field(repr=False)
    declared: dict[str, Parameter] = field(repr=False)
    defaults: dict[str, object] = field(repr=False)  # where they are literals
    code_hash: str  # SHA-256 of the code cells
    makes_video: bool  # whether it takes all of VIDEO_PARAMETERS
    notes: tuple[str, ...] = ()  # lines that the user should see before the first run

    def print_notes(self, names: set[str]) -> None:
        """Print ``notes`` and those about values that runs set.

        Args:
            names: of all parameters that a run sets.
        """
        for note in (*self.notes, *self.cell.notes_on(names, self.path.name)):
            print_error(f"cogvx: {note}")

    @property
    def kind(self) -> str:
        """What a sweep takes its runs for, as part of a line."""
        return "each makes a video" if self.makes_video else "no video is expected of them"


def read_template(name: str, folder: Path) -> NotebookTemplate:
    """Read a notebook by name, or by a path, which may be relative to ``folder``.

    Raises:
        ResultError: if there is none.
        SpecError: if it isn't a notebook with a cell tagged ``parameters``, or its kernel can't be
            started.
    """
    import nbformat

    relative = user_path(name, "notebook", start=folder)
    path = find_notebook(str(relative) if relative.is_file() else name)
    try:
        notebook = read_notebook(path)
        kernel = find_kernel(notebook, path)
    except NotebookError as error:
        raise SpecError(str(error)) from error
    cell = read_parameters(notebook.cells, kernel.language)
    if not cell.number:
        raise SpecError(f"{path} has no cell tagged 'parameters': tag the cell that sets them")
    if cell.unsettable:
        raise SpecError(f"{path.name}, {cell.unsettable}")
    code = [each.source for each in notebook.cells if each.cell_type == "code"]
    code_hash = hashlib.sha256(json.dumps(code).encode()).hexdigest()
    name_kernel(notebook, kernel)
    makes_video = cell.parameters.keys() >= set(VIDEO_PARAMETERS)
    notes = [kernel.note] if kernel.note else []
    if injected := injected_names(notebook):
        notes.append(
            f"{path.name} is an executed copy: its values of {', '.join(injected)} don't apply"
        )
    defaults = dict(_literal_defaults(cell.parameters))
    if makes_video:
        _check_video_defaults(path.name, cell, defaults)
    else:
        notes += _explain_no_video(path.name, notebook, cell)
    return NotebookTemplate(
        path=path,
        content=nbformat.writes(notebook).encode(),
        cell=cell,
        declared=cell.parameters,
        defaults=defaults,
        code_hash=code_hash,
        makes_video=makes_video,
        notes=tuple(notes),
    )


def _literal_defaults(parameters: dict[str, Parameter]) -> Iterator[tuple[str, object]]:
    for name, parameter in parameters.items():
        if parameter.has_default:
            try:
                yield name, parameter.fit(parameter.default)
            except ParameterError:
                continue


def _check_video_defaults(notebook: str, cell: ParameterCell, defaults: dict) -> None:
    """Raise for a field whose default isn't known: videos could not be planned or checked."""
    for name in (*FIELDS, "model"):
        parameter = cell.parameters.get(name)
        if parameter is not None and name not in defaults:
            where = f"{notebook}, cell {cell.number}, line {parameter.line}"
            raise SpecError(f"{where}: the default of {name} must be a plain value, such as 25")


def _explain_no_video(notebook: str, nodes, cell: ParameterCell) -> Iterator[str]:
    """Lines about a notebook that seems to make videos, but isn't swept as one of videos."""
    missing = [name for name in VIDEO_PARAMETERS if name not in cell.parameters]
    calls = next(_video_calls(nodes.cells), None)
    if calls is not None or len(missing) <= len(VIDEO_PARAMETERS) // 2:
        function = f"it calls {calls[1]} (cell {calls[0]}), but " if calls else ""
        yield (
            f"{notebook} is not taken for a notebook of videos: {function}its parameters lack "
            f"{', '.join(missing)}; nothing is predicted, and no video is expected"
        )
        yield from (f"{notebook}, {reason}" for reason in cell.unread)


def _video_calls(cells: list) -> Iterator[tuple[int, str]]:
    """(cell, function) for each use of a function that makes a video."""
    for number, cell in enumerate(cells, 1):
        if cell.cell_type != "code" or not any(name in cell.source for name in VIDEO_FUNCTIONS):
            continue
        try:
            names = {name for name, _ in names_in(parse_python(plain_python(cell.source)))}
        except SyntaxError:
            names = set(VIDEO_FUNCTIONS)
        yield from ((number, name) for name in VIDEO_FUNCTIONS if name in names)
