"""Results as a DataFrame, as a table in a terminal and as a file, over real files."""

from __future__ import annotations

import csv
import datetime
import json
import os
import subprocess
import sys

import pandas
import pytest
from conftest import CIRCLE, run_cogvx

from cogvx_nb import text
from cogvx_nb.cli import table
from cogvx_nb.cli.main import main
from cogvx_nb.errors import DiskFull, OutputExists
from cogvx_nb.results import catalogue, export, marks, result
from cogvx_nb.results.catalogue import Catalogue

HOSTILE = "two\nlines \x1b[31mred\x1b[0m \u202eback\u2066 \x07\r\x9b2J 圆形"
BLUE = "a blue star"


@pytest.fixture
def three(place):
    """The newest is blue, of 49 frames; the two others were made in the same second."""
    return [
        place("x/3", "2031-01-01T12:00:00+02:00", prompt=BLUE, frames=49, seed=7),
        place("x/1", "2030-01-01T00:00:00+00:00", seed=7),
        place("x/2", "2030-01-01T00:00:00+00:00", model="CogVideoX-5b"),
    ]


@pytest.fixture
def found(three) -> Catalogue:
    fresh = Catalogue()
    fresh.refresh()
    return fresh


def listed(capsys, *flags: str) -> list[str]:
    """Lines of ``cogvx list``."""
    assert main(["list", *flags]) == 0
    return capsys.readouterr().out.splitlines()


def refused(capsys, *flags: str) -> tuple[int, str]:
    """Exit code and the one line of a command that is refused."""
    try:
        code = main(["list", *flags])
    except SystemExit as leaving:
        code = leaving.code
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return code, line


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- the DataFrame ------------------------------------------------------------------------------


def test_a_frame_is_what_the_sidecars_say(three, samples):
    frame = catalogue.results_frame()
    assert list(frame.path) == list(map(str, three))
    assert frame.made[0] == datetime.datetime(2031, 1, 1, 10, tzinfo=datetime.UTC)
    first, kept = frame.iloc[1], samples[0].sidecar_json()
    wanted = kept["request"] | {"seed": 7}
    assert {name: first[name] for name in wanted} == wanted
    seconds = {name: first[f"{name}_seconds"] for name in kept["seconds"]}
    assert seconds == kept["seconds"]
    planned = ("device", "dtype", "placement", "tiled", "attention")
    assert {name: first[name] for name in planned} == {n: kept["plan"][n] for n in planned}
    assert first.predicted_peak_bytes == kept["plan"]["peak_bytes"]
    assert (first.model, first.frame_hash) == ("cogvideox-tiny", kept["frame_hash"])
    assert first.gpus == ", ".join(kept["machine"]["gpus"])
    assert pandas.isna(first.enriched_from)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"text": "BLUE star"},
        {"model": "CogVideoX-5b"},
        {"frames": 49},
        {"seed": 7},
        {"text": "circle", "seed": 7},
        {"text": "no such words"},
        {"seed": -(10**30), "frames": 10**30},
    ],
)
@pytest.mark.parametrize("page", [1, 2, 1000])
def test_a_frame_is_filtered_like_a_search(found, monkeypatch, wanted, page):
    monkeypatch.setattr(catalogue, "PAGE", page)
    frame = found.frame(**wanted)
    assert list(frame.path) == [str(entry.path) for entry in found.find(**wanted)]
    assert frame.dtypes.equals(found.frame().dtypes)


def test_a_frame_is_read_from_the_index_alone(found, three):
    for path in three:
        path.with_suffix(".json").write_text("gone")
    assert list(found.frame().seed) == [7, 7, 42]


def test_a_frame_may_be_changed(found):
    frame = found.frame()
    frame.loc[0, "seed"], frame.loc[0, "prompt"], frame.loc[0, "tiled"] = 1, "x", None
    assert (frame.seed[0], frame.prompt[0]) == (1, "x")


def test_a_sidecar_that_says_less_is_a_result_too(place):
    sidecar = place(prompt=BLUE).with_suffix(".json")
    kept = json.loads(sidecar.read_text())
    kept["plan"] = {"device": "cpu", "tiled": "perhaps", "peak_bytes": float("nan")}
    kept["seconds"] = {"denoise": 1}
    kept["enriched_from"] = "half a character: \ud83d"
    kept["machine"] = ["no", "such", "thing"]
    sidecar.write_text(json.dumps(kept))
    frame = catalogue.results_frame()
    assert list(frame.prompt) == [BLUE]
    unsaid = ["text_seconds", "tiled", "predicted_peak_bytes", "dtype", "enriched_from", "gpus"]
    assert frame[unsaid].isna().all(axis=None)
    assert frame.denoise_seconds[0] == 1.0


