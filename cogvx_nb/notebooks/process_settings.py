"""Runs inside a kept kernel: settings of the process and of Python."""

from __future__ import annotations

import builtins
import contextlib
import decimal
import faulthandler
import gc
import locale
import logging
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from types import ModuleType

try:
    import resource
except ImportError:  # Windows
    resource = None

from .setting_rows import Setting, attribute_setting, function_setting, write_only_setting


def _read_builtins() -> dict:
    return dict(vars(builtins))


def _restore_builtins(names: dict) -> None:
    for name in vars(builtins).keys() - names.keys():
        delattr(builtins, name)
    vars(builtins).update(names)


_first_modules: dict[str, ModuleType] = {}


def _read_modules() -> dict:
    """Modules that the kernel itself may need: those that were imported first."""
    if not _first_modules:
        _first_modules.update(sys.modules)
    return {name: sys.modules.get(name) for name in _first_modules}


def _restore_modules(modules: dict) -> None:
    sys.modules.update(modules)


def _restore_filters(filters: list) -> None:
    warnings.resetwarnings()  # also forgets which warnings were shown
    warnings.filters.extend(filters)


def _learn_filters(known: list, before: list, after: list) -> list:
    return [*(row for row in after if row not in before and row not in known), *known]


def _learn_loggers(known: dict, before: dict, after: dict) -> dict:
    return {name: state for name, state in after.items() if name not in before} | known


def _loggers() -> Iterator[logging.Logger]:
    yield logging.root
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            yield logger


def _read_logging() -> dict[str, tuple]:
    return {
        logger.name: (logger.level, logger.propagate, logger.disabled, tuple(logger.handlers))
        for logger in _loggers()
    }


def _restore_logging(states: dict[str, tuple]) -> None:
    """Restore loggers; new ones of a notebook's own are reset, those of libraries stay."""
    for logger in list(_loggers()):
        if logger.name in states:
            state = states[logger.name]
        elif logger.name.partition(".")[0] in sys.modules:
            continue
        else:
            state = (logging.NOTSET, True, False, ())
        logger.setLevel(state[0])
        logger.propagate, logger.disabled, logger.handlers[:] = state[1], state[2], state[3]


def _read_signals() -> dict:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _restore_signals(handlers: dict) -> None:
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _read_mask() -> set:
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _restore_mask(blocked: set) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _stop_timers(_: object) -> None:
    """Stop what would end or disturb the process later."""
    faulthandler.cancel_dump_traceback_later()
    if hasattr(signal, "setitimer"):
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)


def _enable_collection(enabled: bool) -> None:
    gc.enable() if enabled else gc.disable()


def _restore_locale(name: str) -> None:
    locale.setlocale(locale.LC_ALL, name)


DECIMAL = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")


def _read_decimal() -> list:
    return [getattr(decimal.getcontext(), name) for name in DECIMAL]


def _restore_decimal(values: list) -> None:
    for name, value in zip(DECIMAL, values, strict=True):
        setattr(decimal.getcontext(), name, value)


def _read_umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _read_limits() -> dict:
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    limits = {}
    for number in {getattr(resource, name) for name in names}:
        with contextlib.suppress(ValueError, OSError):  # not on this system
            limits[number] = resource.getrlimit(number)
    return limits


def _restore_limits(limits: dict) -> None:
    for number, limit in limits.items():
        resource.setrlimit(number, limit)


def _standard_streams() -> list:
    return [(state.st_dev, state.st_ino) for state in map(os.fstat, (0, 1, 2))]


def _refuse(_: object) -> None:
    raise RuntimeError("a standard stream of the kernel was closed or replaced")


def _read_lists() -> list[list]:
    return [list(items) for items in (sys.meta_path, sys.path_hooks, gc.callbacks)]


def _restore_lists(lists: list[list]) -> None:
    sys.meta_path[:], sys.path_hooks[:], gc.callbacks[:] = lists


PROCESS = (
    Setting("builtins", _read_builtins, _restore_builtins),
    Setting("modules", _read_modules, _restore_modules),
    Setting("standard streams", _standard_streams, _refuse),
    attribute_setting("sys", "stdin"),
    attribute_setting("sys", "stdout"),
    attribute_setting("sys", "stderr"),
    attribute_setting("sys", "excepthook"),
    attribute_setting("sys", "unraisablehook"),
    attribute_setting("sys", "breakpointhook"),
    function_setting("sys", "getrecursionlimit", "setrecursionlimit"),
    function_setting("sys", "getswitchinterval", "setswitchinterval"),
    function_setting("sys", "get_int_max_str_digits", "set_int_max_str_digits"),
    function_setting("sys", "gettrace", "settrace"),
    function_setting("sys", "getprofile", "setprofile"),
    Setting("import hooks", _read_lists, _restore_lists),
    Setting("warnings", lambda: list(warnings.filters), _restore_filters, learn=_learn_filters),
    attribute_setting("warnings", "showwarning"),
    attribute_setting("warnings", "formatwarning"),
    Setting("logging", _read_logging, _restore_logging, learn=_learn_loggers),
    attribute_setting("logging", "root.manager.disable"),
    Setting("signals", _read_signals, _restore_signals),
    write_only_setting("timers", _stop_timers),
    Setting("umask", _read_umask, os.umask),
    Setting("garbage collection", gc.isenabled, _enable_collection),
    function_setting("gc", "get_threshold", "set_threshold", "*"),
    function_setting("gc", "get_debug", "set_debug"),
    attribute_setting("threading", "excepthook"),
    function_setting("threading", "stack_size", "stack_size"),
    Setting("locale", lambda: locale.setlocale(locale.LC_ALL), _restore_locale),
    Setting("decimal", _read_decimal, _restore_decimal),
    write_only_setting("random", lambda _: random.seed(), "random"),
)

if resource is not None:
    PROCESS += (Setting("limits", _read_limits, _restore_limits),)
if hasattr(os, "sched_getaffinity"):
    PROCESS += (
        Setting(
            "CPU affinity", lambda: os.sched_getaffinity(0), lambda v: os.sched_setaffinity(0, v)
        ),
    )
if hasattr(signal, "pthread_sigmask"):
    PROCESS += (Setting("signal mask", _read_mask, _restore_mask),)
if hasattr(time, "tzset"):
    PROCESS += (write_only_setting("time zone", lambda _: time.tzset()),)
