"""Runs inside a kept kernel: a kernel that can no longer answer ends itself.

A notebook can break the kernel that runs it: it clears ``sys.modules``, sets ``builtins.print`` to
None, closes its sockets. ipykernel logs the error and lives on, and a client waits for ever. A dead
kernel is noticed at once.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import threading

from IPython import get_ipython

from . import kernel_processes

BROKEN = 70
"""Exit code: EX_SOFTWARE of sysexits.h."""

ANSWER_SECONDS = 5
"""Seconds for the threads that send replies and outputs to react; they take a millisecond."""

FLUSH_SECONDS = 1
"""Seconds that ipykernel waits for outputs to be sent, four times for each cell; they are sent in
order anyway. Its default of 10 would delay the notice that they can't be."""

SET_CHILD_SUBREAPER = 36
"""Of prctl(2), in linux/prctl.h."""


def install_guard() -> None:
    """Let this kernel end as soon as an answer to its client fails.

    What the guard needs is bound here, where notebooks can't change it.
    """
    kernel = get_ipython().kernel
    dispatch, execute = kernel.dispatch_shell, kernel.shell_handlers["execute_request"]
    exit_process, every, errors = os._exit, BaseException, Exception
    can_answer = _make_check(kernel)

    async def dispatch_or_exit(*arguments, **options) -> None:
        try:
            await dispatch(*arguments, **options)
            broken = not can_answer()
        except every:
            broken = True
        if broken:
            exit_process(BROKEN)

    async def execute_or_exit(*arguments, **options) -> None:
        try:
            await execute(*arguments, **options)
        except errors:  # an error of the cell doesn't get here
            exit_process(BROKEN)

    def exit_on_failure(loop, context) -> None:
        exit_process(BROKEN)

    for loop in _thread_loops(kernel):
        loop.asyncio_loop.set_exception_handler(exit_on_failure)
    kernel.dispatch_shell = dispatch_or_exit
    kernel.shell_handlers["execute_request"] = execute_or_exit


def adopt_orphans() -> None:
    """Become the parent of processes whose parents end before them, so that they can be found.

    Linux only.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(mark: str) -> None:
    """End what this kernel's notebooks started, should the process that started it be killed.

    Linux only. ipykernel alone would end just itself.

    Args:
        mark: see ``kernel_processes.MARK``.
    """
    try:
        parent = os.pidfd_open(os.getppid())
    except (AttributeError, OSError):  # another system, or an old kernel
        return
    threading.Thread(target=_wait_for_parent, args=(parent, mark), daemon=True).start()


def _wait_for_parent(parent: int, mark: str) -> None:
    try:
        select.select([parent], [], [])
    except OSError:  # a notebook has closed it
        return
    kernel_processes.kill_family(kernel_processes.started_by(os.getpid(), mark), mark)
    os._exit(BROKEN)


def _make_check(kernel):
    """A function that says whether the threads that send replies and outputs can still do so."""
    loops = _thread_loops(kernel)
    output, shell, make_event = kernel.iopub_thread.socket, kernel.shell_stream, threading.Event
    for stream in (sys.stdout, sys.stderr):
        stream.flush_timeout = FLUSH_SECONDS

    def can_answer() -> bool:
        for loop in loops:
            reacted = make_event()
            loop.add_callback(reacted.set)
            if not reacted.wait(ANSWER_SECONDS):
                return False
        return not output.closed and not shell.closed()

    return can_answer if can_answer() else lambda: True


def _thread_loops(kernel) -> list:
    """Event loops of the threads that pass on requests, replies and outputs, and run nothing
    else."""
    threads = (kernel.iopub_thread, kernel.shell_channel_thread)
    return [thread.io_loop for thread in threads if thread is not None]
