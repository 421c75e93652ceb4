"""Stars, tags and notes beside real results: kept, found, moved along, and never in the way."""

from __future__ import annotations

import json
import os

import pytest
from conftest import CIRCLE

from cogvx_nb.errors import OutputError, RequestError, ResultError
from cogvx_nb.results import filters, output, result, trash
from cogvx_nb.results.catalogue import Catalogue
from cogvx_nb.results.filters import Condition, Search
from cogvx_nb.results.marks import Marks, change_marks, marks_file, read_marks

HOSTILE = "<img src=x onerror=alert(1)> \u202e'; DROP TABLE results; -- \x1b[31m \x00 {{7*7}}\n圆"


@pytest.fixture
def kept(place):
    """A result, and a function that changes its marks."""
    path = place()
    frame_hash = result.read_result(path).frame_hash

    def change(**changes) -> Marks:
        return change_marks(path, frame_hash, **changes)

    return path, frame_hash, change


def found(**search) -> list:
    catalogue = Catalogue()
    catalogue.refresh()
    return catalogue.find(**search)


def test_marks_come_back_and_change_nothing_else(kept):
    path, frame_hash, change = kept
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()
    change(stars=4, add_tags=["good", "  to   keep "], note="the edge flickers")
    wanted = Marks(4, ("good", "to keep"), "the edge flickers")
    assert read_marks(path, frame_hash) == wanted
    change(remove_tags=["GOOD"], grid="g1")
    assert read_marks(path, frame_hash) == Marks(4, ("to keep",), "the edge flickers", "g1")
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == before
    (entry,) = found()
    assert (entry.stars, entry.tags, entry.note) == (4, "to keep", "the edge flickers")


def test_without_marks_there_is_no_file(kept):
    path, frame_hash, change = kept
    change(stars=1)
    assert marks_file(path).exists()
    change(stars=0)
    assert not marks_file(path).exists()
    assert read_marks(path, frame_hash) == Marks()


def test_hostile_text_stays_text(kept):
    path, frame_hash, change = kept
    tag = "<b>\u202e'; --"
    change(note=HOSTILE, add_tags=[tag])
    assert read_marks(path, frame_hash).note == HOSTILE
    (entry,) = found(tag=tag)
    assert (entry.note, entry.tags) == (HOSTILE, tag)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stars": 6}, "stars = 6: must be from 0 to 5"),
        ({"stars": -1}, "stars = -1"),
        ({"add_tags": ["a,b"]}, "without a comma"),
        ({"add_tags": [" "]}, "1 to 40 characters"),
        ({"add_tags": ["x" * 41]}, "1 to 40 characters"),
        ({"add_tags": map(str, range(51))}, "at most 50"),
        ({"note": "x" * 2001}, "more than 2,000 characters"),
        ({"note": "half a character: \ud83d"}, "not valid Unicode"),
    ],
)
def test_wrong_marks_are_refused_and_change_nothing(kept, changes, words):
    path, frame_hash, change = kept
    change(stars=2)
    with pytest.raises(RequestError, match=words):
        change(**changes)
    assert read_marks(path, frame_hash) == Marks(2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 100_000,
        b"\xff\xfe",
        b"[]",
        b'{"frame_hash": "HASH", "marks": {"stars": 9}}',
        b'{"frame_hash": "HASH", "marks": {"stars": true}}',
        b'{"frame_hash": "HASH", "marks": {"tags": ["a, b"]}}',
        b'{"frame_hash": "HASH", "marks": {"note": 3}}',
        b'{"marks": {}}',
        b" " * 70_000,
    ],
)
def test_a_damaged_file_is_said_and_kept(kept, content):
    path, frame_hash, change = kept
    content = content.replace(b"HASH", frame_hash.encode())
    marks_file(path).write_bytes(content)
    with pytest.raises(ResultError, match=r"first\.marks can't be read.*mend it, or delete it"):
        change(stars=5)
    assert marks_file(path).read_bytes() == content
    (entry,) = found()
    assert entry.stars == 0
    assert "first.marks can't be read" in entry.marks_problem


def test_a_folder_or_a_pipe_of_that_name_stops_nothing(kept):
    path, _, change = kept
    os.mkfifo(marks_file(path))
    with pytest.raises(ResultError, match="no regular file"):
        change(stars=1)
    assert len(found()) == 1
    marks_file(path).unlink()
    marks_file(path).mkdir()
    with pytest.raises((ResultError, OutputError)):
        change(stars=1)


