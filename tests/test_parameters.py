"""Parameter cells as people and linters write them, and values converted to their types."""

from __future__ import annotations

import re
from types import ModuleType

import nbformat
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from cogvx_nb.errors import ParameterError, SpecError
from cogvx_nb.notebooks.parameters import read_parameters
from cogvx_nb.notebooks.template import read_template
from cogvx_nb.notebooks.value_types import is_plain_value

GENERATE = ROOT / "notebooks" / "03_generate.ipynb"


def read(source: str, *later: str, kind: str = "code", language: str = "python"):
    """The parameters of a notebook whose second cell has this source, and those after it too."""
    tagged = [
        {"cell_type": kind, "source": each, "metadata": {"tags": ["parameters"]}}
        for each in (source, *later)
    ]
    return read_parameters(
        [{"cell_type": "markdown", "source": "", "metadata": {}}, *tagged], language
    )


def defaults(source: str) -> dict:
    """By name; ``...`` where a default is computed or missing."""
    return {
        name: parameter.default if parameter.has_default else ...
        for name, parameter in read(source).parameters.items()
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("# denoising steps; 50 = best\nsteps: int = 50", {"steps": 50}),
        ("steps: int = 50  # a = b; c", {"steps": 50}),
        ('p: str = """two\nlines = here"""', {"p": "two\nlines = here"}),
        ('p = (\n    "black "\n    "wraps = lines"\n)', {"p": "black wraps = lines"}),
        ("p = f'plain'", {"p": "plain"}),
        ("sizes: list[int] = [\n    1,  # one\n    2,\n]", {"sizes": [1, 2]}),
        ('o: "Optional[int]" = None', {"o": None}),
        ("a = 1; b = 'x;y=z'  # c", {"a": 1, "b": "x;y=z"}),
        ("a, b = 1, 'x'", {"a": 1, "b": "x"}),
        ("a, (b, *c) = f()", {"a": ..., "b": ..., "c": ...}),
        ("a = b = 3", {"a": 3, "b": 3}),
        ("a = [1]\na.append(2)\nb = [1]\nb[0] = 2\nc = [1]", {"a": ..., "b": ..., "c": [1]}),
        ("a = b = []\na += (1,)", {"a": ..., "b": ...}),
        ("a, b = 1, 2\na, b = b, a", {"a": ..., "b": ...}),
        ("a = 1\na = b = a + 1", {"a": ..., "b": ...}),
        ("a = 5\na += 2", {"a": 7}),
        ("a = 5\na = 6", {"a": 6}),
        ("a = 5\ndel a", {}),
        ("a = 2 * 12 + 1", {"a": 25}),
        ("a = 9 ** 9 ** 9", {"a": ...}),
        ("a = 'x' * 10 ** 10", {"a": ...}),
        ("a = 13\nb = a", {"a": 13, "b": 13}),
        ("a = 'x' \\\n  'y'", {"a": "xy"}),
        ("a: int", {"a": ...}),
        ("import os\na = os.environ.get('A', '1')", {"a": ...}),
        ("if True:\n    a: int = 1\nelse:\n    a = 2", {"a": ...}),
        ("if (n := 10) > 5:\n    pass", {"n": ...}),
        ("%matplotlib inline\n!ls\na = 1\nfiles = !ls", {"a": 1, "files": ...}),
        ("%%time\na = 1", {"a": 1}),
        ("a = 1\r\nb = 2\r\n", {"a": 1, "b": 2}),
        ("\ta = 1\n\tb = 2", {"a": 1, "b": 2}),
        (">>> a = 1", {"a": 1}),
        ("größe = 1", {"größe": 1}),
        ("def f(x=1):\n    y = 2\nclass A:\n    z = 3", {}),
        ("for i in range(3):\n    pass", {}),
        ("a = b = c = 1\nimport a\ndef b(): ...\nfor c in (): ...", {"c": ...}),
        ("x.a = 1\nd['k'] = 2", {}),
        ("a = r'\\d'\nb = '\\d'", {"a": "\\d", "b": "\\d"}),
        ("", {}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_defaults(source, expected):
    assert defaults(source) == expected


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("a = 1\nb = (", "cell 2, line 2 can't be read: '(' was never closed"),
        ("a = 1\n  b = 2", "cell 2, line 2 can't be read: unexpected indent"),
        ("a = 1\n\nprint a", "cell 2, line 3 can't be read"),
        ("%%bash\na=1", "cell 2 can't be read: %%bash is no Python"),
        ("a = 1\0", "null byte"),
        ("=%\\", "cell 2, line 1 can't be read"),
        ("a = " + "[" * 5000, "too many nested"),
        ("a = " + "-" * 20_000 + "1", "cell 2 can't be read"),
        ("a = 1\n" * 200_000, "it has 1200000 characters"),
        ("a = 1\ngenerate_video('x')", "cell 2, line 2 calls generate_video"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_cannot_be_read_is_a_line(source, words):
    with pytest.raises(ParameterError) as caught:
        read(source).find("a", "mine.ipynb")
    assert words in str(caught.value)
    assert "mine.ipynb" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_cells_and_languages_are_not_read():
    assert "is markdown" in read("a = 1", kind="markdown").unsettable
    assert "written in r" in read("a <- 1", language="r").unsettable
    again = read("a = 1\nb = 2", "b = 3")
    assert again.find("a", "m").default == 1
    with pytest.raises(
        ParameterError, match="cell 3 is tagged 'parameters' too, and sets it again"
    ):
        again.find("b", "m")


def test_names_set_out_of_sight_are_said():
    cell = read("from settings import *\n%run more.py\nexec('b = 1')\na = 1")
    assert [reason.split(" may")[0] for reason in cell.unread] == [
        "cell 2, line 1: from settings import *",
        "cell 2, line 2: %run",
        "cell 2, line 3: exec()",
    ]
    with pytest.raises(ParameterError, match=r"known: a \(cell 2, line 1: from settings import"):
        cell.find("b", "mine.ipynb")


@pytest.mark.parametrize(
    ("name", "near"),
    [("stepz", "steps"), ("Seed", "seed"), ("num_inference_steps", "steps"), ("xyz", "")],
)
def test_an_unknown_name_brings_the_nearest(name, near):
    with pytest.raises(ParameterError) as caught:
        read("steps = 1\nseed = 2").find(name, "mine.ipynb")
    guess = f", did you mean {near!r}?" if near else ""
    assert str(caught.value).endswith(f"has no such one; known: steps, seed{guess}")


def test_what_is_computed_keeps_its_default():
    cell = read("steps = 10\nhalf = steps // 2\nquarter = half // 2\nother = 1")
    notes = list(cell.notes_on({"steps"}, "mine.ipynb"))
    assert len(notes) == 2
    assert notes[0].startswith(
        "mine.ipynb, cell 2, line 2: half is computed from the default of steps"
    )
    assert list(cell.notes_on({"half", "quarter", "steps"}, "mine.ipynb")) == []


BAD = "bad"


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        ("int", {"7": 7, "1.5": BAD, "x": BAD, "None": BAD, "true": BAD}),
        ("float", {"7": 7.0, "1e1": 10.0, "x": BAD}),
        ("str", {"007": "007", "true": "true", "None": "None", "[1]": "[1]"}),
        ("bool", {"true": True, "no": False, "1": BAD, "x": BAD}),
        ("int | None", {"7": 7, "None": None, "x": BAD}),
        ("Optional[int]", {"7": 7, "None": None, "x": BAD}),
        ("typing.Optional[int]", {"None": None}),
        ('"int | None"', {"7": 7, "None": None, "x": BAD}),
        ("str | None", {"007": "007", "None": None}),
        ("int | str", {"7": 7, "x": "x"}),
        ("Union[bool, str]", {"true": True, "x": "x"}),
        ("list[int]", {"[1, 2]": [1, 2], "[a]": BAD, "1": BAD}),
        ("List[float]", {"[1, 2.5]": [1.0, 2.5]}),
        ("list", {"[1, a]": [1, "a"], "{a: 1}": BAD}),
        ("dict[str, float]", {"{a: 1}": {"a": 1.0}, "{a: x}": BAD, "{1: 1}": BAD}),
        ("tuple[int, ...]", {"[1, 2]": [1, 2]}),
        ('Literal["a", "b"]', {"a": "a", "c": BAD}),
        ('Literal["auto"] | int', {"auto": "auto", "5": 5, "x": BAD}),
        ("Literal[1, 2]", {"1": 1, "3": BAD}),
        ("Annotated[int, 5]", {"7": 7, "x": BAD}),
        ("Path", {"007": "007"}),
        ("MyClass", {"7": 7, "x": "x", "2024-01-01": BAD, "[1": BAD}),
    ],
)
def test_text_becomes_the_annotated_type(annotation, values):
    parameter = read(f"x: {annotation} = f()").parameters["x"]
    for text, expected in values.items():
        if expected is BAD:
            with pytest.raises(ParameterError):
                parameter.parse(text)
        else:
            value = parameter.parse(text)
            assert (value, type(value)) == (expected, type(expected))
            assert parameter.fit(value) == value


def test_text_without_an_annotation():
    cell = read("a = None\nb = 'x'\nc = 5  # type: int  # many\nd = f()")
    parse = {name: parameter.parse for name, parameter in cell.parameters.items()}
    assert (parse["a"]("7"), parse["b"]("7"), parse["c"]("7"), parse["d"]("[7]")) == (
        7,
        "7",
        7,
        [7],
    )
    assert cell.parameters["c"].help == "many"
    with pytest.raises(ParameterError, match="c = 'x': must be a whole number"):
        parse["c"]("x")


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        ("int", True, "must be a whole number"),
        ("int", 10**400, None),
        ("float", 10**400, "must be a number"),
        ("list[int]", ["a"], "must be a list of whole numbers"),
        ("int | None", "x", "must be a whole number or None"),
        ('Literal["a", 1]', True, "must be 'a' or 1"),
        ("str", 5, "must be text: quote it"),
    ],
)
def test_values_are_checked(annotation, value, words):
    parameter = read(f"x: {annotation} = f()").parameters["x"]
    if words is None:
        assert parameter.fit(value) == value
        return
    with pytest.raises(ParameterError) as caught:
        parameter.fit(value)
    assert words in str(caught.value)


