"""Comparisons: what differs, and one video in which all play in step."""

from __future__ import annotations

import dataclasses
import time

import pytest
from conftest import CIRCLE, ask_page

from cogvx_nb.planning.request import Adjustment
from cogvx_nb.results import result, side_by_side, video
from cogvx_nb.workbench import compare_actions
from cogvx_nb.workbench.desk import Desk
from cogvx_nb.workbench.session import Session

XSS = f'{CIRCLE}, {CIRCLE}, {CIRCLE} <script>alert(1)</script> "><img src=x onerror=alert(2)>'


def test_what_differs(samples):
    found = side_by_side.differing_settings(samples)
    assert found["prompt"] == (CIRCLE, "a blue circle moving left", CIRCLE)
    assert found["seed"] == ("42", "7", "42")
    assert found["frames"] == ("13", "13", "25")
    assert not {"model", "guidance", "steps", "height", "width"} & set(found)
    assert not {"device", "dtype", "placement", "tiled", "speed", "attention"} & set(found)
    assert set(side_by_side.differing_settings([samples[0], samples[0]])) == set()


def leaves(value, path: tuple[str, ...] = ()):
    """(path, value) of each field of a sidecar, its sections and its dicts."""
    if dataclasses.is_dataclass(value) and not path[1:]:
        value = {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
    if not isinstance(value, dict):
        yield path, value
        return
    for name, part in value.items():
        yield from leaves(part, (*path, name))


def changed(value, path: tuple[str, ...]):
    """A copy of a sidecar, or a part of it, with another value at a path."""
    if path and isinstance(value, dict):
        return value | {path[0]: changed(value[path[0]], path[1:])}
    if path:
        return dataclasses.replace(value, **{path[0]: changed(getattr(value, path[0]), path[1:])})
    if isinstance(value, bool | None):
        return not value
    if isinstance(value, tuple):
        return (*value, "another")
    return value + ("another" if isinstance(value, str) else 1)


def test_every_field_that_can_differ_is_shown(samples):
    first = samples[0]
    rows: dict[str, set[str]] = {}
    for path, _ in leaves(first.settings):
        other = dataclasses.replace(first, settings=changed(first.settings, path))
        differing = side_by_side.differing_settings([first, other])
        if path[0] in ("made", "seconds"):
            assert differing == {}, "it differs by chance"
            continue
        as_asked = path[0] == "asked"  # else what was asked is no longer what was used
        (name,) = (name for name in differing if as_asked or not name.startswith("asked "))
        assert differing[name][0] != differing[name][1], path
        assert name in side_by_side.comparison_table([first, other]), path
        rows.setdefault(name, set()).add(".".join(path[:2] if path[0] != "versions" else path[:1]))
    assert all(len(paths) == 1 for paths in rows.values()), "no name stands for two fields"
    assert {"speed", "attention", "compiled", "quantized", "placement", "versions"} <= set(rows)
    for name in ("enriched_from", "adjustments"):
        change = {"enriched_from": "x", "adjustments": (Adjustment("steps", 1, 2, "why"),)}[name]
        settings = dataclasses.replace(first.settings, **{name: change})
        other = dataclasses.replace(first, settings=settings)
        assert len(side_by_side.differing_settings([first, other])) == 1


def test_long_seeds_are_told_apart(place):
    found = [
        result.read_result(place(name, seed=seed))
        for name, seed in (("a", 2**53 - 1), ("b", 2**53))
    ]
    assert side_by_side.differing_settings(found) == {
        "seed": ("9007199254740991", "9007199254740992")
    }


def test_long_texts_are_marked_as_a_whole(samples):
    first, second = ("a b " * 2500, "b a " * 2500)
    start = time.monotonic()
    assert side_by_side._mark_words(first, second) == ((first, True),)
    assert time.monotonic() - start < 1


def test_a_comparison_says_where_settings_come_from(place, samples):
    page = side_by_side.comparison_table([result.read_result(place()), samples[0]])
    assert "carries no settings (another program may have dropped them)" in page
    assert "carries no settings" not in side_by_side.comparison_table(samples)


def test_words_that_differ_are_marked(samples):
    page = side_by_side.comparison_table(samples)
    marked = [part.split("</mark>")[0].split(">")[1] for part in page.split("<mark")[1:]]
    assert "blue" in marked
    assert "red" in marked
    assert "7" in marked
    assert not any("circle" in words.split() for words in marked)


def test_text_of_users_is_inert(place):
    hostile = [
        result.read_result(place("a", prompt=XSS)),
        result.read_result(place("b", prompt=f"{XSS} no", negative_prompt="<b>\u202eno")),
    ]
    page = side_by_side.comparison_table(hostile)
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


# --- on the page ----------------------------------------------------------------------------------


@pytest.fixture
def desk(tiny, outputs):
    desk = Desk(tiny, Session(), {})
    yield desk
    desk.close()


def test_the_page_gets_clips_and_rows(desk, place):
    place("2026-01-01/a", prompt=XSS, seed=2**53 - 1)
    place("2026-01-02/b", prompt=CIRCLE)
    paths = ["2026-01-01/a.mp4", "2026-01-02/b.mp4"]
    data = ask_page(compare_actions.ACTIONS, desk, "compare.open", paths=paths)
    assert [clip["letter"] for clip in data["clips"]] == ["A", "B"]
    assert data["clips"][0]["note"].startswith("2026-01-01/a.mp4 carries no settings")
    assert data["clips"][0] | {"note": ""} == {
        "letter": "A",
        "path": paths[0],
        "prompt": XSS,
        "seed": 2**53 - 1,
        "frames": 13,
        "fps": 8,
        "height": 96,
        "width": 144,
        "note": "",
        "inputs": [],
    }
    rows = {name: (kind, cells) for name, kind, cells in data["rows"]}
    assert rows["seed"] == ("differs", [[["9007199254740991", True]], [["42", True]]])
    assert [text for text, marked in rows["prompt"][1][1] if marked] == []
    assert any("<script>" in text for text, marked in rows["prompt"][1][0] if marked)
    kinds = {name: kind for name, (kind, _) in rows.items()}
    assert {kinds[n] for n in ("speed", "attention", "placement")} == {"same"}
    assert {kinds[n] for n in ("denoising", "made", "seconds decode")} == {"time"}
    assert [kind for _, kind, _ in data["rows"]][: len(rows)].index("same") == sum(
        kind == "differs" for kind in kinds.values()
    ), "first those that differ"


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a.mp4"], "choose two to 6"),
        (["a.mp4"] * 7, "choose two to 6"),
        (["a.mp4", "none.mp4"], "there is no file"),
        (["a.mp4", "../a.mp4"], "isn't in the outputs folder"),
        (["a.mp4", "/etc/passwd"], "isn't in the outputs folder"),
        (["a.mp4", 7], "must be text"),
        ("a.mp4", "must be a list"),
    ],
)
def test_what_cannot_be_compared_is_said(desk, place, paths, message):
    place("a")
    for action in ("compare.open", "compare.save"):
        assert message in ask_page(compare_actions.ACTIONS, desk, action, paths=paths)


def test_results_are_found_by_words(desk, place):
    place("2026-01-01/a", prompt="a red circle")
    place("2026-01-02/b", prompt="a blue square")
    find = {"text": "blue"}
    (found,) = ask_page(compare_actions.ACTIONS, desk, "compare.find", **find)
    assert (found["path"], found["prompt"]) == ("2026-01-02/b.mp4", "a blue square")
    assert len(ask_page(compare_actions.ACTIONS, desk, "compare.find")) == 2


def test_a_comparison_is_saved_with_all_clips_in_step(desk, place, outputs):
    place("a")
    place("b")
    asked = {"paths": ["a.mp4", "b.mp4"]}
    saved = ask_page(compare_actions.ACTIONS, desk, "compare.save", **asked)["path"]
    assert saved.startswith("comparisons/")
    frames = video.decode_video(outputs / saved)
    assert len(frames) == 13
    assert frames.shape[2] > 2 * 144
    assert len(ask_page(compare_actions.ACTIONS, desk, "compare.find")) == 2, "it is no result"
