"""Files of prompts, tables and YAML as people write them: read right, or refused in one line."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from pathlib import Path

import pandas
import pytest
from conftest import CIRCLE
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from cogvx_nb.errors import SpecError
from cogvx_nb.planning.cells import read_cell
from cogvx_nb.planning.prompt_files import READERS, read_prompt_file
from cogvx_nb.planning.tables import SPREADSHEET_ERRORS
from cogvx_nb.planning.text_files import MAX_BYTES, read_text_file
from cogvx_nb.planning.yaml_loading import explain_value, load_json, load_yaml
from cogvx_nb.sweep.spec import read_spec

STAR = "a green star growing on a navy background"


def values_of(path: Path, content: str | bytes) -> list[dict]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [row.values for row in read_prompt_file(path)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", f"\ufeff{CIRCLE}\r\n\r\n  \u3000{STAR} \ufeff\r\n"),
        ("a.TXT", f"# made by hand\n#\n## {STAR}\n{CIRCLE}\r{STAR}"),
        ("a.jsonl", f'"{CIRCLE}"\r\n\r\n{{"prompt": "{STAR}"}}'),
        ("a.ndjson", f'{{"Prompt": "{CIRCLE}"}}\n{{"text": "{STAR}", "seed": null}}'),
        ("a.json", json.dumps([CIRCLE, {"caption": STAR}])),
        ("a.json", json.dumps({"prompts": [CIRCLE, STAR]})),
        ("vbench.json", json.dumps(
            [{"prompt_en": text, "dimension": ["color"], "auxiliary_info": {"color": {}}}
             for text in (CIRCLE, STAR)])),
        ("a.yaml", f"- {CIRCLE}\n- prompt: {STAR}"),
        ("a.yml", f"prompts:\n- {CIRCLE}\n- {STAR}"),
        ("a.csv", f"prompt\n{CIRCLE}\n{STAR}"),
        ("a.csv", f'\ufeffsep=;\r\n"Prompt";;\r\n{CIRCLE};;\r\n;;\r\n{STAR};;\r\n'),
        ("a.csv", f",prompt\n0,{CIRCLE}\n7,{STAR}\n"),
        ("a.csv", f"Unnamed: 0\t PROMPT \n0\t{CIRCLE}\n1\t{STAR}\n"),
        ("a.tsv", f"prompt\n{CIRCLE}\n{STAR}"),
        ("a.csv", f"prompt\r{CIRCLE}\r{STAR}\r"),
    ],
)  # fmt: skip
def test_prompts_in_every_form(tmp_path, name, content):
    assert values_of(tmp_path / name, content) == [{"prompt": CIRCLE}, {"prompt": STAR}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"PK\3\4", "'a.xlsx': end it in one of .txt, .jsonl"),
        ("prompts", "a", "'prompts': end it in one of .txt"),
        ("a.txt", f'{{"prompt": "{CIRCLE}"}}\n', "a.txt holds JSONL: rename it to end in .jsonl"),
        ("a.txt", '[\n"a",\n"b"]', "a.txt holds JSON: rename it to end in .json"),
        ("a.txt", f"prompt,seed\n{CIRCLE},1", "a.txt holds CSV: rename"),
        ("a.txt", f"- {CIRCLE}\n\n- {STAR}", "a.txt holds YAML: rename it to end in .yaml"),
        ("a.txt", "<!DOCTYPE html>\n", "it is a web page: save it as plain text in UTF-8"),
        ("a.txt", "#1 racing car", "line 1 of a.txt: '#1 racing car' may be a comment or a prompt"),
        ("a.txt", "a\0", "line 1 holds a NUL character"),
        ("a.txt", CIRCLE.encode("utf-16"), "it is text in UTF-16: save it as plain text in UTF-8"),
        ("a.txt", "x\nrédigé".encode("cp1252"), "line 2 is not UTF-8 text: save it in UTF-8"),
        ("a.csv", b"PK\3\4xlsx", "it is a zip file or a workbook"),
        ("a.jsonl", f"{CIRCLE}\n", "line 1 of a.jsonl: column 1 is no JSON: .*text in quotes or"),
        ("a.jsonl", '["a"]', "line 1 of a.jsonl begins a JSON list: rename the file"),
        ("a.jsonl", '"a"\n{"seed": 1}', "line 2 of a.jsonl: one must be named 'prompt'; it has s"),
        ("a.jsonl", '{"text": "a", "caption": "b"}', "several could be the prompt; it has caption"),
        ("a.jsonl", '{"prompt": "a", "prompt": "b"}', "line 1 of a.jsonl: 'prompt' is given twice"),
        ("a.jsonl", '{"prompt": "a", "Seed": 1, "seed": 2}', "line 1 of a.jsonl: 'seed' is there"),
        ("a.jsonl", "7", "line 1 of a.jsonl is 7: must be a text in quotes, or an object with"),
        ("a.jsonl", '{"prompt": " "}', "line 1 of a.jsonl has no prompt"),
        ("a.json", '{"prompt": {"0": "a"}}', "must hold a list of prompts, .* mapping with prompt"),
        ("a.json", '"a"\n"b"', "line 2, column 1 is no JSON: Extra data: rename .* end in .jsonl"),
        ("a.json", "[" * 100_000, "nested more than 50 levels"),
        ("a.json", f"[{'[' * 60}{']' * 60}]", "nested more than 50 levels"),
        ("a.json", f"[{'9' * 5000}]", "a number that is too long"),
        ("a.yaml", "- no\n", r"item 1 of a.yaml is False: .* \(YAML reads yes, no, on and off"),
        ("a.yaml", "a red circle", "must hold a list of prompts, .*; it holds a text"),
        ("a.csv", f"{CIRCLE}\n", r"line 1 of a.csv \(columns between commas\): one must be named"),
        ("a.csv", "prompt,seed,Seed\na,1,2", "'seed' is there twice"),
        ("a.csv", "prompt,,seed\na,1,2", "column 2 has no name"),
        ("a.csv", "prompt\na red circle, moving", "line 2 of a.csv has 2 cells of 1: quote a text"),
        ("a.csv", 'prompt\nb\n"a\nc', "line 3 of a.csv can't be read: its quotes aren't closed"),
        ("a.csv", "prompt,seed\n,1", "line 2 of a.csv has no prompt"),
        ("a.csv", "prompt\n#NAME?", "line 2 of a.csv: prompt = '#NAME\\?': an error of the sp"),
        ("a.csv", "prompt" + "," * 30_000, "a.csv has more than 20,000 columns"),
        ("a.csv", "prompt\n" + "," * 1_000_001, "line 2 of a.csv can't be read: it has 1,000,001"),
        ("a.json", f"[{'[],' * 300_000}[]]", "more than 300,000 lists and objects: split it"),
        ("a.txt", "\n" * 1_000_001, "it has 1,000,001 lines; at most 1,000,000"),
        ("a.txt", "a\n" * 100_001, "a.txt has more than 100,000 prompts"),
        ("a.csv", "prompt\n" + "a\n" * 100_001, "a.csv has more than 100,000 rows"),
        ("a.txt", b"a" * (MAX_BYTES + 1), "larger than 16 MB"),
    ],
    ids=lambda value: str(value[:30]),
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(tmp_path, name, content, message):
    start = time.perf_counter()
    with pytest.raises((SpecError, ValueError, OSError), match=message) as caught:
        values_of(tmp_path / name, content)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - start < 60  # one that doesn't stop early takes minutes


def test_a_file_that_is_none_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(OSError, match="it is no regular file"):
        read_text_file(tmp_path / "a.txt")
    with pytest.raises(OSError, match=r"Is a directory|it is a folder"):
        read_text_file(tmp_path)
    with pytest.raises(SpecError, match="can't be read: it is no regular file"):
        read_spec("/dev/zero")


def test_a_sweep_in_json(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"parameters": {"prompt": f"{CIRCLE} 🔴"}, "seeds": 2}))
    assert "\\ud83d" in path.read_text(), "half a character, which YAML doesn't take"
    assert read_spec(path).parameters == {"prompt": f"{CIRCLE} 🔴"}
    path.write_text('{"seeds": 2, "seeds": 3}')
    with pytest.raises(SpecError, match=r"mine.json: 'seeds' is given twice in one object"):
        read_spec(path)


@pytest.mark.parametrize(
    ("text", "kind", "delimiter", "value"),
    [
        ("42.0", "int", ",", 42),
        (" 42 ", "int", ",", 42),
        ("4.2E+01", "int", ",", 42),
        ("1,000", "int", ",", 1000),
        ("1,234,567", "int", ";", 1234567),
        ("1.234.567", "int", ";", 1234567),
        ("1 000", "int", ";", 1000),
        ("1\u202f234\u202f567", "int", ",", 1234567),
        ("1'000", "int", ",", 1000),
        ("9007199254740991", "int", ",", 2**53 - 1),
        ("−5", "int", ",", -5),
        ("1,5", "float", ";", 1.5),
        ("1,5", "float", ",", 1.5),
        ("0,125", "float", ";", 0.125),
        ("1.234,5", "float", ";", 1234.5),
        ("1,234.5", "float", ",", 1234.5),
        ("1e-3", "float", ",", 0.001),
        ("7", "float", ",", 7.0),
        ("TRUE", "bool", ",", True),
        ("Yes", "bool", ",", True),
        ("0.0", "bool", ",", False),
        ("NaN", "int", ",", None),
        ("<NA>", "float", ",", None),
        ("None", "bool", ",", None),
    ],
)
def test_cells_of_spreadsheets_and_pandas(text, kind, delimiter, value):
    read = read_cell(text, kind, delimiter)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "kind", "delimiter", "message"),
    [
        ("42.5", "int", ",", "must be a whole number"),
        ("2026-01-02", "int", ",", "must be a whole number"),
        ("1.23457E+11", "int", ",", "may have been rounded: write all of its digits"),
        ("12345678901234567.0", "int", ",", "may have been rounded"),
        ("1e999999999", "int", ",", "rounded"),
        ("1,500", "float", ";", "has thousands or decimals: write 1500 or 1.5000"),
        ("1,500", "int", ";", "has thousands or decimals"),
        ("1.500", "float", ";", "has thousands or decimals"),
        ("50%", "float", ",", "is a percentage"),
        ("six", "float", ",", "must be a number"),
        ("maybe", "bool", ",", "must be true or false"),
        ("inf", "int", ",", "must be a whole number"),
    ],
)
def test_cells_that_could_be_two_things(text, kind, delimiter, message):
    with pytest.raises(ValueError, match=message):
        read_cell(text, kind, delimiter)


BOMB = "parameters:\n  a0: &a0 [x]\n" + "".join(
    f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 11)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 11)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 300,000 values"),
        (MERGES, "more than 300,000 values"),
        ("a: &a [*a]", r"line 1: \*a stands for what it is in"),
        ("[" * 100_000, "is no YAML|levels deep"),
        ("- " * 60 + "a", "line 1 is nested more than 50 levels deep"),
        (f"a: [{'1,' * 400_000}1]", "more than 300,000 values"),
        (f"a: {'9' * 5000}", "line 1: a number of 5,000 characters"),
        (f"a: 0x{'f' * 5000}", "line 1: a number of 5,002 characters"),
        ("? [a]\n: b", "line 1: a name must be text"),
        ("a: 012", "line 1: 012 is 10 in YAML, an octal number: write 12 or 10, or quote it"),
        ("a:\n- 12:30", "line 2: 12:30 is a number to base 60 in YAML: write 750, or quote it"),
        ("a: 2026-01-01", "line 1: 2026-01-01 is a date in YAML: quote it for text"),
        ("a: !!python/name:os.system", "line 1: the tag !!python/name:os.system isn't read"),
        ("a: !!binary aGk=", "line 1: the tag !!binary isn't read"),
        ("a: 1\na: 2", "line 2: 'a' is given twice"),
        ("a: 1\n---\nb: 2", "line 2 is no YAML"),
        ("a: b: c", "line 1 is no YAML: mapping values .*: quote a text that holds ': '"),
        ("a: @b", "line 1 is no YAML: found character .*: indent with blanks, and quote"),
        ("a: *b", "line 1 is no YAML: found undefined alias"),
    ],
    ids=lambda text: text[:20],
)
def test_yaml_that_grows_or_surprises_is_refused_at_once(text, message):
    start = time.perf_counter()
    with pytest.raises(ValueError, match=message):
        load_yaml(text)
    assert time.perf_counter() - start < 60


def test_yaml_that_is_plain():
    text = "a: &a {x: 0, y: 1_000}\nb: {<<: *a, x: 2}\nc: [no, ~, .inf, 1e1, '012', =, 0x10, 0, 00]"
    assert load_yaml(text) == {
        "a": {"x": 0, "y": 1000},
        "b": {"x": 2, "y": 1000},
        "c": [False, None, float("inf"), "1e1", "012", "=", 16, 0, 0],
    }


@pytest.mark.parametrize(
    ("value", "kind", "hint"),
    [
        ("1e1", "float", "'1e1' is text in YAML: write 10.0"),
        ("1e-5", "float", "'1e-5' is text in YAML: write 1.0e-05"),
        ("0o17", "int", "'0o17' is text in YAML: write 15"),
        ("1,5", "float", "'1,5' is text in YAML: write 1.5"),
        ("20", "int", "write 20 without quotes"),
        ("08", "int", "'08' is text in YAML: write 8"),
        ("1.5", "int", ""),
        ("many", "int", ""),
        (False, "str", "YAML reads yes, no, on and off as true and false"),
        (None, "str", "YAML reads null, ~ and nothing as no value"),
        (7, "str", ""),
    ],
)
def test_what_yaml_made_of_a_value_is_explained(value, kind, hint):
    assert explain_value(value, kind) == hint


# --- fuzzed -------------------------------------------------------------------------------------

QUICK = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
PROMPTS = TEXTS.filter(lambda text: text.strip() and text.strip() not in SPREADSHEET_ERRORS)
PIECES = st.sampled_from(
    ["prompt", "seed", ",", ";", "\t", '"', "\n", "\r", "[", "]", "{", "}", ":", "- ", "#", "&a ",
     "*a", "<<", "!!int ", "!", "'", "1e1", "42.0", "sep=;", "null", "\ufeff", "? ", "| ", "---"]
)  # fmt: skip
HOSTILE = st.lists(PIECES | TEXTS, max_size=30).map("".join)


def outcome(read, *arguments) -> tuple[object, str]:
    """(what is read, nothing) or (None, the message of an error that is one of ours)."""
    try:
        return read(*arguments), ""
    except (SpecError, ValueError) as error:
        return None, str(error) or "no message"


@QUICK
@given(content=HOSTILE | st.binary(max_size=60), ending=st.sampled_from([*READERS]))
@example(content="prompt", ending=".csv")
@example(content="", ending=".csv")
def test_any_file_is_read_or_refused(tmp_path, content, ending):
    rows, message = outcome(values_of, tmp_path / f"a{ending}", content)
    assert message != "no message"
    assert "\n" not in message
    assert all(row["prompt"] for row in rows or ())


@QUICK
@given(text=HOSTILE)
def test_any_yaml_json_and_sweep_is_read_or_refused(tmp_path, text):
    for load in (load_yaml, load_json):
        assert "\n" not in outcome(load, text)[1]
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8", newline="")
    sweep, message = outcome(read_spec, tmp_path / "a.yaml")
    assert bool(sweep) != ("a.yaml" in message)
    assert "\n" not in message


@QUICK
@given(
    text=TEXTS | st.floats().map(repr) | st.integers().map(str),
    kind=st.sampled_from(["int", "float", "bool"]),
)
def test_any_cell_is_read_or_refused(text, kind):
    for delimiter in ",;\t":
        try:
            value = read_cell(text, kind, delimiter)
        except ValueError:
            continue
        assert value is None or type(value).__name__ == kind


ROWS = st.lists(
    st.fixed_dictionaries(
        {"prompt": PROMPTS},
        optional={"seed": st.integers(0, 2**53 - 1), "guidance": st.floats(0, 100)},
    ),
    min_size=1,
    max_size=5,
)


def typed(rows: list[dict], delimiter: str) -> list[dict]:
    """Rows of a table with the numbers of their cells."""
    kinds = {"seed": "int", "guidance": "float"}
    return [
        {name: read_cell(cell, kinds[name], delimiter) if name in kinds else cell
         for name, cell in row.items()}
        for row in rows
    ]  # fmt: skip


@QUICK
@given(rows=ROWS, delimiter=st.sampled_from(",;\t"))
def test_a_table_that_csv_writes_is_read_back_the_same(tmp_path, rows, delimiter):
    table = io.StringIO(newline="")
    names = ["prompt", "seed", "guidance"]
    writer = csv.DictWriter(table, names, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    assert typed(values_of(tmp_path / "a.csv", table.getvalue()), delimiter) == rows


@QUICK
@given(rows=ROWS, index=st.booleans())
def test_a_table_that_pandas_writes_is_read_back_the_same(tmp_path, rows, index):
    assume(not any("\r" in row["prompt"] for row in rows))  # pandas doesn't quote it
    pandas.DataFrame(rows).to_csv(tmp_path / "a.csv", index=index)
    content = (tmp_path / "a.csv").read_bytes()
    assert typed(values_of(tmp_path / "a.csv", content), ",") == rows


@QUICK
@given(rows=ROWS)
def test_what_json_writes_is_read_back_the_same(tmp_path, rows):
    assert values_of(tmp_path / "a.json", json.dumps(rows)) == rows
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert values_of(tmp_path / "a.jsonl", lines) == rows