def test_aliases_that_multiply_are_no_plain_value():
    value = [1]
    for _ in range(60):
        value = [value, value]
    assert not is_plain_value(value)
    own = []
    own.append(own)
    assert not is_plain_value(own)
    assert is_plain_value({"a": [1, "x", None, {"b": 2.5}]})
    with pytest.raises(ParameterError):
        read("x = f()").parameters["x"].parse("&a [*a]")


@pytest.fixture
def template(tmp_path):
    """Reads a copy of notebook 03 with replacements in its parameters cell, as a sweep does."""

    def read_copy(*replaced: tuple[str, str], append: str = "", cells: tuple[str, ...] = ()):
        notebook = nbformat.read(GENERATE, as_version=4)
        for before, after in replaced:
            assert before in notebook.cells[1].source
            notebook.cells[1].source = notebook.cells[1].source.replace(before, after)
        notebook.cells[1].source += append
        notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
        path = tmp_path / "mine.ipynb"
        nbformat.write(notebook, path)
        return read_template(str(path), tmp_path)

    return read_copy


def test_a_notebook_of_videos_stays_one(template):
    book = template(
        ("steps: int = 50", "# steps; 50 = best\nsteps: int = 50"),
        ('prompt: str = "a red circle', 'prompt: str = """a red circle\n'),
        ('a black background"', 'a black background"""'),
        append="\n# a trailing = comment",
    )
    assert book.makes_video
    assert book.defaults["prompt"] == "a red circle\n moving right on a black background"
    assert book.kind == "each makes a video"
    assert book.notes == ()


