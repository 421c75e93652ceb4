"""Inside a kernel that serves one notebook after another: nothing of the last one is left.

What lives in an installed module stays, and so does a pipeline that ``pipeline`` has loaded.
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
"""That torch's generators start with (c10/core/GeneratorImpl.h, ``default_rng_seed_val``)."""

LAST_ERROR = ("last_exc", "last_type", "last_value", "last_traceback")

_begun: dict[str, object] = {}
"""The process as it was before its first notebook."""


def clear_namespace(folder: str, import_from: str = "") -> int:
    """Make this kernel as good as new, working in a folder.

    Args:
        folder: the current directory from now on.
        import_from: a further folder to import modules from; none if empty.

    Returns:
        Bytes of memory that are still in use, of the system's and of the GPU's together.

    Raises:
        RuntimeError: if a thread of the last notebook is still at work: nothing can end it.
    """
    os.chdir(folder)  # first, for the last one may be gone
    if _begun:
        _end_what_runs()
        _forget_modules(_begun["folders"])
        _forget()
    else:
        _begun.update(environ=dict(os.environ), path=list(sys.path), argv=list(sys.argv))
        _begun["builtins"] = set(vars(builtins))
    _begun["folders"] = {folder, import_from}
    os.environ.clear()
    os.environ.update(_begun["environ"])
    sys.argv[:] = _begun["argv"]
    sys.path[:] = [*_begun["path"], *([import_from] if import_from else [])]
    return _bytes_in_use()


def preload_module(module: str) -> None:
    """Import what the notebooks will need, and have Python look through it for garbage no more:
    torch and diffusers are 400,000 objects, 0.2 s each time."""
    importlib.import_module(module)
    gc.collect()
    gc.freeze()


def _end_what_runs() -> None:
    """End what the last notebook left running, and what it asked to be called."""
    names = get_ipython().user_ns

    def is_its(frame: FrameType | None) -> bool:
        while frame is not None and frame.f_globals is not names:
            frame = frame.f_back
        return frame is not None

    for task in asyncio.all_tasks():
        if is_its(getattr(task.get_coro(), "cr_frame", None)):
            task.cancel()
    for calls in get_ipython().events.callbacks.values():
        calls[:] = [call for call in calls if getattr(call, "__globals__", None) is not names]
    others = sys._current_frames()
    del others[threading.get_ident()]
    for frame in others.values():
        if is_its(frame):
            raise RuntimeError("a thread of the last notebook is still at work")


def _forget_modules(folders: set[str]) -> None:
    """Forget the modules that lie in these folders: another notebook has others of the name."""
    own = __package__.partition(".")[0]
    for name, module in list(sys.modules.items()):
        place = getattr(module, "__file__", None)
        if place is None or name.partition(".")[0] == own:
            continue
        depth = name.count(".") + (Path(place).stem == "__init__")
        if folders.intersection(map(str, Path(place).parents[depth : depth + 1])):
            del sys.modules[name]


def _forget() -> None:
    shell = get_ipython()
    preloaded = gc.get_freeze_count() > 0
    if not preloaded:  # the shell collects garbage by itself; once, below, is enough
        gc.freeze()
    shell.reset(new_session=True)
    if not preloaded:
        gc.unfreeze()
    for name in vars(builtins).keys() - _begun["builtins"]:
        delattr(builtins, name)
    for name in LAST_ERROR:  # their frames hold a failed run's variables
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
        optimization.free_memory()  # to the system too, so that a leak can be told from a reserve
        return
    gc.collect()
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _bytes_in_use() -> int:
    import psutil

    torch = sys.modules.get("torch")
    on_gpus = 0
    if torch and torch.cuda.is_initialized():
        on_gpus = sum(torch.cuda.memory_allocated(n) for n in range(torch.cuda.device_count()))
    return psutil.Process().memory_info().rss + on_gpus
