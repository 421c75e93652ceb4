"""The queue: one thread, in order, cancelled within a step, and alive after any failure."""

from __future__ import annotations

import threading

import pytest
from conftest import CIRCLE

from cogvx_nb import progress
from cogvx_nb.errors import BadFrames, Cancelled
from cogvx_nb.planning import request
from cogvx_nb.workbench import jobs
from cogvx_nb.workbench.jobs import JobQueue


@pytest.fixture
def wanted(tiny):
    return [request.make_request(tiny, CIRCLE, steps=2, seed=seed) for seed in range(5)]


class Gate:
    """Work that says what it began, and ends when it is let."""

    def __init__(self) -> None:
        self.begun, self.begin, self.go = [], threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, job, listen):
        wanted = job.request
        self.begun.append(wanted.seed)
        self.begin.release()
        self.go.acquire()
        if job.cancelled.is_set():
            raise Cancelled("cancelled")
        if wanted.seed == 3:
            raise BadFrames("all frames\nare black")
        if wanted.seed == 4:
            raise ZeroDivisionError("a bug")
        listen(progress.StageStarted("denoise"))
        listen(progress.Step(1, 2, 0.5, None))
        return f"result {wanted.seed}"


def test_jobs_are_made_one_after_another(wanted):
    gate, seen = Gate(), []
    queue = JobQueue(gate, lambda job, event: seen.append((job.number, job.state, event)))
    made = [queue.submit(one) for one in wanted[:3]]
    gate.begin.acquire()
    assert queue.running is made[0]
    assert queue.waiting == tuple(made[1:])
    for _ in made:
        gate.go.release()
    assert queue.wait(10)
    assert [job.result for job in made] == ["result 0", "result 1", "result 2"]
    assert {job.state for job in made} == {jobs.DONE}
    assert (made[0].stage, made[0].step, made[0].steps) == ("denoise", 1, 2)
    last = [state for number, state, event in seen if number == made[2].number and event is None]
    assert last == [jobs.WAITING, jobs.RUNNING, jobs.DONE]


def test_waiting_jobs_are_reordered_and_taken_out(wanted):
    gate = Gate()
    queue = JobQueue(gate)
    made = [queue.submit(one) for one in [wanted[0], wanted[1], wanted[2], wanted[0]]]
    gate.begin.acquire()
    queue.move(made[3], -1)
    assert queue.waiting == (made[1], made[3], made[2])
    queue.move(made[3], -9)
    assert queue.waiting == (made[3], made[1], made[2])
    queue.move(made[3], 9)
    assert queue.waiting == (made[1], made[2], made[3])
    queue.cancel(made[2])
    assert made[2].state == jobs.CANCELLED
    assert queue.waiting == (made[1], made[3])
    queue.clear()
    assert queue.waiting == ()
    gate.go.release()
    assert queue.wait(10)
    assert gate.begun == [0]
    assert made[0].state == jobs.DONE


def test_the_worker_outlives_failures(wanted):
    gate = Gate()
    queue = JobQueue(gate)
    made = [queue.submit(one) for one in (wanted[3], wanted[4], wanted[0], wanted[1])]
    gate.begin.acquire()
    queue.cancel(made[0])
    for _ in made:
        gate.go.release()
    assert queue.wait(10)
    assert [job.state for job in made] == [jobs.CANCELLED, jobs.FAILED, jobs.DONE, jobs.DONE]
    assert made[1].error == "ZeroDivisionError: a bug"
    again = queue.submit(wanted[3])
    gate.go.release()
    assert queue.wait(10)
    assert (again.state, again.error) == (jobs.FAILED, "all frames are black")