def test_brackets_in_an_older_sidecar_take_nothing_down(place, capsys):
    place("whole", prompt=BLUE)
    path = place()
    kept = json.loads(path.with_suffix(".json").read_text())
    kept["request"]["prompt"] = "[" * 1500 + ":b:.4]" * 1500
    kept["request"].pop("guidance_schedule", None)
    path.with_suffix(".json").write_text(json.dumps(kept))
    assert main(["show", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "request.prompt" in line
    assert any(BLUE in line for line in listed(capsys))


# --- the table ----------------------------------------------------------------------------------


def test_the_table_is_newest_first(capsys, three, outputs, monkeypatch, tmp_path):
    monkeypatch.chdir(outputs)
    head, *rows = listed(capsys)
    assert head.split() == [name for name in table.HEAD if name not in table.OPTIONAL]
    assert [row.split()[-1] for row in rows] == ["x/3.mp4", "x/1.mp4", "x/2.mp4"]
    assert rows[0].split("  ")[0] == "2031-01-01 12:00"
    assert "a red circle moving right on a black ba…" in rows[1]
    monkeypatch.chdir(tmp_path)
    assert listed(capsys)[1].endswith(str(three[0]))


@pytest.mark.parametrize(
    ("flags", "seen"),
    [
        (["--search", "Blue"], ["3.mp4"]),
        (["--model", "tiny"], ["3.mp4", "1.mp4"]),
        (["--model", "CogVideoX-5b"], ["2.mp4"]),
        (["--frames", "13"], ["1.mp4", "2.mp4"]),
        (["--seed", "7", "--limit", "1"], ["3.mp4"]),
        (["--search", "\udcff"], []),
        (["--seed", "-1"], []),
        (["--model", "none such"], []),
    ],
)
def test_the_filters(capsys, three, flags, seen):
    rows = listed(capsys, *flags)[1:]
    assert [row.rpartition("/")[2] for row in rows] == seen


@pytest.mark.parametrize(
    ("condition", "seen"),
    [
        ("lora:ink >= 0.5", ["1"]),
        ("lora:INK<0.5", ["3"]),
        ("lora:ink = 0", ["3"]),
        ("lora:ink != 0.8", ["3", "2"]),
        ('lora:"oil, dry" < 0', ["2", "1"]),
        ("lora:oil, dry = -1", ["2", "1"]),
        ("lora:none > -10", []),
        ("lora:none != 1", ["3", "2", "1"]),
    ],
)
def test_weights_of_loras_are_asked_for(capsys, place, condition, seen):
    ink, oil = f"ink#{'a' * 64}", f'"oil, dry"#{"b" * 64}:-1'
    texts = {"3": f"{ink}:0", "2": oil, "1": f"{oil}, {ink}:0.8@alpha=4"}
    for name, loras in texts.items():
        place(f"x/{name}", f"203{name}-01-01T12:00:00+02:00", lora=loras)
    rows = listed(capsys, "--where", condition)[1:]
    assert [row.rpartition("/")[2].removesuffix(".mp4") for row in rows] == seen


@pytest.mark.parametrize(
    ("condition", "told"),
    [("lora:ink ~ 1", "compare weights by"), ("lora:ink = a", "a number"), ("lora: > 1", "lora")],
)
def test_weights_are_numbers(capsys, three, condition, told):
    code, said = refused(capsys, "--where", condition)
    assert code == 2
    assert told in said


def test_marks_are_listed_and_asked_for(capsys, three, tmp_path):
    blue = three[0]
    frame_hash = result.read_result(blue).frame_hash
    marks.change_marks(blue, frame_hash, stars=4, add_tags=["to keep"], note="a\nnote")
    head, row = listed(capsys, "--stars", "3", "--tag", "To Keep")
    assert head.split() == [name for name in table.HEAD if name not in ("from", "lora", "finished")]
    assert r"4      to keep  a\nnote  a blue star" in row
    assert len(listed(capsys)) == 4
    rows = listed(capsys, "--where", "frames < 49", "--where", "model ~ TINY")[1:]
    assert [row.rpartition("/")[2] for row in rows] == ["1.mp4"]
    rows = listed(capsys, "--sort", "frames", "--ascending")[1:]
    assert [row.rpartition("/")[2] for row in rows] == ["1.mp4", "2.mp4", "3.mp4"]
    listed(capsys, "--stars", "1", "--export", str(tmp_path / "a.csv"))
    (kept,) = pandas.read_csv(tmp_path / "a.csv").to_dict("records")
    assert (kept["stars"], kept["tags"], kept["note"]) == (4, "to keep", "a\nnote")
    assert refused(capsys, "--where", "stepz > 1")[0] == 2
    marks.marks_file(blue).write_text("broken")
    assert main(["list"]) == 0
    assert "3.marks can't be read" in capsys.readouterr().err


def test_twenty_by_default(capsys, place):
    for number in range(22):
        place(f"x/{number}")
    assert len(listed(capsys)) == 21
    assert len(listed(capsys, "--limit", str(10**30))) == 23
    main(["list"])
    assert capsys.readouterr().err == "results: 20 of 22; more by --limit, all by --export\n"


def test_nothing_in_a_prompt_breaks_the_table(capsys, place):
    place("x/\x1b]0;title\x07", model="\x1b[2J\u202e", prompt=HOSTILE)
    place("x/wide", prompt="圆" * 60)
    lines = listed(capsys)
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert r"two\nlines \x1b[31mred\x1b[0m \u202ebac…" in "".join(lines)
    ends = [text.terminal_width(line[: line.index("/")]) for line in lines[1:]]
    assert ends[0] == ends[1] == text.terminal_width(lines[0][: lines[0].index("file")])


def test_plain_text_and_its_places():
    assert text.plain_line(HOSTILE).isprintable()
    assert text.plain_line("a\u3000b\xa0c") == "a b c"
    assert (text.terminal_width("圆a"), text.terminal_width("e\u0301")) == (3, 1)
    assert text.cut_line("圆圆圆", 5) == "圆圆…"
    assert text.cut_line("圆圆a", 5) == "圆圆a"


def test_a_reader_that_has_enough_and_a_terminal_without_unicode(three, outputs):
    command = [sys.executable, "-m", "cogvx_nb", "list"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running.stdout.close()
    assert running.stderr.read() in ("", "results: 3 of 3\n"), "and no traceback"
    assert running.wait(60) in (0, 141), "by when Python writes what was printed"
    plain = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=plain, check=True)
    assert "96?144" in done.stdout


# --- files --------------------------------------------------------------------------------------


def test_both_files_hold_what_the_frame_does(capsys, three, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "PAGE", 2)
    paths = [tmp_path / "new" / "all.csv", tmp_path / "all.PARQUET"]
    for path in paths:
        assert listed(capsys, "--export", str(path), "--limit", "1") == [str(path)]
    frame = catalogue.results_frame()
    parquet = pandas.read_parquet(paths[1])
    assert parquet.made.dtype == frame.made.dtype
    pandas.testing.assert_frame_equal(parquet.astype(frame.dtypes), frame)
    kept = pandas.read_csv(paths[0])
    kept["made"] = pandas.to_datetime(kept["made"], format="ISO8601", utc=True).astype(
        frame.made.dtype
    )
    text = frame.select_dtypes("str").columns  # CSV can't tell empty from unsaid
    frame[text], kept[text] = frame[text].fillna(""), kept[text].fillna("")
    pandas.testing.assert_frame_equal(kept.astype(frame.dtypes), frame)


def test_files_are_filtered_and_may_be_empty(capsys, three, tmp_path):
    listed(capsys, "--export", str(tmp_path / "a.parquet"), "--search", "blue")
    assert list(pandas.read_parquet(tmp_path / "a.parquet").path) == [str(three[0])]
    listed(capsys, "--export", str(tmp_path / "b.csv"), "--seed", "1")
    listed(capsys, "--export", str(tmp_path / "b.parquet"), "--seed", "1")
    assert list(pandas.read_csv(tmp_path / "b.csv")) == list(catalogue.results_frame())
    assert len(pandas.read_parquet(tmp_path / "b.parquet")) == 0


@pytest.mark.parametrize("mark", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_no_cell_is_a_formula(capsys, place, tmp_path, mark):
    prompt = f'{mark}HYPERLINK("http://x";"y"),\r\n圆'
    place(prompt=prompt, negative_prompt=f"{mark}1", model=f"{mark}1")
    listed(capsys, "--export", str(tmp_path / "a.csv"))
    with (tmp_path / "a.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["prompt"], row["model"]) == (f"'{prompt}", f"'{mark}1")
    assert row["negative_prompt"] == f"'{mark}1"
    listed(capsys, "--export", str(tmp_path / "a.parquet"))
    assert pandas.read_parquet(tmp_path / "a.parquet").prompt[0] == prompt


def test_what_cannot_be_done_is_one_line(capsys, three, tmp_path):
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "link.csv").symlink_to("nowhere")
    for code, words, flags in [
        (2, "end it in .csv or .parquet", ["--export", "a.txt"]),
        (2, "end it in .csv or .parquet", ["--export", ""]),
        (2, "limit = 0", ["--limit", "0"]),
        (2, "invalid int value: 'x'", ["--seed", "x"]),
        (1, "there.csv exists: choose another name", ["--export", f"{tmp_path}/there.csv"]),
        (1, "link.csv exists: choose another name", ["--export", f"{tmp_path}/link.csv"]),
        (1, "can't be written: Not a directory", ["--export", f"{tmp_path}/there.csv/a.csv"]),
        (2, "a part of it has 304 bytes", ["--export", f"{tmp_path}/{'x' * 300}.csv"]),
    ]:
        found, line = refused(capsys, *flags)
        assert found == code
        assert words in line
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert names(tmp_path) == ["link.csv", "there.csv"]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_file_is_whole_or_not_there(found, tmp_path, name):
    def broken():
        yield from found.pages()
        assert [path.name[:3] for path in tmp_path.iterdir()] == [".a."]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.save_export(broken(), tmp_path / name)
    assert names(tmp_path) == []

    def overtaken():
        yield from found.pages()
        (tmp_path / name).write_text("somebody's")

    with pytest.raises(OutputExists, match="exists by now"):
        export.save_export(overtaken(), tmp_path / name)
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "somebody's"


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_full_disk_leaves_nothing(found, small_disk, name):
    disk = small_disk(64)
    (disk / "full").write_bytes(b"1" * 60_000)
    with pytest.raises(DiskFull, match="make room"):
        export.save_export((page for _ in range(300) for page in found.pages()), disk / name)
    assert names(disk) == ["full"]


def test_without_the_optional_packages(three, tmp_path):
    code = """
import sys
sys.modules["pandas"] = sys.modules["pyarrow"] = None
from cogvx_nb import errors
from cogvx_nb.cli.main import main
from cogvx_nb.results import catalogue
try:
    catalogue.results_frame()
except errors.CogvxError as error:
    print(error)
print(main(["list"]), main(["list", "--export", "a.csv"]), main(["list", "--export", "a.parquet"]))
"""
    run = {"capture_output": True, "text": True, "cwd": tmp_path, "check": True}
    done = subprocess.run([sys.executable, "-c", code], **run)
    assert 'the pandas package: pip install -e ".[frame]"' in done.stdout
    assert done.stdout.splitlines()[-1] == "0 0 1"
    assert 'the pyarrow package: pip install -e ".[frame]"' in done.stderr.splitlines()[-1]
    assert names(tmp_path) == ["a.csv"]


def test_the_command_loads_neither_torch_nor_pandas(three, tmp_path):
    code = """
import sys
from cogvx_nb.cli.main import main
main(["list", "--export", "a.csv"])
print([name for name in ("torch", "pandas", "pyarrow", "diffusers") if name in sys.modules])
"""
    run = {"capture_output": True, "text": True, "cwd": tmp_path, "check": True}
    done = subprocess.run([sys.executable, "-c", code], **run)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_as_a_user_starts_it(three, tmp_path):
    done = run_cogvx("list", "--search", "red circle", "--export", "a.csv", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "results: 2\n")
    assert done.stdout == f"{tmp_path / 'a.csv'}\n"
    assert CIRCLE in (tmp_path / "a.csv").read_text("utf-8-sig")


def test_a_narrow_terminal_is_kept_to():
    facts = ("2030-01-01 00:00", "cogvideox-tiny", "13", "96×144", "50", "7")
    row = (*facts, "3", "", "", "", "", "", "a red circle", "o/a.mp4")
    for width in (40, 60, 80, 120):
        lines = table.format_table([row, row], width)
        assert max(map(len, lines)) <= width
        assert all("o/a.mp4" in line for line in lines[1:]), "the path is never cut"
    assert "cogvideox-tiny" not in "".join(table.format_table([row], 60))
    assert "cogvideox-tiny" in table.format_table([row])[1], "all columns where nobody looks"
