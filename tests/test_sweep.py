"""Sweeps: every run whole, once, and resumed after whatever ended the sweep."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import psutil
import pytest
from chat import Endpoint, Reply
from conftest import CIRCLE, run_cogvx, start, wait_for

from cogvx_nb import workflow
from cogvx_nb.checkpoints import registry
from cogvx_nb.cli.main import main
from cogvx_nb.errors import Cancelled, DiskFull, NotebookError, ResultError, SpecError, SweepBusy
from cogvx_nb.planning.request import Adjustment
from cogvx_nb.results import result, video
from cogvx_nb.sweep import driver, lock, runs, workplace
from cogvx_nb.sweep.folder import SweepFolder
from cogvx_nb.sweep.lock import Share
from cogvx_nb.sweep.worker import RunOutcome, SweepWorker

STAR = "a green star growing on a navy background"
REPORT = "from pathlib import Path\nPath('x.json').write_text(__import__('json').dumps([x, text]))"
LOG = "with open(log, 'a') as file:\n    print(x, file=file)"


@pytest.fixture(autouse=True)
def known_machine(request, here, monkeypatch):
    """This machine without a child process that imports torch, except in slow tests."""
    if not request.node.get_closest_marker("slow"):
        known = contextlib.nullcontext(lambda: here)
        monkeypatch.setattr(runs, "probe_in_child", lambda needed: known)


def hired(*workers):
    """These workers, for however many runs."""
    return lambda runs: contextlib.nullcontext(workers)


def file(folder: Path, spec: dict, name: str = "mine") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(spec), encoding="utf-8")
    return path


def folders(outputs: Path, name: str = "sweep") -> list[Path]:
    """Of the runs that are done."""
    return sorted(path.parent for path in outputs.glob(f"sweeps/{name}/*/run.json"))


def reports(outputs: Path, name: str = "sweep") -> list:
    return sorted(json.loads((path / "x.json").read_text()) for path in folders(outputs, name))


def hidden(outputs: Path, name: str = "sweep") -> list[str]:
    """Hidden files that a sweep leaves, without those that it needs to be started again."""
    names = [path.name for path in (outputs / "sweeps" / name).glob(".*")]
    return [name for name in names if not name.startswith((".lock", ".runs.json", ".notebook-"))]


def stamps(outputs: Path, name: str = "sweep") -> dict[str, int]:
    return {path.name: (path / "run.json").stat().st_mtime_ns for path in folders(outputs, name)}


@pytest.mark.slow
def test_notes_on_requests_are_printed_once(capsys):
    grid = {"negative_prompt": ["bluee", "", "a blue square"], "seed": [1, 2]}
    driver.prepare_sweep({"parameters": {"model": "tiny", "prompt": CIRCLE}, "grid": grid})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cogvx: the negative prompt has no effect, all of it is unknown to ")
    assert line.endswith("'bluee' (did you mean 'blue'?) (2 of 6 runs)")


def test_03_is_swept_resumed_and_widened(outputs, tiny):
    spec = {"parameters": {"steps": 2}, "grid": {"prompt": [CIRCLE]}, "seeds": 2}
    ended = driver.run_sweep(spec)
    assert (ended.done, ended.failed, hidden(outputs)) == (2, {}, [])
    loads = []
    for path in folders(outputs):
        made = result.read_result(path / "video.mp4").settings
        loads.append(made.seconds["load"])
        assert video.decode_video(path / "video.mp4").shape == (13, 96, 144, 3)
        assert made.request.prompt == CIRCLE
        executed = nbformat.read(path / "notebook.ipynb", as_version=4)
        assert executed.metadata.papermill.parameters.seed == made.request.seed
        assert str(path / "video.mp4") in (path / "notebook.ipynb").read_text()
        assert ".running" not in (path / "notebook.ipynb").read_text()
    assert min(loads) < max(loads) / 2, "the model is loaded once"

    before = stamps(outputs)
    assert driver.run_sweep(spec).done == 2
    assert stamps(outputs) == before
    damaged = folders(outputs)[0]
    (damaged / "video.mp4").write_bytes((damaged / "video.mp4").read_bytes()[:-1])
    spec["grid"]["prompt"].append(STAR)
    shown = []
    assert driver.run_sweep(spec, view=lambda progress: shown.append(progress.done)).done == 4
    assert shown[0] == 1
    after = stamps(outputs)
    assert {name for name in before if after[name] == before[name]} == set(before) - {damaged.name}
    assert {
        result.read_result(path / "video.mp4").settings.request.seed for path in folders(outputs)
    } == {42, 43}


def test_dry_run_lists_what_is_left(outputs, tmp_path, capsys):
    path = file(tmp_path, {"grid": {"steps": [10, 50], "frames": [13, 49]}, "seeds": 2500})
    assert main(["sweep", str(path), "--dry-run"]) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    assert len(rows) == 10_001
    assert "frames = 49, steps = 50" not in rows[1]
    assert "seed = 2541" in rows[-1]
    assert last.startswith("mine: 03_generate.ipynb, 10000 runs, 0 of them done; the others take")
    assert " h, 0.3 GiB and " in last
    assert not outputs.exists()


BAD = [
    (2, "mine.yaml: unknown key 'gird'", {"gird": {}}),
    (2, "mine.yaml: seeds = 0", {"seeds": 0}),
    (2, "seeds = \"many\": must be a whole number", {"seeds": "many"}),
    (2, "name = 'a/b'", {"name": "a/b"}),
    (2, "zip needs lists of one length: steps has 2, frames has 1",
     {"zip": {"steps": [1, 2], "frames": [13]}}),
    (2, "'steps' is varied in two places", {"grid": {"steps": [1]}, "runs": [{"steps": 2}]}),
    (2, "'steps' is fixed in parameters and listed",
     {"grid": {"steps": [1]}, "parameters": {"steps": 2}}),
    (2, "'stepz': 03_generate.ipynb has no such one; known: prompt", {"grid": {"stepz": [1]}}),
    (2, "steps = '20': must be a whole number", {"grid": {"steps": ["20"]}}),
    (2, "prompt = 7: must be text: quote it", {"prompts": [CIRCLE, 7]}),
    (2, "run 3 of 3 (row 3 of runs): steps = 0: must be between 1 and 1000",
     {"runs": [{"steps": 1}, {"steps": 2}, {"steps": 0}]}),
    (2, "run 2 of 2 (row 2 of prompts): prompt = 'zyzzyva quokka axolotl': most of it, such as",
     {"prompts": [CIRCLE, "zyzzyva quokka axolotl"]}),
    (2, "output = 'a.mp4': each run writes video.mp4", {"parameters": {"output": "a.mp4"}}),
    (1, "cogvx download CogVideoX-5b", {"grid": {"model": ["tiny", "CogVideoX-5b"]}}),
    (1, "no notebook 'nothing'", {"notebook": "nothing"}),
    (2, "prompts = 'no.txt'", {"prompts": "no.txt"}),
    (2, "1,000,000 runs are more than 100,000", {"grid": {"steps": [*range(1000)]}, "seeds": 1000}),
    (2, "it must hold a mapping", []),
    (2, "speed = 'warp': use one of exact, fast, turbo", {"grid": {"speed": ["exact", "warp"]}}),
    (2, "attention = 7: must be text", {"parameters": {"attention": 7}}),
    (2, "fallback = 'less': use one of reduce", {"grid": {"fallback": ["", "less"]}}),
    (2, "strict = 'yes': must be true or false", {"parameters": {"strict": "yes"}}),
    (2, "frames = 14: cogvideox-tiny makes 8 N + 1 from 9 to 49, or 13 frames, and",
     {"parameters": {"strict": True}, "grid": {"frames": [13, 14]}}),
    (2, "height = 5000: must be between 16 and 4096",
     {"parameters": {"allow_untrained_size": True}, "grid": {"height": [96, 5000]}}),
    (2, "model = 'cogvideox-tiny': its prompts can't be enriched",
     {"parameters": {"enrich": True}}),
]  # fmt: skip


@pytest.mark.parametrize(("code", "words", "spec"), BAD, ids=[row[1] for row in BAD])
def test_what_is_wrong_is_one_line_before_the_first_run(
    outputs, tmp_path, capsys, code, words, spec
):
    assert main(["sweep", str(file(tmp_path, spec))]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not outputs.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["report"], "name a sweep; there are: none yet"),
        (["mine.yaml", "status"], "unrecognized arguments: status"),
        (["status", "mine", "--again"], "unknown flag --again"),
        (["--shard", "status"], "required: FILE"),
    ],
    ids=str,
)
def test_usage_is_one_line(capsys, flags, words):
    assert main(["sweep", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_flags_precede_words_and_files_have_any_name(outputs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("status", "mine.yaml"):
        (tmp_path / name).write_text("{gird: {}}")
    for flags in (["./status"], ["--shard", "1/2", "mine.yaml"], ["run", "mine.yaml", "--again"]):
        assert main(["sweep", *flags]) == 2
        assert "unknown key 'gird'" in capsys.readouterr().err
    assert main(["sweep", "--output", "status", "report", "none"]) == 1
    assert "must end in .html" in capsys.readouterr().err
    assert main(["sweep", "--debug", "cancel", "none"]) == 1
    assert "no sweep 'none' here; known: none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grid: {steps: [1]}\ngrid: {steps: [2]}", "line 2: 'grid' is given twice"),
        ("grid: [", "is no YAML"),
        ('prompts: "a\\0b.txt"', "a.yaml: prompts 'a.x00b.txt': it holds a NUL character"),
        ("prompts: a.xlsx", "'a.xlsx': end it in one of .txt, .jsonl"),
        (
            "grid: {guidance: [1e1]}",
            r"guidance = '1e1': must be a number \('1e1' is text in YAML: ",
        ),
        ("grid: {prompt: [no]}", "prompt = False: must be text: quote it .YAML reads yes, no"),
        ("prompts: [12:30]", "a.yaml: line 1: 12:30 is a number to base 60 in YAML: write 750"),
        ("timeout: 1e1", "timeout = .1e1.: must be a number .'1e1' is text in YAML: write 10.0"),
        ("seeds: !!bool maybe", "is no YAML"),
        ("seeds: !!int ''", "is no YAML|invalid literal"),
        ("prompts: p.csv", "line 3 of p.csv: steps = 'x': must be a whole number"),
    ],
)
def test_what_is_wrong_in_files(tmp_path, text, words):
    (tmp_path / "p.csv").write_text(f"prompt,steps\n{CIRCLE},\n{CIRCLE},x\n")
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(SpecError, match=words):
        driver.prepare_sweep(tmp_path / "a.yaml")


def test_values_reach_the_notebook_as_they_are(outputs, tmp_path, book):
    texts = ["007", "{x} {}", "quote \" ' \\n \\", "two\nlines", "红色", "None", "$HOME `id`"]
    spec = {"notebook": book(REPORT), "grid": {"text": texts}}
    assert driver.run_sweep(spec).failed == {}
    assert reports(outputs) == sorted([1, text] for text in texts)
    assert driver.run_sweep(spec).done == len(texts)


def test_cells_of_a_csv_file_reach_the_notebook_as_they_are(outputs, tmp_path):
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]} if not n else {})
        for n, source in enumerate(['x: int = 1\nprompt: str = ""', "text = prompt", REPORT])
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, tmp_path / "csv.ipynb")
    rows = ["1,1e3", '2," a "', '3,"two\nlines"', "4,007", "5,null"]
    (tmp_path / "rows.csv").write_text("\n".join(["x,prompt", *rows]))
    spec = file(tmp_path, {"notebook": "csv.ipynb", "prompts": "rows.csv"})
    assert driver.run_sweep(spec).failed == {}
    values = [[1, "1e3"], [2, " a "], [3, "two\nlines"], [4, "007"], [5, "null"]]
    assert reports(outputs, "mine") == values


@pytest.mark.slow
def test_whatever_a_run_leaves_is_part_of_it(outputs, book):
    odd = "import os\nos.makedirs('a/b')\nopen(b'a/b/\\xff', 'w').write('1')\n"
    odd += "open('c', 'w').close(); os.chmod('c', 0o444); os.symlink('nowhere', 'd')"
    spec = {"notebook": book(odd, REPORT), "grid": {"x": [1]}}
    assert driver.run_sweep(spec).done == 1
    before = stamps(outputs)
    assert driver.run_sweep(spec).done == 1
    assert stamps(outputs) == before
    next(folders(outputs)[0].glob("a/b/*")).write_text("12")
    assert driver.run_sweep(spec).done == 1
    assert stamps(outputs) != before


def test_prompts_from_files(tmp_path):
    (tmp_path / "a.txt").write_text(f"\ufeff{CIRCLE}\n\n{STAR}\n", encoding="utf-8")
    (tmp_path / "a.csv").write_text(f'prompt,guidance\n"{CIRCLE}",3\n{STAR},\n', encoding="utf-8")
    for name, guidance in (("a.txt", [None, None]), ("a.csv", [3.0, None])):
        spec = file(tmp_path, {"prompts": name, "parameters": {"seed": 7}, "seeds": 2})
        runs = driver.prepare_sweep(spec)[2]
        assert [run.parameters["prompt"] for run in runs] == [CIRCLE, CIRCLE, STAR, STAR]
        assert [run.parameters["seed"] for run in runs] == [7, 8, 7, 8]
        assert [run.parameters.get("guidance") for run in runs[::2]] == guidance


def test_tables_of_spreadsheets_become_runs(tmp_path):
    rows = [f"{CIRCLE};42,0;1,5;TRUE", f"{STAR};;NaN;", ";;;"]
    (tmp_path / "a.csv").write_text("\n".join(["Prompt;Seed; guidance ;strict", *rows]))
    frame = [{"prompt": CIRCLE, "seed": 42.0, "strict": True}, {"prompt": STAR, "seed": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, frame)))
    for name, guidance in (("a.csv", 1.5), ("a.jsonl", None)):
        first, second = driver.prepare_sweep(file(tmp_path, {"prompts": name}))[2]
        shown = [first.parameters.get(key) for key in ("prompt", "seed", "guidance", "strict")]
        assert shown == [CIRCLE, 42, guidance, True]
        assert type(first.parameters["seed"]) is int
        assert {*second.parameters} == {"prompt", "model", "output"}
    (tmp_path / "a.csv").write_text(f"prompt;guidance\n{CIRCLE};1.500")
    message = "line 2 of a.csv: guidance = '1.500': has thousands or decimals: write 1500 or 1.5000"
    with pytest.raises(SpecError, match=message):
        driver.prepare_sweep(file(tmp_path, {"prompts": "a.csv"}))


def test_any_field_of_a_request_can_vary():
    grid = {"allow_unknown": [True], "prompt": ["zyzzyva quokka axolotl"], "strict": [True]}
    grid |= {"attention": ["auto", "sdpa"], "fallback": ["", "reduce"], "speed": ["exact", "turbo"]}
    sizes = {"allow_untrained_size": [True, True], "height": [64, None]}
    runs = driver.prepare_sweep({"grid": grid, "zip": sizes})[2]
    assert len(runs) == len({run.id for run in runs}) == 16
    assert {run.expected.request["height"] for run in runs} == {64, 96}
    assert {run.varied["attention"] for run in runs} == {"auto", "sdpa"}
    assert {run.expected.may_reduce for run in runs} == {True, False}


OLD_PARAMETERS = """\
prompt: str = ""
negative_prompt: str = ""
output: str = ""
frames: int = 13
steps: int = 50
height: int = None
width: int = None
guidance: float = 6.0
seed: int = 42
model: str = "auto"
"""


def test_a_notebook_with_the_parameters_of_older_ones_makes_videos_too(tmp_path):
    cell = nbformat.v4.new_code_cell(OLD_PARAMETERS, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, tmp_path / "old.ipynb")
    spec = {"notebook": str(tmp_path / "old.ipynb"), "parameters": {"prompt": CIRCLE}}
    (run,) = driver.prepare_sweep(spec | {"grid": {"steps": [2]}})[2]
    assert run.expected.request["steps"] == 2
    assert run.peak_bytes > 0
    for name in ("attention", "enrich"):
        with pytest.raises(SpecError, match=f"'{name}': old.ipynb has no such one; known: prompt"):
            driver.prepare_sweep(spec | {"grid": {name: [True]}})


class InThisProcess(SweepWorker):
    """Makes videos as notebook 03 does, where a test's changes have effect."""

    def execute(self, task):
        workflow.generate_video(**task.parameters | {"output": task.output.parent / "video.mp4"})
        task.output.write_text("{}")
        return RunOutcome(0.1)


