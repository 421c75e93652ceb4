"""Runs inside a kept kernel: clears what a notebook left before the next one starts.

State of installed modules stays, among it the pipeline that ``pipeline.loader`` holds.
"""

from __future__ import annotations

import asyncio
import builtins
import gc
import importlib
import os
import random
import sys
import threading
from pathlib import Path
from types import FrameType

from IPython import get_ipython

TORCH_SEED = 67280421310721
"""Initial seed of torch's generators (c10/core/GeneratorImpl.h, ``default_rng_seed_val``)."""

LAST_ERROR = ("last_exc", "last_type", "last_value", "last_traceback")

_initial: dict[str, object] = {}
"""State of the process before its first notebook."""


def clear_namespace(folder: str, import_from: str = "") -> int:
    """Reset this kernel to its initial state, with another current directory.

    Args:
        folder: the current directory from now on.
        import_from: a further folder to import modules from; none if empty.

    Returns:
        Bytes of RAM and GPU memory still in use.

    Raises:
        RuntimeError: if a thread of the last notebook is still running, which nothing can end.
    """
    os.chdir(folder)  # first: the last directory may have been deleted
    if _initial:
        _end_tasks()
        _unload_modules(_initial["folders"])
        _clear_state()
    else:
        _initial.update(environ=dict(os.environ), path=list(sys.path), argv=list(sys.argv))
        _initial["builtins"] = set(vars(builtins))
    _initial["folders"] = {folder, import_from}
    os.environ.clear()
    os.environ.update(_initial["environ"])
    sys.argv[:] = _initial["argv"]
    sys.path[:] = [*_initial["path"], *([import_from] if import_from else [])]
    return _bytes_in_use()


def preload_module(module: str) -> None:
    """Import what notebooks will need, and exempt it from garbage collection: torch and diffusers
    are 400,000 objects, which take 0.2 s each time."""
    importlib.import_module(module)
    gc.collect()
    gc.freeze()


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

    for task in asyncio.all_tasks():
        if is_notebook_code(getattr(task.get_coro(), "cr_frame", None)):
            task.cancel()
    for calls in get_ipython().events.callbacks.values():
        calls[:] = [call for call in calls if getattr(call, "__globals__", None) is not names]
    others = sys._current_frames()
    del others[threading.get_ident()]
    for frame in others.values():
        if is_notebook_code(frame):
            raise RuntimeError("a thread of the last notebook is still at work")


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
    """Clear variables, tracebacks, figures, and random and torch settings; free memory."""
    shell = get_ipython()
    preloaded = gc.get_freeze_count() > 0
    if not preloaded:  # the shell's reset collects garbage: once, at the end, is enough
        gc.freeze()
    shell.reset(new_session=True)
    if not preloaded:
        gc.unfreeze()
    for name in vars(builtins).keys() - _initial["builtins"]:
        delattr(builtins, name)
    for name in LAST_ERROR:  # their frames keep a failed run's variables alive
        if hasattr(sys, name):
            delattr(sys, name)
    shell._last_traceback = shell.last_execution_result = shell.InteractiveTB.tb = None
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
        pyplot.rcdefaults()
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if torch := sys.modules.get("torch"):
        torch.manual_seed(TORCH_SEED)
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_grad_enabled(True)
    if optimization := sys.modules.get("cogvx_nb.pipeline.optimization"):
        optimization.free_memory()  # also returns it to the system: what stays is a leak
        return
    gc.collect()
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _bytes_in_use() -> int:
    import psutil

    torch = sys.modules.get("torch")
    gpu_bytes = 0
    if torch and torch.cuda.is_initialized():
        gpu_bytes = sum(torch.cuda.memory_allocated(n) for n in range(torch.cuda.device_count()))
    return psutil.Process().memory_info().rss + gpu_bytes
