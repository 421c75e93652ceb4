"""The queue on disk: jobs that aren't over outlive the kernel, also one that is killed.

``outputs/.queue/`` holds a file for each such job, ``<session>-<job>.json``, and for each session
that has some a lock, ``<session>.lock``, which the system releases when the process ends, however
it ends. The jobs of a session whose lock is free are unfinished: another session can take them
over, by renaming their files to names of its own, or discard them. They are never started unasked.

A job's file is there before its work begins, and is deleted after its video was published. Where a
process is killed between the two, the video is recognised by its settings and its time.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from .. import settings
from ..checkpoints import store
from ..errors import CogvxError, ResultError
from ..files import translate_errors, write_whole
from ..planning.request import make_request
from ..results.result import read_result
from ..results.source_prompt import with_notes
from . import kept_job
from .jobs import Job
from .kept_job import KeptJob, is_published, read_kept_job

MOST_JOBS = 10_000
"""Files that are read; the others wait for the next time."""

MOST_SHOWN = 8
"""Lines for jobs, and for notes."""

PATIENCE = 10.0
"""Seconds to wait for another session that lists or locks; each takes milliseconds."""

_LOCK = re.compile(r"[0-9a-f]{32}\.lock")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What sessions that have ended left in the queue."""

    jobs: tuple[KeptJob, ...] = ()  # in their order
    notes: tuple[str, ...] = ()  # a line for each file that can't be read

    @property
    def lines(self) -> list[str]:
        """For a person: how many from when, which, and the notes."""
        shown = [f"{'was running' if job.started else 'waiting'}: {job}" for job in self.jobs]
        if self.jobs:
            date = datetime.fromtimestamp(self.jobs[0].order / 1e9)
            count = "1 job" if len(self.jobs) == 1 else f"{len(self.jobs)} jobs"
            shown.insert(0, f"{count} left unfinished by a kernel that ended ({date:%d %b %H:%M}):")
        return _shortened(shown, MOST_SHOWN + 1) + _shortened(list(self.notes), MOST_SHOWN)


class KeptQueue:
    """The part of the queue on disk that belongs to this session, and what others left there.

    Nothing is written before the first job. If a job can't be written, it runs all the same, and
    its notes say so.
    """

    def __init__(self) -> None:
        self._session = uuid.uuid4().hex
        self._lock = None  # held from the first job on
        self._folder: Path | None = None  # while the lock is held

    @property
    def folder(self) -> Path:
        return self._folder or settings.outputs_dir() / ".queue"

    def keep(self, job: Job) -> None:
        """Write a job as it is now."""
        try:
            with translate_errors(self.folder):
                self._hold_lock()
                write_whole(self._path(job.id), json.dumps(_content(job)).encode())
        except CogvxError as error:
            note = f"won't outlive the kernel: {error}"
            job.notes += (note,) if note not in job.notes else ()

    def forget(self, job: Job) -> None:
        """Delete the file of a job that is over."""
        try:
            with translate_errors(self.folder):
                self._path(job.id).unlink(missing_ok=True)
        except CogvxError as error:
            job.notes += (f"is over, and will be offered again all the same: {error}",)

    def take(self, kept: KeptJob) -> bool:
        """Make an unfinished job this session's; False if another session was faster.

        Raises:
            OutputError: if its file can't be renamed.
        """
        with translate_errors(self.folder):
            self._hold_lock()
            try:
                kept.path.rename(self._path(kept.id))
            except FileNotFoundError:
                return False
        return True

    def discard(self, kept: KeptJob) -> None:
        """Delete an unfinished job, unless another session has taken it over.

        Raises:
            OutputError: if its file can't be deleted.
        """
        with translate_errors(kept.path):
            kept.path.unlink(missing_ok=True)

    def unfinished(self) -> Unfinished:
        """The jobs of sessions that have ended.

        Deletes the files of those whose video was published, and the locks of those sessions;
        renames a file that can't be read to ``….damaged``.

        Raises:
            OutputError: if the folder can't be read or written.
        """
        folder, jobs, notes = self.folder, [], []
        if not folder.is_dir():
            return Unfinished()
        with translate_errors(folder), _exclusive(folder):
            names = self._names_of_ended_sessions()
            for name in [name for name in names if name.endswith(".json")][:MOST_JOBS]:
                try:
                    kept = read_kept_job(folder / name)
                except ResultError as error:
                    notes.append(_set_aside(folder / name, error))
                    continue
                if is_published(kept, folder.parent):
                    kept.path.unlink(missing_ok=True)
                else:
                    jobs.append(kept)
        return Unfinished(tuple(sorted(jobs, key=lambda kept: (kept.order, kept.id))), tuple(notes))

    def _path(self, job_id: str) -> Path:
        return self.folder / f"{self._session}-{job_id}.json"

    def _hold_lock(self) -> None:
        if self._lock is not None:
            return
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        with _exclusive(folder):
            self._lock = _acquire(folder / f"{self._session}.lock")
        self._folder = folder

    def _names_of_ended_sessions(self) -> list[str]:
        """Names of the files of sessions that have ended; their locks are deleted."""
        names = sorted(entry.name for entry in self.folder.iterdir())
        locked = [
            name.removesuffix(".lock")
            for name in names
            if _LOCK.fullmatch(name)
            and not name.startswith(self._session)
            and not _delete_free_lock(self.folder / name)
        ]
        alive = (self._session, *locked)
        return [name for name in names if not name.lstrip(".").startswith(alive)]