@pytest.mark.slow
def test_a_prompt_is_enriched_when_its_run_is_made(outputs, monkeypatch):
    spec = {"parameters": {"enrich": True, "steps": 2, "prompt": "一颗蓝色的星"}, "seeds": 1}
    open_to_all = replace(registry.TINY, enrichable=True)
    monkeypatch.setattr(registry, "CHECKPOINTS", (registry.COGVIDEOX_5B, open_to_all))
    monkeypatch.delenv("COGVX_CHAT_BASE_URL", raising=False)
    with pytest.raises(SpecError, match="no chat endpoint is set: set COGVX_CHAT_BASE_URL"):
        driver.prepare_sweep(spec)
    with Endpoint() as endpoint:
        endpoint.reply = Reply(STAR)
        monkeypatch.setenv("COGVX_CHAT_BASE_URL", endpoint.url)
        monkeypatch.setenv("COGVX_CHAT_MODEL", "a-model")
        (run,) = driver.prepare_sweep(spec)[2]
        assert endpoint.requests == [], "costs are predicted without it"
        workers = hired(InThisProcess())
        ended = driver.run_sweep(spec, workers=workers)
        assert (ended.done, ended.failed, len(endpoint.requests)) == (1, {}, 1)
    (folder,) = folders(outputs)
    sidecar = json.loads((folder / "video.json").read_text("utf-8"))
    assert (sidecar["request"]["prompt"], sidecar["enriched_from"]) == (STAR, "一颗蓝色的星")
    assert SweepFolder("sweep").is_done(run.id, run.expected)
    assert not SweepFolder("sweep").is_done(run.id, replace(run.expected, enriched_from=CIRCLE))
    assert not SweepFolder("sweep").is_done(run.id, replace(run.expected, enriched_from=""))


