"""Write ``docs/cli.md`` from parser and ``FIELDS``: ``python docs/write_cli.py``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from cogvx_nb.cli.main import build_parser
from cogvx_nb.planning.field import Field
from cogvx_nb.planning.fields import FIELDS

PAGE = Path(__file__).with_name("cli.md")

HEAD = """\
# Command line

<!-- Written by docs/write_cli.py from parser and FIELDS; edit their help or that script. -->

Every command and its arguments, from the parser that `cogvx --help` prints; and the
[fields of a request](#fields-of-a-request), which every way to make a video takes.

Every command also takes `--help`, and `--debug`, which prints the traceback of an error that
otherwise is one line. `cogvx --version` prints the version.

Results go to standard output; progress, notes and errors go to standard error, so the last line
of `cogvx generate` in a pipe is the path of the video.

| exit code | meaning |
|---|---|
| 0 | done; for `check`: the model can run |
| 1 | environment, files, network or model; a failed `verify`; frames that aren't reproduced |
| 2 | an invalid argument or value; a download that was not agreed to |
| 130, 143 | interrupted by Ctrl-C or SIGTERM |
| 141 | standard output was closed early, as by `head` |
"""

FIELDS_HEAD = """\

## Fields of a request

The flags of `cogvx generate`, the parameters of notebook `03_generate`, the form of the workbench,
the columns of a sweep and the keywords of [`generate_video`](python.md#generate_video), which
takes diffusers' names too. More about them is in the [user guide](guide.md#options-of-a-video).

| field | diffusers | default | values | meaning |
|---|---|---|---|---|
"""

COMMON = ("--help", "--debug")
"""Flags of every command, which the head of the page explains."""


def render_page(parser: argparse.ArgumentParser) -> str:
    """The page as Markdown: a section for each command, in the order of the parser."""
    sections = "".join(f"\n{section}" for section in _render_commands(parser, 2))
    fields = "".join(map(_render_field, FIELDS.values()))
    return f"{HEAD}{sections}{FIELDS_HEAD}{fields}"


def _render_field(field: Field) -> str:
    default = "required" if field.required else f"`{field.default!r}`".replace("'", '"')
    cells = (f"`{field.name}`", f"`{field.alias or '–'}`".replace("`–`", "–"), default)
    return f"| {' | '.join((*cells, _range_of(field), _text(field.help)))} |\n"


def _range_of(field: Field) -> str:
    if field.kind is bool:
        return "`True`, `False`"
    if field.kind is str:
        return ", ".join(f"`{choice}`" for choice in field.choices if choice) or "text"
    most = f"{field.most:,}" if field.kind is int else f"{field.most:g}"
    return f"{field.least:g} to {most}"


def _render_commands(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    for command in _subparsers(parser).values():
        yield _render_command(command, level)
        yield from _render_commands(command, level + 1)


def _render_command(parser: argparse.ArgumentParser, level: int) -> str:
    arguments = [action for action in parser._actions if _is_documented(action)]
    lines = [f"{'#' * level} `{parser.prog}`", "", _sentence(parser.description), ""]
    lines += [_sentence(parser.epilog), ""] if parser.epilog else []
    example = [f"{parser.example}   # for example"] if parser.example else []
    example += parser.examples
    lines += ["```bash", _synopsis(parser, arguments), *example, "```"]
    if arguments:
        lines += ["", "| argument | value | default | meaning |", "|---|---|---|---|"]
        lines += [_render_row(parser, action) for action in arguments]
    return "\n".join(lines) + "\n"


def _render_row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    help_text = (action.help or "") % {**vars(action), "prog": parser.prog}
    help_text, default = _split_default(help_text, action)
    name = ", ".join(f"`{flag}`" for flag in action.option_strings) or f"`{_metavar(action)}`"
    cells = (name, _values(action), _code(default), _text(help_text))
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _split_default(help_text: str, action: argparse.Action) -> tuple[str, str]:
    """(the help without its default, the default): that of the help, else the parser's own."""
    stated = re.search(r"[\s;,]*\(?default: ([^()]*)\)?$", help_text)
    if stated:
        return help_text[: stated.start()], stated[1]
    empty = action.default in (None, "", False, argparse.SUPPRESS) or action.default == []
    if action.required and action.option_strings:
        return help_text, "required"
    return help_text, "" if empty else str(action.default)


def _values(action: argparse.Action) -> str:
    if action.choices:
        return ", ".join(f"`{choice}`" for choice in action.choices)
    if action.nargs == 0:
        return ""
    if not action.option_strings:
        return "any number" if action.nargs in ("*", "+") else ""
    if isinstance(action.metavar, str | tuple):
        return f"`{_metavar(action)}`"
    return {int: "whole number", float: "number"}.get(action.type, "text")


def _synopsis(parser: argparse.ArgumentParser, arguments: list[argparse.Action]) -> str:
    words = [parser.prog]
    for action in arguments:
        if not action.option_strings:
            optional = action.nargs in ("?", "*")
            name = f"{_metavar(action)}{'...' * (action.nargs in ('*', '+'))}"
            words.append(f"[{name}]" if optional else name)
    flags = [action for action in arguments if action.option_strings]
    words += [
        f"{action.option_strings[0]} {_metavar(action)}" for action in flags if action.required
    ]
    if any(not action.required for action in flags):
        words.append("[options]")
    names = list(_subparsers(parser))
    return " ".join(words) + "".join(f"\n{parser.prog} {name} ..." for name in names)


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    return action.metavar or action.dest.upper()


def _is_documented(action: argparse.Action) -> bool:
    if isinstance(action, argparse._SubParsersAction):
        return False
    return action.help != argparse.SUPPRESS and not {*COMMON} & {*action.option_strings}


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return groups[0].choices if groups else {}


def _sentence(text: str | None) -> str:
    return _text(" ".join((text or "").split()))


def _code(text: str) -> str:
    """A default: as code if it is one word, else as text."""
    return f"`{text}`" if text and " " not in text else _text(text)


def _text(text: str) -> str:
    """Text that Markdown shows as it is: in a table, and with ``<names>``."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(render_page(build_parser()), encoding="utf-8")
    print(PAGE)
