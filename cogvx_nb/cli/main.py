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
from . import (
    bench,
    checkpoints,
    experiments,
    export,
    finish,
    front_ends,
    inputs,
    loras,
    storyboard,
    videos,
)
from .commands import Command, overview
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


COMMANDS = (
    Command(
        "make",
        "generate",
        videos.generate_video_command,
        videos.add_generate,
        '--prompt "a red star"',
        "from a prompt, image or clip",
        (
            '--image cat.png --prompt "a cat turns its head"',
            '--video clip.mp4 --strength 0.6 --prompt "a clay figure dances"',
            '--extend clip.mp4 --frames 40 --prompt "a clay figure dances"',
        ),
    ),
    Command(
        "make",
        "reproduce",
        videos.reproduce_video,
        videos.add_reproduce,
        "clip.mp4",
        "the same again, compared",
    ),
    Command(
        "make",
        "finish",
        finish.finish_videos,
        finish.add_finish,
        "clip.mp4 --fps 24",
        "more frames, larger ones",
    ),
    Command(
        "make",
        "storyboard",
        storyboard.make_storyboard_command,
        storyboard.add_storyboard,
        "board.yaml",
        "several prompts, one video",
    ),
    Command(
        "make",
        "save",
        videos.save_kept_frames,
        videos.add_save,
        "kept.frames",
        "frames kept on a full disk",
    ),
    Command(
        "look",
        "list",
        videos.list_results,
        videos.add_list,
        "--search circle",
        "results, newest first",
    ),
    Command(
        "look",
        "show",
        videos.show_settings,
        videos.add_show,
        "clip.mp4",
        "how a video was made",
    ),
    Command(
        "look",
        "export",
        export.export_video,
        export.add_export,
        "clip.mp4 clip.gif",
        "as GIF, WebP, frames, mp4",
    ),
    Command(
        "look",
        "inputs",
        inputs.list_inputs,
        inputs.add_inputs,
        "",
        "what videos were made from",
    ),
    Command(
        "experiment",
        "sweep",
        experiments.run_sweep_command,
        experiments.add_sweep,
        "guidance.yaml",
        "many videos, resumable",
    ),
    Command(
        "experiment",
        "run",
        experiments.run_notebook_command,
        experiments.add_run,
        "03_generate -p steps 20",
        "a notebook with parameters",
    ),
    Command(
        "experiment",
        "bench",
        bench.run_bench,
        bench.add_bench,
        "--frames 13 --steps 20",
        "time this machine",
    ),
    Command(
        "checkpoints",
        "models",
        checkpoints.list_models,
        checkpoints.add_models,
        "",
        "the family, what is here",
    ),
    Command(
        "checkpoints",
        "download",
        checkpoints.download_checkpoint,
        checkpoints.add_download,
        "CogVideoX-5b",
        "a checkpoint, verified",
    ),
    Command(
        "checkpoints",
        "verify",
        checkpoints.verify_files,
        checkpoints.add_verify,
        "--repair",
        "hash its files, mend them",
    ),
    Command(
        "checkpoints",
        "lora",
        loras.inspect_lora,
        loras.add_lora,
        "inspect orbit.safetensors",
        "what a LoRA file is",
    ),
    Command(
        "workbench",
        "lab",
        front_ends.open_lab,
        front_ends.add_lab,
        "",
        "the workbench in JupyterLab",
    ),
    Command(
        "workbench",
        "app",
        front_ends.open_app,
        front_ends.add_app,
        "--no-browser",
        "the workbench alone",
    ),
    Command(
        "workbench",
        "check",
        checkpoints.check_machine,
        checkpoints.add_check,
        "--model CogVideoX-5b",
        "what this machine can run",
    ),
)
"""In the order of the help."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; docs/cli.md is written from it."""
    parser = OneLineParser(prog="cogvx", description="A workbench for CogVideoX.")
    parser.help_if_bare, parser.overview = True, lambda: overview(COMMANDS)
    parser.add_argument("--version", action="version", version=f"cogvx {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=OneLineParser)
    for row in COMMANDS:
        row.add_arguments(add_command(commands, row.name, row.run, row.example, *row.examples))
    return parser
