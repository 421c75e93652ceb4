"""A papermill engine that keeps its kernel: what one notebook loaded serves the next.

``papermill --engine cogvx``, or ``papermill.execute_notebook(..., engine_name="cogvx")``. Between
notebooks of a process the kernel's variables are cleared; a kernel that died, hung or leaks gives
way to a new one.
"""

from __future__ import annotations

import atexit
import time
from pathlib import Path

import nbformat
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from .warm_kernel import WarmKernel

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


def register() -> None:
    """Make the engine known to papermill, also where the package was installed before it had it."""
    papermill_engines.register(NAME, WarmEngine)


def kill(slot: str = "") -> None:
    """End a slot's kernels now, from any thread: the notebook that runs there fails."""
    for (owner, _), kernel in list(_kernels.items()):
        if owner == slot:
            kernel.kill()


def close(slot: str = "") -> None:
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