@pytest.mark.slow
def test_a_prompt_with_wildcards_and_a_drawn_seed_is_enriched(outputs, monkeypatch):
    numbers = "|".join(map(str, range(400)))  # planning draws another one than the run
    asked = {"enrich": True, "steps": 2, "prompt": f"{{{numbers}}} 颗星", "seed": -1}
    open_to_all = replace(registry.TINY, enrichable=True)
    monkeypatch.setattr(registry, "CHECKPOINTS", (registry.COGVIDEOX_5B, open_to_all))
    with Endpoint() as endpoint:
        endpoint.reply = Reply(STAR)
        monkeypatch.setenv("COGVX_CHAT_BASE_URL", endpoint.url)
        monkeypatch.setenv("COGVX_CHAT_MODEL", "a-model")
        (run,) = driver.prepare_sweep({"parameters": asked})[2]
        ended = driver.run_sweep({"parameters": asked}, workers=hired(InThisProcess()))
    assert (ended.done, ended.failed) == (1, {})
    assert SweepFolder("sweep").is_done(run.id, run.expected)
    assert not SweepFolder("sweep").is_done(run.id, replace(run.expected, enriched_from=""))


def test_a_request_may_be_reduced_after_memory_ran_out(samples):
    spec = {"parameters": {"fallback": "reduce"}, "grid": {"frames": [49]}}
    (run,) = driver.prepare_sweep(spec)[2]
    recorded = samples[0].settings
    reduced = {"frames": 13, "steps": 20}
    sidecar = replace(
        recorded,
        request=replace(recorded.request, **run.expected.request | reduced),
        adjustments=tuple(Adjustment(name, 50, used, "") for name, used in reduced.items()),
    )
    run.expected.check(sidecar)
    another_seed = replace(sidecar.request, seed=1)
    for wrong in ({"adjustments": ()}, {"request": another_seed}, {"enriched_from": CIRCLE}):
        with pytest.raises(ResultError, match="something else than was asked for"):
            run.expected.check(replace(sidecar, **wrong))
    with pytest.raises(ResultError, match="another checkpoint"):
        run.expected.check(replace(sidecar, checkpoint=replace(sidecar.checkpoint, sha256={})))
    with pytest.raises(ResultError, match="something else than was asked for"):
        replace(run.expected, may_reduce=False).check(sidecar)


