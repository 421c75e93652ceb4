"""The names that a cell sets, with types and defaults, read from its code without running it."""

from __future__ import annotations

import ast
import itertools
import operator
import re
from collections.abc import Set
from dataclasses import dataclass, replace

from .python_cells import (
    hidden_names,
    loaded_names,
    own_nodes,
)
from .value_types import ANY, ValueType, read_annotation, read_annotation_text

MAX_NUMBER = 2**64
"""Numbers in a computed default, so that ``9 ** 9 ** 9`` is not computed."""

TYPE_COMMENT = re.compile(r"#\s*type:\s*([^\s#]+)\s*#?\s*(.*)")

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}

BLOCKS = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)
"""Statements in which a value may be set or not."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A name that the parameters cell sets."""

    name: str
    type: ValueType = ANY
    has_default: bool = False  # false where it is computed, or not given
    default: object = None
    help: str = ""  # the comment at its end
    line: int = 0  # in the cell, from 1
    uses: frozenset[str] = frozenset()  # other parameters that it is computed from

    @property
    def kind(self) -> str:
        """``int``, ``float``, ``bool`` or ``str``, if it takes nothing else but None."""
        kinds = [kind for kind in self.type.kinds if kind is not type(None)]
        scalar = len(kinds) == 1 and not self.type.choices and kinds[0] in (int, float, bool, str)
        return kinds[0].__name__ if scalar else ""

    def parse(self, text: str) -> object:
        """Convert text, such as from a command line. Where the default is text, it stays text.

        Raises:
            ParameterError: if it can't be converted.
        """
        if self.type.is_any and self.has_default and isinstance(self.default, str):
            return text
        return self.type.parse(self.name, text)

    def fit(self, value: object) -> object:
        """A value, if it is of the parameter's type.

        Raises:
            ParameterError: if it isn't.
        """
        return self.type.fit(self.name, value)


