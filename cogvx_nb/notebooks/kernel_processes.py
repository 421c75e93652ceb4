"""Processes that a kernel's notebooks start: found wherever they went, and ended."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable

import psutil

MARK = "COGVX_KERNEL"
"""Environment variable that a kernel's processes inherit; its value is the kernel's own."""

KEEP = "COGVX_KEEP"
"""Environment variable of a process that is to outlive its notebook, such as a server."""

HELPERS = (
    "multiprocessing.resource_tracker import main",
    "loky.backend.resource_tracker import main",
    "multiprocessing.forkserver import main",
)
"""In the command lines of children that Python keeps for the whole life of a process."""

COMPILER = "_inductor/compile_worker"
"""In the command line of torch's compiler processes, which are kept with the compiled code."""

GRACE_SECONDS = 0.5
"""Seconds for processes to end on their own, and again after SIGTERM."""


def started_by(pid: int | None, mark: str = "") -> list[psutil.Process]:
    """Active processes that a kernel's notebooks started, without those that are to be kept.

    Args:
        pid: of the kernel, whose descendants are found; None if it is dead.
        mark: the kernel's value of ``MARK``, to find those that have left its tree too; they aren't
            looked for if empty. In a kernel on Linux that adopts orphans, none leave.
    """
    processes: dict[int, psutil.Process] = {}
    if pid is not None:
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(pid).children(recursive=True):
                processes[process.pid] = process
    for process in psutil.process_iter() if mark else ():
        if _variables(process).get(MARK) == mark:
            processes[process.pid] = process
    processes.pop(pid, None)
    return [
        process
        for process in processes.values()
        if is_active(process) and not _variables(process).get(KEEP)
    ]


def wait_for_end(pid: int, mark: str = "") -> list[psutil.Process]:
    """Processes that a kernel's notebook has left, after a moment in which some may end.

    Those that Python or torch keep for the kernel aren't counted.
    """
    deadline = time.monotonic() + GRACE_SECONDS
    while True:
        left = [process for process in started_by(pid, mark) if not _is_helper(process, pid)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def has_kept(pid: int | None) -> bool:
    """Whether a kernel has a descendant that is to be kept."""
    if pid is None:
        return False
    with contextlib.suppress(psutil.Error):
        return any(
            _variables(process).get(KEEP)
            for process in psutil.Process(pid).children(recursive=True)
        )
    return False


def end(processes: Iterable[psutil.Process]) -> None:
    """End processes: ask first, then kill."""
    active = list(processes)
    for call in (psutil.Process.terminate, psutil.Process.kill):
        for process in active:
            with contextlib.suppress(psutil.Error):
                call(process)
        deadline = time.monotonic() + GRACE_SECONDS
        while (active := list(filter(is_active, active))) and time.monotonic() < deadline:
            time.sleep(0.02)


def kill_family(processes: list[psutil.Process], mark: str) -> None:
    """Kill processes, and those of the same mark that are started meanwhile."""
    deadline = time.monotonic() + 4 * GRACE_SECONDS
    while processes and time.monotonic() < deadline:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        processes = [each for each in started_by(None, mark) if each.pid != os.getpid()]


def is_active(process: psutil.Process) -> bool:
    """Whether a process exists and hasn't ended: one whose parent never asked is a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _is_helper(process: psutil.Process, kernel: int) -> bool:
    try:
        command = " ".join(process.cmdline()).replace("\\", "/")
        own = process.ppid() == kernel  # a worker of the fork server has the same command line
    except psutil.Error:
        return False
    return COMPILER in command or (own and any(words in command for words in HELPERS))


def _variables(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):  # another user's
        return {}
