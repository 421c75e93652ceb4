"""Grids: what is written becomes values, values become requests, results become sheets."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
from conftest import CIRCLE, ask_page
from PIL import Image

from cogvx_nb.errors import CogvxError, ModelMissing, OutputError, RequestError, ResultError
from cogvx_nb.planning.field import FRAMES, PLAN
from cogvx_nb.planning.fields import FIELDS, names_deciding
from cogvx_nb.planning.yaml_loading import load_yaml
from cogvx_nb.results import catalogue, mp4, trash, video
from cogvx_nb.results.sheet import MAX_SIDE
from cogvx_nb.sweep import spec
from cogvx_nb.workbench import (
    grid_actions,
    grid_axis,
    grid_file,
    grid_plan,
    grid_sheet,
    grid_sweep,
    grid_values,
    grid_work,
    jobs,
    prediction,
)
from cogvx_nb.workbench.desk import Desk
from cogvx_nb.workbench.grid_axis import parse_axis
from cogvx_nb.workbench.session import Session

VALUES = {"prompt": CIRCLE, "model": "tiny", "steps": 2, "frames": 9}


@pytest.fixture
def session():
    session = Session()
    yield session
    for job in (*session.queue.waiting, *filter(None, [session.queue.running])):
        session.queue.cancel(job)
    assert session.queue.wait(60)


@pytest.fixture
def grids(session):
    return grid_work.Grids(session)


def predict(*_):
    return prediction.Prediction(10.0, 0.0)


def plan(*sides, **changes) -> grid_plan.GridPlan:
    axes = [parse_axis(*side) for side in sides]
    return grid_plan.plan_grid(axes, VALUES | changes, predict)


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("seed", "1, 2,5-8", (1, 2, 5, 6, 7, 8)),
        ("seed", "5–7", (5, 6, 7)),
        ("seed", "9007199254740990-9007199254740991", (2**53 - 2, 2**53 - 1)),
        ("steps", "1-9:2, 20", (1, 3, 5, 7, 9, 20)),
        ("guidance", "1,4.5", (1.0, 4.5)),
        ("guidance", "1-2:0.1", (1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2)),
        ("guidance", "1e1", (10.0,)),
        ("frames", "13，49", (13, 49)),
        ("height", "96, 112", (96, 112)),
        ("speed", "exact, turbo", ("exact", "turbo")),
        ("fallback", "none, reduce", ("", "reduce")),
        ("strict", "yes, off", (True, False)),
        ("negative_prompt", '"", "a, b"', ("", "a, b")),
        (
            "prompt",
            'a cat, asleep\n"a dog, awake"\n\n a cow ',
            ("a cat, asleep", "a dog, awake", "a cow"),
        ),
        ("prompt", '"a cat, asleep", a cow', ("a cat, asleep", "a cow")),
        ("prompt words", " red, blue,dark green ", ("red", "blue", "dark green")),
        (
            "prompt words",
            'red, "blue, dark" ,"a ""b""", 5" pipe',
            ("red", "blue, dark", 'a "b"', '5" pipe'),
        ),
        ("prompt words", '红，"蓝，深"，绿', ("红", "蓝，深", "绿")),
        ("", "ignored", ("",)),
    ],
)
def test_lists_as_people_write_them(name, text, values):
    axis = parse_axis(name, text)
    assert axis.values == values
    if name:
        assert parse_axis(name, axis.text).values == values, "it is written as it is read"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("seed", "1, two", "seed = 'two': is no number, and no range such as"),
        ("seed", "5-", "is no number"),
        ("seed", "-2", "must be between -1 and"),
        ("seed", "1.5", "must be a whole number"),
        ("seed", "9" * 4000, "must be at most"),
        ("seed", "1e999999999", "must be at most"),
        ("seed", "0-1e99999", "must be at most"),
        ("steps", " , ", "name its values"),
        ("steps", "1-1000", "has more than 100 values: take a larger step"),
        ("steps", "1-5:0", "step after the colon"),
        ("seed", "1-60, 100-160", "has 121 values; at most 100"),
        ("guidance", "1-", "guidance = '1-': is no number"),
        ("guidance", "200", "must be between 0 and 100"),
        ("seed", "7-5", "seed = '7-5': the lower number comes first"),
        ("seed", "1, 2-4, 3", "seed = 3: is there twice"),
        ("speed", "exact, turbos", "use one of exact, fast, turbo, did you mean 'turbo'"),
        ("strict", "maybe", "use yes, no"),
        ("prompt words", "red, blue, red", "prompt words = 'red': is there twice"),
        ("prompt words", 'red, "blue, dark', "close its quotes"),
        ("prompt words", 'red, ""', "is empty"),
        ("prompt", "x" * 2001, "has 2001 characters"),
        ("sed", "1", "grid = 'sed': vary one of prompt, prompt words, "),
    ],
)
def test_what_is_no_list_is_said(name, text, message):
    with pytest.raises(RequestError, match=message) as caught:
        parse_axis(name, text)
    assert len(str(caught.value)) <= 300
    assert "\n" not in str(caught.value)