def test_each_run_draws_its_seed_once(samples):
    spec = {"parameters": {"seed": -1}, "grid": {"steps": [2, 3]}}
    first, second = driver.prepare_sweep(spec)[2]
    assert first.parameters["seed"] == second.parameters["seed"] == -1
    assert [run.id for run in driver.prepare_sweep(spec)[2]] == [first.id, second.id]
    recorded = samples[0].settings
    drawn = replace(recorded, request=replace(recorded.request, seed=123456))
    first.expected.check(drawn)
    with pytest.raises(ResultError, match="something else than was asked for"):
        second.expected.check(drawn)
    with pytest.raises(SpecError, match="the seed -1: give a whole number of 0 or more"):
        driver.prepare_sweep(spec | {"seeds": 3})


def test_a_run_is_what_decides_its_result(tmp_path, book, copy_of_tiny):
    def ids(**spec) -> list[str]:
        return [run.id for run in driver.prepare_sweep(spec)[2]]

    same = [{}, {"steps": 50, "height": None, "guidance": 6}, {"model": "tiny"}]
    same += [{"model": str(copy_of_tiny)}, {"model": "auto", "steps": 50}]
    base, other = ids(runs=[*same, {"steps": 20}])
    assert base != other
    config = copy_of_tiny / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.013"))
    assert ids(runs=same) == [base, *ids(parameters={"model": str(copy_of_tiny)})]
    mine = ids(notebook=book(REPORT))
    assert ids(notebook=book(REPORT, "1")) != mine


