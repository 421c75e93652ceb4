"""A papermill engine that keeps its kernel, so that a model is loaded once for many notebooks.

``papermill --engine cogvx``, or ``papermill.execute_notebook(..., engine_name="cogvx")``. The
kernel's variables are cleared between the notebooks of a thread; a kernel that died, hangs, leaks
memory or can't be cleared is replaced by a new one.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.log import logger

from .failure import end_at_exit
from .warm_kernel import WarmKernel

NAME = "cogvx"

MOST_GROWTH = 4 * 2**30
"""Bytes that a cleared kernel may hold beyond what it held after its first notebook."""

IOPUB_SECONDS = 60
"""Seconds for the last outputs of a cell to arrive; nbclient's default of 4 s is too short on a
busy machine."""


MOST_STATUS = 200
"""Characters of a line of progress that are passed on."""

MOST_OUTPUT = 64 * 2**20
"""Characters of output that are kept of a notebook; more would fill this process's memory."""


class WarmClient(PapermillNotebookClient):
    """Executes a notebook in a kernel that was started before."""

    def __init__(
        self, nb_man, kernel: WarmKernel, on_status: Callable[[str], None] | None, **options
    ) -> None:
        super().__init__(nb_man, km=kernel.manager, **options)
        self._on_status = on_status or (lambda line: None)
        self.kc = kernel.client
        self._language_info = kernel.language_info
        self._room = MOST_OUTPUT

    def execute(self, **options):
        """Execute the cells. The kernel isn't asked about its language again: one that is broken by
        now wouldn't answer."""
        self.reset_execution_trackers()
        with self.setup_kernel(**options):
            self.log.info(f"Executing notebook with kernel: {self.kernel_name}")
            self.papermill_execute_cells()
            self.nb.metadata["language_info"] = self._language_info
            self.set_widgets_metadata()
        return self.nb

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

    def process_message(self, msg, cell, cell_index):
        """Also pass on the last line of a display that is updated, such as a progress bar."""
        if msg["msg_type"] == "update_display_data":
            shown = msg["content"].get("data", {}).get("text/plain")
            if isinstance(shown, str):
                self._on_status(shown[-MOST_STATUS:].rpartition("\n")[2])
        return super().process_message(msg, cell, cell_index)

    def output(self, outs, msg, display_id, cell_index):
        """Keep an output, as long as there is room for it; errors are always kept."""
        if msg["msg_type"] == "error":
            return super().output(outs, msg, display_id, cell_index)
        content = msg["content"]
        texts = (content.get("text", ""), *content.get("data", {}).values())
        before, self._room = self._room, self._room - sum(len(str(text)) for text in texts)
        if self._room >= 0:
            return super().output(outs, msg, display_id, cell_index)
        if before >= 0:
            note = f"[the rest of the output was dropped: more than {MOST_OUTPUT:,} characters]\n"
            outs.append(nbformat.v4.new_output("stream", name="stderr", text=note))
        return None


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
        extra_arguments: Sequence[str] = (),
        on_status: Callable[[str], None] | None = None,
        **options,
    ):
        """Execute a notebook in the kept kernel; see ``NBClientEngine`` for the other arguments.

        Args:
            execution_timeout: seconds for each cell.
            slot: names the kernel, which belongs to the thread.
            folder: current directory of the notebook; by default that of this process.
            import_from: a further folder to import modules from.
            preload: a module that a new kernel imports before its first notebook.
            run_timeout: seconds for the whole notebook, once its kernel is ready.
            most_growth: bytes; see ``MOST_GROWTH``.
            extra_arguments: of the kernel's command; other ones are another kernel.
            on_status: called with the line of progress that the notebook shows, as it changes.
        """
        _, _, timeout = (options.pop(n, None) for n in ("input_path", "startup_timeout", "timeout"))
        kernel = _find_kernel(slot, kernel_name, extra_arguments)
        try:
            place = folder or str(Path.cwd())
            kernel.prepare(place, import_from, start_timeout, most_growth, preload)
            if run_timeout:
                options["timeout_func"] = _cell_timeout(run_timeout, execution_timeout)
            if logger.hasHandlers():  # without one, nbclient's own is silent
                options["log"] = logger
            client = WarmClient(
                nb_man,
                kernel,
                on_status,
                **{"iopub_timeout": IOPUB_SECONDS, "on_cell_executed": end_at_exit} | options,
                timeout=execution_timeout or timeout,
                kernel_name=kernel_name,
                log_output=log_output,
                stdout_file=stdout_file,
                stderr_file=stderr_file,
            )
            client.execute()
            kernel.finish()
        except BaseException:
            # Errors raised by a cell don't get here. After any other the kernel may be dead, or
            # still busy with a cell that would block the next notebook.
            kernel.close(now=True)
            raise


_Key = tuple[threading.Thread, str, str, tuple[str, ...]]
"""A kernel's thread, slot, name of the specification, and further arguments."""

_kernels: dict[_Key, WarmKernel] = {}


def _find_kernel(slot: str, name: str, arguments: Sequence[str]) -> WarmKernel:
    """This thread's kernel. Those of threads that have ended are killed: nobody else can use them,
    since their sockets belong to an event loop of that thread."""
    for key in [key for key in list(_kernels) if not key[0].is_alive()]:
        if kernel := _kernels.pop(key, None):
            kernel.abandon()
    key = (threading.current_thread(), slot, name, tuple(arguments))
    return _kernels.setdefault(key, WarmKernel(name, arguments))


def register_engine() -> None:
    """Register the engine with papermill, whose entry points an older installation may lack."""
    papermill_engines.register(NAME, WarmEngine)


def kill_kernel(slot: str = "") -> None:
    """Kill a slot's kernels, from any thread: a notebook that is running there fails."""
    for (_, owner, *_), kernel in list(_kernels.items()):
        if owner == slot:
            kernel.kill()


def close_kernels(slot: str = "") -> None:
    """Shut down those kernels of a slot that belong to this thread."""
    for key in list(_kernels):
        if key[:2] == (threading.current_thread(), slot):
            _kernels.pop(key).close()


def _cell_timeout(seconds_left: float, cell_seconds: float | None):
    """nbclient's ``timeout_func``: seconds left for a cell, of those left now for the notebook."""
    deadline = time.monotonic() + seconds_left

    def seconds(cell) -> float:
        left = max(0.01, deadline - time.monotonic())
        return min(left, cell_seconds) if cell_seconds else left

    return seconds


@atexit.register
def _kill_all() -> None:
    for kernel in _kernels.values():
        kernel.abandon()
