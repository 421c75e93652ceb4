"""A kernel that outlives notebooks, and is cleared between them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from queue import Empty

from jupyter_client import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import DeadKernelError

from . import settings

CLEAR_SECONDS = 60
"""Until a kernel that is being cleared counts as hung; it takes 0.2 s."""

PRELOAD_SECONDS = 600
"""For imports; torch from a cold network disk can take a minute."""

ARGUMENTS = ("--log-level=CRITICAL", "--HistoryManager.hist_file=:memory:")

PRELOAD = "__import__('cogvx_nb.kernel_reset', fromlist=['preload']).preload({module!r})"
CLEAR = "__import__('cogvx_nb.kernel_reset', fromlist=['clear']).clear({folder!r}, {path!r})"
"""Expressions, so that they leave no name behind."""


class WarmKernel:
    """A kernel that outlives notebooks.

    All of it is for one thread, since its sockets belong to that thread's loop; but for ``kill``.

    Args:
        name: of the kernel's specification.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._manager: AsyncKernelManager | None = None
        self._first_bytes: int | None = None
        self._clearable = True
        self.client = None

    @property
    def manager(self) -> AsyncKernelManager | None:
        return self._manager

    def prepare(
        self, folder: str, path: str, start_seconds: float, most_growth: int, preload: str = ""
    ) -> None:
        """A clean kernel that works in a folder: this one cleared, or a new process.

        Args:
            preload: a module that a new process imports beforehand; none if empty.

        Raises:
            DeadKernelError: if none starts within ``start_seconds``.
        """
        if self._manager is not None and self._clearable and self._is_alive():
            held = self._clear(folder, path)
            if held is not None:
                self._first_bytes = self._first_bytes or held
                if held - self._first_bytes <= most_growth:
                    return
        self.close()
        self._start(folder, start_seconds)
        self._clearable = self._clear(folder, path) is not None  # not, say, for a kernel of R
        if preload and self._clearable:  # where it fails, the notebook will say why
            run_sync(self._ask)(PRELOAD.format(module=preload), PRELOAD_SECONDS)

    def kill(self) -> None:
        """End the process and those that it started, now; from any thread."""
        provisioner = self._manager.provisioner if self._manager else None
        pid = getattr(provisioner, "pid", None)
        if pid and provisioner.process and provisioner.process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)  # jupyter_client gives each kernel its own group

    def close(self, now: bool = False) -> None:
        """End the process, and forget it.

        Args:
            now: without asking it first.
        """
        manager, client = self._manager, self.client
        if now:
            self.kill()
        self._manager = self.client = self._first_bytes = None
        # Whatever is left of them, they are no more in use.
        if manager is not None:
            with contextlib.suppress(Exception):
                run_sync(manager.shutdown_kernel)(now=now)
        if client is not None:
            with contextlib.suppress(Exception):
                client.stop_channels()

    def leave_no_file(self) -> None:
        """Delete the file that says how to reach the kernel, at the end of this process."""
        with contextlib.suppress(OSError, AttributeError):  # it never started
            self._manager.cleanup_connection_file()

    def _start(self, folder: str, seconds: float) -> None:
        self._manager = manager = AsyncKernelManager(kernel_name=self._name)
        environment = os.environ | settings.headless_environment() | settings.folders()
        start = run_sync(manager.start_kernel)
        start(extra_arguments=[*ARGUMENTS], cwd=folder, env=environment)
        self.client = manager.client()
        self.client.start_channels()
        try:
            run_sync(self.client.wait_for_ready)(timeout=seconds)
        except RuntimeError as error:
            raise DeadKernelError(f"the kernel {self._name!r} didn't start: {error}") from error
        self.client.allow_stdin = False

    def _is_alive(self) -> bool:
        return run_sync(self._manager.is_alive)()

    def _clear(self, folder: str, path: str) -> int | None:
        """Bytes that the kernel still holds; None if it can't be cleared."""
        code = CLEAR.format(folder=folder, path=path)
        told = run_sync(self._ask)(code, CLEAR_SECONDS)
        if told is None or told.get("status") != "ok":
            return None
        answer = told["user_expressions"]["held"]
        return int(answer["data"]["text/plain"]) if answer["status"] == "ok" else None

    async def _ask(self, expression: str, seconds: float) -> dict | None:
        """A reply's content; None if the kernel dies or doesn't answer."""
        wanted = self.client.execute("", silent=True, user_expressions={"held": expression})
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and await self._manager.is_alive():
            with contextlib.suppress(Empty):
                message = await self.client.get_shell_msg(timeout=0.5)
                if message["parent_header"].get("msg_id") == wanted:
                    return message["content"]
        return None
