"""Runs inside a kept kernel: restores what a notebook changed besides its variables.

The tables have a row for each setting, with what reads and what restores it. Those of a library
are read when it has been imported, be it by a notebook.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

from .library_settings import LIBRARIES
from .process_settings import PROCESS
from .setting_rows import Setting

SETTINGS = (*PROCESS, *LIBRARIES)


_recorded: dict[Setting, object] = {}


def record_settings() -> None:
    """Record the settings of this process, and from now on those of libraries when imported."""
    sys.meta_path.insert(0, _RecordingFinder())
    for setting in SETTINGS:
        if setting.library in sys.modules:
            _recorded[setting] = setting.read()


def restore_settings() -> None:
    """Restore what differs from what was recorded.

    Raises:
        Exception: if something can't be restored.
    """
    for setting, value in list(_recorded.items()):  # restoring may import something
        if setting.read() != value:
            setting.restore(value)


class _RecordingFinder:
    """Records the settings of libraries as soon as their import is complete, and what it changed:
    that isn't the notebook's doing."""

    def __init__(self) -> None:
        self._libraries = {setting.library for setting in SETTINGS}
        self._searching: set[str] = set()

    def find_spec(self, name: str, path=None, target=None):
        if name in self._searching or ("." in name and name not in self._libraries):
            return None
        self._searching.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching.discard(name)
        if spec is not None and hasattr(spec.loader, "get_filename"):  # of this module alone
            execute = spec.loader.exec_module
            spec.loader.exec_module = functools.partial(_execute_and_record, execute)
        return spec


def _execute_and_record(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    installed = "site-packages" in (module.__spec__.origin or "")
    learning = [setting for setting in SETTINGS if setting.learn and installed]
    before = [setting.read() for setting in learning]
    execute(module)
    for setting, value in zip(learning, before, strict=True):
        _recorded[setting] = setting.learn(_recorded[setting], value, setting.read())
    for setting in SETTINGS:
        if setting.library == module.__name__ and setting not in _recorded:
            _recorded[setting] = setting.read()
