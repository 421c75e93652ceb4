"""One request by every way that there is to make a video: the same frames and the same settings."""

from __future__ import annotations

import pytest
from conftest import CIRCLE, run_cogvx
from test_notebook import execute

from cogvx_nb.results import result
from cogvx_nb.sweep import driver
from cogvx_nb.workbench.desk import Desk
from cogvx_nb.workbench.queue_actions import Submission, submit_form
from cogvx_nb.workbench.session import Session

NUMBERS = {"frames": 13, "steps": 4, "height": 96, "width": 144, "guidance": 4.5, "seed": 11}
TEXTS = {"prompt": CIRCLE, "negative_prompt": "blue", "model": "tiny"}
"""Every field that the workbench shows: a form always states the size, other ways need not."""


def by_command_line(folder, outputs) -> result.Result:
    values = {**TEXTS, **NUMBERS}
    flags = [x for name, value in values.items() for x in (f"--{name.replace('_', '-')}", value)]
    done = run_cogvx("generate", *map(str, flags), "--output", "a.mp4", cwd=folder)
    assert done.returncode == 0, done.stderr
    return result.read_result(folder / "a.mp4")


def by_notebook(folder, outputs) -> result.Result:
    flags = [x for name, value in NUMBERS.items() for x in ("-p", name, str(value))]
    flags += [x for name, value in TEXTS.items() for x in ("-r", name, value)]
    execute(folder, *flags, "-r", "output", "a.mp4")
    return result.read_result(folder / "a.mp4")


def by_sweep(folder, outputs) -> result.Result:
    ended = driver.run_sweep({"parameters": {**TEXTS, **NUMBERS}})
    assert (ended.done, ended.failed) == (1, {})
    (path,) = outputs.glob("sweeps/*/*/video.mp4")
    return result.read_result(path)


@pytest.fixture
def by_workbench(tiny, outputs) -> result.Result:
    session = Session()
    values = {name: value for name, value in TEXTS.items() if name != "model"}
    submit_form(Desk(tiny, session, {}), Submission(values | NUMBERS))
    assert session.queue.wait(120)
    (job,) = session.finished
    return result.read_result(job.result.path)


@pytest.mark.slow
@pytest.mark.parametrize("make_video", [by_command_line, by_notebook, by_sweep])
def test_the_same_video_as_from_the_workbench(by_workbench, tmp_path, outputs, make_video):
    video = make_video(tmp_path, outputs)
    assert video.frame_hash == by_workbench.frame_hash
    times = ("made", "seconds")
    ours, theirs = video.sidecar_json(), by_workbench.sidecar_json()
    assert {name: value for name, value in ours.items() if name not in times} == {
        name: value for name, value in theirs.items() if name not in times
    }