def test_what_can_vary_comes_from_the_table_of_fields(tiny):
    offered = {row["name"]: row for row in grid_axis.axis_choices(tiny.checkpoint, ["tiny", "5b"])}
    deciding = {*names_deciding(FRAMES, PLAN), "model"} - {"fallback"}
    assert set(offered) == deciding | {"prompt words", "lora weight"}
    assert offered["model"]["choices"] == ["tiny", "5b"]
    assert offered["frames"]["example"] == "13, 25, 49"
    for name, row in offered.items():
        if name != "prompt":
            assert len(parse_axis(name, row["example"]).values) >= 1, name
    assert json.dumps(list(offered.values()))


def test_labels_show_all_digits():
    assert parse_axis("seed", "1234567, 9007199254740991").labels == (
        "seed 1234567",
        "seed 9007199254740991",
    )
    assert parse_axis("guidance", "6,6.05").labels == ("guidance 6", "guidance 6.05")
    assert parse_axis("negative_prompt", '"", dark').labels[0] == "negative prompt none"


# --- what it makes of the prompt ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "prompt", "changed"),
    [
        (
            "cat, dog",
            "a cat in a catalogue, the cat's tail",
            "a dog in a catalogue, the dog's tail",
        ),
        ("red, blue", "a red-hot bored redred RED", "a blue-hot bored redred RED"),
        ("红, 蓝", "一个红色的圆", "一个蓝色的圆"),
        ("cat, dog", "一只cat在catalogue上", "一只dog在catalogue上"),
        ("5, 6", "5 of 50 in 1.5 s", "6 of 50 in 1.6 s"),
        (r"a.b, \1\g<0>", "a.b aXb", r"\1\g<0> aXb"),
        ("café, bar", "café cafés", "bar cafés"),
    ],
)
def test_words_are_replaced_whole(words, prompt, changed):
    axis = parse_axis("prompt words", words)
    assert grid_axis.apply_axes([axis], [axis.values[1]], {"prompt": prompt})["prompt"] == changed


def test_words_of_two_sides_are_replaced_at_once():
    first = parse_axis("prompt words", "blue, green", "red")
    second = parse_axis("prompt words", "red, white", "blue")
    changed = grid_axis.apply_axes([first, second], ["blue", "red"], {"prompt": "red on blue"})
    assert changed["prompt"] == "blue on red"


@pytest.mark.parametrize(
    ("words", "replaces", "named"),
    [
        ("blue, green", "rde", "such as 'red'"),
        ("Circle, square", "", "such as 'circle'"),
        ("purple, blue", "", "such as 'red' or 'circle' or 'moving'"),
    ],
)
def test_the_words_that_could_be_meant_are_named(words, replaces, named):
    with pytest.raises(RequestError, match=f"is not in the prompt: name.*{named}"):
        plan(("prompt words", words, replaces))


# --- plans ----------------------------------------------------------------------------------------


