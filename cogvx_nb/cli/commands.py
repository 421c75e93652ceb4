"""What a command of ``cogvx`` is, and the help that lists them by what one wants."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """A command of ``cogvx``."""

    group: str  # of ``cogvx --help``: what one wants
    name: str
    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    example: str  # its words after ``cogvx NAME``
    gist: str  # what it does, in a few words
    examples: tuple[str, ...] = ()  # further ones, of its own help


def overview(commands: Sequence[Command]) -> str:
    """The help of ``cogvx``: a line for each command, with an example, by what one wants."""
    examples = [f"cogvx {row.name} {row.example}".rstrip() for row in commands]
    width, lines, group = max(map(len, examples)), [], ""
    for row, example in zip(commands, examples, strict=True):
        title, group = ("" if row.group == group else row.group), row.group
        lines.append(f"{title:<11}  {example:<{width}}  {row.gist}")
    head = ["usage: cogvx COMMAND ...  (a workbench for CogVideoX)", ""]
    foot = ["", "'cogvx COMMAND --help' lists its arguments; 'cogvx --version' says the version."]
    return "\n".join([*head, *lines, *foot]) + "\n"
