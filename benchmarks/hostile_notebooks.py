"""Notebooks that nothing should break on: files, parameter cells, values, kernels, early ends.

``python benchmarks/hostile_notebooks.py [--only WORDS] [--verbose]`` gives each to ``cogvx run``,
and those that fail before they are run to ``cogvx sweep --dry-run`` too. It prints the table of
``hostile_inputs.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import hostile_inputs
from hostile_inputs import JSON_FILES, Input

NODE = {"nbformat": 4, "nbformat_minor": 5}
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
CELL = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": ""}
TAGGED = {"metadata": {"tags": ["parameters"]}}


def notebook(*sources: str, parameters: str = "x: int = 1", **changes: object) -> bytes:
    """A notebook with a parameters cell and others after it."""
    cells = [CELL | TAGGED | {"source": parameters}, *(CELL | {"source": s} for s in sources)]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    return json.dumps(NODE | {"metadata": KERNEL, "cells": cells} | changes).encode()


FILES = JSON_FILES | {
    "HTML": b"<!doctype html>",
    "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n",
    "UTF-16": notebook().decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + notebook(),
    "cut notebook": notebook()[:200],
    "format 5": notebook(nbformat=5),
    "format 2": notebook(nbformat=2),
    "format as text": notebook(nbformat="4"),
    "format null": notebook(nbformat=None),
    "cells null": notebook(cells=None),
    "cells are an object": notebook(cells={}),
    "cells are numbers": notebook(cells=[1]),
    "cells are empty": notebook(cells=[{}]),
    "source is a number": notebook(cells=[CELL | {"source": 5}]),
    "source is missing": notebook(cells=[{"cell_type": "code", "metadata": {}, "outputs": []}]),
    "type is missing": notebook(cells=[{"source": "", "metadata": {}}]),
    "tags are text": notebook(cells=[CELL | {"metadata": {"tags": "parameters"}}]),
    "metadata is a list": notebook(metadata=[]),
    "kernel of nobody": notebook(metadata={"kernelspec": {"name": "nosuch"}}),
    "kernel above": notebook(metadata={"kernelspec": {"name": "../../x"}}),
    "kernel of R without a name": notebook(metadata={"language_info": {"name": "R"}}),
}

CELLS = {
    "open bracket": "x = (",
    "open text": "x = '''",
    "indentation": "x = 1\n  y = 2",
    "Python 2": "x = 1\nprint x",
    "shell": "%%bash\nx=1",
    "HTML cell": "%%html\n<b>",
    "NUL": "x = 1\0",
    "brackets": "x = " + "[" * 5000,
    "signs": "x = " + "-" * 50_000 + "1",
    "long": "x = 1\n" * 200_000,
    "digits": "x = " + "9" * 5000,
    "JSON": '{"x": null}',
    "YAML": "x: 1\ny: [a",
    "video": "x = 1\ngenerate_video('a')",
}
"""Parameter cells that can't be read, or whose values can't be set."""

VALUES = (
    ("int", ("", "1.5", "x", "1e3", "None", "9" * 5000, "0x1", "[1]")),
    ("float", ("", "x", "1,5", "None", "1e")),
    ("bool", ("", "1", "maybe", "None")),
    ("list[int]", ("", "1", "[a]", "[1", "[[1]]", "[" * 5000, "&a [*a]", "{a: 1}")),
    ("dict[str, float]", ("", "[1]", "{1: 2}", "{a: x}", "{a", "{a: 1, a: 2}")),
    ("Literal['a', 'b']", ("", "c", "A", "'a'")),
    ("int | None", ("", "x", "null", "~")),
    (
        "object",
        ("[1", "&a [*a]", "{1: 2}", "!!binary aGk=", "2026-01-01", "!!python/name:os.system"),
    ),
    ("str", ("\udcff",)),
)
"""Annotations, each with texts that are no value of it."""

ENDS = {
    "error": "1 / 0",
    "error without a message": "raise StopIteration",
    "error with colours": "raise ValueError('\\x1b[31m\\nred')",
    "long error": "raise ValueError('x' * 10**6)",
    "exit": "exit()",
    "quit": "quit()",
    "sys.exit": "import sys; sys.exit(0)",
    "SystemExit": "raise SystemExit",
    "exit code": "import sys; sys.exit(3)",
    "exit message": "import sys; sys.exit('two\\nlines')",
    "syntax": "x = (",
    "kill": "import os; os.kill(os.getpid(), 9)",
    "abort": "import os; os.abort()",
    "segmentation fault": "import ctypes; ctypes.string_at(0)",
    "ended": "import os; os._exit(0)",
    "modules gone": "import sys; sys.modules.clear()",
    "sockets closed": "import os; os.closerange(3, 1000)",
}
"""Cells that end a notebook before its last cell."""


def notebook_inputs() -> Iterator[Input]:
    for name, content in FILES.items():
        yield from both("file", name, content)
    for name, source in CELLS.items():
        yield from both("parameters", name, notebook("1", parameters=source), "-p", "x", "1")
    for annotation, texts in VALUES:
        files = {"a.ipynb": notebook("1", parameters=f"x: {annotation} = f()")}
        for text in texts:
            words = ["run", "a.ipynb", "-p", "x", text]
            yield Input("value", f"{annotation}: {text[:20]}", words, files=files)
    for name, source in ENDS.items():
        files = {"a.ipynb": notebook(source, "1")}
        yield Input("end", name, ["run", "a.ipynb"], files=files)


def both(door: str, name: str, content: bytes, *words: str) -> Iterator[Input]:
    """A notebook for ``cogvx run``, and for a sweep."""
    files = {"a.ipynb": content, "a.yaml": b'{"notebook": "a.ipynb", "grid": {"x": [1]}}'}
    yield Input(f"{door}: run", name, ["run", "a.ipynb", *words], files=files)
    yield Input(f"{door}: sweep", name, ["sweep", "a.yaml", "--dry-run"], files=files)


if __name__ == "__main__":
    sys.exit(hostile_inputs.main(notebook_inputs))
