"""The parser of the command line: one-line errors with the nearest word, default subcommands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping

from ..errors import did_you_mean
from ..text import plain_line

MESSAGE_LENGTH = 400
"""Characters of an error, which repeats what was typed."""

DASH_HINT = "; a value that starts with '-' is written --flag=VALUE, and such a file ./-name"


class OneLineParser(argparse.ArgumentParser):
    """Reports errors in one line, without the usage. A subcommand can be the default.

    Flags can't be abbreviated: a flag that is added later would change what a script says.
    """

    subcommands: Mapping[str, argparse.ArgumentParser] = {}
    default_subcommand = ""  # the one of ``subcommands`` that is meant where none is named
    help_if_bare = False  # whether it prints its help where nothing follows it
    example = ""  # a whole command line
    examples: tuple[str, ...] = ()  # further ones
    overview: Callable[[], str] | None = None  # makes its help, instead of argparse

    def __init__(self, **options) -> None:
        super().__init__(**{"allow_abbrev": False} | options)
        self._dashed = False

    def format_help(self) -> str:
        if self.overview is not None:
            return self.overview()
        lines = [f"  {line}\n" for line in (self.example, *self.examples) if line]
        return super().format_help() + "".join(["\nexample:\n"] * bool(lines) + lines)

    def error(self, message: str) -> None:
        line = plain_line(message)
        if len(line) > MESSAGE_LENGTH:
            line = f"{line[:MESSAGE_LENGTH]}..."
        dashed = self._dashed or message.startswith("unrecognized arguments: -")
        hint = DASH_HINT if dashed else ""
        self.exit(2, f"{self.prog}: {line}{hint} (see {self.prog} --help)\n")

    def parse_known_args(self, args=None, namespace=None):
        args = list(sys.argv[1:] if args is None else args)
        if self.help_if_bare and not args:
            self.print_help()
            self.exit(2)
        if self.default_subcommand:
            args = self._with_subcommand_first(args)
        self._check_flags(args)
        return super().parse_known_args(args, namespace)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            known = list(map(str, action.choices))
            hint = did_you_mean(str(value), known)
            message = f"invalid choice: {value!r}{hint} (choose from {', '.join(known)})"
            raise argparse.ArgumentError(action, message)

    def _check_flags(self, args: list[str]) -> None:
        """Refuse an unknown flag by name, before argparse misses what it may have been meant for.
        Flags behind the name of a command are for the command's own parser."""
        known = self._option_string_actions
        for word in args:
            if word == "--" or (self._subparsers and not word.startswith("-")):
                return
            name = word.partition("=")[0]
            if word.startswith("--") and " " not in word and name not in known:
                self.error(f"unknown flag {name}{did_you_mean(name, known)}")
            self._dashed |= word.startswith("-") and word[1:2].isalpha() and name not in known

    def _with_subcommand_first(self, args: list[str]) -> list[str]:
        """The arguments with the subcommand before flags that precede it, and with the default
        one where the first word isn't a subcommand."""
        actions = [action for parser in self.subcommands.values() for action in parser._actions]
        with_value = {
            flag for action in actions if action.nargs != 0 for flag in action.option_strings
        }
        remaining = iter(enumerate(args))
        for position, word in remaining:
            if word in ("-h", "--help"):
                return args
            if not word.startswith("-"):
                if word in self.subcommands:
                    return [word, *args[:position], *args[position + 1 :]]
                self._check_subcommand(word)
                break
            if word in with_value:
                next(remaining, None)
        return [self.default_subcommand, *args]

    def _check_subcommand(self, word: str) -> None:
        """Refuse a word that is no file and looks like a misspelt subcommand."""
        hint = did_you_mean(word, self.subcommands)
        if hint and not os.path.lexists(word):
            self.error(f"no subcommand {word!r}{hint}")


def add_command(
    commands, name: str, function, example: str, *examples: str
) -> argparse.ArgumentParser:
    """A command. Its examples are given without ``cogvx`` and its name."""
    command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
    command.add_argument("--debug", action="store_true", help="show tracebacks")
    command.set_defaults(command=function)
    command.example = f"{command.prog} {example}".rstrip()
    command.examples = tuple(f"{command.prog} {words}" for words in examples)
    return command


def add_subcommand(actions, name: str, function, example: str) -> argparse.ArgumentParser:
    """A command of a command. Its example is given without the names of both."""
    parser = actions.add_parser(name, help=function.__doc__, description=function.__doc__)
    unset = {"default": argparse.SUPPRESS}  # keeps the value of a flag before the subcommand
    parser.add_argument("--debug", action="store_true", help="show tracebacks", **unset)
    parser.set_defaults(command=function)
    parser.example = f"{parser.prog} {example}".rstrip()
    return parser
