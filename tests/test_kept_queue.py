"""The queue on disk: what a kernel that was killed left is there, once, and is never in the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import CIRCLE, wait_for

from cogvx_nb.errors import BadFrames, Cancelled
from cogvx_nb.planning.request import make_request
from cogvx_nb.results.result import save_result
from cogvx_nb.results.source_prompt import with_notes
from cogvx_nb.workbench import kept_job, kept_queue, page, queue_actions
from cogvx_nb.workbench.actions import NoArguments
from cogvx_nb.workbench.desk import Desk
from cogvx_nb.workbench.jobs import Job, JobQueue
from cogvx_nb.workbench.kept_queue import KeptQueue
from cogvx_nb.workbench.session import Session

LEAVE = """
import os, sys
from cogvx_nb.checkpoints import store
from cogvx_nb.planning.request import make_request
from cogvx_nb.workbench.jobs import Job, JobQueue
from cogvx_nb.workbench.kept_queue import KeptQueue
import threading
begun, kept = threading.Event(), KeptQueue()
def work(job, listen):
    if job.request.seed == 0:
        return None
    begun.set()
    threading.Event().wait()
queue = JobQueue(work, keep=kept.keep, forget=kept.forget)
for seed in range(5):
    queue.submit(make_request(store.locate_checkpoint("tiny"), sys.argv[1], steps=2, seed=seed))
