"""A papermill engine that keeps its kernel, so that a model is loaded once for many notebooks.

``papermill --engine cogvx``, or ``papermill.execute_notebook(..., engine_name="cogvx")``. The
kernel's variables are cleared between the notebooks of a process; a kernel that died, hangs or
leaks memory is replaced by a new one.
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
"""Seconds until a kernel that is being cleared counts as hung; clearing takes 0.2 s."""

PRELOAD_SECONDS = 600
"""Seconds for imports; torch from a cold network disk can take a minute."""

ARGUMENTS = ("--log-level=CRITICAL", "--HistoryManager.hist_file=:memory:")

IN_KERNEL = "__import__('cogvx_nb.notebooks.kernel_reset', fromlist=['_'])"
"""The module, as an expression to evaluate in the kernel: a statement would leave a name there."""

PRELOAD = IN_KERNEL + ".preload_module({module!r})"
CLEAR = IN_KERNEL + ".clear_namespace({folder!r}, {path!r})"


class WarmKernel:
    """A kernel that is kept from one notebook to the next.

    It belongs to one thread, whose event loop owns its sockets; only ``kill`` may be called from
    others.

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
        """Clear the kernel, or replace it by a new process where that fails.

        Args:
            folder: its current directory from now on.
            path: a further folder to import modules from; none if empty.
            most_growth: bytes that it may hold more than after its first notebook.
            preload: a module that a new process imports first; none if empty.

        Raises:
            DeadKernelError: if none starts within ``start_seconds``.
        """
        if self._manager is not None and self._clearable and self._is_alive():
            held_bytes = self._clear(folder, path)
            if held_bytes is not None:
                self._first_bytes = self._first_bytes or held_bytes
                if held_bytes - self._first_bytes <= most_growth:
                    return
        self.close()
        self._start(folder, start_seconds)
        self._clearable = self._clear(folder, path) is not None  # not for a kernel of R
        if preload and self._clearable:  # if that fails, the notebook's own import says why
            run_sync(self._evaluate)(PRELOAD.format(module=preload), PRELOAD_SECONDS)

    def kill(self) -> None:
        """Kill the process and those that it started; from any thread."""
        provisioner = self._manager.provisioner if self._manager else None
        pid = getattr(provisioner, "pid", None)
        if pid and provisioner.process and provisioner.process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)  # jupyter_client gives each kernel its own group

    def close(self, now: bool = False) -> None:
        """Shut the process down.

        Args:
            now: kill it, without asking it first.
        """
        manager, client = self._manager, self.client
        if now:
            self.kill()
        self._manager = self.client = self._first_bytes = None
        # Errors of shutting down don't matter: both are out of use.
        if manager is not None:
            with contextlib.suppress(Exception):
                run_sync(manager.shutdown_kernel)(now=now)
        if client is not None:
            with contextlib.suppress(Exception):
                client.stop_channels()

    def delete_connection_file(self) -> None:
        """Delete the kernel's connection file, at the end of this process."""
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
        """Clear the kernel; returns the bytes that it still holds, None if that failed."""
        code = CLEAR.format(folder=folder, path=path)
        reply = run_sync(self._evaluate)(code, CLEAR_SECONDS)
        if reply is None or reply.get("status") != "ok":
            return None
        answer = reply["user_expressions"]["value"]
        return int(answer["data"]["text/plain"]) if answer["status"] == "ok" else None

    async def _evaluate(self, expression: str, seconds: float) -> dict | None:
        """Evaluate an expression in the kernel: the content of its reply, None without one."""
        request_id = self.client.execute("", silent=True, user_expressions={"value": expression})
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and await self._manager.is_alive():
            with contextlib.suppress(Empty):
                message = await self.client.get_shell_msg(timeout=0.5)
                if message["parent_header"].get("msg_id") == request_id:
                    return message["content"]
        return None


NAME = "cogvx"

MOST_GROWTH = 4 * 2**30
"""Bytes that a cleared kernel may hold beyond what it held after its first notebook."""

IOPUB_SECONDS = 60
"""Seconds for the last outputs of a cell to arrive; nbclient's default of 4 s is too short on a
busy machine."""


class WarmClient(PapermillNotebookClient):
    """Executes a notebook in a kernel that was started before."""

    def __init__(self, nb_man, kernel: WarmKernel, **options) -> None:
        super().__init__(nb_man, km=kernel.manager, **options)
        self.kc = kernel.client

    def execute_cell(self, cell, cell_index, **options):
        """Also mark a cell that ended with a time-out, a dead kernel or an interruption as failed:
        papermill would mark it as completed."""
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
    """papermill's own engine, with a kernel that is kept."""

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
        """Execute a notebook in the kept kernel; see ``NBClientEngine`` for the other arguments.

        Args:
            execution_timeout: seconds for each cell.
            slot: names the kernel; each thread needs its own.
            folder: current directory of the notebook; by default that of this process.
            import_from: a further folder to import modules from.
            preload: a module that a new kernel imports before its first notebook.
            run_timeout: seconds for the whole notebook, once its kernel is ready.
            most_growth: bytes; see ``MOST_GROWTH``.
        """
        for name in ("input_path", "startup_timeout"):
            options.pop(name, None)
        timeout = options.pop("timeout", None)
        kernel = _kernels.setdefault((slot, kernel_name), WarmKernel(kernel_name))
        try:
            directory = folder or str(Path.cwd())
            kernel.prepare(directory, import_from, start_timeout, most_growth, preload)
            if run_timeout:
                deadline = time.monotonic() + run_timeout
                options["timeout_func"] = _cell_timeout(deadline, execution_timeout)
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
            # Errors raised by a cell don't get here. After any other the kernel may be dead, or
            # still busy with a cell that would block the next notebook.
            kernel.close(now=True)
            raise


_kernels: dict[tuple[str, str], WarmKernel] = {}
"""By slot and name of the specification."""


def register_engine() -> None:
    """Register the engine with papermill, whose entry points an older installation may lack."""
    papermill_engines.register(NAME, WarmEngine)


def kill_kernel(slot: str = "") -> None:
    """Kill a slot's kernels, from any thread: a notebook that is running there fails."""
    for (owner, _), kernel in list(_kernels.items()):
        if owner == slot:
            kernel.kill()


def close_kernels(slot: str = "") -> None:
    """Shut a slot's kernels down, from its own thread."""
    for key in [key for key in _kernels if key[0] == slot]:
        _kernels.pop(key).close()


def _cell_timeout(deadline: float, cell_seconds: float | None):
    """nbclient's ``timeout_func``: seconds left for a cell before the notebook's deadline."""

    def seconds(cell) -> float:
        left = max(0.01, deadline - time.monotonic())
        return min(left, cell_seconds) if cell_seconds else left

    return seconds


@atexit.register
def _kill_all() -> None:
    for kernel in _kernels.values():
        kernel.kill()
        kernel.delete_connection_file()
