"""What a page asks about results, without a page: over real files."""

from __future__ import annotations

import io
import json
from concurrent.futures import Future

import pytest
from conftest import CIRCLE
from PIL import Image

from cogvx_nb.errors import CogvxError, PathError, ResultError
from cogvx_nb.results import clips
from cogvx_nb.results.formats import FORMATS
from cogvx_nb.results.marks import marks_file
from cogvx_nb.results.typed import FieldError, read_as
from cogvx_nb.workbench import app, result_actions
from cogvx_nb.workbench.desk import Desk
from cogvx_nb.workbench.session import Session


@pytest.fixture
def ask(outputs, tiny):
    """Asks as a page does, with JSON, and waits for the reply."""
    desk = Desk(tiny, Session(), {})

    def answer(name: str, **arguments):
        action = app.ACTIONS[name]
        reply = action.run(desk, read_as(action.arguments, json.loads(json.dumps(arguments))))
        reply = reply.result(60) if isinstance(reply, Future) else reply
        json.dumps(reply.data)
        return reply

    yield answer
    desk.close()


@pytest.fixture
def three(place):
    return [
        place("x/1", "2030-01-01T00:00:00+00:00", steps=10),
        place("x/2", "2030-01-02T00:00:00+00:00", steps=20, prompt="a blue star"),
        place("x/3", "2030-01-03T00:00:00+00:00", steps=30),
    ]


def paths(reply) -> list[str]:
    return [row["path"] for row in reply.data["rows"]]


def test_pages_of_rows(ask, three):
    found = ask("gallery.find", limit=2)
    assert (paths(found), found.data["total"]) == (["x/3.mp4", "x/2.mp4"], 3)
    assert paths(ask("gallery.find", limit=2, offset=2)) == ["x/1.mp4"]
    assert paths(ask("gallery.find", sort="steps", ascending=True, limit=1)) == ["x/1.mp4"]
    where = [{"column": "steps", "test": ">", "value": 10}]
    assert paths(ask("gallery.find", text="circle", where=where)) == ["x/3.mp4"]
    grouped = ask("gallery.find", group="prompt")
    assert [(row["prompt"], row["size"]) for row in grouped.data["rows"]] == [
        (CIRCLE, 2),
        ("a blue star", 1),
    ]
    chosen = ask("gallery.select", text="circle")
    assert chosen.data == {"paths": ["x/3.mp4", "x/1.mp4"], "total": 2}
    assert ask("gallery.select", offset=1, limit=1).data["paths"] == ["x/2.mp4"]


def test_what_can_be_asked_for(ask, three):
    ask("gallery.mark", paths=["x/1.mp4"], add_tags=["keep"])
    data = ask("gallery.facets").data
    columns = {column["name"]: column for column in data["columns"]}
    assert columns["steps"]["values"] == [10, 20, 30]
    assert columns["denoise_seconds"] == {"name": "denoise_seconds", "kind": "float", "values": []}
    assert data["tags"] == ["keep"]
    assert {"made", "stars", "seconds", "steps"} <= set(data["sorts"])
    assert ask("gallery.tags").data == ["keep"]
    formats = ask("gallery.formats").data
    assert {"mp4", "plain", "gif", "webp", "frames"} <= set(formats) <= set(FORMATS)
    assert formats["webp"]["takes"] == ("quality", "fps", "loop")


def test_marks(ask, three):
    changed = ask(
        "gallery.mark", paths=["x/1.mp4", "x/none.mp4", "x/3.mp4"], stars=4, add_tags=["a b"]
    ).data
    assert [(row["path"], row["stars"], row["tags"]) for row in changed["done"]] == [
        ("x/1.mp4", 4, ["a b"]),
        ("x/3.mp4", 4, ["a b"]),
    ]
    (problem,) = changed["problems"]
    assert "there is no file" in problem
    assert paths(ask("gallery.find", stars=4, tag="A B")) == ["x/3.mp4", "x/1.mp4"]
    ask("gallery.mark", paths=["x/1.mp4"], remove_tags=["a b"], note="<b>")
    row = ask("gallery.row", path="x/1.mp4").data
    assert (row["stars"], row["tags"], row["note"]) == (4, [], "<b>")
    marks_file(three[2]).write_text("broken")
    assert "can't be read" in ask("gallery.row", path="x/3.mp4").data["marks_problem"]
    (problem,) = ask("gallery.mark", paths=["x/3.mp4"], stars=1).data["problems"]
    assert "mend it, or delete it" in problem