def test_runs_share_a_kernel_and_no_variables(outputs, book):
    seen = "import os; seen = [os.getpid(), 'secret' in globals(), x]; secret = 1"
    save = "import json; from pathlib import Path; Path('x.json').write_text(json.dumps(seen))"
    driver.run_sweep({"notebook": book(seen, save), "grid": {"x": [1, 2, 3]}})
    pids, *rows = zip(*reports(outputs), strict=True)
    assert len(set(pids)) == 1
    assert rows == [(False, False, False), (1, 2, 3)]


@pytest.mark.slow
def test_a_failure_is_kept_and_the_rest_goes_on(outputs, tmp_path, book, capsys):
    spec = {"notebook": book("1 / (x - 2)", REPORT), "grid": {"x": [1, 2, 3]}}
    path = file(tmp_path, spec)
    assert main(["sweep", str(path)]) == 1
    printed = capsys.readouterr()
    assert "mine: 2 of 3 done, 1 failed" in printed.out
    assert "ZeroDivisionError: division by zero" in printed.err
    assert reports(outputs, "mine") == [[1, ""], [3, ""]]
    (failed,) = (outputs / "sweeps" / "mine" / "failed").iterdir()
    assert "1 / (x - 2)" in (failed / "traceback.txt").read_text()
    assert "\x1b" not in (failed / "traceback.txt").read_text()
    outputs_of = nbformat.read(failed / "notebook.ipynb", as_version=4).cells
    assert any(o.output_type == "error" for c in outputs_of for o in c.get("outputs", ()))
    assert json.loads((failed / "run.json").read_text())["parameters"] == {"x": 2}
    assert main(["sweep", "status", "mine"]) == 0
    assert f"failed: {failed.name}: ZeroDivisionError" in capsys.readouterr().out
    assert main(["sweep", str(path), "--fail-fast"]) == 1
    for damage in ("[]", "null", '{"error": '):
        (failed / "run.json").write_text(damage)
        capsys.readouterr()
        assert main(["sweep", "status", "mine"]) == 0
        assert f"failed: {failed.name}: unknown: {failed / 'run.json'}" in capsys.readouterr().out
    assert main(["sweep", str(path)]) == 1


@pytest.mark.slow
def test_fail_fast_ends_at_the_first(outputs, book):
    spec = {"notebook": book("1 / (x - 2)", REPORT), "grid": {"x": [1, 2, 3]}}
    ended = driver.run_sweep(spec, fail_fast=True)
    assert (ended.done, ended.waiting, len(ended.failed)) == (1, 1, 1)


class Harmful(SweepWorker):
    """Its second run harms its own place."""

    def __init__(self, harm) -> None:
        super().__init__("harm")
        self._harm = harm

    def execute(self, task):
        task.output.write_text("{}")
        (task.output.parent / "x.json").write_text(json.dumps([task.parameters["x"], ""]))
        if task.parameters["x"] == 2:
            self._harm(task.output.parent)
        return RunOutcome(0.1)


