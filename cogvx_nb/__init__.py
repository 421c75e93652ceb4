"""A workbench for CogVideoX: from a prompt to a video that can be made again.

The names below are the documented Python API; each is imported when it is first used, so that
``import cogvx_nb`` loads no torch. Everything else may move.
"""

import importlib
import os
import sys

__version__ = "0.1.0"

_API = {
    "Catalogue": "results.catalogue",
    "catalogue": "results.catalogue",
    "finish_result": "finishing.finish",
    "generate_video": "workflow",
    "make_storyboard": "storyboard",
    "results_frame": "results.catalogue",
    "read_result": "results.result",
    "reproduce": "reproduction",
    "save_frames": "results.result",
    "run_notebook": "notebooks.notebook",
    "run_sweep": "sweep.driver",
    "show_compare": "workbench.app",
    "show_gallery": "workbench.app",
    "show_workbench": "workbench.app",
    "sweep_dataframe": "sweep.dataframe",
}
"""Public names and the modules that define them; ``catalogue`` is a module itself."""

__all__ = ["__version__", *_API]


def __getattr__(name: str) -> object:
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_API[name]}")
    return module if module.__name__.endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_API})


# torch reads this when it is imported. Expandable segments keep the allocator's reserved memory
# close to what is used when memory is short: CogVideoX-5b decodes 49 frames untiled in 7.2 GiB with
# them, and runs out without.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
if "IPython" in sys.modules:  # a notebook
    from .notebooks import cell_errors

    cell_errors.install()