def test_another_video_of_that_name_has_its_own(kept, samples):
    path, _, change = kept
    change(stars=5)
    assert read_marks(path, "0" * 64) == Marks()
    content = json.loads(path.with_suffix(".json").read_text()) | {"frame_hash": "1" * 64}
    path.with_suffix(".json").write_text(json.dumps(content))
    assert [entry.stars for entry in found()] == [0]
    change_marks(path, "1" * 64, note="new")
    assert read_marks(path, "1" * 64) == Marks(note="new")


def test_overwriting_a_video_leaves_no_marks(kept, samples):
    path, _, change = kept
    change(stars=5)
    with output.partial_pair(path) as (mp4, sidecar):
        mp4.write_bytes(samples[1].path.read_bytes())
        sidecar.write_bytes(samples[1].sidecar.read_bytes())
        output.publish_pair(mp4, sidecar, path, overwrite=True, numbered=False)
    assert not marks_file(path).exists()


def test_marks_go_to_the_trash_and_back(kept):
    path, frame_hash, change = kept
    change(stars=3)
    moved = trash.move_to_trash(path)
    assert not marks_file(path).exists()
    assert read_marks(moved, frame_hash) == Marks(3)
    marks_file(path).write_text("somebody's")
    back = trash.restore(moved)
    assert back == path.with_stem("first-2")
    assert read_marks(back, frame_hash) == Marks(3)
    assert marks_file(path).read_text() == "somebody's"


def test_marks_are_no_sidecar_and_no_result(kept, place):
    _, _, change = kept
    change(stars=1)
    twin = place("2026-01-01/first.marks", prompt="another")
    assert {entry.prompt: entry.stars for entry in found()} == {CIRCLE: 1, "another": 0}
    assert twin.with_suffix(".json").name == "first.marks.json"


# --- searching ----------------------------------------------------------------------------------


@pytest.fixture
def three(place):
    """Three results, of 0, 3 and 5 stars, the newest first."""
    rows = (
        ("a", "2030-01-03T00:00:00+00:00", {"steps": 10, "guidance": 7.5}, {}),
        ("b", "2030-01-02T00:00:00+00:00", {"steps": 50}, {"stars": 3, "add_tags": ["Ä b", "x"]}),
        (
            "sweeps/s/1/video",
            "2030-01-01T00:00:00+00:00",
            {"steps": 20},
            {"stars": 5, "note": "圆"},
        ),
    )
    for name, made, values, changes in rows:
        path = place(name, made, **values)
        change_marks(path, result.read_result(path).frame_hash, **changes)


@pytest.mark.parametrize(
    ("search", "steps"),
    [
        ({"stars": 3}, [50, 20]),
        ({"stars": 6}, []),
        ({"tag": "ä B"}, [50]),
        ({"tag": "b"}, []),
        ({"text": "circle 圆"}, [20]),
        ({"text": "Ä"}, [50]),
        ({"where": ["steps >= 20"]}, [50, 20]),
        ({"where": ["steps>10", "stars<5"]}, [50]),
        ({"where": ["guidance = 7.5"]}, [10]),
        ({"where": ["sweep=s"]}, [20]),
        ({"where": ["sweep!=s"]}, [10, 50]),
        ({"where": ["prompt ~ RED Circle"]}, [10, 50, 20]),
        ({"where": ["made >= 2030-01-02T00:00:00+00:00"]}, [10, 50]),
        ({"where": ["device = cuda"]}, []),
        ({"where": ["tiled = false"]}, [10, 50, 20]),
        ({"where": ["steps = 99999999999999999999999"]}, []),
        ({"where": [Condition("note", "~", "圆")]}, [20]),
        ({"sort": "steps"}, [50, 20, 10]),
        ({"sort": "stars", "ascending": True}, [10, 50, 20]),
        ({"sort": "made", "ascending": True}, [20, 50, 10]),
        ({"sort": "compile_seconds"}, [10, 50, 20]),  # none has it: the newest first
        ({"sort": "seconds", "limit": 2, "offset": 1}, [50, 20]),
    ],
)
def test_filters_and_orders(three, search, steps):
    assert [entry.steps for entry in found(**search)] == steps


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"where": ["stepz > 3"]}, "did you mean 'steps'"),
        ({"where": ["steps"]}, "write it like 'steps >= 20'"),
        ({"where": ["steps > many"]}, "steps = 'many': must be a whole number"),
        ({"where": ["guidance > nan"]}, "must be a number"),
        ({"where": ["tiled = perhaps"]}, "must be true or false"),
        ({"where": ["made > yesterday"]}, "must be a date or time"),
        ({"where": ["made = 2030-01-01"]}, "compare times by"),
        ({"where": [Condition("rowid; DROP", "=", "1")]}, "is no value of a result"),
        ({"where": [Condition("steps", "OR 1", "1")]}, "compare by one of"),
        ({"sort": "prompt"}, "sort by made or one of"),
        ({"sort": "at; DROP"}, "sort by made or one of"),
    ],
)
def test_a_wrong_filter_is_one_line(three, search, words):
    with pytest.raises(RequestError, match=words):
        found(**search)


