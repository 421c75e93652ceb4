"""A cell's source as Python: IPython's own syntax replaced, parsed, and looked through."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator

MAX_CHARACTERS = 1_000_000
"""Of a cell that is parsed; a longer one is generated, and parsing it would take minutes."""

BODY_MAGICS = ("%%time", "%%capture", "%%prun")
"""Cell magics that run the rest of the cell in the notebook's namespace."""

HIDDEN_NAMES = {"run": "%run", "store": "%store", "pylab": "%pylab"}
"""Line magics that set names that aren't in the cell."""

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def plain_python(source: str) -> str:
    """A cell's source with IPython's own syntax (``%magic``, ``!command``) as calls.

    Raises:
        SyntaxError: if it is in another language.
    """
    from IPython.core.inputtransformer2 import TransformerManager

    if len(source) > MAX_CHARACTERS:
        raise SyntaxError(f"it has {len(source)} characters; at most {MAX_CHARACTERS}")
    head, _, body = source.lstrip().partition("\n")
    if head.startswith("%%"):
        if head.split()[0] not in BODY_MAGICS:
            raise SyntaxError(f"{head.split()[0]} is no Python")
        source = "\n" * (source.count("\n") - body.count("\n")) + body
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return TransformerManager().transform_cell(source)
    except Exception:  # its transformers fail on some broken code, such as "=%"
        return source  # which the parser explains


def parse_python(source: str) -> ast.Module:
    """Parse source code.

    Raises:
        SyntaxError: whatever the parser can't take.
    """
    try:
        with warnings.catch_warnings():  # of escape sequences in the user's strings
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(f"it is no Python ({str(error) or type(error).__name__})") from error


def names_in(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, line) for each name that code uses or imports."""
    for node in ast.walk(tree):
        name = getattr(node, "id", None) or getattr(node, "attr", None)
        if isinstance(node, ast.alias):
            name = node.name.rpartition(".")[2]
        if name:
            yield name, node.lineno


def hidden_names(node: ast.AST) -> str:
    match node:
        case ast.ImportFrom(module=module, names=[ast.alias(name="*")]):
            return f"from {module} import *"
        case ast.Call(func=ast.Name(id=("exec" | "globals" | "locals" | "vars") as name)):
            return f"{name}()"
        case ast.Call(
            func=ast.Attribute(attr="run_line_magic"), args=[ast.Constant(value=name), *_]
        ):
            return HIDDEN_NAMES.get(name, "")
    return ""


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and what is in it, without the bodies of functions and classes."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, SCOPES):
            yield node
            waiting += reversed(list(ast.iter_child_nodes(node)))


def loaded_names(node: ast.AST | None) -> frozenset[str]:
    nodes = ast.walk(node) if node is not None else ()
    return frozenset(
        each.id for each in nodes if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)
    )


def comments(source: str) -> dict[int, str]:
    """The comments of source code by their lines."""
    comments = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                comments[token.start[0]] = token.string
    except (tokenize.TokenError, SyntaxError, UnicodeError):
        pass  # what was read up to there; Python 3.12 cuts a letter in two after a lone CR
    return comments