def test_a_notebook_that_makes_videos_otherwise_is_said(template):
    book = template(('negative_prompt: str = ""', "pass"))
    assert not book.makes_video
    (note,) = book.notes
    assert re.search(
        r"calls make_video \(cell \d+\), but its parameters lack negative_prompt;", note
    )
    assert book.kind == "no video is expected of them"


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        (
            ("steps: int = 50", "steps: int = round(50)"),
            "cell 2, line 14: the default of steps must",
        ),
        (("steps: int = 50", "steps: int = 'x'"), "the default of steps must be a plain value"),
        (("steps: int = 50", "steps: int = (50"), "mine.ipynb, cell 2, line 14 can't be read"),
        (("steps: int = 50", "steps: int = 50; make_video()"), "line 14 calls make_video"),
    ],
)
def test_a_sweep_refuses_what_it_cannot_plan(template, replaced, words):
    with pytest.raises(SpecError) as caught:
        template(replaced)
    assert words in str(caught.value)


NAMES = st.sampled_from(["a", "b", "steps", "größe", "_x", "A1"])
LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)
VALUES = LITERALS.map(repr) | NAMES | st.sampled_from(["1 + 2", "-3", "2 * 8", "'a' 'b'", "[*[1]]"])
STATEMENTS = st.one_of(
    st.builds("{} = {}".format, NAMES, VALUES),
    st.builds("{} = {}  # {} = 1; b".format, NAMES, VALUES, NAMES),
    st.builds("{}: 'int | None' = {}".format, NAMES, VALUES),
    st.builds("{} = {} = {}".format, NAMES, NAMES, VALUES),
    st.builds("{}, {} = {}, {}".format, NAMES, NAMES, VALUES, VALUES),
    st.builds("{}, {} = {}".format, NAMES, NAMES, VALUES),
    st.builds("{} += {}".format, NAMES, VALUES),
    st.builds("{} = (\n    {}  # one\n)".format, NAMES, VALUES),
    st.builds("if {}:\n    {} = {}".format, VALUES, NAMES, VALUES),
    st.builds("for {} in [1]:\n    {} = {}".format, NAMES, NAMES, VALUES),
    st.builds("[({} := {}) for _ in [1]]".format, NAMES, VALUES),
    st.builds("def {}():\n    {} = {}".format, NAMES, NAMES, VALUES),
    st.builds("{} and ({} := {})".format, VALUES, NAMES, VALUES),
    st.builds("class {}: pass".format, NAMES),
    st.builds("import os as {}".format, NAMES),
    st.builds("{}.append({})".format, NAMES, VALUES),
    st.builds("del {}".format, NAMES),
    st.builds("{} = 1; {} = {}".format, NAMES, NAMES, VALUES),
)
EXAMPLES = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