def test_pictures(ask, three):
    three[0].write_bytes(b"no video")
    still, gone, broken = ask("media.posters", paths=["x/3.mp4", "x/9.mp4", "x/1.mp4"]).buffers
    assert Image.open(io.BytesIO(still)).format == "WEBP"
    assert gone == b""
    assert broken in (b"", still), "the same frames are drawn once"
    (moving,) = ask("gallery.clip", path="x/2.mp4").buffers
    assert Image.open(io.BytesIO(moving)).format == "WEBP"


def test_to_the_trash_and_back(ask, three, outputs):
    moved = ask("gallery.trash", paths=["x/1.mp4", "x/2.mp4", "x/2.mp4"]).data
    assert moved["done"] == ["trash/x/1.mp4", "trash/x/2.mp4"]
    assert len(moved["problems"]) == 1
    assert paths(ask("gallery.find")) == ["x/3.mp4"]
    trashed = ask("gallery.find", trashed=True)
    assert paths(trashed) == ["trash/x/2.mp4", "trash/x/1.mp4"]
    assert all(ask("media.posters", paths=paths(trashed)).buffers)
    assert ask("gallery.restore", paths=["trash/x/1.mp4"]).data["done"] == ["x/1.mp4"]
    with pytest.raises(ResultError, match="holds 1 results by now, not 2"):
        ask("gallery.empty", count=2)
    assert ask("gallery.empty", count=1).data == {"deleted": 1}
    assert paths(ask("gallery.find", trashed=True)) == []
    assert paths(ask("gallery.find")) == ["x/3.mp4", "x/1.mp4"]


def test_export_in_pieces(ask, three, monkeypatch):
    monkeypatch.setattr(result_actions, "PIECE", 1000)
    first = ask("result.export", path="x/1.mp4", format="mp4")
    assert (first.data["name"], first.data["type"]) == ("1.mp4", "video/mp4")
    data = b""
    while len(data) < first.data["size"]:
        (piece,) = ask("result.export", path="x/1.mp4", format="mp4", offset=len(data)).buffers
        assert 0 < len(piece) <= 1000
        data += piece
    assert data == three[0].read_bytes()
    assert ask("result.export", path="x/1.mp4", format="gif").data["name"] == "1.gif"


def test_a_video_is_encoded_once_for_all_pieces_of_downloads_at_once(ask, three, monkeypatch):
    encode, encoded = clips.clip_bytes, []

    def counted(path, name, how):
        encoded.append(name)
        return encode(path, name, how)

    monkeypatch.setattr(clips, "clip_bytes", counted)
    for offset in (0, 10, 20):
        for kind in ("gif", "webp", "frames"):
            ask("result.export", path="x/2.mp4", format=kind, offset=offset)
    assert sorted(encoded) == ["frames", "gif", "webp"]


def test_recipes(ask, three):
    data = ask("result.recipe", path="x/2.mp4").data
    assert data["command"].startswith(
        "cogvx generate --prompt 'a blue star' --frames 13 --steps 20"
    )
    assert "generate_video(\n    prompt='a blue star'," in data["cell"]


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("gallery.find", {"limit": 10**9}, FieldError),
        ("gallery.find", {"offset": -1}, FieldError),
        ("gallery.find", {"text": 7}, FieldError),
        ("gallery.find", {"where": [{"column": "steps"}]}, FieldError),
        ("gallery.find", {"where": [{"column": "x", "test": "=", "value": 1}]}, CogvxError),
        ("gallery.find", {"where": [{"column": "steps", "test": "=", "value": None}]}, CogvxError),
        ("gallery.find", {"sort": "prompt"}, CogvxError),
        ("gallery.find", {"group": "seed"}, CogvxError),
        ("gallery.mark", {"paths": ["x/1.mp4"], "stars": 6}, FieldError),
        ("gallery.trash", {"paths": ["x"] * 1001}, FieldError),
        ("gallery.clip", {"path": "../secret.mp4"}, PathError),
        ("gallery.clip", {"path": "/etc/passwd"}, PathError),
        ("result.export", {"path": "x/1.mp4", "format": "avi"}, CogvxError),
        ("result.export", {"path": "x/none.mp4", "format": "gif"}, CogvxError),
        ("result.recipe", {"path": "x/none.mp4"}, CogvxError),
    ],
)
def test_what_is_refused(ask, three, name, arguments, error):
    with pytest.raises(error):
        ask(name, **arguments)


def test_nothing_outside_is_touched(ask, three, outputs):
    secret = outputs.parent / "secret.mp4"
    secret.write_bytes(three[0].read_bytes())
    for name in ("gallery.trash", "gallery.restore", "gallery.mark"):
        reply = ask(name, paths=["../secret.mp4", str(secret)])
        assert reply.data["done"] == []
        assert len(reply.data["problems"]) == 2
    assert secret.exists()
