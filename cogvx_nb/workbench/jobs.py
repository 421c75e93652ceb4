"""A queue of requests and the one thread that makes them, so that a notebook stays usable."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import Cancelled, CogvxError
from ..planning.request import VideoRequest
from ..progress import (
    Event,
    Listener,
    Noted,
    PlanChanged,
    Planned,
    RequestReduced,
    StageStarted,
    Step,
)
from ..results.result import Result

WAITING, RUNNING, DONE, CANCELLED, FAILED = "waiting", "running", "done", "cancelled", "failed"

_numbers = itertools.count(1)


@dataclass(eq=False)
class Job:
    """A request on its way, as the queue knows it. Only the queue changes it.

    Attributes:
        request: what is wanted.
        original: the result to make again and compare with; None for a new video.
        number: of the job, from 1.
        state: ``waiting``, ``running``, ``done``, ``cancelled`` or ``failed``.
        stage, step, steps, seconds_left: of a running one; 0 and 0 outside of denoising.
        notes: what happened on the way, such as a change of plan.
        result: of one that is done.
        error: of one that failed, in a line.
        cancelled: set when the work should stop.
    """

    request: VideoRequest
    original: Result | None = None
    number: int = field(default_factory=lambda: next(_numbers))
    state: str = WAITING
    stage: str = ""
    step: int = 0
    steps: int = 0
    seconds_left: float = 0.0
    notes: tuple[str, ...] = ()
    result: Result | None = None
    error: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in (DONE, CANCELLED, FAILED)

    def follow(self, event: Event) -> None:
        """Take in what the work reports."""
        match event:
            case StageStarted(stage):
                self.stage, self.step, self.steps = stage, 0, 0
            case Step(step, steps, seconds_left):
                self.step, self.steps, self.seconds_left = step, steps, seconds_left
            case Planned(_, plan):
                self.notes += tuple(f"approximate: {text}" for text in plan.approximations)
            case PlanChanged():
                self.notes += (str(event),)
            case RequestReduced(request):
                self.notes += tuple(str(change) for change in request.adjustments)
            case Noted(text):
                self.notes += (text,)


Work = Callable[[Job, Listener], Result]
"""Makes a job's video, reports to the listener, and stops soon after ``cancelled`` is set."""


class JobQueue:
    """Jobs, made one after another by a thread of the queue's own.

    Args:
        work: what makes a job's video.
        on_change: called after each change with the job and the event behind it, if there is one;
            from the worker's thread or from the caller's.
        tidy: called in the worker's thread after each job, once its end was told.
    """

    def __init__(
        self,
        work: Work,
        on_change: Callable[[Job, Event | None], None] = lambda job, event: None,
        tidy: Callable[[], None] = lambda: None,
    ) -> None:
        self._work, self.on_change, self._tidy = work, on_change, tidy
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._idle = True  # and everybody has been told of it
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> Job | None:
        return self._running

    @property
    def waiting(self) -> tuple[Job, ...]:
        with self._changed:
            return tuple(self._waiting)

    def submit(self, request: VideoRequest, original: Result | None = None) -> Job:
        """Put a request at the end of the queue; see ``Job`` for ``original``."""
        return self.add(Job(request, original))

    def add(self, job: Job) -> Job:
        """Put a job at the end of the queue."""
        with self._changed:
            self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cogvx jobs", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        self.on_change(job, None)
        return job

    def cancel(self, job: Job) -> None:
        """Take a waiting job out, or stop the running one within a denoising step."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                job.state = CANCELLED
            job.cancelled.set()
        self.on_change(job, None)

    def clear(self) -> None:
        """Take all waiting jobs out; the running one goes on."""
        for job in self.waiting:
            self.cancel(job)

    def move(self, job: Job, places: int) -> None:
        """Move a waiting job towards the front (negative) or the end."""
        with self._changed:
            if job not in self._waiting:
                return
            place = self._waiting.index(job)
            self._waiting.insert(max(0, place + places), self._waiting.pop(place))
        self.on_change(job, None)

    def wait(self, timeout: float | None = None) -> bool:
        """Until nothing is running or waiting; False if that takes longer than ``timeout`` s."""
        with self._changed:
            return self._changed.wait_for(lambda: self._idle and not self._waiting, timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                job = self._running = self._waiting.pop(0)
                job.state, self._idle = RUNNING, False
            self.on_change(job, None)
            self._make(job)
            with self._changed:
                self._running = None
            self.on_change(job, None)
            self._tidy()
            with self._changed:
                self._idle = True
                self._changed.notify_all()

    def _make(self, job: Job) -> None:
        def listen(event: Event) -> None:
            job.follow(event)
            self.on_change(job, event)

        try:
            job.result = self._work(job, listen)
            job.state = DONE
        except Cancelled:
            job.state = CANCELLED
        except CogvxError as error:
            job.state, job.error = FAILED, " ".join(str(error).split())
        except Exception as error:  # the worker must outlive it, and the user must hear of it
            job.state = FAILED
            job.error = f"{type(error).__name__}: {' '.join(str(error).split())}"