@EXAMPLES
@given(st.lists(STATEMENTS, min_size=1, max_size=5))
def test_defaults_are_what_the_cell_sets(statements):
    source, values = "\n".join(statements), {}
    try:
        exec(source, values)
    except Exception:
        assume(False)
    for name, parameter in read(source).parameters.items():
        if parameter.has_default and name in values:
            got, expected = parameter.default, values[name]
            assert repr(got) == repr(expected), source
    assigned = {
        name
        for name, value in values.items()
        if not (callable(value) or isinstance(value, ModuleType) or name.startswith("__"))
    }
    loops = {line.split()[1] for line in statements if line.startswith("for")}
    assert assigned - loops <= read(source).parameters.keys(), source


@EXAMPLES
@given(st.text(max_size=60) | st.text("=:;#\"'\\\n\r\t()[]{}%!?>,.ab1 ", max_size=60))
@example("0\rÀ")
def test_any_text_is_read_or_said(source):
    cell = read(source)
    assert cell.unsettable.count("\n") == 0
    assert not cell.unsettable or cell.unsettable.startswith("cell 2")


@EXAMPLES
@given(st.text(max_size=30), st.sampled_from(["int", "bool", "list[int]", "str | None", "'Any'"]))
def test_any_text_is_converted_or_refused(text, annotation):
    parameter = read(f"x: {annotation} = f()").parameters["x"]
    try:
        value = parameter.parse(text)
    except ParameterError:
        return
    assert is_plain_value(value)
    assert repr(parameter.fit(value)) == repr(value)
