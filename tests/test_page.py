"""The workbench's page without a browser: its state and its actions."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
from conftest import CIRCLE, wait_for
from PIL import Image, PngImagePlugin

from cogvx_nb.checkpoints import registry, store
from cogvx_nb.errors import DoesNotFit, PathError
from cogvx_nb.finishing.recipe import Recipe
from cogvx_nb.planning.field import Field
from cogvx_nb.planning.fields import FIELDS, INPUTS
from cogvx_nb.results import result
from cogvx_nb.results.mp4 import TAG
from cogvx_nb.workbench import app, drop_actions, kept_page, media_actions, page
from cogvx_nb.workbench.actions import Action, NoArguments, Reply
from cogvx_nb.workbench.desk import Desk
from cogvx_nb.workbench.draft import NAMES
from cogvx_nb.workbench.jobs import DONE
from cogvx_nb.workbench.kept_job import read_kept_job
from cogvx_nb.workbench.kept_queue import restore_job
from cogvx_nb.workbench.page import Page, Steady, read_script, read_style
from cogvx_nb.workbench.page_state import RollRow, field_rows, roll_row
from cogvx_nb.workbench.session import Session


def odd_value(field: Field) -> object:
    """A valid value that a control may change: between its steps, untrimmed, of two lines."""
    if field.kind is bool:
        return not field.default
    if field.choices:
        return field.choices[-1]
    if field.many:
        return "one:0.6250, two"
    if field.kind is str:
        return " odd\r\ntext "
    if field.kind is int:
        return field.most - 2
    return field.least + 0.123456789 * (min(field.most, 10) - field.least)


ODD = {name: odd_value(FIELDS[name]) for name in NAMES}
"""Of each field of the form such a value."""

QUICK = {"prompt": CIRCLE, "frames": 9, "steps": 2, "seed": 7}

HOSTILE = '<img src=x onerror=alert(1)> "\u202e\x00</script> ' + "x" * 50


class Shown:
    """A page, and the answers to what is asked of it."""

    def __init__(self, tiny, given: dict) -> None:
        self.session = Session()
        self.page = Page(Desk(tiny, self.session, given), app.ACTIONS)
        self.answers: list[dict] = []
        self.buffers: list[bytes] = []
        self._answered = threading.Event()
        self.page.send = self._hear

    def _hear(self, content: dict, buffers=()) -> None:
        json.dumps(content)  # else it could not be sent
        self.answers.append(content)
        self.buffers = list(buffers or ())
        self._answered.set()

    def ask(self, action: object, arguments: object = None, data: bytes = b"", **more) -> dict:
        """The answer: ``data``, or ``error``."""
        self._answered.clear()
        message = {"ask": 5, "client": "me", "action": action} | more
        message |= {} if arguments is None else {"arguments": arguments}
        self.page._on_message(self.page, message, [memoryview(data)] if data else [])
        assert self._answered.wait(60)
        answer = self.answers[-1]
        assert (answer["reply"], answer["client"]) == (5, "me")
        return answer

    def submit(self, **values) -> dict:
        return self.ask("queue.submit", {"values": QUICK | values})

    def wait(self) -> None:
        assert self.session.queue.wait(120)

    def close(self) -> None:
        for job in (*self.session.queue.waiting, self.session.queue.running):
            if job is not None:
                self.session.queue.cancel(job)
        self.wait()
        self.page.shut()


@pytest.fixture
def open_page(tiny, outputs):
    opened = []

    def open_one(**given) -> Shown:
        opened.append(Shown(tiny, given))
        return opened[-1]

    yield open_one
    for shown in opened:
        shown.close()


@pytest.fixture
def shown(open_page) -> Shown:
    return open_page()


# --- the form -------------------------------------------------------------------------------------


def test_the_form_is_made_of_the_fields():
    rows = {row.name: row for row in field_rows()}
    assert set(rows) == set(NAMES)
    assert rows["prompt"].control == "prompt"
    assert rows["strict"].control == "check"
    assert (rows["steps"].control, rows["steps"].least, rows["steps"].most) == ("whole", 1, 1000)
    assert rows["speed"].choices == tuple((name, name) for name in FIELDS["speed"].choices)
    assert all(row.help for row in rows.values())


def test_what_is_typed_is_checked_and_said_in_sentences(shown):
    def problem(**values):
        return shown.ask("form.edit", {"values": QUICK | values})["data"]["problem"]

    assert problem() is None
    assert problem(prompt="") is None, "nobody is told off before typing"
    assert problem(steps=5000) == {
        "text": "Steps 5000 must be between 1 and 1000",
        "field": "steps",
        "permission": "",
        "model": "",
    }
    unknown = problem(prompt="a cat")
    assert unknown["field"] == "prompt"
    assert unknown["permission"] == "allow_unknown"
    assert "allow_unknown" not in unknown["text"]
    notes = shown.ask("form.edit", {"values": QUICK | {"height": 200}})["data"]["notes"]
    assert any("only with “Allow other sizes”" in note for note in notes), notes


def test_an_edit_is_of_some_fields_and_its_answer_has_the_form_and_its_revision(shown):
    shown.ask("form.edit", {"values": QUICK})
    data = shown.ask("form.edit", {"values": {"steps": 3}})["data"]
    assert (data["form"], data["revision"]) == (shown.page.form, shown.page.revision)
    assert {name: data["form"][name] for name in QUICK} == QUICK | {"steps": 3}
    assert shown.ask("form.edit", {"values": {}})["data"]["revision"] > data["revision"]


def test_an_answer_has_the_questions_of_its_view_that_are_under_way(shown):
    slow = Future()
    slow_action = Action(NoArguments, lambda desk, arguments: slow)
    shown.page._actions = {**app.ACTIONS, "slow": slow_action}
    for client in ("me", "another"):
        shown.page._on_message(shown.page, {"ask": 4, "client": client, "action": "slow"}, [])
    assert shown.ask("page.pulse")["under_way"] == [4]
    slow.set_result(Reply())
    assert shown.ask("unknown")["under_way"] == []


def test_a_submission_leaves_what_the_form_got_meanwhile(shown):
    shown.ask("form.edit", {"values": QUICK | {"steps": 3}})
    (job,) = shown.submit(steps=4)["data"]["ids"]
    assert shown.page.form["steps"] == 3
    shown.wait()
    assert [done.request.steps for done in shown.session.finished if done.id == job] == [4]


def test_costs_of_each_length_and_speed(shown, monkeypatch):
    rows = shown.ask("form.predict")["data"]
    assert [(row["frames"], row["speed"]) for row in rows][:4] == [
        (13, "exact"),
        (13, "fast"),
        (13, "turbo"),
        (25, "exact"),
    ]
    assert all(row["seconds"] > 0 and row["bytes"] > 2**27 for row in rows)
    assert rows[0]["seconds"] < rows[3]["seconds"] < rows[6]["seconds"]
    assert rows[0]["note"] == ""
    assert rows[0]["seconds"] == rows[1]["seconds"], "8 bits pay on a GPU only"
    assert "changes nothing here" in rows[1]["note"]

    def refuse(*shape):
        raise DoesNotFit("12.0 GiB are needed and 8.0 are free")

    monkeypatch.setattr(shown.session, "predict", refuse)
    rows = shown.ask("form.predict")["data"]
    assert rows[0]["problem"] == "would not fit: 12.0 GiB are needed and 8.0 are free"


def test_the_form_outlives_page_and_kernel(open_page):
    first = open_page(prompt="a green star", steps=3)
    first.ask("form.edit", {"values": {"prompt": "a red square", "guidance": 4.5}})
    first.page.shut()
    second = open_page(prompt="a green star", steps=3)
    assert second.page.form["prompt"] == "a red square"
    assert (second.page.form["steps"], second.page.form["guidance"]) == (3, 4.5)
    second.page.shut()
    third = open_page(prompt="a blue star", steps=3)
    assert third.page.form["prompt"] == "a blue star", "the notebook's parameter was changed"
    assert third.page.form["guidance"] == 4.5


def test_every_value_is_loaded_and_kept_as_it_was(open_page, place):
    shown = open_page()
    shown.ask("form.edit", {"values": ODD})
    shown.page.shut()
    shown = open_page()
    assert {name: shown.page.form[name] for name in ODD} == ODD
    recorded = json.loads(place("2026-01-01/odd").with_suffix(".json").read_text())["request"]
    others = {*INPUTS, "lora", "frames"}  # are recorded as they were found
    taken = {name: ODD[name] for name in recorded.keys() & ODD.keys() - others}
    place("2026-01-01/odd", **taken)
    form = shown.ask("form.load", {"path": "2026-01-01/odd.mp4"})["data"]["form"]
    assert {name: form[name] for name in taken} == taken


def test_a_new_form_draws_seeds_unless_one_is_given(open_page):
    assert open_page().page.form["seed"] == -1
    kept_page.kept_path().unlink(missing_ok=True)
    assert open_page(seed=5).page.form["seed"] == 5


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 9}', '{"format": 1, "form": {"steps": "x", "nonsense": 1}}']
)
def test_a_damaged_file_is_an_empty_form(content, outputs, open_page):
    outputs.mkdir(exist_ok=True)
    kept_page.kept_path().write_text(content)
    assert open_page(steps=9).page.form["steps"] == 9


# --- the queue ------------------------------------------------------------------------------------


def test_a_click_makes_what_was_in_the_form_at_the_click(shown):
    seen = []
    shown.page.observe(lambda change: seen.append(change["new"]), "jobs")
    (job_id,) = shown.submit()["data"]["ids"]
    shown.ask("form.edit", {"values": {"prompt": "a blue star"}})
    shown.wait()
    running = [state["running"] for state in seen if state["running"]]
    assert {(job["id"], job["prompt"]) for job in running} == {(job_id, CIRCLE)}
    wait_for(lambda: shown.page.roll)
    (row,) = shown.page.roll
    assert (row["prompt"], row["seed"], row["values"]["steps"]) == (CIRCLE, 7, 2)
    assert ("Seed", "7") in [tuple(fact) for fact in row["facts"]]
    assert shown.page.form["prompt"] == "a blue star"
    assert shown.page.progress["id"] == ""


def test_the_same_again_is_shown_and_made_only_if_wanted(shown):
    shown.submit()
    shown.wait()
    known = shown.submit()["data"]
    assert known["ids"] == []
    assert known["known"] == shown.page.roll[0]["path"]
    again = shown.ask("queue.submit", {"values": QUICK, "again": True})["data"]
    assert len(again["ids"]) == 1


def test_copies_count_upwards_or_draw(shown):
    shown.ask("queue.submit", {"values": QUICK | {"steps": 1000}, "copies": 3})
    queue = shown.session.queue
    wait_for(lambda: queue.running)
    seeds = [job.request.seed for job in (queue.running, *queue.waiting) if job]
    assert sorted(seeds)[-2:] == [8, 9]
    shown.ask("queue.clear")
    shown.ask("queue.submit", {"values": QUICK | {"seed": -1, "steps": 1000}, "copies": 3})
    drawn = [job.request.seed for job in queue.waiting][-3:]
    assert len(set(drawn)) == 3
    assert min(drawn) >= 0
    answer = shown.ask("queue.submit", {"values": QUICK, "copies": 101})
    assert "copies = 101" in answer["error"]["text"]


def test_first_is_before_those_that_wait(shown):
    for seed in (1, 2, 3):
        shown.submit(seed=seed, steps=1000)
        wait_for(lambda: shown.page.jobs["running"])
    shown.ask("queue.submit", {"values": QUICK | {"seed": 9, "steps": 1000}, "first": True})
    assert [job["seed"] for job in shown.page.jobs["waiting"]] == [9, 2, 3]
    assert shown.page.jobs["seconds"] > 0
    last = shown.page.jobs["waiting"][-1]["id"]
    shown.ask("queue.move", {"id": last, "places": -2})
    assert [job["seed"] for job in shown.page.jobs["waiting"]] == [3, 9, 2]
    shown.ask("queue.cancel", {"id": last})
    assert [job["seed"] for job in shown.page.jobs["waiting"]] == [9, 2]
    shown.ask("queue.cancel", {"id": "*"})
    shown.wait()
    states = {job["state"] for job in shown.page.ended}
    assert states == {"cancelled"}
    retried = shown.ask("queue.retry", {"id": last})["data"]["ids"]
    assert len(retried) == 1


def test_a_paused_queue_starts_nothing(shown):
    shown.ask("queue.pause", {"on": True})
    shown.submit()
    shown.wait()
    assert shown.page.jobs["paused"]
    assert [job["seed"] for job in shown.page.jobs["waiting"]] == [7]
    shown.ask("queue.pause", {"on": False})
    shown.wait()
    assert shown.session.finished[0].state == DONE


def test_another_seed_leaves_the_form_alone(shown):
    shown.submit()
    shown.wait()
    shown.ask("form.edit", {"values": {"prompt": "a blue star", "seed": -1}})
    path = shown.page.roll[0]["path"]
    shown.ask("queue.repeat", {"path": path, "changes": {"seed": -1}})
    shown.wait()
    assert shown.page.form["prompt"] == "a blue star"
    assert len(shown.page.roll) == 2
    newest = shown.page.roll[0]
    assert newest["prompt"] == CIRCLE
    assert newest["seed"] not in (7, -1)


def test_variations_start_near_its_noise(shown):
    shown.submit()
    shown.wait()
    path = shown.page.roll[0]["path"]
    ids = shown.ask("queue.vary", {"path": path, "strength": 0.2, "copies": 2})["data"]["ids"]
    assert len(set(ids)) == 2
    shown.wait()
    made = [result.read_result(shown.page.desk.path_of(row["path"])) for row in shown.page.roll[:2]]
    requests = [one.settings.request for one in made]
    assert {(one.seed, one.variation_strength) for one in requests} == {(7, 0.2)}
    assert len({one.variation_seed for one in requests}) == 2
    answer = shown.ask("queue.vary", {"path": path, "strength": 2, "copies": 2})
    assert "strength = 2" in answer["error"]["text"]


def test_made_again_and_compared(shown):
    shown.submit()
    shown.wait()
    shown.ask("queue.reproduce", {"path": shown.page.roll[0]["path"]})
    shown.wait()
    wait_for(lambda: shown.page.ended)
    (row,) = shown.page.ended
    assert row["again"]
    assert row["state"] == DONE
    assert "identical: all 9 frames" in " ".join(row["notes"])
    assert len(shown.page.roll) == 1


def test_a_result_is_finished_in_the_queue(shown, outputs, monkeypatch):
    shown.submit()
    shown.wait()
    wait_for(lambda: shown.page.roll)
    path = shown.page.roll[0]["path"]
    methods = shown.ask("finish.methods")["data"]
    assert methods["upscalers"]["lanczos"]["scales"] == (2, 3, 4)
    asked = {"paths": [path], "factor": 3, "scale": 2}
    shown.ask("queue.pause", {"on": True})
    assert len(shown.ask("queue.finish", asked)["data"]["ids"]) == 1
    (waiting,) = shown.page.jobs["waiting"]
    assert waiting["finish"] == "3 times as many frames, enlarged ×2"
    assert 0 < waiting["seconds"] < 10
    left = Session()  # of a kernel that comes after
    kept = read_kept_job(next((outputs / ".queue").glob("*-*.json")))
    assert str(kept) == f"finish ({waiting['finish']}): {Path(path).name}"
    assert restore_job(kept).finish == Recipe(factor=3, scale=2)
    assert left.queue.waiting == ()
    shown.ask("queue.pause", {"on": False})
    shown.wait()
    wait_for(lambda: len(shown.page.roll) == 2)
    row = shown.page.roll[0]
    assert (row["frames"], row["fps"], row["height"], row["width"]) == (25, 24, 192, 288)
    assert ["Finished", "smooth to 24 fps, lanczos ×2"] in [*map(list, row["facts"])]
    shown.ask("queue.reproduce", {"path": row["path"]})
    shown.wait()
    wait_for(lambda: shown.page.ended)
    assert "identical: all 25 frames" in " ".join(shown.page.ended[0]["notes"])
    problem = shown.ask("queue.finish", {"paths": [path], "fps": 8})["error"]["text"]
    assert "the video has 8 already" in problem
    own = {"paths": [path], "scale": 2, "upscaler": "net.pth"}
    assert "is a pickle" in shown.ask("queue.finish", own)["error"]["text"], "before it is queued"
    with monkeypatch.context() as bare:
        bare.setattr("cogvx_nb.planning.probe.installed_version", lambda name: None)
        network = {"paths": [path], "scale": 2, "upscaler": "x4plus"}
        assert "[upscale]" in shown.ask("queue.finish", network)["error"]["text"]
        upscalers = shown.ask("finish.methods")["data"]["upscalers"]
        assert [name for name, row in upscalers.items() if not row["lacking"]] == ["lanczos"]
    known = shown.submit()["data"]["known"]
    assert known == path, "not the finished one"


def test_a_failed_job_says_why(shown, monkeypatch):
    def fail(*arguments, **more):
        raise DoesNotFit("too large")

    monkeypatch.setattr("cogvx_nb.workflow.make_frames", fail)
    shown.submit()
    shown.wait()
    wait_for(lambda: shown.page.ended)
    assert (shown.page.ended[0]["state"], shown.page.ended[0]["error"]) == ("failed", "too large")


# --- results --------------------------------------------------------------------------------------


def test_the_film_roll_outlives_the_kernel(open_page):
    first = open_page()
    first.submit()
    first.wait()
    wait_for(lambda: first.page.roll)
    first.page.shut()
    second = open_page()
    assert [row["path"] for row in second.page.roll] == [row["path"] for row in first.page.roll]


def test_a_video_that_ends_while_the_film_roll_is_shown_stays_on_it(shown, monkeypatch):
    shown.submit()
    shown.wait()
    wait_for(lambda: shown.page.roll)
    late = threading.Thread(target=shown.page._show_roll)  # such as of an Undo
    begun, ended = threading.Event(), threading.Event()

    def row(name: str, result: object) -> RollRow:
        if threading.current_thread() is late and not begun.is_set():
            begun.set()
            ended.wait(60)
        return roll_row(name, result)

    monkeypatch.setattr(page, "roll_row", row)
    late.start()
    assert begun.wait(60)
    shown.submit(seed=8)
    shown.wait()
    wait_for(lambda: len(shown.page.roll) == 2)
    ended.set()
    late.join(60)
    assert [row["seed"] for row in shown.page.roll] == [8, 7]


def test_settings_come_back_and_can_be_dropped(shown, tmp_path):
    shown.submit(guidance=4.5)
    shown.wait()
    path = shown.page.roll[0]["path"]
    mp4 = shown.page.desk.path_of(path)
    tag = json.dumps(result.read_result(mp4).settings.as_json())
    info = PngImagePlugin.PngInfo()
    info.add_itxt(TAG, tag)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    files = {
        "a.mp4": mp4.read_bytes(),
        "a.json": mp4.with_suffix(".json").read_bytes(),
        "a.png": (tmp_path / "a.png").read_bytes(),
    }
    blank = {"prompt": "", "guidance": 6.0}
    shown.ask("form.edit", {"values": blank})
    assert shown.ask("form.load", {"path": path})["data"]["form"]["guidance"] == 4.5
    for name, content in files.items():
        shown.ask("form.edit", {"values": blank})
        half = len(content) // 2
        piece = {"name": name, "size": len(content), "offset": 0}
        assert shown.ask("drop.piece", piece, content[:half])["data"] is None
        answer = shown.ask("drop.piece", piece | {"offset": half}, content[half:])
        assert answer["data"]["form"]["prompt"] == CIRCLE, name
        assert shown.page.form["guidance"] == 4.5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mp4", b"\x00\x00\x00\x18ftypisom" + bytes(20), "a.mp4"),
        ("a.json", b"{}", "settings that can't be used"),
        ("a.json", b"[" * 9000, "nested too deeply"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(40), "a.png"),
        ("empty", b"", "carries no settings"),
        (HOSTILE, b"x", "carries no settings"),
        ("new.json", b'{"format": 99}', "was written by a newer version"),
    ],
)
def test_what_else_is_dropped_is_one_line(shown, name, content, message):
    piece = {"name": name, "size": len(content), "offset": 0}
    text = shown.ask("drop.piece", piece, content)["error"]["text"]
    assert message in text
    assert text.isprintable()


def test_a_large_file_is_refused_at_its_first_piece(shown):
    size = drop_actions.MOST_BYTES * 5
    answer = shown.ask("drop.piece", {"name": "a.mp4", "size": size, "offset": 0}, b"x" * 100)
    assert answer["error"]["text"].startswith("a.mp4 has 500 MB: drop files of up to 100")


def test_a_video_comes_in_pieces(shown, monkeypatch):
    monkeypatch.setattr(media_actions, "PIECE", 4000)
    shown.submit()
    shown.wait()
    path = shown.page.roll[0]["path"]
    whole = shown.page.desk.path_of(path).read_bytes()
    got = b""
    while len(got) < len(whole):
        answer = shown.ask("media.video", {"path": path, "offset": len(got)})
        assert answer["data"]["size"] == len(whole)
        got += shown.buffers[0]
    assert got == whole
    shown.ask("media.posters", {"paths": [path, "none.mp4"]})
    assert shown.buffers[0][8:12] == b"WEBP"
    assert shown.buffers[1] == b""
    shown.ask("media.strip", {"path": path})
    assert shown.buffers[0].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "path", ["../a.mp4", "/etc/passwd", "a/../../b.mp4", "", "\x00", "x" * 400]
)
def test_paths_lead_nowhere_else(shown, path):
    with pytest.raises(PathError):
        shown.page.desk.path_of(path)
    assert shown.ask("media.video", {"path": path})["error"]["text"]


# --- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("nonsense", None),
        (None, None),
        ([1], {}),
        ("queue.submit", [1]),
        ("queue.submit", {"values": 3}),
        ("queue.submit", {"values": {HOSTILE: 1}}),
        ("queue.submit", {"values": {"model": HOSTILE}}),
        ("queue.submit", {"values": {"prompt": {"a": 1}}}),
        ("queue.submit", {"values": {"prompt": CIRCLE, "frames": "13"}}),
        ("queue.move", {"id": "x", "places": 1e9}),
        ("form.load", {"path": 5}),
        ("queue.repeat", {"path": "none.mp4"}),
    ],
)
def test_bad_messages_get_one_line(shown, action, arguments):
    text = shown.ask(action, arguments)["error"]["text"]
    assert text.isprintable()
    assert "Internal error" not in text
    assert len(text) < 400
    shown.page._on_message(shown.page, "no object", [])
    assert shown.ask("page.pulse")["data"] is None


def test_progress_comes_at_most_five_times_a_second(shown):
    sent: list[tuple[float, float]] = []
    shown.page.observe(
        lambda change: sent.append((time.monotonic(), change["new"]["share"])), "progress"
    )
    shown.submit(steps=40)
    shown.wait()
    assert len(sent) > 3
    shares = [share for _, share in sent[:-1]]
    assert shares == sorted(shares)
    assert 0 < shares[-1] <= 1


def test_steady_calls_are_few_and_the_last_counts():
    seen, state = [], {"value": 0}
    steady = Steady(0.05, lambda: seen.append(state["value"]))
    for value in range(50):
        state["value"] = value
        steady.request()
    wait_for(lambda: seen[-1] == 49)
    assert len(seen) < 25
    steady.stop()


def test_the_page_needs_no_network_and_writes_no_markup():
    script, style = read_script(), read_style()
    assert "innerHTML" not in script
    assert "insertAdjacentHTML" not in script
    assert "import(" not in script
    assert "http" not in script.replace("http://www.w3.org/2000/svg", "")
    assert "url(" not in style
    assert script.count("export default") == 1


def test_the_checkpoints_that_can_be_fetched_are_named(shown):
    names = [row[0] for row in shown.page.setup["missing"]]
    here = {model.name for model in store.available_checkpoints()}
    assert "CogVideoX-5b" in names or "CogVideoX-5b" in here
    known = {row.name: row for row in registry.CHECKPOINTS}
    assert {name for name in names if "text" not in known[name].tasks} == set()
    for name, size, _ in shown.page.setup["missing"]:
        assert size == f"{known[name].stored_bytes / 1e9:.1f} GB"
    (tiny,) = [row for row in shown.page.setup["models"] if row["name"] == "cogvideox-tiny"]
    assert tiny["embedded"]
