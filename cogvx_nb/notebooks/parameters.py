"""The parameters of a notebook: what its cell tagged ``parameters`` sets.

papermill sets values in a cell that it inserts after that one.
"""

from __future__ import annotations

import ast
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import ParameterError, did_you_mean
from ..planning.fields import ALIASES
from .cell_reader import CellReader, Parameter
from .python_cells import comments, parse_python, plain_python

TAG = "parameters"

VIDEO_FUNCTIONS = ("generate_video", "make_video")
"""Functions of the documented API, and of notebook 03, that make a video."""


@dataclass(frozen=True, slots=True)
class ParameterCell:
    """What a notebook's parameters cell sets."""

    number: int = 0  # of the cell in the notebook, from 1; 0 without one
    parameters: dict[str, Parameter] = field(default_factory=dict)
    unread: tuple[str, ...] = ()  # what can't be read, each with cell and line
    unsettable: str = ""  # why no value can be set
    set_again: dict[str, int] = field(default_factory=dict)  # names, and the later cell

    def find(self, name: str, notebook: str) -> Parameter:
        """A parameter by its name, to be set.

        Args:
            notebook: the name of the file, for the error.

        Raises:
            ParameterError: if there is none, with the nearest one; or if it can't be set.
        """
        normal = unicodedata.normalize("NFKC", name)  # as Python reads names
        if self.unsettable:
            raise ParameterError("parameter", name, f"{notebook}, {self.unsettable}")
        if normal not in self.parameters:
            remedy = f"{notebook} has no such one; {self._hint(normal)}"
            raise ParameterError("parameter", name, remedy)
        if normal in self.set_again:
            remedy = (
                f"{notebook}, cell {self.set_again[normal]} is tagged 'parameters' too, and sets "
                "it again: keep one of them"
            )
            raise ParameterError("parameter", name, remedy)
        return self.parameters[normal]

    def _hint(self, name: str) -> str:
        if not self.number:
            return "tag the cell that sets its parameters with 'parameters'"
        same = ALIASES.get(name)
        near = did_you_mean(same if same in self.parameters else name, self.parameters)
        unread = f" ({self.unread[0]})" if self.unread else ""
        return f"known: {', '.join(self.parameters) or 'none'}{unread}{near}"

    def computed_from(self, names: set[str]) -> Iterator[tuple[Parameter, str]]:
        """(parameter, name) for each that is computed in the cell from one of ``names``.

        It keeps what was computed from that one's default.
        """
        for parameter in self.parameters.values():
            if parameter.name not in names:
                for name in sorted(parameter.uses & names):
                    yield parameter, name

    def notes_on(self, names: set[str], notebook: str) -> Iterator[str]:
        """Lines about values that are set and yet don't act as one may expect."""
        for parameter, source in self.computed_from(names):
            yield (
                f"{notebook}, cell {self.number}, line {parameter.line}: {parameter.name} is "
                f"computed from the default of {source}, not from the value given: compute it in a "
                "later cell"
            )


def read_parameters(cells: list, language: str = "python") -> ParameterCell:
    """The parameters of a notebook: what its first tagged cell sets.

    Args:
        cells: of the notebook, each a mapping as in its file.
    """
    tagged = [n for n, cell in enumerate(cells, 1) if TAG in cell["metadata"].get("tags", ())]
    if not tagged:
        return ParameterCell()
    number, *later = tagged
    if cells[number - 1]["cell_type"] != "code":
        kind = cells[number - 1]["cell_type"]
        return _unreadable(number, f"cell {number} is tagged 'parameters', but is {kind}, no code")
    if language != "python":
        return _unreadable(number, f"cell {number} is written in {language}: only Python is read")
    try:
        reader, tree = _read_cell(cells[number - 1]["source"])
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        return _unreadable(number, f"cell {number}{line} can't be read: {error.msg}")
    return ParameterCell(
        number,
        reader.parameters,
        tuple(f"cell {number}, line {line}: {reason}" for line, reason in reader.unread),
        _find_work(tree, number),
        {name: n for n in reversed(later) for name in _names_set(cells[n - 1])},
    )


def _unreadable(number: int, reason: str) -> ParameterCell:
    return ParameterCell(number, unread=(reason,), unsettable=reason)


def _read_cell(source: str) -> tuple[CellReader, ast.Module]:
    source = plain_python(source)
    tree = parse_python(source)
    reader = CellReader(comments(source))
    reader.read(tree.body)
    return reader, tree


def _names_set(cell) -> list[str]:
    try:
        return list(_read_cell(cell["source"])[0].parameters)
    except SyntaxError:
        return []


def _find_work(tree: ast.Module, number: int) -> str:
    """Why setting values comes too late, if the cell makes a video itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in VIDEO_FUNCTIONS:
                return (
                    f"cell {number}, line {node.lineno} calls {name}, and values are set in a cell "
                    "after that one: move the call to a later cell"
                )
    return ""
