"""The catalogue over real files: found, kept up to date, rebuilt; and the trash."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading

import pytest
from conftest import CIRCLE

from cogvx_nb.errors import ResultError
from cogvx_nb.results import index, index_file, result, trash
from cogvx_nb.results.catalogue import ENTRY_COLUMNS, Catalogue
from cogvx_nb.results.index import NAME

HOSTILE = "<script>alert(1)</script>\n'; DROP TABLE results; -- \u202e%_\"\\"


@pytest.fixture
def first(place):
    return result.read_result(place())


@pytest.fixture
def add(first, place):
    """Another result, newer than those before."""
    numbers = itertools.count(1)

    def put(prompt=CIRCLE, folder="2031-01-01", model="", **wanted):
        number = next(numbers)
        made = f"2031-01-01T00:{number // 60:02}:{number % 60:02}+00:00"
        return place(f"{folder}/{number}", made, model, prompt=prompt, **wanted)

    return put


@pytest.fixture
def all_of(outputs):
    """The prompts that a fresh look finds."""

    def look(found: Catalogue | None = None, **wanted) -> list[str]:
        found = found or Catalogue()
        found.refresh()
        return [entry.prompt for entry in found.find(**wanted)]

    return look


def test_an_entry_is_what_the_sidecar_says(first):
    found = Catalogue()
    found.refresh()
    (entry,) = found.find()
    recorded = dataclasses.asdict(first.settings.request)
    wanted = {name: recorded[name] for name in recorded.keys() & set(ENTRY_COLUMNS)}
    assert {"prompt", "frames", "seed"} <= wanted.keys()
    assert entry.path == first.path
    assert {name: getattr(entry, name) for name in wanted} == wanted
    assert (entry.model, entry.device) == ("cogvideox-tiny", "cpu")
    assert (entry.frame_hash, entry.made) == (first.frame_hash, first.settings.made)
    pace = found.paces("cogvideox-tiny", "cpu")[13]
    assert pace.step_seconds == pytest.approx(first.settings.seconds["denoise"] / 2)
    assert found.paces("cogvideox-tiny", "cuda:0") == {}


def test_what_happens_once_is_no_part_of_the_pace(place):
    for folder, once in (("a", {}), ("b", {"load": 50.0, "compile": 200.0})):
        sidecar = place(f"{folder}/1").with_suffix(".json")
        kept = json.loads(sidecar.read_text())
        kept["seconds"] = {"text": 1.0, "denoise": 4.0, "decode": 2.0, "write": 0.5} | once
        sidecar.write_text(json.dumps(kept))
        found = Catalogue()
        found.refresh()
        pace = found.paces("cogvideox-tiny", "cpu")[13]
        assert (pace.step_seconds, pace.other_seconds) == (2.0, 3.5)


def test_the_pace_of_several_gpus_is_no_pace_of_one(place):
    for number, (peers, denoise) in enumerate(
        ((None, 8.0), ([], 8.0), (["cuda:1", "cuda:2"], 4.0))
    ):
        sidecar = place(f"a/{number}").with_suffix(".json")
        kept = json.loads(sidecar.read_text())
        del kept["plan"]["peers"]
        kept["plan"] |= {"device": "cuda:0"} | ({} if peers is None else {"peers": peers})
        kept["seconds"] = {"text": 1.0, "denoise": denoise, "decode": 2.0, "write": 0.5}
        sidecar.write_text(json.dumps(kept))
    found = Catalogue()
    found.refresh()
    paces = {count: found.paces("cogvideox-tiny", "cuda:0", count) for count in (1, 2, 3)}
    assert (paces[1][13].step_seconds, paces[2], paces[3][13].step_seconds) == (4.0, {}, 2.0)


def test_newest_first_in_pages(add, all_of):
    for number in range(7):
        add(f"star {number}")
    assert all_of(limit=3) == ["star 6", "star 5", "star 4"]
    assert all_of(limit=3, offset=6) == ["star 0", CIRCLE]


def test_filters(add):
    add("a blue star", frames=49, seed=7)
    add("a blue circle", model="CogVideoX-5b", seed=7)
    found = Catalogue()
    found.refresh()
    assert found.values("model") == ["CogVideoX-5b", "cogvideox-tiny"]
    assert found.values("frames") == [13, 49]
    assert found.count() == 3
    assert found.count(seed=7) == 2
    assert found.count(seed=0) == found.count(seed=10**30) == 0
    assert found.count("blue", frames=49) == 1
    assert [entry.model for entry in found.find("CIRCLE", seed=7)] == ["CogVideoX-5b"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("red", 1),
        ("RED circle", 1),
        ("circle RED", 1),
        ("ed cir", 1),
        ("red star", 0),
        ("圆形", 1),
        ("向右 红色", 1),
        ("圆星", 0),
        ("100%", 1),
        ("%", 1),
        ("_", 1),
        ("'; DROP", 1),
        ('"', 1),
        ("\\", 1),
        ("ＲＥＤ", 1),
        ("strasse", 1),
        ("  ", 4),
    ],
)
def test_search(add, text, count):
    add("红色的圆形向右移动, 100% _'; DROP")
    add('a \\ " Straße')
    add("else")
    found = Catalogue()
    found.refresh()
    assert found.count(text) == len(found.find(text)) == count


def test_hostile_text_comes_back_as_it_was(add, all_of):
    add(HOSTILE, negative_prompt=HOSTILE, model=HOSTILE)
    assert HOSTILE in all_of()
    assert all_of(model=HOSTILE) == [HOSTILE]


def test_what_changed_is_seen(add, all_of, outputs):
    found = Catalogue()
    assert all_of(found) == [CIRCLE]
    path = add("new")
    deep = add("deep", folder="sweeps/a/b")
    assert all_of(found) == ["deep", "new", CIRCLE]
    kept = json.loads(path.with_suffix(".json").read_text())
    kept["request"]["prompt"] = "rewritten"
    replaced = path.with_name("x")
    replaced.write_text(json.dumps(kept))
    replaced.replace(path.with_suffix(".json"))
    deep.unlink()
    assert all_of(found) == ["rewritten", CIRCLE]
    path.with_suffix(".json").unlink()
    assert all_of(found) == [CIRCLE]
    (outputs / "sweeps").rename(outputs / ".hidden")
    assert all_of(found) == [CIRCLE]


def test_a_folder_that_is_gone_takes_its_own_rows_and_reads_no_others(
    add, all_of, outputs, monkeypatch
):
    plans = []

    class Explained(sqlite3.Connection):
        def execute(self, query, *values):
            if query.startswith("DELETE"):
                plans.extend(super().execute(f"EXPLAIN QUERY PLAN {query}", *values).fetchall())
            return super().execute(query, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *at, **how: connect(*at, **how | {"factory": Explained})
    )
    beside = ["a", "a-b", "a.b", "a0", "a%", "b"]
    for folder in (*beside, "a/b", "a/b/c", "a/é"):
        add(folder, folder=f"sweeps/{folder}")
    found = Catalogue()
    assert len(all_of(found)) == 10
    (outputs / "sweeps" / "a").rename(outputs / ".hidden")
    assert sorted(all_of(found)) == sorted([CIRCLE, *beside[1:]])
    told = [plan[-1] for plan in plans]
    assert told
    assert not any("SCAN" in one for one in told)


def test_settled_folders_are_not_looked_through(first, add, all_of, outputs):
    path = add("old")
    for folder in (path.parent, first.path.parent, outputs):
        os.utime(folder, (1_000_000, 1_000_000))
    assert all_of() == ["old", CIRCLE]
    path.with_suffix(".json").write_text("changed in place, which nothing here does")
    os.utime(path.parent, (1_000_000, 1_000_000))
    assert all_of() == ["old", CIRCLE]
    add("new", folder=path.parent.name)
    assert all_of() == ["new", CIRCLE]


def test_other_files_are_passed_over(first, all_of, outputs):
    folder = first.path.parent
    for name, text in {
        "a": "no json",
        "b": "[]",
        "c": '{"format": 1}',
        "d": '{"request": 3}',
    }.items():
        os.link(first.path, folder / f"{name}.mp4")
        (folder / f"{name}.json").write_text(text)
    (folder / "e.json").write_bytes(first.sidecar.read_bytes())  # without its mp4
    for apart in ("trash", "benchmarks", "grids", "inputs", ".previews"):
        (outputs / apart).mkdir()
        os.link(first.path, outputs / apart / "x.mp4")
        (outputs / apart / "x.json").write_bytes(first.sidecar.read_bytes())
    assert all_of() == [CIRCLE]


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("", "format", 3),
        ("", "frame_hash", None),
        ("", "made", "yesterday"),
        ("request", "prompt", "half a character: \ud83d"),
        ("request", "seed", 10**30),
        ("request", "seed", [1]),
        ("request", "frames", "13"),
        ("request", "guidance", float("nan")),
        ("request", "steps", 0),
        ("checkpoint", "name", {}),
        ("seconds", "denoise", "long"),
        ("seconds", "denoise", float("inf")),
    ],
)
def test_a_sidecar_that_is_none_stops_nothing(first, add, all_of, part, name, value):
    sidecar = add("wrong").with_suffix(".json")
    kept = json.loads(sidecar.read_text())
    (kept[part] if part else kept)[name] = value
    sidecar.write_text(json.dumps(kept))
    found = Catalogue()
    assert all_of(found) == [CIRCLE]
    assert found.paces("cogvideox-tiny", "cpu")[13].step_seconds > 0
    sidecar.write_text("[" * 200_000)
    assert all_of(found) == [CIRCLE]


def test_odd_names_and_links_stop_nothing(first, all_of, outputs):
    folder = first.path.parent
    for name, twin in (("pipe.json", "pipe.mp4"), ("tube.mp4", "tube.json")):
        os.mkfifo(folder / name)
        os.link(first.path, folder / twin)
    (folder / "loop.json").symlink_to("loop.json")
    (folder / "endless.json").symlink_to("/dev/zero")
    os.link(first.path, folder / "endless.mp4")
    os.mkdir(os.fsencode(outputs) + b"/\xff")  # noqa: PTH102 - a name that isn't text
    os.link(first.path, os.fsencode(folder) + b"/\xff.mp4")
    os.link(first.sidecar, os.fsencode(folder) + b"/\xff.json")
    for name in ("nowhere.mp4", "nowhere.json"):
        (folder / name).symlink_to("missing")
    (folder / "a").symlink_to(outputs)
    (folder / "b").symlink_to(outputs.parent)
    (outputs / "latest").symlink_to(folder)
    assert all_of() == [CIRCLE]


def test_a_folder_elsewhere_may_be_linked(first, add, all_of, outputs, tmp_path):
    add("elsewhere", folder="far")
    (outputs / "far").rename(tmp_path / "far")
    (tmp_path / "far" / "loop").symlink_to(tmp_path)
    (outputs / "near").symlink_to(tmp_path / "far")
    assert all_of() == ["elsewhere", CIRCLE]


def test_a_result_that_goes_during_the_look(first, add, all_of, monkeypatch):
    going, scan = add("going", folder=first.path.parent.name), os.scandir

    def late(path):
        found = list(scan(path))
        if path == going.parent:
            going.with_suffix(".json").unlink()
        return contextlib.nullcontext(found)

    monkeypatch.setattr(os, "scandir", late)
    assert all_of() == [CIRCLE]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no database" * 1000,
        b"SQLite format 3\0" + b"\xff" * 84,
        "older",
        "empty folder",
        "FIFO",
    ],
)
def test_an_index_that_is_none_is_made_anew(first, all_of, outputs, content):
    index = outputs / NAME
    if content == "older":
        with contextlib.closing(sqlite3.connect(index)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript("CREATE TABLE results (folder, name, stamp); PRAGMA user_version = 5")
    elif content == "empty folder":
        index.mkdir()
    elif content == "FIFO":
        os.mkfifo(index)
    else:
        index.write_bytes(content)
    for end in ("-wal", "-shm", "-journal"):
        (outputs / f"{NAME}{end}").write_bytes(b"x" * 5000)
    assert all_of() == [CIRCLE]
    assert index.read_bytes().startswith(b"SQLite format 3")
    assert [path.name for path in outputs.glob(f"{NAME}*")] == [NAME]


def test_an_index_is_opened_and_not_built_again(first, all_of, outputs, monkeypatch):
    all_of()
    before = (outputs / NAME).stat().st_ino
    monkeypatch.setattr(index, "find_settings", None)
    assert all_of() == [CIRCLE]
    assert (outputs / NAME).stat().st_ino == before


def test_a_file_of_another_kind_in_place_of_the_index_stays(first, all_of, outputs):
    (outputs / NAME).mkdir()
    (outputs / NAME / "someone's").touch()
    assert all_of() == all_of() == [CIRCLE]
    assert [path.name for path in (outputs / NAME).iterdir()] == ["someone's"]


def harm_index(path, chance):
    """Damage that leaves a file that SQLite may well read."""
    content = bytearray(path.read_bytes())
    kind = chance.choice(("flip", "zero", "cut", "extend", "column"))
    at = chance.randrange(len(content))
    if kind == "flip":
        for _ in range(chance.choice((1, 1, 10))):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif kind == "zero":
        content[at : at + 4096] = bytes(len(content[at : at + 4096]))
    elif kind == "cut":
        del content[at:]
    elif kind == "extend":
        content += bytes(4096)
    if content == path.read_bytes():
        kind = "column"
    path.write_bytes(content)
    if kind == "column":
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("UPDATE results SET frames = 'x' || prompt, prompt = 'another'")
            db.commit()


def test_a_damaged_index_is_built_again(first, add, outputs):
    for number in range(5):
        add(f"star {number}", seed=number)
    found = Catalogue()
    found.refresh()
    right = found.find(), found.count("star"), found.values("model"), list(found.pages())
    chance = random.Random(7)
    for _ in range(100):
        harm_index(outputs / NAME, chance)
        found = Catalogue()
        found.refresh()
        assert (
            found.find(),
            found.count("star"),
            found.values("model"),
            list(found.pages()),
        ) == right


@pytest.mark.parametrize("statement", ["SELECT none FROM results", "SELECT 1 FROM none", "SELEC"])
def test_a_faulty_query_leaves_the_index_alone(first, all_of, outputs, statement):
    all_of()
    asked, before = index.Index(outputs), (outputs / NAME).stat().st_ino
    with pytest.raises(sqlite3.OperationalError):
        asked.query(statement)
    assert (outputs / NAME).stat().st_ino == before
    assert asked.query("SELECT count(*) FROM results") == [(1,)]


def test_an_update_that_is_interrupted_is_none(first, add, all_of, monkeypatch):
    add("deep", folder="sweeps/a/b")
    found, scan = Catalogue(), index.scan_folder

    def interrupt(root, folder):
        if folder == "sweeps/a":
            raise KeyboardInterrupt
        return scan(root, folder)

    with monkeypatch.context() as patch:
        patch.setattr(index, "scan_folder", interrupt)
        with pytest.raises(KeyboardInterrupt):
            found.refresh()
    assert sorted(all_of(found)) == sorted(["deep", CIRCLE])


def test_the_index_may_be_deleted_in_use(first, all_of, outputs):
    found = Catalogue()
    assert all_of(found) == [CIRCLE]
    (outputs / NAME).unlink()
    assert all_of(found) == [CIRCLE]


def test_no_folder_is_an_empty_catalogue(tmp_path):
    found = Catalogue(tmp_path / "none")
    found.refresh()
    assert (found.find(), found.count(), found.values("model")) == ([], 0, [])
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written(first, all_of, outputs, monkeypatch):
    def refuse(*arguments):  # root may write anywhere
        raise PermissionError

    monkeypatch.setattr(index_file, "partial_file", refuse)
    assert all_of() == [CIRCLE]
    assert not (outputs / index.NAME).exists()


@pytest.mark.slow
def test_several_processes_and_threads_at_once(add, outputs):
    for number in range(300):
        add(f"star {number}", folder=f"day {number % 7}")
    code = "from cogvx_nb.results.catalogue import Catalogue; "
    code += "catalogue = Catalogue(); catalogue.refresh(); print(catalogue.count())"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert {one.communicate(timeout=300)[0].strip() for one in running} == {"301"}

    found, failures = Catalogue(), []

    def use() -> None:
        try:
            for _ in range(5):
                found.refresh()
                assert found.count("star") == 300
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failures == []


def test_the_trash_and_back(first, all_of, outputs):
    before = first.sidecar.read_bytes(), first.path.read_bytes()
    moved = trash.move_to_trash(first.path)
    assert moved == outputs / "trash" / first.path.relative_to(outputs)
    assert all_of() == []
    assert trash.restore(moved) == first.path
    assert (first.sidecar.read_bytes(), first.path.read_bytes()) == before
    assert all_of() == [CIRCLE]


def test_the_trash_takes_nothing_twice(add, first, outputs):
    path = add("one", folder="x")
    moved = trash.move_to_trash(path)
    os.link(first.path, path)
    path.with_suffix(".json").write_text("{}")
    moved.rename(moved.with_stem("kept"))  # and only its sidecar is left in its place
    again = trash.move_to_trash(path)
    moved.with_stem("kept").rename(moved)
    assert again == outputs / "trash" / ".2" / "x" / path.name
    assert trash.restore(again) == path
    assert trash.restore(moved) == path.with_stem(f"{path.stem}-2")
    assert path.with_suffix(".json").read_text() == "{}"


def test_the_trash_says_what_is_wrong(first, add, outputs, tmp_path):
    with pytest.raises(ResultError, match="there is no file"):
        trash.move_to_trash(outputs / "none.mp4")
    elsewhere = tmp_path / "x.mp4"
    elsewhere.write_bytes(b"")
    moved = trash.move_to_trash(add("other"))
    for path in (elsewhere, outputs / ".." / elsewhere.name, moved):
        with pytest.raises(ResultError, match="is not among the results"):
            trash.move_to_trash(path)
    with pytest.raises(ResultError, match="can't be taken out"):
        trash.restore(elsewhere)
    trash.restore(moved)
    (outputs / "trash" / "2031-01-01").rmdir()
    (outputs / "trash").rmdir()
    (outputs / "trash").write_text("a file")
    with pytest.raises(ResultError, match="can't be moved"):
        trash.move_to_trash(first.path)
    assert first.path.exists()
    assert first.sidecar.exists()


def test_the_step_cache_can_still_be_asked_for_as_true_or_false(place):
    for number, used in enumerate((None, True, False, "", "halves")):
        sidecar = place(f"a/{number}").with_suffix(".json")
        kept = json.loads(sidecar.read_text())
        del kept["plan"]["step_cache"]
        kept["plan"] |= {} if used is None else {"step_cache": used}
        sidecar.write_text(json.dumps(kept))

    def found(condition):
        catalogue = Catalogue()
        catalogue.refresh()
        paths = [entry.path for entry in catalogue.find(where=[condition])]
        return sorted(path.stem for path in paths)

    assert found("step_cache = true") == ["1", "4"]
    assert found("step_cache != TRUE") == ["0", "2", "3"]
    assert found("step_cache = false") == ["2", "3"]
    assert found("step_cache = steps") == ["1"]
    assert found("step_cache = halves") == ["4"]
