"""The queue: one thread, in order, cancelled within a step, and alive after any failure."""

from __future__ import annotations

import threading

import pytest
from conftest import CIRCLE

from cogvx_nb import progress, workflow
from cogvx_nb.errors import BadFrames, Cancelled, DiskFull
from cogvx_nb.planning.request import make_request
from cogvx_nb.workbench import jobs
from cogvx_nb.workbench.jobs import JobQueue, Unwritten


@pytest.fixture
def requests(tiny):
    return [make_request(tiny, CIRCLE, steps=2, seed=seed) for seed in range(5)]


class Gate:
    """Work that records its seed when it begins, and ends when ``go`` is released."""

    def __init__(self) -> None:
        self.begun, self.begin, self.go = [], threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, job, listen):
        seed = job.request.seed
        self.begun.append(seed)
        self.begin.release()
        self.go.acquire()
        if job.cancelled.is_set():
            raise Cancelled("cancelled")
        if seed == 3:
            raise BadFrames("all frames\nare black")
        if seed == 4:
            raise ZeroDivisionError("a bug")
        listen(progress.StageStarted("denoise"))
        listen(progress.Step(1, 2, None))
        return f"result {seed}"


def test_jobs_are_made_one_after_another(requests):
    gate, seen = Gate(), []
    queue = JobQueue(gate, lambda job, event: seen.append((job.number, job.state, event)))
    queued = [queue.submit(request) for request in requests[:3]]
    assert gate.begin.acquire(timeout=60)
    assert queue.running is queued[0]
    assert queue.waiting == tuple(queued[1:])
    for _ in queued:
        gate.go.release()
    assert queue.wait(60)
    assert [job.result for job in queued] == ["result 0", "result 1", "result 2"]
    assert {job.state for job in queued} == {jobs.DONE}
    assert (queued[0].stage, queued[0].step, queued[0].steps) == ("denoise", 1, 2)
    last = [state for number, state, event in seen if number == queued[2].number and event is None]
    assert last == [jobs.WAITING, jobs.RUNNING, jobs.DONE]


def test_a_job_tells_its_share_and_time_over_all_stages(tiny, outputs):
    request, told, looked = make_request(tiny, CIRCLE, steps=4), [], threading.Event()

    def work(job, listen):
        assert looked.wait(60)

        def listen_and_look(event):
            listen(event)
            told.append((job.share, job.seconds_left))

        return workflow.make_video(job.request, on_event=listen_and_look)

    queue = JobQueue(work)
    first = queue.submit(request)
    assert (first.share, first.seconds_left) == (0.0, None)
    looked.set()
    assert queue.wait(120)
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] > 0.7, "what is left is writing the file"
    assert all(left is not None for _, left in told), "before the first step too"
    assert (first.share, first.seconds_left) == (1.0, 0.0)


class Writing(Gate):
    """Work whose videos are written when ``written`` is released; that of seed 1 fails."""

    def __init__(self) -> None:
        super().__init__()
        self.writing, self.written = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, job, listen):
        made = super().__call__(job, listen)
        return Unwritten(lambda: self.write(job.request.seed, made))

    def write(self, seed, made):
        self.writing.release()
        assert self.written.acquire(timeout=60)
        if seed == 1:
            raise DiskFull("no room")
        return made


def test_a_video_is_written_while_the_next_is_made(requests):
    work, seen, forgotten = Writing(), [], []

    def told(job, event):
        if event is None:
            seen.append((job.number, job.state))

    queue = JobQueue(work, told, forget=lambda job: forgotten.append(job.number))
    first, second, third = (queue.submit(request) for request in requests[:3])
    for _ in range(2):
        assert work.begin.acquire(timeout=60)
        work.go.release()
    assert not queue.wait(0.2), "the second is made, and not written before the first"
    assert (first.state, queue.active) == (jobs.RUNNING, (first, second))
    assert work.begun == [0, 1]
    work.written.release()
    assert work.begin.acquire(timeout=60)
    assert (first.state, first.result) == (jobs.DONE, "result 0")
    assert second.state == jobs.RUNNING
    queue.cancel(second)  # too late
    work.written.release()
    work.go.release()
    for _ in range(3):
        assert work.writing.acquire(timeout=60)
    assert not queue.wait(0.1), "the last is being written"
    assert (second.state, second.error) == (jobs.FAILED, "no room")
    assert forgotten == [first.number, second.number], "a killed process leaves the third"
    work.written.release()
    assert queue.wait(60)
    assert (third.result, queue.active) == ("result 2", ())
    ends = [number for number, state in seen if state in (jobs.DONE, jobs.FAILED)]
    assert ends == [first.number, second.number, third.number]


def test_a_queue_that_is_paused_or_cleared_still_ends_what_it_writes(requests):
    work = Writing()
    queue = JobQueue(work)
    first, second = (queue.submit(requests[number]) for number in (0, 2))
    assert work.begin.acquire(timeout=60)
    queue.pause()
    work.go.release()
    assert not queue.wait(0.2)
    work.written.release()
    assert queue.wait(60)
    assert (first.state, second.state) == (jobs.DONE, jobs.WAITING)
    queue.clear()
    queue.pause(False)
    assert queue.wait(60)
    assert second.state == jobs.CANCELLED


def test_waiting_jobs_are_reordered_and_taken_out(requests):
    gate = Gate()
    queue = JobQueue(gate)
    queued = [queue.submit(requests[number]) for number in (0, 1, 2, 0)]
    assert gate.begin.acquire(timeout=60)
    queue.move(queued[3], -1)
    assert queue.waiting == (queued[1], queued[3], queued[2])
    queue.move(queued[3], -9)
    assert queue.waiting == (queued[3], queued[1], queued[2])
    queue.move(queued[3], 9)
    assert queue.waiting == (queued[1], queued[2], queued[3])
    queue.cancel(queued[2])
    assert queued[2].state == jobs.CANCELLED
    assert queue.waiting == (queued[1], queued[3])
    queue.clear()
    assert queue.waiting == ()
    gate.go.release()
    assert queue.wait(60)
    assert gate.begun == [0]
    assert queued[0].state == jobs.DONE


def test_the_worker_outlives_failures(requests):
    gate = Gate()
    queue = JobQueue(gate)
    queued = [queue.submit(requests[number]) for number in (3, 4, 0, 1)]
    assert gate.begin.acquire(timeout=60)
    queue.cancel(queued[0])
    for _ in queued:
        gate.go.release()
    assert queue.wait(60)
    assert [job.state for job in queued] == [jobs.CANCELLED, jobs.FAILED, jobs.DONE, jobs.DONE]
    assert queued[1].error == "ZeroDivisionError: a bug"
    again = queue.submit(requests[3])
    gate.go.release()
    assert queue.wait(60)
    assert (again.state, again.error) == (jobs.FAILED, "all frames are black")