def test_a_list_is_looked_through_at_any_offset(three, place):
    catalogue = Catalogue()
    catalogue.refresh()
    for offset in range(4):
        page = catalogue.browse(Search(), sort="steps", limit=2, offset=offset)
        assert [entry.steps for entry in page.entries] == [50, 20, 10][offset : offset + 2]
        assert page.total == 3
    place("new", "2031-01-01T00:00:00+00:00", steps=7)
    assert catalogue.browse(Search(), limit=1).total == 3
    catalogue.refresh()
    page = catalogue.browse(Search(), limit=1)
    assert (page.total, page.entries[0].steps) == (4, 7)


def test_groups_show_their_first(three, place):
    place("blue", "2031-01-01T00:00:00+00:00", prompt="a blue star", steps=5)
    catalogue = Catalogue()
    catalogue.refresh()
    page = catalogue.browse(Search(), group="prompt")
    assert [
        (e.prompt, e.steps, size) for e, size in zip(page.entries, page.sizes, strict=True)
    ] == [
        ("a blue star", 5, 1),
        (CIRCLE, 10, 3),
    ]
    page = catalogue.browse(Search(), sort="steps", group="prompt")
    assert [entry.steps for entry in page.entries] == [50, 5]
    page = catalogue.browse(Search(), group="sweep")
    assert [(entry.sweep, size) for entry, size in zip(page.entries, page.sizes, strict=True)] == [
        ("s", 1)
    ]
    with pytest.raises(RequestError, match="use one of prompt, grid, sweep"):
        catalogue.browse(Search(), group="seed")


def test_values_for_filters(three, place):
    catalogue = Catalogue()
    catalogue.refresh()
    assert catalogue.values("steps") == [10, 20, 50]
    assert catalogue.values("tags") == ["x", "Ä b"]
    assert catalogue.values("sweep") == ["s"]
    assert catalogue.values("tiled") == [False]
    place("new", steps=7)
    assert catalogue.values("steps") == [10, 20, 50]
    catalogue.refresh()
    assert catalogue.values("steps") == [7, 10, 20, 50]
    assert set(filters.KINDS) >= {"placement", "speed", "attention", "seed", "denoise_seconds"}


# --- the trash ----------------------------------------------------------------------------------


def test_the_trash_is_emptied_if_it_is_as_was_shown(three, outputs, place, tmp_path):
    paths = [entry.path for entry in found()]
    moved = [trash.move_to_trash(path) for path in paths[:2]]
    place("a")
    moved.append(trash.move_to_trash(outputs / "a.mp4"))
    assert moved[2].parent.name == ".2"
    (outputs / "trash" / "mine.txt").write_text("kept")
    elsewhere = outputs.parent / "elsewhere"
    elsewhere.mkdir()
    linked = place("../elsewhere/linked")
    (outputs / "trash" / "link").symlink_to(elsewhere)
    with pytest.raises(ResultError, match="holds 3 results by now, not 2"):
        trash.empty_trash(2)
    assert all(path.exists() for path in moved)
    assert trash.empty_trash(3) == 3
    left = sorted(path.name for path in (outputs / "trash").iterdir() if path.name[0] != ".")
    assert left == ["link", "mine.txt"]
    assert linked.exists()
    assert paths[2].exists()
