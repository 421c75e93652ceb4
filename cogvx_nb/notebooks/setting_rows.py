"""Runs inside a kept kernel: how a row of its tables of settings is described."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter


@dataclass(frozen=True, slots=True)
class Setting:
    """Something that a notebook can change, and that outlives its variables."""

    name: str
    read: Callable[[], object]
    restore: Callable[[object], object]  # raises where it can't be: the kernel is replaced then
    library: str = "sys"  # the module that must have been imported
    learn: Callable | None = None  # the value to restore after the import of an installed library
    # which may change it: from the one so far, and those read before and after the import


def attribute_setting(module: str, path: str) -> Setting:
    """A row for an attribute of a module, or of an object in it."""
    owner, _, name = path.rpartition(".")

    def find_owner() -> object:
        found = sys.modules[module]
        return attrgetter(owner)(found) if owner else found

    return Setting(
        f"{module}.{path}",
        lambda: getattr(find_owner(), name),
        lambda value: setattr(find_owner(), name, value),
        module,
    )


def function_setting(module: str, getter: str, setter: str, unpack: str = "") -> Setting:
    """A row for a pair of functions of a module.

    Args:
        unpack: how the setter takes the value: ``*`` or ``**``; as it is if empty.
    """

    def restore(value) -> None:
        call = attrgetter(setter)(sys.modules[module])
        call(**value) if unpack == "**" else call(*value) if unpack == "*" else call(value)

    return Setting(
        f"{module}.{setter}", lambda: attrgetter(getter)(sys.modules[module])(), restore, module
    )


def write_only_setting(
    name: str, restore: Callable[[object], object], library: str = "sys"
) -> Setting:
    """A row for what can't be read: restored each time."""
    return Setting(name, object, restore, library)