def test_every_cell_is_a_request():
    planned = plan(("prompt words", "red, blue"), ("seed", "1-3"), ("guidance", "5, 6"))
    assert [(r.guidance, r.seed, r.prompt.split()[1]) for r in planned.requests] == [
        (guidance, seed, colour)
        for guidance in (5, 6)
        for seed in (1, 2, 3)
        for colour in ("red", "blue")
    ]
    assert planned.describe() == "2 × 3 × 2 = 12 videos, about 2 min"
    assert planned.describe({0, 7}) == "2 × 3 × 2 = 12 videos, 2 of them there, about 2 min"
    assert len(planned.layouts) == 2
    assert plan(("seed", "1-4")).describe() == "4 videos, about 40 s"


def test_whole_prompts_need_none_in_the_form():
    planned = plan(("prompt", "a red circle\na blue square, moving left"), prompt="")
    assert [r.prompt for r in planned.requests] == ["a red circle", "a blue square, moving left"]


def test_a_random_seed_is_the_same_in_all_cells():
    planned = plan(("steps", "2, 4"), seed=-1)
    assert len({r.seed for r in planned.requests}) == 1
    assert planned.values["seed"] == planned.requests[0].seed >= 0
    two = plan(("seed", "-1, 7"), ("steps", "2, 4"))
    assert [r.seed for r in two.requests] == [*two.axes[0].values] * 2
    assert two.axes[0].labels[0] == f"seed {two.requests[0].seed}" != "seed -1"


def test_the_prompt_before_enriching_stays_with_the_prompt_that_was_made_of_it():
    kept = plan(("seed", "1, 2"), enriched_from="circle")
    assert {r.enriched_from for r in kept.requests} == {"circle"}
    varied = plan(("prompt words", "red, blue"), enriched_from="circle")
    assert {r.enriched_from for r in varied.requests} == {""}


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ([("seed", "1")], "grid = 1: make it of 2 to 100 videos"),
        ([("seed", "1-11"), ("steps", "1-10")], "grid = 110: make it of 2 to 100 videos"),
        ([("seed", "1-2"), ("seed", "3-4")], "grid = 'seed': vary another field"),
        ([("prompt words", "red, blue")] * 2, "vary other words"),
        ([("frames", "13, 14")], "frames = 14: .* makes 8 N . 1 from 9 to 49"),
        ([("prompt words", f"red, {'狗' * 60}")], "prompt = 'a 狗.* is unknown to"),
        ([("strict", "no, yes")], "strict = True: makes no difference to False here"),
        ([("fallback", "none, reduce")], "makes no difference"),
        ([("seed", "1, 2"), ("attention", "auto, sdpa")], "attention = 'sdpa': makes no diff"),
        ([("variation_seed", "1, 2")], "makes no difference to 1 here"),
        ([("scheduler", "auto, dpm")], "scheduler = 'dpm': makes no difference to 'auto' here"),
        ([("guidance", "0.5, 1, 6")], "guidance = 1.0: makes the same video as 0.5 here: leave"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_whole(sides, message):
    with pytest.raises(RequestError, match=message) as caught:
        plan(*sides)
    assert len(str(caught.value)) <= 300


def test_a_checkpoint_that_is_not_here_is_named():
    with pytest.raises(ModelMissing, match="nothere"):
        plan(("model", "tiny, nothere"))


def test_a_sheet_that_cannot_be_encoded_is_refused_before_the_first_video():
    planned = plan(("seed", "1-70"))
    assert (planned.layouts[0].across, len(planned.layouts[0].bands)) == (14, 5)
    assert max(planned.layouts[0].size) <= MAX_SIDE
    rows = "seed", ",".join(map(str, range(100)))
    with pytest.raises(OutputError, match="1 × 100 videos of 9 frames is too large: make"):
        plan(("", ""), rows, allow_untrained_size=True, height=2048, width=16)


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def kept(outputs):
    planned = plan(("prompt words", "red, blue"), ("seed", "1, 2"))
    cells = [grid_file.GridCell("0" * 31 + str(n), f"a/{n}.mp4") for n in range(3)]
    return grid_file.new_grid(planned, [*cells, grid_file.GridCell()])


def test_a_grid_is_read_as_it_was_written(kept):
    again = grid_file.read_grid(kept.name)
    assert again == kept
    assert again.cell_values(3)["prompt"] == CIRCLE.replace("red", "blue")
    assert again.cell_values(3)["seed"] == 2
    assert grid_file.list_grids() == ([kept], [])
    assert "prompt words: red, seed" in kept.title


def test_two_grids_of_a_second_have_names_of_their_own(kept):
    planned = plan(("prompt words", "red, blue"), ("seed", "1, 2"))
    names = {grid_file.new_grid(planned, list(kept.cells)).name for _ in range(3)}
    assert len({kept.name, *names}) == 4
    assert len(grid_file.list_grids()[0]) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.update(format=2),
        lambda content: content.update(cells=content["cells"][:3]),
        lambda content: content.update(axes=content["axes"][:2]),
        lambda content: content["axes"][0].update(name="nothing"),
        lambda content: content["axes"][0].update(values=[1, 2]),
        lambda content: content["axes"][0].update(values=[]),
        lambda content: content["axes"][0].update(replaces="elsewhere"),
        lambda content: content["cells"][0].update(path="../../etc/passwd"),
        lambda content: content["cells"][0].update(path="/etc/passwd"),
        lambda content: content["cells"][0].update(job="x"),
        lambda content: content.update(values={"prompt": 7}),
        lambda content: content.update(values={}),
        lambda content: content.pop("made"),
        None,
    ],
)
def test_a_damaged_file_is_one_line_among_the_others(kept, damage, outputs):
    path = outputs / "grids" / f"{kept.name}.json"
    content = json.loads(path.read_text())
    if damage:
        damage(content)
    text = json.dumps(content) if damage else "[" * 100_000
    path.with_name(f"2020-01-01-000000-{kept.name[18:]}.json").write_text(text)
    grids, problems = grid_file.list_grids()
    assert grids == [kept]
    (problem,) = problems
    assert "is no grid that can be read" in problem
    assert "\n" not in problem


