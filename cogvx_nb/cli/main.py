"""The ``cogvx`` command: its parser, exit codes and one-line errors."""

from __future__ import annotations

import argparse
import contextlib
import sys
import traceback

from .. import __version__, leftovers, settings
from ..errors import CogvxError
from ..paths import decode_argument
from ..text import error_line, plain_line, print_error
from . import bench, checkpoints, experiments, export, front_ends, videos
from .parser import OneLineParser, add_command
from .signals import handle_signals
from .streams import finish_output, safe_streams


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0 done, 1 failed, 2 invalid input, 129, 130 or 143 interrupted by a signal,
        141 if the reader of its output closed the pipe early, as ``head`` does.
    """
    arguments = list(map(decode_argument, sys.argv[1:] if arguments is None else arguments))
    with safe_streams() as streams:
        try:
            with handle_signals(debug="--debug" in arguments):
                return finish_output(_run_command(arguments), *streams)
        except KeyboardInterrupt:  # a second one, while the first was reported
            return 130


def _run_command(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        options = build_parser().parse_args(arguments)
        with contextlib.suppress(CogvxError):  # commands that need the folder say what is wrong
            leftovers.begin(settings.outputs_dir())
        return options.command(options)
    except CogvxError as error:
        _report(error, f"cogvx: {error}", debug)
        return error.exit_code
    except KeyboardInterrupt:
        print_error("cogvx: interrupted; nothing half-written was left")
        return 130
    except SystemExit as leaving:  # of argparse, or by a signal
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException as error:  # not only Exception: that of a Rust library is none
        hint = "please report it" if debug else "--debug shows the traceback; please report it"
        _report(error, f"cogvx: internal error: {error_line(error)} ({hint})", debug)
        return 1


def _report(error: BaseException, line: str, debug: bool) -> None:
    if debug:
        print_error("".join(traceback.format_exception(error)).rstrip())
    print_error(plain_line(" ".join(line.splitlines())))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; docs/cli.md is written from it."""
    parser = OneLineParser(prog="cogvx", description="A workbench for CogVideoX.")
    parser.help_if_bare = True
    parser.add_argument("--version", action="version", version=f"cogvx {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=OneLineParser)
    front_ends.add_lab(add_command(commands, "lab", front_ends.open_lab))
    front_ends.add_app(add_command(commands, "app", front_ends.open_app))
    checkpoints.add_check(add_command(commands, "check", checkpoints.check_machine))
    videos.add_generate(add_command(commands, "generate", videos.generate_video_command))
    command = add_command(commands, "run", experiments.run_notebook_command)
    command.add_argument("notebook", help="03_generate, or the path of a notebook")
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    command.add_argument("-p", help="a parameter, parsed as its type in the notebook", **pair)
    command.add_argument("-r", help="a parameter that is text", **pair)
    command.add_argument("--output-notebook", metavar="F", help="where the executed copy goes")
    videos.add_list(add_command(commands, "list", videos.list_results))
    videos.add_show(add_command(commands, "show", videos.show_settings))
    export.add_export(add_command(commands, "export", export.export_video))
    videos.add_reproduce(add_command(commands, "reproduce", videos.reproduce_video))
    videos.add_save(add_command(commands, "save", videos.save_kept_frames))
    checkpoints.add_download(add_command(commands, "download", checkpoints.download_checkpoint))
    checkpoints.add_verify(add_command(commands, "verify", checkpoints.verify_checkpoints))
    bench.add_bench(add_command(commands, "bench", bench.run_bench))
    experiments.add_sweep(add_command(commands, "sweep", experiments.run_sweep_command))
    return parser