def replace_by_link(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to("/")


def replace_running_by_file(folder: Path) -> None:
    shutil.rmtree(folder.parent)
    folder.parent.write_text("")


HARM = [
    (shutil.rmtree, "it removed, renamed or replaced the folder that it ran in"),
    (lambda work: work.rename(work.with_name("elsewhere")), "it removed, renamed or replaced"),
    (replace_by_link, "it removed, renamed or replaced"),
    (replace_running_by_file, "it removed, renamed or replaced"),
    (lambda work: (work / "run.json" / "a").mkdir(parents=True), "it made run.json, a name that"),
    (lambda work: (work / "run.json").write_text("{}"), "it made run.json"),
    (lambda work: (work / "traceback.txt").mkdir(), "it made traceback.txt"),
    (lambda work: ((work / "notebook.ipynb").unlink(), (work / "notebook.ipynb").mkdir()),
     "it replaced notebook.ipynb, its own executed copy"),
]  # fmt: skip


@pytest.mark.parametrize(("harm", "words"), HARM, ids=range(len(HARM)))
def test_a_run_that_harms_its_place_fails_and_the_others_go_on(outputs, book, harm, words):
    spec = {"notebook": book(REPORT), "grid": {"x": [1, 2, 3]}}
    for _ in range(2):
        workers = hired(Harmful(harm))
        ended = driver.run_sweep(spec, workers=workers)
        assert (ended.done, len(ended.failed)) == (2, 1)
        (line,) = ended.failed.values()
        assert words in line
        (failed,) = (outputs / "sweeps" / "sweep" / "failed").iterdir()
        assert json.loads((failed / "run.json").read_text())["error"] == line
    assert hidden(outputs) == []
    assert driver.run_sweep(spec, workers=hired(Harmful(str))).done == 3


HARM_TO_OTHERS = [
    lambda root: [path.unlink() for path in root.glob(".[lnr]*") if path.is_file()],
    lambda root: [(path.unlink(), path.mkdir()) for path in root.glob(".[lnr]*") if path.is_file()],
    lambda root: next(root.glob(".notebook-*")).write_text("{}"),
    lambda root: (root / "failed").write_text(""),
]


@pytest.mark.parametrize("harm", HARM_TO_OTHERS, ids=range(len(HARM_TO_OTHERS)))
def test_a_run_that_harms_its_sweep_keeps_no_other_from_being_done(outputs, book, harm):
    spec = {"notebook": book(REPORT), "grid": {"x": [1, 2, 3]}}
    root = SweepFolder("sweep").root

    class Last(Harmful):
        def execute(self, task):
            outcome = super().execute(task)
            if task.parameters["x"] == 3:
                assert nbformat.read(task.notebook, as_version=4).cells
                assert [holder.pid for holder in lock.lock_holders(root)] == [os.getpid()]
                return replace(outcome, error="failed")
            return outcome

    workers = hired(Last(lambda work: harm(work.parent.parent)))
    ended = driver.run_sweep(spec, workers=workers)
    assert (ended.done, [*ended.failed.values()]) == (2, ["failed"])
    assert SweepFolder("sweep").status().total == 3
    assert lock.lock_holders(root) == []
    assert driver.run_sweep(spec, workers=hired(Harmful(str))).done == 3


def test_folders_that_were_locked_are_deleted(tmp_path):
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    for name in ("a/b/c", "a/b", "a"):
        (tmp_path / name).chmod(0)
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("link", "a", "nothing"):
        workplace.delete_tree(tmp_path / name)
    assert [*tmp_path.iterdir()] == []


def test_room_is_asked_of_the_disk(small_disk, tmp_path):
    disk = small_disk(400)
    assert workplace.has_room(disk, 300_000)
    assert not workplace.has_room(disk, 500_000)
    assert workplace.has_room(tmp_path / "nothing", 1)
    assert [*disk.iterdir()] == []


EARLY = "ended early in cell 2: a cell after it was not run"


class Early(SweepWorker):
    """Its notebooks end before they make a video."""

    def execute(self, task):
        task.output.write_text("{}")
        return RunOutcome(0.1, ended_early=EARLY)


def test_a_run_that_ended_before_its_video_is_not_done(outputs):
    spec = {"parameters": {"prompt": CIRCLE, "steps": 2}, "seeds": 1}
    ended = driver.run_sweep(spec, workers=hired(Early()))
    assert [*ended.failed.values()] == [f"no video: the notebook made no video.mp4 ({EARLY})"]


ENDINGS = """
import sys
if x == 3: raise OSError(28, "No space left on device")
if x == 4: raise type("DiskFull", (Exception,), {})("no room")
if x == 5: raise type("Cancelled", (Exception,), {})("stop")
if x == 6: sys.modules.clear()
"""


@pytest.mark.slow
def test_what_a_notebook_says_is_no_fact(outputs, book):
    """Not that the disk is full, nor that somebody cancelled it; a broken kernel is replaced."""
    spec = {"notebook": book(ENDINGS, REPORT), "grid": {"x": [*range(3, 8)]}}
    ended = driver.run_sweep(spec)
    assert [*ended.failed.values()] == [
        "OSError: [Errno 28] No space left on device", "DiskFull: no room",
        "Cancelled: stop", "the kernel died",
    ]  # fmt: skip
    assert reports(outputs) == [[7, ""]]


@pytest.mark.slow
def test_retries_dead_kernels_and_time_outs(outputs, tmp_path, book):
    once = f"import os\nflag = {str(tmp_path)!r} + f'/flag{{x}}'\n"
    once += "first = not os.path.exists(flag)\nopen(flag, 'w').close()"
    bad = "import time\nif first and x == 1: os.kill(os.getpid(), 9)\nif first and x == 2: 1 / 0\n"
    bad += "if x == 3: time.sleep(600)"
    spec = {"notebook": book(once, bad, REPORT), "grid": {"x": [1, 2, 3, 4]}, "timeout": 8}
    ended = driver.run_sweep(spec)
    assert sorted(ended.failed.values()) == [
        "ZeroDivisionError: division by zero",
        "no end after 8 s",
    ]
    assert reports(outputs) == [[1, ""], [4, ""]]
    attempts = [json.loads((p / "run.json").read_text())["attempts"] for p in folders(outputs)]
    assert sorted(attempts) == [1, 2]
    for flag in tmp_path.glob("flag*"):
        flag.unlink()
    spec = spec | {"grid": {"x": [2]}, "retries": 1}
    assert driver.run_sweep(spec).failed == {}
    assert len(list((outputs / "sweeps" / "sweep" / "failed").iterdir())) == 1


@pytest.mark.slow
def test_status_while_runs_are_done_again(outputs, held, tmp_path, capsys):
    spec, log, hold = held
    hold.unlink()
    assert main(["sweep", str(spec)]) == 0
    log.unlink()
    hold.touch()
    command = [sys.executable, "-m", "cogvx_nb", "sweep", str(spec), "--again"]
    process = start(command, tmp_path)
    wait_for(lambda: len(begun(log)) == 3, process)
    capsys.readouterr()
    assert main(["sweep", "status", "mine"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("mine: 6 of 6 done, 1 running, 0 failed, 0 waiting\n"), printed
    process.terminate()
    process.communicate()
    assert len(folders(outputs, "mine")) == 6, "what was done is kept"


@pytest.mark.slow
def test_terminals_without_chinese_and_readers_that_have_enough(outputs, tmp_path):
    grid = {"prompt": ["红色的圆形", CIRCLE], "steps": [*range(1, 500)]}
    spec = file(tmp_path, {"grid": grid})
    command = [sys.executable, "-m", "cogvx_nb", "sweep", str(spec), "--dry-run"]
    plain = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, text=True, env=plain, check=True)
    assert "prompt = ?????" in done.stdout
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running.stdout.close()
    notes = running.stderr.read().splitlines()
    assert all(line.endswith(("runs)", "such notes; each is with its video")) for line in notes)
    assert running.wait(120) == 141


@pytest.mark.slow
def test_again_replaces_what_is_done(outputs, book):
    spec = {"notebook": book(REPORT), "grid": {"x": [1]}}
    driver.run_sweep(spec)
    before = stamps(outputs)
    assert driver.run_sweep(spec, again=True).done == 1
    after = stamps(outputs)
    assert before.keys() == after.keys()
    assert before != after
    assert hidden(outputs) == []
    (home,) = folders(outputs)
    home.rename(home.with_name(f".replaced-{home.name}"))  # killed between two renames
    assert driver.run_sweep(spec).done == 1
    assert stamps(outputs) == after


@pytest.mark.slow
def test_two_workers_share_the_runs(outputs, book):
    seen = "import os, time; seen = [os.getpid(), x]; time.sleep(0.2)"
    save = "import json; from pathlib import Path; Path('x.json').write_text(json.dumps(seen))"
    spec = {"notebook": book(seen, save), "grid": {"x": [*range(8)]}}
    assert driver.run_sweep(spec, workers=hired(SweepWorker("1"), SweepWorker("2"))).done == 8
    pids, values = zip(*reports(outputs), strict=True)
    assert len(set(pids)) == 2
    assert sorted(values) == [*range(8)]


class Nowhere(SweepWorker):
    """A worker whose node is lost for good."""

    def execute(self, task):
        return RunOutcome(0.0, "worker 2 found no place", no_place=True)


@pytest.mark.slow
def test_a_worker_without_a_place_leaves_its_runs_to_others(outputs, book):
    spec = {"notebook": book(REPORT), "grid": {"x": [*range(4)]}}
    with pytest.raises(NotebookError, match="found no place: no worker is left"):
        driver.run_sweep(spec, workers=hired(Nowhere()))
    ended = driver.run_sweep(spec, workers=hired(SweepWorker("1"), Nowhere("2")))
    assert (ended.done, ended.failed, ended.workers) == (4, {}, 1)
    assert [row[0] for row in reports(outputs)] == [*range(4)]


class Fated(SweepWorker):
    """Some runs crash their kernel here, the others succeed. Logs which it was given."""

    def __init__(self, slot: str, log: list, deadly=lambda x: False) -> None:
        super().__init__(slot)
        self._log, self._deadly = log, deadly

    def execute(self, task):
        x = task.parameters["x"]
        self._log.append((self._slot, x))
        if self._deadly(x):
            return RunOutcome(0.0, "the kernel died", "the kernel died", kernel_died=True)
        task.output.write_text("{}")
        time.sleep(0.02)
        return RunOutcome(0.02)


def test_a_worker_whose_kernels_all_die_gets_no_more_runs(outputs, book):
    log, spec = [], {"notebook": book(REPORT), "grid": {"x": [*range(20)]}}
    hands = [Fated("1", log, lambda x: True), Fated("2", log)]
    ended = driver.run_sweep(spec, workers=hired(*hands))
    assert (ended.done, ended.failed, ended.workers) == (20, {}, 1)
    assert sum(slot == "1" for slot, _ in log) == 3, "each of the three was done by the other"
    assert sorted(x for slot, x in log if slot == "2") == [*range(20)]


def test_rows_that_kill_any_kernel_take_no_worker_away(outputs, book):
    log, spec = [], {"notebook": book(REPORT), "grid": {"x": [*range(40)]}}
    hands = [Fated(slot, log, lambda x: x in (0, 1, 2, 20)) for slot in ("1", "2", "3")]
    ended = driver.run_sweep(spec | {"retries": 2}, workers=hired(*hands))
    assert (ended.done, len(ended.failed), ended.workers) == (36, 4, 3)
    for x in (0, 1, 2, 20):
        assert sorted(slot for slot, run in log if run == x) == ["1", "2", "3"], "each elsewhere"


def test_a_worker_that_was_blamed_is_better_than_none(outputs, book):
    log, spec = [], {"notebook": book(REPORT), "grid": {"x": [*range(9)]}}
    hands = [Fated("1", log, lambda x: len(log) < 6), Nowhere("2")]
    ended = driver.run_sweep(spec, workers=hired(*hands))
    assert (ended.done + len(ended.failed), ended.workers) == (9, 1)
    assert ended.done >= 6


@pytest.mark.slow
def test_runs_that_kill_their_kernel_do_not_keep_others_from_being_done(outputs, book, monkeypatch):
    monkeypatch.setattr(driver, "MAX_CRASHES_IN_A_ROW", 2)
    spec = {"notebook": book("import os\nif x < 3: os._exit(1)", REPORT)}
    spec["grid"] = {"x": [*range(5)]}
    with pytest.raises(NotebookError, match="2 runs one after another had their kernel die"):
        driver.run_sweep(spec)
    assert len(list((outputs / "sweeps" / "sweep" / "failed").iterdir())) == 2, "both are kept"
    with pytest.raises(NotebookError):
        driver.run_sweep(spec)
    assert [row[0] for row in reports(outputs)] == [3, 4]


@pytest.mark.parametrize(
    ("value", "remedy"),
    [("{1: a}", "quote it"), ("2024-01-01", "quote it"), ("[2024-01-01]", "quote it")],
)
def test_a_value_that_no_notebook_can_hold_is_one_line(outputs, book, tmp_path, value, remedy):
    path = tmp_path / "odd.yaml"
    path.write_text(f"notebook: {json.dumps(book(REPORT))}\ngrid: {{anything: [1, {value}]}}\n")
    with pytest.raises(SpecError, match=remedy) as caught:
        driver.run_sweep(path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_shards_are_disjoint_and_merge(outputs, book):
    spec = {"notebook": book(REPORT), "grid": {"x": [*range(7)]}}
    counts = [driver.run_sweep(spec, part=Share(number, 2)).total for number in (1, 2)]
    assert sum(counts) == 7
    assert min(counts) > 0
    assert [row[0] for row in reports(outputs)] == [*range(7)]
    before = stamps(outputs)
    assert driver.run_sweep(spec).done == 7
    assert stamps(outputs) == before


def begun(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


@pytest.mark.slow
def test_two_drivers_exclude_each_other(outputs, book):
    spec = {"notebook": book(REPORT), "grid": {"x": [1]}}
    driver.run_sweep(spec)
    folder = SweepFolder("sweep").root
    with lock.hold_lock(folder, Share(), "now"):
        assert [holder.pid for holder in lock.lock_holders(folder)] == [os.getpid()]
        with pytest.raises(SweepBusy, match=f"process {os.getpid()} of .*cogvx sweep cancel sweep"):
            driver.run_sweep(spec)
        with pytest.raises(SweepBusy):
            driver.run_sweep(spec, part=Share(1, 2))
    with lock.hold_lock(folder, Share(1, 2), "now"):
        with pytest.raises(SweepBusy, match="use one count"):
            driver.run_sweep(spec, part=Share(1, 3))
        assert driver.run_sweep(spec, part=Share(2, 2)).failed == {}
    assert lock.lock_holders(folder) == []


HOLD = """
import os, time
while os.path.exists(log + '-hold') and len(open(log).read().split()) == 3:
    time.sleep(0.05)
"""


@pytest.fixture
def held(tmp_path, book) -> tuple[Path, Path, Path]:
    """A sweep of six runs: its file, the log of runs that have started, and a file because of
    which the third of them goes on and on."""
    log, hold = tmp_path / "log", tmp_path / "log-hold"
    hold.touch()
    cells = (LOG, HOLD, REPORT)
    spec = {"notebook": book(*cells), "grid": {"x": [*range(6)]}, "parameters": {"log": str(log)}}
    return file(tmp_path, spec), log, hold


@pytest.mark.slow
def test_a_sweep_whose_driver_was_killed_is_resumed(outputs, held, tmp_path):
    spec, log, hold = held
    process = start([sys.executable, "-m", "cogvx_nb", "sweep", str(spec)], tmp_path)
    wait_for(lambda: len(begun(log)) == 3, process)
    kernels = psutil.Process(process.pid).children()
    process.kill()
    process.communicate()
    finished = stamps(outputs, "mine")
    assert len(finished) == 2
    assert hidden(outputs, "mine") == [".running"]
    hold.unlink()
    done = run_cogvx("sweep", str(spec), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [row[0] for row in reports(outputs, "mine")] == [*range(6)]
    assert {name: stamps(outputs, "mine")[name] for name in finished} == finished
    assert len(begun(log)) == 7, "only the run that was under way twice"
    assert hidden(outputs, "mine") == []
    assert psutil.wait_procs(kernels, timeout=60)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_drop_the_run_in_flight(outputs, held, tmp_path, sent, code):
    spec, log, _ = held
    process = start([sys.executable, "-m", "cogvx_nb", "sweep", str(spec)], tmp_path)
    wait_for(lambda: len(begun(log)) == 3, process)
    kernels = psutil.Process(process.pid).children()
    process.send_signal(sent)
    printed = process.communicate(timeout=120)[1]
    assert process.returncode == code, printed
    assert "Traceback" not in printed
    assert psutil.wait_procs(kernels, timeout=60)[1] == []
    assert len(folders(outputs, "mine")) == 2
    assert hidden(outputs, "mine") == []


@pytest.mark.slow
def test_status_and_cancel_from_another_shell(outputs, held, tmp_path, capsys):
    spec, log, _ = held
    process = start([sys.executable, "-m", "cogvx_nb", "sweep", str(spec)], tmp_path)
    wait_for(lambda: len(begun(log)) == 3, process)
    assert main(["sweep", "status", "mine"]) == 0
    printed = capsys.readouterr().out
    assert "mine: 2 of 6 done, 1 running, 0 failed" in printed
    assert f"run by process {process.pid} of " in printed
    assert main(["sweep", "cancel", "mine"]) == 0
    printed = process.communicate(timeout=120)[1]
    assert process.returncode == 130, printed
    assert "sweep mine was cancelled; start it to go on" in printed
    assert hidden(outputs, "mine") == []
    assert main(["sweep", "status", "mine"]) == 0
    assert "nobody is at work on it: start it again" in capsys.readouterr().out
    assert main(["sweep", "cancel", "mine"]) == 1
    assert main(["sweep", "status", "nothing"]) == 1
    assert "no sweep 'nothing' here; known: mine" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_ends_a_sweep_and_room_resumes_it(small_disk, monkeypatch, book):
    disk = small_disk(400)
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(disk))
    fill = "open('big', 'wb').write(b'1' * 100_000)"
    spec = {"notebook": book(fill, REPORT), "grid": {"x": [*range(5)]}}
    with pytest.raises(DiskFull, match="make room, and start again"):
        driver.run_sweep(spec)
    finished = stamps(disk)
    assert len(finished) >= 1
    assert hidden(disk) == []
    subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
    assert driver.run_sweep(spec).done == 5
    assert {name: stamps(disk)[name] for name in finished} == finished


@pytest.mark.slow
def test_cancelled_from_within(book, outputs):
    """A notebook that runs a sweep gets an exception, and the runs are whole."""
    spec = {"notebook": book(REPORT), "grid": {"x": [1, 2]}}

    def view(progress):
        if progress.done:
            folder = SweepFolder("sweep").root
            lock.ask_to_stop(folder, lock.lock_holders(folder)[0])

    with pytest.raises(Cancelled):
        driver.run_sweep(spec, view=view)
    assert driver.run_sweep(spec).done == 2


@pytest.mark.parametrize("end", ["exit()", "raise SystemExit", "import sys; sys.exit(0)"])
def test_a_run_that_ends_early_is_not_done(book, end):
    ended = driver.run_sweep({"notebook": book(f"if x == 1: {end}", "1"), "grid": {"x": [1, 2]}})
    assert ended.done == 1
    assert list(ended.failed.values()) == ["ended early in cell 2: a cell after it was not run"]
