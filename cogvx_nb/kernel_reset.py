"""Inside a kernel that serves one notebook after another: nothing of the last one is left.

What lives in an imported module stays, and so does a pipeline that ``pipeline`` has loaded.
"""

from __future__ import annotations

import gc
import importlib
import os
import random
import sys

from IPython import get_ipython

TORCH_SEED = 67280421310721
"""That torch's generators start with (c10/core/GeneratorImpl.h, ``default_rng_seed_val``)."""

LAST_ERROR = ("last_exc", "last_type", "last_value", "last_traceback")

_begun: dict[str, object] = {}
"""The process as it was before its first notebook."""


def clear(folder: str, import_from: str = "") -> int:
    """Make this kernel as good as new, working in a folder.

    Args:
        folder: the current directory from now on.
        import_from: a further folder to import modules from; none if empty.

    Returns:
        Bytes of memory that are still in use, of the system's and of the GPU's together.
    """
    if _begun:
        _forget()
    else:
        _begun.update(environ=dict(os.environ), path=list(sys.path), argv=list(sys.argv))
    os.environ.clear()
    os.environ.update(_begun["environ"])
    sys.argv[:] = _begun["argv"]
    sys.path[:] = [*_begun["path"], *([import_from] if import_from else [])]
    os.chdir(folder)
    return _bytes_in_use()


def preload(module: str) -> None:
    """Import what the notebooks will need, and have Python look through it for garbage no more:
    torch and diffusers are 400,000 objects, 0.2 s each time."""
    importlib.import_module(module)
    gc.collect()
    gc.freeze()


def _forget() -> None:
    shell = get_ipython()
    preloaded = gc.get_freeze_count() > 0
    if not preloaded:  # the shell collects garbage by itself; once, below, is enough
        gc.freeze()
    shell.reset(new_session=True)
    if not preloaded:
        gc.unfreeze()
    for name in LAST_ERROR:  # their frames hold a failed run's variables
        if hasattr(sys, name):
            delattr(sys, name)
    shell._last_traceback = shell.last_execution_result = shell.InteractiveTB.tb = None
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if torch := sys.modules.get("torch"):
        torch.manual_seed(TORCH_SEED)
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
    if pipeline := sys.modules.get("cogvx_nb.pipeline"):
        pipeline.free_memory()  # to the system too, so that a leak can be told from a reserve
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
