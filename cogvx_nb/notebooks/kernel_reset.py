"""Runs inside a kept kernel: clears what a notebook left before the next one starts.

State of installed modules stays, among it the pipeline that ``pipeline.loader`` holds; settings are
restored (``kernel_settings``).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from IPython import get_ipython

from .kernel_guard import adopt_orphans, end_with_parent, install_guard
from .kernel_settings import record_settings, restore_settings

LAST_ERROR = ("last_exc", "last_type", "last_value", "last_traceback")

_initial: dict[str, object] = {}
"""State of the process before its first notebook."""


def prepare_process(preload: str = "", mark: str = "") -> None:
    """Record the state of a new process, to which ``clear_namespace`` returns.

    Args:
        preload: a module that its notebooks will need; none if empty. torch and diffusers are
            400,000 objects, which are exempted from garbage collection: 0.2 s each time.
        mark: of the processes that the notebooks start, see ``kernel_processes.MARK``.
    """
    if preload:
        with contextlib.suppress(Exception):  # the notebook's own import says why
            importlib.import_module(preload)
            gc.collect()
            gc.freeze()
    adopt_orphans()
    end_with_parent(mark)
    install_guard()
    record_settings()
    _initial.update(environ=dict(os.environ), path=list(sys.path), argv=list(sys.argv))
    names = get_ipython().user_ns.items()
    _initial["names"] = {name: value for name, value in names if name.startswith("__")}


def enter_folder(folder: str, import_from: str = "") -> None:
    """Set the current directory of the next notebook.

    Args:
        import_from: a further folder to import modules from; none if empty.
    """
    os.chdir(folder)
    _initial["folders"] = {folder, import_from}
    sys.path[:] = [*_initial["path"], *([import_from] if import_from else [])]


def clear_namespace() -> int:
    """Return this kernel to its initial state, but for modules and what they hold.

    Returns:
        Bytes of RAM and GPU memory still in use.

    Raises:
        RuntimeError: if a thread of the last notebook is still running, which nothing can end.
        LookupError: if this module was imported again, and knows no initial state.
        Exception: if a setting can't be restored.
    """
    environment = _initial["environ"]
    _end_tasks()
    _unload_modules(_initial["folders"])
    _clear_state()
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = _initial["argv"]
    restore_settings()
    _free_memory()
    return _bytes_in_use()


def _end_tasks() -> None:
    """Cancel tasks and remove callbacks of the last notebook.

    Raises:
        RuntimeError: if one of its threads is still running.
    """
    names = get_ipython().user_ns

    def is_notebook_code(frame: FrameType | None) -> bool:
        while frame is not None and frame.f_globals is not names:
            frame = frame.f_back
        return frame is not None

    def is_notebook_function(function: object) -> bool:
        return getattr(function, "__globals__", None) is names

    for task in asyncio.all_tasks():
        if is_notebook_code(getattr(task.get_coro(), "cr_frame", None)):
            task.cancel()
    for handle in getattr(asyncio.get_running_loop(), "_scheduled", ()):
        if is_notebook_function(getattr(handle, "_callback", None)):
            handle.cancel()
    for calls in get_ipython().events.callbacks.values():
        calls[:] = [call for call in calls if not is_notebook_function(call)]
    others = sys._current_frames()
    del others[threading.get_ident()]
    targets = map(_thread_target, threading.enumerate())
    if any(map(is_notebook_code, others.values())) or any(map(is_notebook_function, targets)):
        raise RuntimeError("a thread of the last notebook is still at work")


def _thread_target(thread: threading.Thread) -> Callable | None:
    """The function that a thread runs, or that a timer will call."""
    return getattr(thread, "function", None) or getattr(thread, "_target", None)


def _unload_modules(folders: set[str]) -> None:
    """Unload modules found in these folders: another notebook may have others of the same name."""
    own = __package__.partition(".")[0]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name.partition(".")[0] == own:
            continue
        depth = name.count(".") + (Path(file).stem == "__init__")
        if folders.intersection(map(str, Path(file).parents[depth : depth + 1])):
            del sys.modules[name]


def _clear_state() -> None:
    """Clear variables and tracebacks."""
    shell = get_ipython()
    preloaded = gc.get_freeze_count() > 0
    if not preloaded:  # the shell's reset collects garbage: once, at the end, is enough
        gc.freeze()
    shell.reset(new_session=True)
    for name, value in _initial["names"].items():  # __spec__, without which no process is spawned
        shell.user_ns.setdefault(name, value)
    if not preloaded:
        gc.unfreeze()
    for name in LAST_ERROR:  # their frames keep a failed run's variables alive
        if hasattr(sys, name):
            delattr(sys, name)
    shell._last_traceback = shell.last_execution_result = shell.InteractiveTB.tb = None


def _free_memory() -> None:
    if optimization := sys.modules.get("cogvx_nb.pipeline.optimization"):
        optimization.free_memory()  # also returns it to the system: what stays is a leak
        return
    gc.collect()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _bytes_in_use() -> int:
    import psutil

    torch = sys.modules.get("torch")
    gpu_bytes = 0
    if torch and torch.cuda.is_initialized():
        gpu_bytes = sum(torch.cuda.memory_allocated(n) for n in range(torch.cuda.device_count()))
    return psutil.Process().memory_info().rss + gpu_bytes
