"""A kernel process that is kept from one notebook to the next."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Sequence
from queue import Empty

import psutil
from jupyter_client import AsyncKernelClient, AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import DeadKernelError

from .. import settings
from ..files import temporary_folder
from . import kernel_processes
from .kernel_processes import MARK

CLEAR_SECONDS = 10
"""Seconds until a kernel that is being cleared counts as hung; clearing takes 0.2 s."""

PRELOAD_SECONDS = 600
"""Seconds for imports; torch from a cold network disk can take a minute."""

STOPPED_SECONDS = 5
"""Seconds after which a process that was stopped counts as dead."""

ARGUMENTS = ("--log-level=CRITICAL", "--HistoryManager.hist_file=:memory:")
"""Of ipykernel alone."""

IN_KERNEL = "__import__('cogvx_nb.notebooks.kernel_reset', fromlist=['_'])"
"""The module, as an expression to evaluate in the kernel: a statement would leave a name there."""

PREPARE = IN_KERNEL + ".prepare_process({preload!r}, {mark!r})"
ENTER = IN_KERNEL + ".enter_folder({folder!r}, {path!r})"
CLEAR = IN_KERNEL + ".clear_namespace()"


class WarmKernel:
    """A kernel that is kept from one notebook to the next.

    It belongs to one thread, whose event loop owns its sockets; only ``kill`` may be called from
    others.

    Args:
        name: of the kernel's specification.
        arguments: further ones of its command.
    """

    def __init__(self, name: str, arguments: Sequence[str] = ()) -> None:
        self._name, self._arguments = name, list(arguments)
        self._manager: AsyncKernelManager | None = None
        self._mark = ""
        self._files = contextlib.ExitStack()  # temporary ones
        self._clean = False
        self._first_bytes: int | None = None
        self._growth = 0
        self.client: _Client | None = None
        self.language_info: dict = {}

    @property
    def manager(self) -> AsyncKernelManager | None:
        return self._manager

    def prepare(
        self, folder: str, path: str, start_seconds: float, most_growth: int, preload: str = ""
    ) -> None:
        """Make the kernel ready for a notebook: the clean one, or else a new process.

        Args:
            folder: its current directory from now on.
            path: a further folder to import modules from; none if empty.
            most_growth: bytes that it may hold more than after its first notebook.
            preload: a module that a new process imports first; none if empty.

        Raises:
            DeadKernelError: if none starts within ``start_seconds``.
        """
        enter = ENTER.format(folder=folder, path=path)
        usable = self._clean and self._growth <= most_growth and self._is_alive()
        if usable and self._ask(enter, CLEAR_SECONDS) is not None:
            return
        self.close()
        self._start(folder, start_seconds)
        prepare = PREPARE.format(preload=preload, mark=self._mark)
        self._clean = (
            _is_ipykernel(self._manager)
            and self._ask(prepare, PRELOAD_SECONDS) is not None
            and self._ask(enter, CLEAR_SECONDS) is not None
        )

    def finish(self) -> None:
        """Clear the kernel after a notebook; close it where that fails or processes are left.

        Libraries of the kernel may depend on such a process, so they are started anew as well.
        """
        held = self._ask(CLEAR, CLEAR_SECONDS) if self._clean else None
        self._clean = held is not None
        if not self._clean:
            self.close()
            return
        self._first_bytes = self._first_bytes or int(held)
        self._growth = int(held) - self._first_bytes
        if left := kernel_processes.wait_for_end(self._pid()):
            kernel_processes.end(left)
            self.close(now=True)

    def kill(self) -> None:
        """Kill the process and those that its notebooks started; from any thread."""
        pid, mark = self._pid(), self._mark
        processes = kernel_processes.started_by(pid, mark)
        if pid is not None:
            with contextlib.suppress(psutil.Error):
                processes.insert(0, psutil.Process(pid))
        kernel_processes.kill_family(processes, mark)

    def close(self, now: bool = False) -> None:
        """Shut the process down, and end those that its notebooks started.

        Args:
            now: kill it, without asking it first. Asked, it would end what is to be kept.
        """
        if self._manager is None:
            return
        if not now and not kernel_processes.has_kept(self._pid()):
            with contextlib.suppress(Exception):  # whatever happens, it is killed next
                run_sync(self._manager.shutdown_kernel)()
        self.abandon()

    def abandon(self) -> None:
        """Kill the process, also where its thread has ended or this process is about to."""
        if self._manager is None:
            return
        self.kill()
        manager, client = self._manager, self.client
        self._manager = self.client = self._first_bytes = None
        self._clean, self._mark = False, ""
        # Errors don't matter: all of it is out of use.
        with contextlib.suppress(Exception):
            manager.provisioner.process.wait(CLEAR_SECONDS)
        with contextlib.suppress(Exception):
            run_sync(manager.cleanup_resources)()
        with contextlib.suppress(Exception):
            client.stop_channels()
        self._files.close()

    def _start(self, folder: str, seconds: float) -> None:
        self._manager = manager = AsyncKernelManager(kernel_name=self._name, client_factory=_Client)
        self._mark = uuid.uuid4().hex
        # Otherwise a file that stays where this process is killed.
        folder_of_ports = self._files.enter_context(temporary_folder())
        manager.connection_file = str(folder_of_ports / "kernel.json")
        environment = os.environ | settings.headless_environment() | settings.folders()
        own = ARGUMENTS if _is_ipykernel(manager) else ()
        with tempfile.TemporaryFile() as log:  # tracebacks of a broken kernel aren't for users
            run_sync(manager.start_kernel)(
                extra_arguments=[*_missing(own, self._arguments), *self._arguments],
                cwd=folder,
                env=environment | {MARK: self._mark},
                stderr=log,
            )
            self.client = manager.client()
            self.client.start_channels()
            try:
                run_sync(self.client.wait_for_ready)(timeout=seconds)
            except RuntimeError as error:
                log.seek(0)
                reason = (log.read().decode(errors="replace").split("\n")[-2:] or [""])[0] or error
                raise DeadKernelError(
                    f"the kernel {self._name!r} didn't start: {reason}"
                ) from error
        self.client.allow_stdin = False
        info = run_sync(self._reply)(self.client.kernel_info(), CLEAR_SECONDS) or {}
        self.language_info = info.get("language_info", {})

    def _pid(self) -> int | None:
        """Of the process, while it hasn't ended."""
        provisioner = self._manager.provisioner if self._manager else None
        process = getattr(provisioner, "process", None)
        return process.pid if process is not None and process.poll() is None else None

    def _is_alive(self) -> bool:
        return run_sync(self.client.is_alive)()

    def _ask(self, expression: str, seconds: float) -> str | None:
        """Evaluate an expression in the kernel: its value as text, None if that failed."""
        request = self.client.execute("", silent=True, user_expressions={"value": expression})
        reply = run_sync(self._reply)(request, seconds) or {}
        answer = reply.get("user_expressions", {}).get("value", {})
        return (
            answer.get("data", {}).get("text/plain", "") if answer.get("status") == "ok" else None
        )

    async def _reply(self, request: str, seconds: float) -> dict | None:
        """The content of the reply to a request, None without one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and await self.client.is_alive():
            with contextlib.suppress(Empty):
                message = await self.client.get_shell_msg(timeout=0.5)
                if message["parent_header"].get("msg_id") == request:
                    return message["content"]
        return None


class _Client(AsyncKernelClient):
    """A client for which a process that was stopped for good is dead."""

    _stopped_since: float | None = None

    async def is_alive(self) -> bool:
        if not await self.parent.is_alive():
            return False
        process = getattr(self.parent.provisioner, "process", None)
        if process is None:  # on another machine
            return True
        try:
            status = psutil.Process(process.pid).status()
        except psutil.Error:
            return False
        if status not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            self._stopped_since = None
            return True
        self._stopped_since = self._stopped_since or time.monotonic()
        return time.monotonic() - self._stopped_since < STOPPED_SECONDS


def _is_ipykernel(manager: AsyncKernelManager) -> bool:
    return any("ipykernel" in word for word in manager.kernel_spec.argv)


def _missing(own: Sequence[str], given: Sequence[str]) -> list[str]:
    """Those own arguments that the given ones don't set."""
    names = {argument.partition("=")[0] for argument in given}
    return [argument for argument in own if argument.partition("=")[0] not in names]