begun.wait()
print("running", flush=True)
sys.stdin.read()
"""
"""A queue of five that finishes the first and stays in the second, until it is killed."""


@pytest.fixture
def killed():
    """Leaves four jobs of a process that was killed in the first of them."""
    process = start_queue()
    end(process)


def start_queue() -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVE, CIRCLE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ.copy(),
    )
    assert process.stdout.readline() == b"running\n"
    return process


def end(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdin.close()
    process.stdout.close()


def seeds(unfinished) -> list[int]:
    return [kept.values["seed"] for kept in unfinished.jobs]


class Seeds:
    """Work that records the seeds of its jobs, and makes nothing."""

    def __init__(self) -> None:
        self.made = []

    def __call__(self, job, listen):
        self.made.append(job.request.seed)
        raise Cancelled("nothing is made")


def session_with(work) -> Session:
    """A session that loads no pipeline."""
    session = Session()
    session.queue._work, session.queue._tidy = work, lambda: None
    return session


@pytest.mark.slow
def test_what_a_killed_process_left_is_offered_once(outputs):
    process = start_queue()
    try:
        first = Session()
        first.find_unfinished()
        assert not first.unfinished.jobs, "its process is alive"
    finally:
        end(process)
    works = [Seeds(), Seeds()]
    sessions = [session_with(work) for work in works]
    for session in sessions:
        session.find_unfinished()
        assert seeds(session.unfinished) == [1, 2, 3, 4]
        assert [bool(kept.started) for kept in session.unfinished.jobs] == [True] + [False] * 3
    assert sessions[0].resume() == ()
    assert sessions[1].resume() == ()
    assert sessions[0].queue.wait(60)
    assert sessions[1].queue.wait(60)
    assert [work.made for work in works] == [[1, 2, 3, 4], []]
    assert not list((outputs / ".queue").glob("*.json"))
    last = Session()
    last.find_unfinished()
    assert not last.unfinished.jobs


@pytest.mark.slow
def test_the_page_offers_them_and_waits_for_the_click(killed, tiny, outputs):
    session = session_with(work := Seeds())
    shown = page.Page(Desk(tiny, session, {}), queue_actions.ACTIONS)
    lines = shown.jobs["unfinished"]
    assert lines[0].startswith("4 jobs left unfinished by a kernel that ended (")
    assert sum(line.startswith("waiting: a red circle") for line in lines) == 3
    assert f"was running: {CIRCLE} · 13 frames · seed 1" in lines
    assert shown.jobs["resumable"] == 4
    assert work.made == []
    shown._on_message(shown, {"ask": 1, "client": "a", "action": "queue.resume"}, [])
    assert session.queue.wait(60)
    assert work.made == [1, 2, 3, 4]
    assert (shown.jobs["unfinished"], shown.jobs["resumable"]) == ((), 0)
    shown.shut()


@pytest.fixture
def leave(tiny, outputs):
    """Leaves a job as a session that has ended would; its file."""

    def write(started: int = 0, original=None, **values):
        request = make_request(tiny, **{"prompt": CIRCLE, "steps": 2} | values)
        kept = KeptQueue()
        job = Job(request, original, order=1, started=started)
        kept.keep(job)
        kept._lock.release()
        return kept._path(job.id)

    return write


def test_a_job_comes_back_as_it_was_submitted(leave, tiny):
    values = {
        "negative_prompt": "a blue square",
        "frames": 20,
        "height": 100,
        "guidance": 4.5,
        "seed": 2**53 - 1,
        "speed": "turbo",
        "fallback": "reduce",
        "allow_untrained_size": True,
        "allow_unknown": True,
        "prompt": 'red "\u202e</script> 红色 \u2028 zyzzyva quokka',
        "enriched_from": "红",
    }
    leave(**values)
    (kept,) = KeptQueue().unfinished().jobs
    assert kept_queue.restore_job(kept).request == make_request(tiny, steps=2, **values)


def test_the_note_on_where_its_prompt_is_from_is_kept(tiny, outputs):
    """And those that a request makes anew are there once."""
    idle = {"steps": 2, "guidance_schedule": "falling", "guidance": 0.5}
    asked = make_request(tiny, CIRCLE, **idle)
    assert asked.notes
    note = "the prompt is that of a.mp4, which it goes on from: " + CIRCLE
    kept = KeptQueue()
    kept.keep(Job(with_notes(asked, (note,)), order=1))
    kept._lock.release()
    (left,) = KeptQueue().unfinished().jobs
    assert kept_queue.restore_job(left).request.notes == (note, *asked.notes)
    content = json.loads(left.path.read_text())
    del content["notes"]  # as before they were kept
    left.path.write_text(json.dumps(content))
    (left,) = KeptQueue().unfinished().jobs
    assert kept_queue.restore_job(left).request.notes == asked.notes


def test_a_drawn_seed_is_kept(leave, tiny, generated):
    leave(seed=-1, variation_seed=-1, variation_strength=0.5)
    (kept,) = KeptQueue().unfinished().jobs
    once, twice = (kept_queue.restore_job(kept).request for _ in range(2))
    assert once == twice
    assert once.seeds == {name: kept.values[name] for name in ("seed", "variation_seed")}
    assert once.seed >= 0


def test_a_job_with_a_drawn_seed_whose_video_was_published_is_over(tiny, generated, outputs):
    began, kept = time.time_ns(), KeptQueue()
    made = generated(seed=-1)
    kept.keep(Job(made.request, order=1, started=began))
    kept._lock.release()
    assert len(KeptQueue().unfinished().jobs) == 1
    save_result(made)
    assert not KeptQueue().unfinished().jobs


def test_discarded_jobs_are_gone(leave, tiny, outputs):
    leave(), leave()
    desk = Desk(tiny, Session(), {})
    desk.session.find_unfinished()
    assert len(desk.session.unfinished.jobs) == 2
    queue_actions.discard_unfinished(desk, NoArguments())
    assert not KeptQueue().unfinished().jobs
    assert [path.name for path in (outputs / ".queue").iterdir()] == ["lock"]


def test_a_job_whose_video_was_published_is_over(leave, generated, outputs):
    began = time.time_ns()
    save_result(generated())
    after = time.time_ns()
    done, again = leave(started=began), leave(started=after)
    others = [leave(), leave(started=began, seed=9), leave(started=began, steps=3)]
    left = {kept.path for kept in KeptQueue().unfinished().jobs}
    assert left == {again, *others}
    assert not done.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 60_000,
        b"\xff\xfe{}",
        b'{"format": 1}',
        b'{"format": 2, "jobs": []}',
        b'{"format": 1, "order": 1, "started": true, "values": {"prompt": "a"}}',
        b"1" * 5_000,
        b"x" * 70_000,
    ],
    ids=lambda content: f"{content[:20]!r} of {len(content)}",
)
def test_a_damaged_file_is_a_line_and_is_kept(leave, outputs, content):
    bad, good = leave(), leave(seed=5)
    bad.write_bytes(content)
    left = KeptQueue().unfinished()
    assert seeds(left) == [5]
    (note,) = left.notes
    assert note.endswith(f"it is kept as {bad.name}.damaged")
    assert len(note.splitlines()) == 1
    assert bad.with_name(f"{bad.name}.damaged").read_bytes() == content
    assert KeptQueue().unfinished().notes == ()
    assert good.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("order", -1),
        ("order", 1e300),
        ("started", "0"),
        ("values", {"prompt": 7}),
        ("values", {"prompt": CIRCLE, "seed": -1}),
        ("values", {"prompt": CIRCLE, "COGVX_CHAT_KEY": "x"}),
        ("values", {"prompt": CIRCLE, "guidance": float("nan")}),
        ("enriched_from", None),
        ("original", ["a.mp4"]),
        ("notes", [1]),
    ],
)
def test_values_of_the_wrong_kind_are_a_line(leave, key, value):
    path = leave()
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    left = KeptQueue().unfinished()
    assert (left.jobs, len(left.notes)) == ((), 1)


def test_special_files_do_not_hang(leave, outputs):
    leave(seed=5)
    paths = [outputs / ".queue" / f"{number:032x}-{number:032x}.json" for number in range(3)]
    os.mkfifo(paths[0])
    paths[1].mkdir()
    paths[2].symlink_to("/dev/zero")
    left = KeptQueue().unfinished()
    assert seeds(left) == [5]
    assert len(left.notes) == 3


def test_a_job_that_cannot_be_made_here_stays(leave, tiny, outputs, tmp_path):
    gone = leave()
    content = json.loads(gone.read_text())
    content["values"]["model"] = str(tmp_path / "gone")
    gone.write_text(json.dumps(content))
    leave(original=None, seed=6)
    session = session_with(work := Seeds())
    session.find_unfinished()
    (problem,) = session.resume()
    assert str(tmp_path / "gone") in problem
    assert session.queue.wait(60)
    assert work.made == [6]
    assert [kept.path for kept in session.unfinished.jobs] == [gone]


def test_files_follow_the_queue(tiny, outputs):
    requests = [make_request(tiny, CIRCLE, steps=2, seed=seed) for seed in range(6)]
    running, go, kept = [], threading.Semaphore(0), KeptQueue()

    def work(job, listen):
        running.append(job.request.seed)
        go.acquire()
        if job.request.seed == 1:
            raise BadFrames("all frames are black")
        if job.request.seed == 2:
            raise Cancelled("cancelled")
        if job.request.seed == 3:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def on_disk() -> list[tuple[int, bool]]:
        jobs = map(kept_job.read_kept_job, (outputs / ".queue").glob("*.json"))
        rows = sorted((one.order, one.values["seed"], bool(one.started)) for one in jobs)
        return [(seed, started) for _, seed, started in rows]

    queue = JobQueue(work, keep=kept.keep, forget=kept.forget)
    queued = [queue.submit(request) for request in requests]
    wait_for(lambda: running == [0])
    assert on_disk() == [(0, True), *((seed, False) for seed in range(1, 6))]
    queue.move(queued[5], -9)
    queue.cancel(queued[4])
    wait_for(lambda: on_disk()[0] == (0, True))
    assert on_disk() == [(0, True), (5, False), (1, False), (2, False), (3, False)]
    for _ in range(5):
        go.release()
    assert queue.wait(60)
    assert running == [0, 5, 1, 2, 3]
    assert on_disk() == [(3, True)], "an exception that nobody expected may be the kernel's end"


def test_a_queue_that_cannot_be_kept_is_worked_off_all_the_same(tiny, outputs):
    outputs.mkdir()
    (outputs / ".queue").write_text("in the way")
    kept = KeptQueue()
    queue = JobQueue(Seeds(), keep=kept.keep, forget=kept.forget)
    job = queue.submit(make_request(tiny, CIRCLE, steps=2))
    assert queue.wait(60)
    assert job.state == "cancelled"
    assert job.notes[0].startswith("won't outlive the kernel: ")
    assert len(" ".join(job.notes).splitlines()) == 1
    assert KeptQueue().unfinished() == kept_queue.Unfinished()
