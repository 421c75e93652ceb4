"""Runs inside a kept kernel: settings of IPython and of other libraries."""

from __future__ import annotations

import sys
import warnings

from IPython import get_ipython

from .setting_rows import Setting, attribute_setting, function_setting, write_only_setting

TORCH_SEED = 67280421310721
"""Initial seed of torch's generators (c10/core/GeneratorImpl.h, ``default_rng_seed_val``)."""


def _shell_objects() -> list:
    shell = get_ipython()
    kinds = {*type(shell).__mro__, *type(shell.kernel).__mro__} - {object}
    return [shell, shell.kernel, *sorted(kinds, key=lambda kind: kind.__qualname__)]


def _read_methods() -> list[dict]:
    """Methods of the shell and the kernel, which a notebook may have replaced."""
    return [
        {name: value for name, value in vars(owner).items() if callable(value)}
        for owner in _shell_objects()
    ]


def _restore_methods(recorded: list[dict]) -> None:
    for owner, before, now in zip(_shell_objects(), recorded, _read_methods(), strict=True):
        for name in now.keys() - before.keys():
            delattr(owner, name)
        for name, method in before.items():
            if now.get(name) is not method:
                setattr(owner, name, method)


def _read_options() -> dict:
    """IPython's options, such as ``ast_node_interactivity``."""
    shell = get_ipython()
    values = {name: getattr(shell, name) for name in shell.trait_names(config=True)}
    return {
        name: list(value) if isinstance(value, list) else value for name, value in values.items()
    }


def _restore_options(options: dict) -> None:
    for name, value in options.items():
        if getattr(get_ipython(), name) != value:
            setattr(get_ipython(), name, value)


def _read_extensions() -> dict:
    """Magics, extensions, and what else notebooks register with IPython."""
    shell = get_ipython()
    return {
        "line": dict(shell.magics_manager.magics["line"]),
        "cell": dict(shell.magics_manager.magics["cell"]),
        "extensions": set(shell.extension_manager.loaded),
        "syntax trees": list(shell.ast_transformers),
        "lines": [list(shell.input_transformers_cleanup), list(shell.input_transformers_post)],
        "exceptions": (shell.custom_exceptions, shell.__dict__.get("CustomTB")),
        "precision": shell.display_formatter.formatters["text/plain"].float_precision,
        "traceback": shell.InteractiveTB.mode,
    }


def _restore_extensions(recorded: dict) -> None:
    shell = get_ipython()
    for kind in ("line", "cell"):
        magics = shell.magics_manager.magics[kind]
        magics.clear()
        magics.update(recorded[kind])
    shell.extension_manager.loaded = set(recorded["extensions"])
    shell.ast_transformers[:] = recorded["syntax trees"]
    shell.input_transformers_cleanup[:], shell.input_transformers_post[:] = recorded["lines"]
    shell.custom_exceptions = recorded["exceptions"][0]
    if recorded["exceptions"][1] is None:
        shell.__dict__.pop("CustomTB", None)
    else:
        shell.CustomTB = recorded["exceptions"][1]
    shell.display_formatter.formatters["text/plain"].float_precision = recorded["precision"]
    shell.InteractiveTB.set_mode(mode=recorded["traceback"])


def _read_start_method() -> str | None:
    return sys.modules["multiprocessing"].get_start_method(allow_none=True)


def _restore_start_method(name: str | None) -> None:
    sys.modules["multiprocessing"].set_start_method(name, force=True)


def _end_joblib_workers(_: object) -> None:
    executor = sys.modules["joblib.externals.loky.reusable_executor"]._executor
    if executor is not None:
        executor.shutdown(wait=True, kill_workers=True)


def _reset_pandas(_: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of options that will go
        sys.modules["pandas"].reset_option("all")


def _torch_defaults(_: object) -> None:
    """torch's settings that can't be read."""
    torch = sys.modules["torch"]
    torch.manual_seed(TORCH_SEED)
    torch.set_default_device(None)
    torch.set_printoptions(profile="default")
    torch.set_flush_denormal(False)
    if torch.cuda.is_initialized():
        torch.cuda.set_device(0)
        torch.cuda.set_per_process_memory_fraction(1.0)


def _close_figures(_: object) -> None:
    pyplot = sys.modules["matplotlib.pyplot"]
    pyplot.close("all")
    pyplot.rcdefaults()


LIBRARIES = (
    Setting("methods of IPython", _read_methods, _restore_methods),
    Setting("options of IPython", _read_options, _restore_options),
    Setting("extensions of IPython", _read_extensions, _restore_extensions),
    function_setting("socket", "getdefaulttimeout", "setdefaulttimeout"),
    attribute_setting("ssl", "_create_default_https_context"),
    Setting("multiprocessing", _read_start_method, _restore_start_method, "multiprocessing"),
    write_only_setting("joblib", _end_joblib_workers, "joblib.externals.loky.reusable_executor"),
    write_only_setting("ray", lambda _: sys.modules["ray"].shutdown(), "ray"),
    attribute_setting("PIL.Image", "MAX_IMAGE_PIXELS"),
    attribute_setting("PIL.ImageFile", "LOAD_TRUNCATED_IMAGES"),
    write_only_setting("numpy.random", lambda _: sys.modules["numpy"].random.seed(), "numpy"),
    function_setting("numpy", "get_printoptions", "set_printoptions", "**"),
    function_setting("numpy", "geterr", "seterr", "**"),
    write_only_setting("pandas", _reset_pandas, "pandas"),
    write_only_setting("matplotlib", _close_figures, "matplotlib.pyplot"),
    write_only_setting("torch", _torch_defaults, "torch"),
    function_setting("torch", "get_num_threads", "set_num_threads"),
    function_setting("torch", "get_default_dtype", "set_default_dtype"),
    function_setting("torch", "is_grad_enabled", "set_grad_enabled"),
    function_setting("torch", "get_deterministic_debug_mode", "set_deterministic_debug_mode"),
    function_setting("torch", "get_float32_matmul_precision", "set_float32_matmul_precision"),
    function_setting("torch", "is_anomaly_enabled", "autograd.set_detect_anomaly"),
    attribute_setting("torch", "backends.cudnn.enabled"),
    attribute_setting("torch", "backends.cudnn.benchmark"),
    attribute_setting("torch", "backends.cudnn.deterministic"),
    attribute_setting("torch", "backends.cudnn.allow_tf32"),
    *(
        function_setting(
            "torch", f"backends.cuda.{name}_sdp_enabled", f"backends.cuda.enable_{name}_sdp"
        )
        for name in ("flash", "mem_efficient", "math", "cudnn")
    ),
)
