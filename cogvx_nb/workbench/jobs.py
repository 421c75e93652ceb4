"""A queue of requests, run one at a time in a thread, so that the kernel stays free.

A video is written while the next is made, by a second thread: writing and checking the file takes
no GPU.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ..errors import Cancelled, CogvxError
from ..finishing.recipe import Recipe
from ..piece_times import PieceTimes
from ..planning.request import VideoRequest
from ..progress import (
    Event,
    FrameFinished,
    Listener,
    Note,
    PlanChanged,
    Planned,
    RequestReduced,
    StageStarted,
    Step,
)
from ..results.result import Result
from ..text import error_line
from .board import BoardRow

WAITING, RUNNING, DONE, CANCELLED, FAILED = "waiting", "running", "done", "cancelled", "failed"

_numbers = itertools.count(1)


@dataclass(eq=False)
class Job:
    """A request in the queue. Only the queue changes it."""

    request: VideoRequest | None  # None where all that is needed is ``original``
    original: Result | None = None  # to reproduce and compare with, or to finish
    finish: Recipe | None = None  # what to make of ``original``: a new video
    board: tuple[BoardRow, ...] = ()  # of a storyboard, whose first row ``request`` is of
    number: int = field(default_factory=lambda: next(_numbers))  # from 1
    id: str = field(default_factory=lambda: uuid.uuid4().hex)  # unique among all sessions
    order: int = 0  # nanoseconds since 1970 of its place in the queue; 0 before it is added
    started: int = 0  # nanoseconds since 1970; 0 until it runs
    state: str = WAITING  # or RUNNING, DONE, CANCELLED, FAILED
    stage: str = ""  # of the running job
    step: int = 0  # of ``steps``; both are 0 outside of denoising
    steps: int = 0
    notes: tuple[str, ...] = ()  # such as a change of plan
    result: Result | None = None  # of a job that is done
    error: str = ""  # of a job that failed, in one line
    cancelled: threading.Event = field(default_factory=threading.Event, repr=False)
    _time: PieceTimes = field(default_factory=PieceTimes, repr=False)

    @property
    def compares(self) -> bool:
        """Whether it makes a result again, and no new one."""
        return self.original is not None and self.finish is None

    @property
    def over(self) -> bool:
        """Whether its state is final."""
        return self.state in (DONE, CANCELLED, FAILED)

    @property
    def pieces(self) -> tuple[str, ...]:
        """How it stands with each piece of a storyboard, see ``PieceTimes``."""
        return self._time.states

    @property
    def share(self) -> float:
        """How much of it is done, over all stages, 0 … 1."""
        return 1.0 if self.state == DONE else self._time.share

    @property
    def seconds_left(self) -> float | None:
        """Until its file is written; None while nothing is known, 0 when it is over."""
        return 0.0 if self.over else self._time.seconds_left

    def record(self, event: Event) -> None:
        """Update stage, step, time and notes from a progress event."""
        self._time.record(event)
        match event:
            case StageStarted(stage):
                self.stage, self.step, self.steps = stage, 0, 0
            case Step(step, steps) | FrameFinished(step, steps):
                self.step, self.steps = step, steps
            case Planned(_, plan):
                self.notes += tuple(f"approximate: {text}" for text in plan.approximations)
            case PlanChanged():
                self.notes += (str(event),)
            case RequestReduced(request):
                self.notes += tuple(str(change) for change in request.adjustments)
            case Note(text):
                self.notes += (text,)


@dataclass(frozen=True, slots=True)
class Unwritten:
    """A video that is made and is still to be written, which takes a second."""

    write: Callable[[], Result]


Work = Callable[[Job, Listener], Result | Unwritten]
"""Makes a job's video, reports events to the listener, and raises ``Cancelled`` within a step of
``job.cancelled`` being set."""


class JobQueue:
    """Jobs that one worker thread runs in order.

    Args:
        work: makes a job's video.
        on_change: called after each change with the job and the event that caused it, or None;
            from the queue's threads or from the caller's.
        tidy: called in the worker thread after each job's work.
        keep: called when a job is added, when its place changes and when it starts, before its
            work; so that it can be written to disk. It must not raise.
        forget: called when a job is over; not if its work failed with an unexpected exception,
            which is what happens too where the interpreter ends in the middle of it.
    """

    def __init__(
        self,
        work: Work,
        on_change: Callable[[Job, Event | None], None] = lambda job, event: None,
        tidy: Callable[[], None] = lambda: None,
        keep: Callable[[Job], None] = lambda job: None,
        forget: Callable[[Job], None] = lambda job: None,
    ) -> None:
        self._work, self.on_change, self._tidy = work, on_change, tidy
        self._keep, self._forget = keep, forget
        self._last_order = 0
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._paused = False
        self._idle = True  # no job is running, and ``tidy`` has returned
        self._writing: Job | None = None  # while the next one is made
        # Not a daemon: where the interpreter ends, what is being written is written first.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="cogvx write")
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> Job | None:
        return self._running

    @property
    def active(self) -> tuple[Job, ...]:
        """The job whose video is being written, and the one that is running."""
        return tuple(job for job in (self._writing, self._running) if job is not None)

    @property
    def waiting(self) -> tuple[Job, ...]:
        with self._changed:
            return tuple(self._waiting)

    @property
    def paused(self) -> bool:
        return self._paused

    def pause(self, on: bool = True) -> None:
        """Start no further job until it is called with False; the running one continues."""
        with self._changed:
            self._paused = on
            self._changed.notify_all()

    def submit(self, request: VideoRequest, original: Result | None = None) -> Job:
        """Append a request to the queue; see ``Job`` for ``original``."""
        return self.add(Job(request, original))

    def add(self, job: Job) -> Job:
        """Append a job to the queue."""
        with self._changed:
            job.order = self._last_order = max(time.time_ns(), self._last_order + 1)
            self._keep(job)
            self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cogvx jobs", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        self.on_change(job, None)
        return job

    def cancel(self, job: Job) -> None:
        """Remove a waiting job, or stop the running one within a denoising step."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                job.state = CANCELLED
                self._forget(job)
            job.cancelled.set()
        self.on_change(job, None)

    def clear(self) -> None:
        """Remove all waiting jobs; the running one continues."""
        for job in self.waiting:
            self.cancel(job)

    def move(self, job: Job, places: int) -> None:
        """Move a waiting job towards the front (negative) or the end."""
        with self._changed:
            if job not in self._waiting:
                return
            index = self._waiting.index(job)
            self._waiting.insert(max(0, index + places), self._waiting.pop(index))
            orders = sorted(other.order for other in self._waiting)
            for other, order in zip(self._waiting, orders, strict=True):
                if other.order != order:
                    other.order = order
                    self._keep(other)
        self.on_change(job, None)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the queue is idle, and empty or paused.

        Returns:
            False if ``timeout`` seconds passed first.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: (
                    self._idle and self._writing is None and (self._paused or not self._waiting)
                ),
                timeout,
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting and not self._paused)
                job = self._running = self._waiting.pop(0)
                job.state, job.started, self._idle = RUNNING, time.time_ns(), False
            self._keep(job)
            self.on_change(job, None)
            unwritten = self._run_job(job)
            with self._changed:  # one at a time is written, in the order of the jobs
                self._changed.wait_for(lambda: self._writing is None)
                self._writing = job if unwritten else None
            if unwritten:
                writing = self._writer.submit(self._write, job, unwritten)
                if not self.waiting:
                    writing.result()
            with self._changed:
                self._running = None
            if not unwritten:
                self.on_change(job, None)
            writing = unwritten = None  # which hold the frames
            self._tidy()
            with self._changed:
                self._idle = True
                self._changed.notify_all()

    def _run_job(self, job: Job) -> Unwritten | None:
        """What is left to be written of a job; None where it is over."""

        def listen(event: Event) -> None:
            job.record(event)
            self.on_change(job, event)

        return self._attempt(job, lambda: self._work(job, listen))

    def _write(self, job: Job, unwritten: Unwritten) -> None:
        try:
            self._attempt(job, unwritten.write)
            with self._changed:
                if self._running is job:
                    self._running = None
            self.on_change(job, None)
        finally:
            with self._changed:
                self._writing = None
                self._changed.notify_all()

    def _attempt(self, job: Job, work: Callable[[], Result | Unwritten]) -> Unwritten | None:
        try:
            made = work()
            if isinstance(made, Unwritten):
                return made
            job.result, job.state = made, DONE
        except Cancelled:
            job.state = CANCELLED
        except CogvxError as error:
            job.state, job.error = FAILED, " ".join(str(error).split())
        except Exception as error:  # a bug: the worker continues, and the page shows it
            job.state, job.error = FAILED, error_line(error)
            return None
        self._forget(job)
        return None
