"""A papermill engine that keeps its kernel: what one notebook loaded serves the next.

``papermill --engine cogvx``, or ``papermill.execute_notebook(..., engine_name="cogvx")``. Between
notebooks of a process the kernel's variables are cleared; a kernel that died, hung or leaks gives
way to a new one.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import time
from pathlib import Path
from queue import Empty

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from .. import settings

CLEAR_SECONDS = 60
"""Until a kernel that is being cleared counts as hung; it takes 0.2 s."""

PRELOAD_SECONDS = 600
"""For imports; torch from a cold network disk can take a minute."""

ARGUMENTS = ("--log-level=CRITICAL", "--HistoryManager.hist_file=:memory:")

PRELOAD = "__import__('cogvx_nb.notebooks.kernel_reset', fromlist=['preload_module']).preload_module({module!r})"
CLEAR = "__import__('cogvx_nb.notebooks.kernel_reset', fromlist=['clear_namespace']).clear_namespace({folder!r}, {path!r})"
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


NAME = "cogvx"

MOST_GROWTH = 4 * 2**30
"""Bytes that a kernel may hold, cleared, beyond what it held after its first notebook."""

IOPUB_SECONDS = 60
"""For the last outputs of a cell to arrive. nbclient's own 4 s are short on a busy machine."""


class WarmClient(PapermillNotebookClient):
    """Executes a notebook in a kernel that isn't its own."""

    def __init__(self, nb_man, kernel: WarmKernel, **options) -> None:
        super().__init__(nb_man, km=kernel.manager, **options)
        self.kc = kernel.client

    def execute_cell(self, cell, cell_index, **options):
        """Also marks the cell that a time-out, a death or an interruption ended: papermill takes
        it for completed."""
        try:
            return super().execute_cell(cell, cell_index, **options)
        except BaseException as error:
            if not any(output.output_type == "error" for output in cell.get("outputs", ())):
                name, text = type(error).__name__, str(error) or "interrupted"
                lines = [f"{name}: {text}"]
                cell.outputs.append(
                    nbformat.v4.new_output("error", ename=name, evalue=text, traceback=lines)
                )
            self.nb_man.cell_exception(cell, cell_index=cell_index)
            raise


class WarmEngine(NBClientEngine):
    """papermill's own engine, in a kernel that is kept."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man,
        kernel_name,
        log_output=False,
        stdout_file=None,
        stderr_file=None,
        start_timeout=60,
        execution_timeout=None,
        slot: str = "",
        folder: str = "",
        import_from: str = "",
        preload: str = "",
        run_timeout: float | None = None,
        most_growth: int = MOST_GROWTH,
        **options,
    ):
        """Execute a notebook in the kept kernel; see ``NBClientEngine`` for the rest.

        Args:
            execution_timeout: seconds for each cell.
            slot: whose kernel; each thread needs its own.
            folder: current directory of the notebook; by default that of this process.
            import_from: a further folder to import modules from.
            preload: a module that a new kernel imports before its first notebook.
            run_timeout: seconds for the whole notebook, its kernel ready.
            most_growth: bytes; see ``MOST_GROWTH``.
        """
        for name in ("input_path", "startup_timeout"):
            options.pop(name, None)
        timeout = options.pop("timeout", None)
        kernel = _kernels.setdefault((slot, kernel_name), WarmKernel(kernel_name))
        try:
            where = folder or str(Path.cwd())
            kernel.prepare(where, import_from, start_timeout, most_growth, preload)
            if run_timeout:
                deadline = time.monotonic() + run_timeout
                options["timeout_func"] = _until(deadline, execution_timeout)
            client = WarmClient(
                nb_man,
                kernel,
                **{"iopub_timeout": IOPUB_SECONDS} | options,
                timeout=execution_timeout or timeout,
                kernel_name=kernel_name,
                log_output=log_output,
                stdout_file=stdout_file,
                stderr_file=stderr_file,
            )
            client.execute()
        except BaseException:
            # A cell's own error doesn't come here. After all others the kernel may be dead, or
            # still at work on a cell that would hold up the next notebook.
            kernel.close(now=True)
            raise


_kernels: dict[tuple[str, str], WarmKernel] = {}
"""By slot and name."""


def register_engine() -> None:
    """Make the engine known to papermill, also where the package was installed before it had it."""
    papermill_engines.register(NAME, WarmEngine)


def kill_kernel(slot: str = "") -> None:
    """End a slot's kernels now, from any thread: the notebook that runs there fails."""
    for (owner, _), kernel in list(_kernels.items()):
        if owner == slot:
            kernel.kill()


def close_kernels(slot: str = "") -> None:
    """End a slot's kernels, from its own thread."""
    for key in [key for key in _kernels if key[0] == slot]:
        _kernels.pop(key).close()


def _until(deadline: float, cell_seconds: float | None):
    """For nbclient: seconds that a cell may take so that the notebook ends in time."""

    def seconds(cell) -> float:
        left = max(0.01, deadline - time.monotonic())
        return min(left, cell_seconds) if cell_seconds else left

    return seconds


@atexit.register
def _kill_all() -> None:
    for kernel in _kernels.values():
        kernel.kill()
        kernel.leave_no_file()
