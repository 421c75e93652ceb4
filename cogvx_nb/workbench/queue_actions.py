"""Actions on the queue: submit, cancel, move, run again, and the jobs of kernels that ended."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Annotated

from ..planning.fields import MAX_SEED, RANDOM_SEED
from ..results.result import read_result
from ..results.typed import Range
from .actions import Action, NoArguments, Reply
from .desk import Desk
from .draft import Draft, reads_files
from .jobs import Job
from .prompt_history import remember_prompt

MOST_COPIES = 100
"""Videos of one click."""


@dataclass(frozen=True, slots=True)
class Submission:
    """The form as it is at the click."""

    values: dict[str, object] = field(default_factory=dict)
    copies: Annotated[int, Range(1, MOST_COPIES)] = 1
    first: bool = False  # before those that wait
    again: bool = False  # also if there is such a video already


@dataclass(frozen=True, slots=True)
class JobId:
    """A job of the queue."""

    id: str


@dataclass(frozen=True, slots=True)
class Move:
    """A job, and how far to move it: negative towards the front."""

    id: str
    places: Annotated[int, Range(-10_000, 10_000)]


@dataclass(frozen=True, slots=True)
class Vary:
    """A result to vary: how far from its noise, and how often."""

    path: str
    strength: Annotated[float, Range(0, 1)]
    copies: Annotated[int, Range(1, MOST_COPIES)]


@dataclass(frozen=True, slots=True)
class Pause:
    """Whether the queue starts no further job."""

    on: bool


@dataclass(frozen=True, slots=True)
class Repeat:
    """A result to make again with some values changed."""

    path: str
    changes: dict[str, object] = field(default_factory=dict)
    copies: Annotated[int, Range(1, MOST_COPIES)] = 1


def submit_form(desk: Desk, arguments: Submission) -> Reply | Future[Reply]:
    """Put the form's request into the queue, once for each copy.

    With a random seed each copy draws its own; with a fixed one they count upwards. Replies with
    the ids of the jobs; or with ``known``, the name of a video that is there already. The form
    itself stays: it may have what the page doesn't show yet.
    """
    draft = desk.form.copy()
    draft.edit(arguments.values)
    return _with_inputs(desk, draft, _submit, arguments)


def _with_inputs(
    desk: Desk, draft: Draft, work: Callable[..., Reply], *arguments: object
) -> Reply | Future[Reply]:
    """Call ``work`` with the desk and a draft: in a thread where that starts from a picture or a
    clip or has LoRAs: see ``reads_files``."""
    if not reads_files(draft.values):
        return work(desk, draft, *arguments)
    return desk.in_background(work, desk, draft, *arguments)


def _submit(desk: Desk, draft: Draft, arguments: Submission) -> Reply:
    seeds = _seeds(draft.filled["seed"], arguments.copies)
    requests = [draft.request(seed=seed) for seed in seeds]
    if len(requests) == 1 and not arguments.again and (known := desk.find_equal(requests[0])):
        return Reply({"ids": [], "known": known})
    request = requests[0]
    texts = request.texts | request.templates
    if request.enriched_from and "prompt" not in request.templates:
        texts["prompt"] = request.enriched_from
    remember_prompt(**texts)
    jobs = [Job(request) for request in requests]
    for job in jobs:
        desk.session.queue.add(job)
    if arguments.first:
        for job in reversed(jobs):
            desk.session.queue.move(job, -len(desk.session.queue.waiting))
    notes = dict.fromkeys(note for request in requests for note in request.notes)
    return Reply({"ids": [job.id for job in jobs], "known": "", "notes": list(notes)})


def _seeds(seed: int, copies: int) -> list[int]:
    if seed < 0:
        draw = random.SystemRandom().randrange
        return [draw(2**31) for _ in range(copies)]
    return [min(seed + number, MAX_SEED) for number in range(copies)]


def repeat_result(desk: Desk, arguments: Repeat) -> Reply | Future[Reply]:
    """Make a result again with other values, such as another seed; the form stays."""
    return _repeat(desk, arguments, 1)


def _repeat(desk: Desk, arguments: Repeat, times: int) -> Reply | Future[Reply]:
    """The same so many times; each draws a random variation of its own."""
    sidecar = read_result(desk.path_of(arguments.path)).settings
    draft = desk.draft_of(sidecar)
    draft.edit(arguments.changes)
    seeds = _seeds(draft.filled["seed"], arguments.copies) * times
    return _with_inputs(desk, draft, _add_each, seeds)


def _add_each(desk: Desk, draft: Draft, seeds: list[int]) -> Reply:
    jobs = [desk.session.queue.submit(draft.request(seed=seed)) for seed in seeds]
    return Reply({"ids": [job.id for job in jobs]})


def vary_result(desk: Desk, arguments: Vary) -> Reply | Future[Reply]:
    """Make a result again from noise near its own, each time from other noise; the form stays."""
    changes = {"variation_strength": arguments.strength, "variation_seed": RANDOM_SEED}
    return _repeat(desk, Repeat(arguments.path, changes), arguments.copies)


def reproduce_result(desk: Desk, arguments: Repeat) -> Reply:
    """Make a result again as it was, and compare the frames."""
    from .. import reproduction  # late: it loads torch, which showing a page doesn't need

    original = read_result(desk.path_of(arguments.path))
    derived = original.settings.derived
    request = None if derived else reproduction.request_of(original.settings)
    job = desk.session.queue.submit(request, original)
    return Reply({"ids": [job.id]})


def cancel_job(desk: Desk, arguments: JobId) -> Reply:
    """Take a waiting job out, or stop the running one within a step; all for ``"*"``."""
    queue = desk.session.queue
    if arguments.id == "*":
        queue.clear()
    for job in (queue.running, *queue.waiting):
        if job is not None and arguments.id in (job.id, "*"):
            queue.cancel(job)
    return Reply()


def clear_waiting(desk: Desk, arguments: NoArguments) -> Reply:
    """Take all waiting jobs out."""
    desk.session.queue.clear()
    return Reply()


def move_job(desk: Desk, arguments: Move) -> Reply:
    """Move a waiting job."""
    for job in desk.session.queue.waiting:
        if job.id == arguments.id:
            desk.session.queue.move(job, arguments.places)
    return Reply()


def pause_queue(desk: Desk, arguments: Pause) -> Reply:
    """Start no further job, or go on."""
    desk.session.queue.pause(arguments.on)
    return Reply()


def retry_job(desk: Desk, arguments: JobId) -> Reply:
    """Put a job that failed or was cancelled into the queue again."""
    over = (job for job in desk.session.finished if job.id == arguments.id)
    again = [Job(job.request, job.original, job.finish, job.board) for job in over]
    return Reply({"ids": [desk.session.queue.add(job).id for job in again]})


def resume_unfinished(desk: Desk, arguments: NoArguments) -> Reply:
    """Run the jobs of kernels that ended; replies with a line for each that can't be."""
    return Reply(list(desk.session.resume()))


def discard_unfinished(desk: Desk, arguments: NoArguments) -> Reply:
    """Delete the jobs of kernels that ended."""
    desk.session.discard()
    return Reply()


ACTIONS = {
    "queue.submit": Action(Submission, submit_form),
    "queue.repeat": Action(Repeat, repeat_result),
    "queue.vary": Action(Vary, vary_result),
    "queue.reproduce": Action(Repeat, reproduce_result),
    "queue.cancel": Action(JobId, cancel_job),
    "queue.clear": Action(NoArguments, clear_waiting),
    "queue.move": Action(Move, move_job),
    "queue.pause": Action(Pause, pause_queue),
    "queue.retry": Action(JobId, retry_job),
    "queue.resume": Action(NoArguments, resume_unfinished),
    "queue.discard": Action(NoArguments, discard_unfinished),
}