class CellReader:
    """Goes through the statements of a cell.

    Args:
        comments: by line.
    """

    def __init__(self, comments: dict[int, str]) -> None:
        self._comments = comments
        self.parameters: dict[str, Parameter] = {}
        self.unread: list[tuple[int, str]] = []

    def read(self, statements: list[ast.stmt]) -> None:
        for statement, following in itertools.zip_longest(statements, statements[1:]):
            shared = following is not None and following.lineno <= statement.end_lineno
            self._read_statement(statement, "" if shared else self._comment_of(statement))
        self._drop_mutable(loaded_names(ast.Module(statements, [])))

    def _drop_mutable(self, names: Set[str]) -> None:
        """Forget defaults, such as lists, that the cell may change by another name or a method."""
        for name in names & self.parameters.keys():
            try:
                hash(self.parameters[name].default)
            except TypeError:
                dropped = {"has_default": False, "default": None}
                self.parameters[name] = replace(self.parameters[name], **dropped)

    def _read_statement(self, node: ast.stmt, comment: str) -> None:
        self._find_hidden_names(node)
        for inner in own_nodes(node):
            if isinstance(inner, ast.NamedExpr):  # which may be run or not
                self._set(inner.target, None, "", uses=loaded_names(inner.value))
        match node:
            case ast.Assign(targets=[ast.Name() as target], value=value):
                self._set(target, value, comment)
            case ast.Assign(targets=targets, value=value):
                stored = {
                    each.id for target in targets for each in ast.walk(target) if _is_stored(each)
                }
                if stored & loaded_names(value):  # such as a, b = b, a
                    self._set_computed(node)
                else:
                    for target in targets:
                        self._assign(target, value, comment)
                    if len(targets) > 1:
                        self._drop_mutable(stored)
            case ast.AnnAssign(target=target, value=value, annotation=annotation):
                self._set(target, value, comment, read_annotation(annotation))
            case ast.AugAssign(target=ast.Name(id=name) as target, op=op, value=value):
                left = ast.copy_location(ast.Name(name, ast.Load()), target)
                self._set(target, ast.copy_location(ast.BinOp(left, op, value), node), comment)
            case ast.Delete(targets=targets):
                for target in targets:
                    self.parameters.pop(getattr(target, "id", ""), None)
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                self.parameters.pop(name, None)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                for alias in aliases:
                    self.parameters.pop(alias.asname or alias.name.partition(".")[0], None)
            case ast.stmt() if isinstance(node, BLOCKS):
                for inner in own_nodes(node):
                    if isinstance(inner, ast.Assign | ast.AnnAssign | ast.AugAssign):
                        self._set_computed(inner)
                    elif _is_stored(inner) and inner.id in self.parameters:  # by a loop
                        self._set(inner, None, "")

    def _assign(self, target: ast.expr, value: ast.expr, comment: str) -> None:
        if not isinstance(target, ast.Tuple | ast.List):
            self._set(target, value, comment)
            return
        values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
        starred = any(isinstance(each, ast.Starred) for each in (*target.elts, *values))
        if len(values) == len(target.elts) and not starred:
            for each, its_value in zip(target.elts, values, strict=True):
                self._assign(each, its_value, comment)
        else:
            for each in ast.walk(target):
                self._set(each, None, comment, uses=loaded_names(value))

    def _set(
        self,
        target: ast.AST,
        value: ast.expr | None,
        comment: str,
        kind: ValueType = ANY,
        uses: frozenset[str] = frozenset(),
    ) -> None:
        """Record a name; nothing for a target that is no name."""
        if not isinstance(target, ast.Name):
            return
        before = self.parameters.get(target.id, Parameter(target.id))
        if typed := TYPE_COMMENT.match(comment):
            kind, comment = read_annotation_text(typed[1]), typed[2]
        kind = before.type if kind.is_any else kind
        uses |= loaded_names(value)
        uses |= {name for used in uses & self.parameters.keys() for name in self._uses_of(used)}
        try:
            if value is None:
                raise ValueError
            default, has_default = self._evaluate(value), True
        except (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
            default, has_default = None, False
        if has_default and default is None:
            kind = kind.or_none()
        text = comment.lstrip("#").strip() or before.help
        used = frozenset(uses & self.parameters.keys()) - {target.id}
        self.parameters[target.id] = Parameter(
            target.id, kind, has_default, default, text, target.lineno, used
        )

    def _uses_of(self, name: str) -> frozenset[str]:
        return self.parameters[name].uses

    def _set_computed(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> None:
        kind = read_annotation(getattr(node, "annotation", None))
        for target in getattr(node, "targets", None) or [node.target]:
            for each in ast.walk(target):
                if _is_stored(each):
                    self._set(each, None, "", kind, loaded_names(node))

    def _evaluate(self, node: ast.expr) -> object:
        """The value of a literal, or of plain arithmetic with literals and earlier parameters.

        Raises:
            ValueError, TypeError, ArithmeticError: if it is anything else.
        """
        match node:
            case ast.Name(id=name) if name in self.parameters:
                if not self.parameters[name].has_default:
                    raise ValueError
                return self.parameters[name].default
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return _calculate(op, self._evaluate(left), self._evaluate(right))
            case ast.JoinedStr(values=parts) if all(isinstance(x, ast.Constant) for x in parts):
                return "".join(part.value for part in parts)
            case ast.List(elts=elements):
                return [self._evaluate(each) for each in elements]
            case ast.Tuple(elts=elements):
                return tuple(self._evaluate(each) for each in elements)
        return ast.literal_eval(node)

    def _find_hidden_names(self, node: ast.stmt) -> None:
        """Note what may set names that can't be seen here."""
        for inner in own_nodes(node):
            reason = hidden_names(inner)
            if reason:
                self.unread.append((inner.lineno, f"{reason} may set names that can't be read"))

    def _comment_of(self, node: ast.stmt) -> str:
        lines = range(node.end_lineno, node.lineno - 1, -1)
        return next((self._comments[line] for line in lines if line in self._comments), "")


def _is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _calculate(op: ast.operator, left: object, right: object) -> object:
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    texts = isinstance(left, str) and isinstance(right, str) and isinstance(op, ast.Add)
    if not (texts or (numbers and max(abs(left), abs(right)) < MAX_NUMBER)):
        raise ValueError
    return OPERATORS[type(op)](left, right)