def restore_job(kept: KeptJob) -> Job:
    """The job as it was submitted, to be put into a queue.

    Raises:
        CogvxError: if its checkpoint or the video to compare with isn't there any more.
    """
    if kept.original and not kept.values:
        return Job(None, read_result(kept.original), kept.finish, id=kept.id)
    values = dict(kept.values)
    model = store.locate_checkpoint(values.pop("model"))
    request = make_request(
        model, enriched_from=kept.enriched_from, templates=kept.templates, **values
    )
    names = {n: kept.input_names.get(n, name) for n, name in request.input_names.items()}
    request = replace(request, input_names=names)
    request = with_notes(request, tuple(note for note in kept.notes if note not in request.notes))
    original = read_result(kept.original) if kept.original else None
    return Job(request, original, board=kept.board, id=kept.id)


def _content(job: Job) -> dict[str, object]:
    """A job as JSON: see ``kept_job.KeptJob``."""
    if job.request is None:
        return _content_of_original(job)
    request, model = job.request, job.request.model
    values = request.asked | request.seeds | {"model": str(model.folder or model.name)}
    # As they are kept: the files that were given may be gone by then.
    values |= {name: getattr(request, name) for name in request.input_names}
    return {
        "format": kept_job.FORMAT,
        "order": job.order,
        "started": job.started,
        "values": values,
        "enriched_from": request.enriched_from,
        "templates": request.templates,
        "input_names": request.input_names,
        "original": str(job.original.path) if job.original else "",
        "board": [asdict(row) for row in job.board],
        "notes": request.notes,
    }


def _content_of_original(job: Job) -> dict[str, object]:
    """The same of a job that needs nothing but a result."""
    return {
        "format": kept_job.FORMAT,
        "order": job.order,
        "started": job.started,
        "values": {},
        "enriched_from": "",
        "original": str(job.original.path),
        "finish": asdict(job.finish) if job.finish else {},
    }


def _shortened(lines: list[str], most: int) -> list[str]:
    rest = len(lines) - most
    return lines if rest <= 0 else [*lines[:most], f"and {rest} more"]


def _set_aside(path: Path, error: ResultError) -> str:
    damaged = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(damaged)
    except OSError as failure:
        return f"{error}, and can't be renamed: {failure.strerror}"
    return f"{error}: it is kept as {damaged.name}"


def _acquire(path: Path, timeout: float = PATIENCE):
    """A lock that is held; the system releases it when the process ends.

    Raises:
        OSError: if it can't be had; ``TimeoutError`` if another process holds it.
    """
    from filelock import FileLock

    lock = FileLock(path, timeout, thread_local=False)
    try:
        lock.acquire()
    except NotImplementedError as error:  # a file system without locks
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP)) from error
    return lock


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Held while locks are made or looked at, so that none is deleted while it is made."""
    lock = _acquire(folder / "lock")
    try:
        yield
    finally:
        lock.release()


def _delete_free_lock(path: Path) -> bool:
    """Delete the lock of a session that has ended; False if the session is alive."""
    if not path.is_file():
        return True
    try:
        lock = _acquire(path, timeout=0)
    except TimeoutError:
        return False
    try:
        path.unlink(missing_ok=True)
    finally:
        lock.release()
    return True