@pytest.mark.parametrize("name", ["../x", "", "2026-01-01-000000-none", "x" * 500])
def test_names_lead_nowhere_else(name, outputs):
    with pytest.raises(ResultError):
        grid_file.read_grid(name)


# --- at work --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_grid_is_made_and_its_sheets_written(session, grids, outputs):
    planned = plan(("prompt words", "red, blue"), ("seed", "1-2"), ("steps", "2, 4"))
    made = grids.make(planned)
    assert session.queue.wait(120)
    grid = grid_file.read_grid(made.name)
    assert [state.state for state in grids.states(grid)] == [jobs.DONE] * 8
    session.catalogue.refresh()
    assert session.catalogue.count(where=[f"grid = {grid.name}"]) == 8
    assert all((outputs / cell.path).is_file() for cell in grid.cells)
    found = catalogue.Catalogue()
    found.refresh()
    assert {entry.grid for entry in found.find()} == {grid.name}

    png, film = grid_sheet.save_sheet(grid, 1)
    assert (png.parent, png.stem) == (outputs / "grids", f"{grid.name}-page-2")
    picture = np.asarray(Image.open(png).convert("RGB")).astype(int)
    frames = video.decode_video(film)
    assert frames.shape == (9, *picture.shape)
    _, height, width, _ = frames.shape
    left, right = picture[:, width // 4 : width * 5 // 8], picture[:, width * 5 // 8 :]
    assert height > 2 * 160
    assert (left[..., 0] - left[..., 2]).max() > 80, "red on the left"
    assert (right[..., 2] - right[..., 0]).max() > 80, "blue on the right"
    described = json.loads(mp4.read_box(film, mp4.find_tag(film, mp4.TAG)))["grid"]
    assert described["rows"] == ["seed 1", "seed 2"]
    assert described["page"] == "steps 4"
    with pytest.raises(RequestError, match="page = 2: the grid has 2"):
        grid_sheet.save_sheet(grid, 2)

    trash.move_to_trash(outputs / grid.cells[0].path)
    assert grids.states(grid)[0].state == grid_work.GONE
    assert grids.recover(grid.name) == grid, "what was thrown away stays so"
    grid_sheet.save_sheet(grid, 0)

    again = grids.again(grid.name, 0)
    other = grids.again(grid.name, 3, seed=77)
    wider = plan(("prompt words", "red, blue, green"), ("seed", "1-2"), ("steps", "2, 4"))
    there = grids.finished_cells(wider, grid.name)
    assert sorted(there) == [1, 3, 6, 7, 9, 10], "not those made again, nor the new column"
    reused = grids.make(wider, reuse=grid.name)
    assert session.queue.wait(120)
    assert grid_file.read_grid(grid.name).cells[0].job == again.cells[0].job != grid.cells[0].job
    cell = grid_file.read_grid(grid.name).cells[3]
    assert (cell.job, cell.state, cell.changed) == (other.cells[3].job, jobs.DONE, {"seed": 77})
    made_new = {cell.job for cell in reused.cells} - {cell.job for cell in grid.cells}
    assert len(made_new) == 4 + 2, "a new column, the cell in the trash, and the one of seed 77"


@pytest.mark.slow
def test_a_grid_outlives_the_kernel(session, grids, outputs):
    """Its file as a killed kernel leaves it: one video finished and not written down, one job in
    the kept queue, one of which nothing is known."""
    made = grids.make(plan(("seed", "1-3")))
    assert session.queue.wait(120)
    grid = grid_file.read_grid(made.name)
    left = grid.with_cell(0, path="", state=jobs.WAITING)
    left = left.with_cell(1, path="", state=jobs.WAITING, job="1" * 32)
    left = left.with_cell(2, path="", state=jobs.WAITING, job="2" * 32, changed={"seed": 9})
    grid_file.write_grid(left)

    later = Session()
    queued = jobs.Job(grid_plan.request_of(left.cell_values(1)), id="1" * 32)
    ended = Session()
    ended._kept.keep(queued)
    ended._kept._lock.release()
    later.find_unfinished()
    opened = grid_work.Grids(later)
    states = [state.state for state in opened.states(opened.recover(grid.name))]
    assert states == [jobs.DONE, grid_work.UNFINISHED, grid_work.LOST]
    assert grid_file.read_grid(grid.name).cells[0].path == grid.cells[0].path
    later.resume()
    assert later.queue.wait(60)
    states = [state.state for state in opened.states(grid_file.read_grid(grid.name))]
    assert states[1] == jobs.DONE
    opened.again(grid.name, 2)
    assert later.queue.wait(60)
    assert all((outputs / cell.path).is_file() for cell in grid_file.read_grid(grid.name).cells)


def test_a_grid_is_cancelled_and_what_was_made_is_kept(session, grids, outputs):
    made = grids.make(plan(("seed", "1-4"), steps=100))
    with pytest.raises(RequestError, match="cell = 2: is in the queue already"):
        grids.again(made.name, 1)
    with pytest.raises(RequestError, match="cell = 4: the grid has 4"):
        grids.again(made.name, 4)
    grids.cancel(made.name)
    assert session.queue.wait(60)
    grid = grid_file.read_grid(made.name)
    assert {state.state for state in grids.states(grid)} == {jobs.CANCELLED}
    with pytest.raises(ResultError, match="no video of this sheet"):
        grid_sheet.save_sheet(grid)


def test_nothing_is_queued_where_the_grid_cannot_be_written(session, grids, outputs):
    outputs.mkdir(exist_ok=True)
    (outputs / "grids").write_text("in the way")
    with pytest.raises(CogvxError):
        grids.make(plan(("seed", "1-2")))
    assert not session.queue.waiting
    assert session.queue.running is None


# --- on the page ----------------------------------------------------------------------------------


@pytest.fixture
def ask(tiny, session, outputs):
    desk = Desk(tiny, session, VALUES | {"steps": 100})
    yield functools.partial(ask_page, grid_actions.ACTIONS, desk)
    desk.close()


def test_the_page_plans_as_one_types(ask):
    offered = ask("grid.fields")
    assert offered["typed"] == []
    assert "guidance" in [row["name"] for row in offered["fields"]]
    sides = [{"name": "seed", "text": "1-3"}, {"name": "prompt words", "text": 'red, "a, b"'}]
    planned = ask("grid.plan", sides=sides)
    assert planned["text"].startswith("3 × 2 = 6 videos, about ")
    assert planned["sides"][0]["labels"] == ["seed 1", "seed 2", "seed 3"]
    assert planned["sides"][1]["written"] == ["red", '"a, b"']
    assert planned["sides"][2]["labels"] == [""]
    typed = ask("grid.fields")["typed"]
    assert [side["text"] for side in typed] == [side["text"] for side in sides]
    wrong = [{"name": "prompt words", "text": "purple, blue"}]
    assert ask("grid.plan", sides=wrong).startswith(
        "Prompt words purple is not in the prompt: name"
    )
    assert ask("grid.plan", sides=[]) == "Grid 1: make it of 2 to 100 videos"
    assert "at most 3 sides" in ask("grid.plan", sides=sides * 2)
    text = ask("grid.sweep", sides=sides)["text"]
    assert "seed: [1, 2, 3]" in text
    assert 'model: "cogvideox-tiny"' in text
    assert load_yaml(text)["parameters"]["steps"] == 100


def test_the_page_makes_and_opens_a_grid(ask, session):
    made = ask("grid.make", sides=[{"name": "seed", "text": "1-3"}])
    assert [cell["state"] for cell in made["cells"][1:]] == ["waiting", "waiting"]
    assert made["cells"][2]["job"] == session.queue.waiting[-1].id
    assert not made["over"]
    (listed,) = ask("grid.list")["grids"]
    assert (listed["name"], listed["count"], listed["done"]) == (made["name"], 3, 0)
    ask("grid.cancel", name=made["name"])
    assert session.queue.wait(60)
    opened = ask("grid.open", name=made["name"])
    assert {cell["state"] for cell in opened["cells"]} == {"cancelled"}
    assert opened["over"]
    again = ask("grid.again", name=made["name"], cell=1, seed=-1)
    assert again["cells"][1]["changed"]["seed"] >= 0
    assert again["cells"][1]["state"] in ("waiting", "running")
    assert "there is no grid" in ask("grid.state", name="2026-01-01-000000-none")
    assert "no video of this sheet" in ask("grid.sheet", name=made["name"])


# --- as a sweep -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sides", "changes"),
    [
        ([("seed", "1-3"), ("guidance", "0.00001, 6"), ("steps", "10, 20")], {"seed": 7}),
        ([("prompt words", "red, blue"), ("prompt words", "square, circle", "circle")], {}),
        (
            [("prompt", '"yes", no\n- x: "y" # z\t\u202e\U0001f600\u2028 {a}'), ("seed", "1-2")],
            {"negative_prompt": "null", "allow_unknown": True},
        ),
        ([("strict", "yes, no"), ("model", "tiny, cogvideox-tiny")], {}),
    ],
)
def test_a_sweep_makes_the_same_videos(sides, changes, tmp_path):
    axes = [parse_axis(*side) for side in sides]
    axes += [grid_axis.EMPTY] * (3 - len(axes))
    values = {field.name: field.default for field in FIELDS.values()} | VALUES | changes
    text = grid_sweep.sweep_text(axes, values)
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    read = spec.read_spec(path)
    runs = [dict(values) | read.parameters]
    for factor in read.factors:
        runs = [run | row.values for run in runs for row in factor]
    wanted = [grid_axis.apply_axes(axes, cell, values) for cell in grid_plan.cells(axes)]
    assert sorted(map(as_text, runs)) == sorted(map(as_text, wanted))
    assert load_yaml(text)["notebook"] == "03_generate"


def as_text(values: dict) -> str:
    return json.dumps({n: v for n, v in values.items() if n != "enriched_from"}, sort_keys=True)


def test_most_is_the_limit_of_a_side():
    assert len(grid_values.parse_values(FIELDS["seed"], "1-100")) == grid_values.MOST
