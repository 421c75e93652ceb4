"""Locks of a sweep: at most one driver for each share of its runs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import SpecError, SweepBusy
from ..files import translate_errors
from .workplace import delete_tree, make_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PATIENCE = 1.0
"""Seconds to wait for a lock: ``lock_holders`` takes each one for a moment."""


@dataclass(frozen=True, slots=True)
class Share:
    """Part ``index`` (from 1) of ``count`` of a sweep's runs, chosen by their ids alone."""

    index: int = 1
    count: int = 1

    def __contains__(self, run_id: str) -> bool:
        try:
            return int(run_id, 16) % self.count == self.index - 1
        except ValueError:  # not the id of a run
            return False

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_share(text: str) -> Share:
    """Parse a share such as ``2/4``.

    Raises:
        SpecError: if the text isn't one.
    """
    parts = text.split("/")
    if len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts):
        index, count = map(int, parts)
        if 1 <= index <= count:
            return Share(index, count)
    raise SpecError(f"shard = {text!r}: give one such as 1/4, from 1/4 to 4/4")


@dataclass(frozen=True, slots=True)
class Holder:
    """A driver that is executing a sweep."""

    pid: int
    host: str
    token: str  # unique to this driver
    share: str  # of the runs, such as 1/1
    started: str  # ISO 8601

    def __str__(self) -> str:
        part = f" on share {self.share}" if self.share != "1/1" else ""
        return f"process {self.pid} of {self.host}{part}, since {self.started}"


@contextlib.contextmanager
def hold_lock(folder: Path, part: Share, started: str) -> Iterator[Holder]:
    """Lock a share of a sweep for this process.

    The system releases the locks when the process ends, however it ends.

    Raises:
        SweepBusy: if another driver holds it, or a share with some of its runs.
    """
    me = Holder(os.getpid(), platform.node(), uuid.uuid4().hex, str(part), started)
    with contextlib.ExitStack() as stack:
        if part.count > 1:
            stack.enter_context(_locked(folder / ".lock", exclusive=False))
        path = _path(folder, part)
        handle = stack.enter_context(_locked(path, exclusive=True))
        with translate_errors(path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(asdict(me)).encode(), 0)
        try:
            if part.count > 1:
                _refuse_other_shares(folder, part)
            _drop_old_requests(folder)
            yield me
        finally:
            _request(folder, me).unlink(missing_ok=True)
            for each in (handle, *_renewed.pop(me.token, ())):
                os.ftruncate(each, 0)
                if each != handle:
                    os.close(each)


_renewed: dict[str, list[int]] = {}
"""Lock files that were made again, by the token of their holder."""


def renew_lock(folder: Path, part: Share, me: Holder) -> None:
    """Make a lock's file again where a run has deleted it.

    Raises:
        SweepBusy: if another driver has taken it since.
    """
    path = _path(folder, part)
    if path.is_file():
        return
    delete_tree(path)
    with translate_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        _renewed.setdefault(me.token, []).append(handle)
        if not _try_lock(handle, exclusive=True):
            raise SweepBusy(f"sweep {folder.name} is being run by another process by now")
        os.pwrite(handle, json.dumps(asdict(me)).encode(), 0)


def lock_holders(folder: Path) -> list[Holder]:
    """The drivers that are executing a sweep now."""
    holders = []
    for path in sorted(folder.glob(".lock*")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            holder = Holder(**json.loads(path.read_text(encoding="utf-8")))
            if not _is_free(path):
                holders.append(holder)
    return holders


def ask_to_stop(folder: Path, holder: Holder) -> None:
    """Ask a driver to stop; it checks a few times a second."""
    with translate_errors(folder):
        _request(folder, holder).touch()


def is_asked_to_stop(folder: Path, holder: Holder) -> bool:
    return _request(folder, holder).exists()


def _request(folder: Path, holder: Holder) -> Path:
    return folder / f".cancel-{holder.token}"


def _path(folder: Path, part: Share) -> Path:
    return folder / (f".lock-{part.index}-of-{part.count}" if part.count > 1 else ".lock")


def _drop_old_requests(folder: Path) -> None:
    """Delete requests to drivers that were killed before they saw them."""
    alive = {_request(folder, holder) for holder in lock_holders(folder)}
    for path in set(folder.glob(".cancel-*")) - alive:
        path.unlink(missing_ok=True)


def _refuse_other_shares(folder: Path, part: Share) -> None:
    for holder in lock_holders(folder):
        count = int(holder.share.split("/")[1])
        if count not in (1, part.count):
            raise SweepBusy(
                f"{folder.name}: {holder}; 1/{count} and 1/{part.count} share runs: use one count"
            )


@contextlib.contextmanager
def _locked(path: Path, exclusive: bool) -> Iterator[int]:
    with translate_errors(path):
        make_folder(path.parent)
        if path.is_dir():
            delete_tree(path)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _try_lock(handle, exclusive):
            if time.monotonic() > deadline:
                holders = lock_holders(path.parent)
                who = ", ".join(map(str, holders)) or "another process"
                raise SweepBusy(
                    f"sweep {path.parent.name} is being run by {who}: wait for it, or end it with: "
                    f"cogvx sweep cancel {path.parent.name}"
                )
            time.sleep(0.05)
        yield handle
    finally:
        os.close(handle)


def _try_lock(handle: int, exclusive: bool) -> bool:
    """Try to take a lock; on a file system without locks, by whether its holder's process runs."""
    if fcntl is not None:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
    try:
        other = json.loads(os.pread(handle, 10_000, 0))
        return other["host"] == platform.node() and not _is_running(other["pid"])
    except (ValueError, KeyError, TypeError):
        return True


def _is_free(path: Path) -> bool:
    handle = os.open(path, os.O_RDWR)
    try:
        return _try_lock(handle, exclusive=False)
    finally:
        os.close(handle)


def _is_running(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid) and pid != os.getpid()
