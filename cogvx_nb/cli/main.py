"""The ``cogvx`` command: parser, exit codes, signals, one-line errors; and checkpoints."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping

from .. import __version__
from ..errors import CogvxError, ModelMissing, RequestError
from ..text import print_error
from . import experiments, videos
from .experiments import run_notebook_command
from .videos import add_generate, generate_video_command, reproduce_video, show_settings

RESEND_SECONDS = 0.05
"""Delay before a lost signal is sent again: by then its exception has been handled."""

READER_GONE = 141
"""Exit code of a program that SIGPIPE ends, as a shell reports it."""


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Raise SystemExit(143) on SIGTERM, as Ctrl-C raises KeyboardInterrupt. Main thread only.

    Python discards exceptions of finalizers, so a signal that arrives during one would have no
    effect (docs.python.org, object.__del__): it is sent again.
    """
    term, hook = signal.signal(signal.SIGTERM, _exit_on_signal), sys.unraisablehook

    def resend(dropped) -> None:
        lost = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}.get(dropped.exc_type)
        if lost is None:
            hook(dropped)
        else:
            threading.Timer(RESEND_SECONDS, os.kill, (os.getpid(), lost)).start()

    sys.unraisablehook = resend
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, term)


def _exit_on_signal(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


class OneLineParser(argparse.ArgumentParser):
    """Reports errors in one line, without the usage. A subcommand can be the default."""

    subcommands: Mapping[str, argparse.ArgumentParser] = {}
    default_subcommand = ""  # the one of ``subcommands`` that is meant where none is named

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_known_args(self, args=None, namespace=None):
        if self.default_subcommand:
            args = self._with_subcommand_first(list(args))
        return super().parse_known_args(args, namespace)

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
                break
            if word in with_value:
                next(remaining, None)
        return [self.default_subcommand, *args]


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0 done, 1 failed, 2 invalid input, 130 or 143 interrupted, 141 if the reader
        of its output closed the pipe early, as ``head`` does.
    """
    with handle_signals():
        return _run_command(arguments)


def _run_command(arguments: list[str] | None) -> int:
    options, code = build_parser().parse_args(arguments), READER_GONE
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode
    try:
        code = options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _is_reader_gone():
            raise
    except CogvxError as error:
        if options.debug:
            traceback.print_exc()
        print(f"cogvx: {_message_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("cogvx: interrupted; nothing half-written was left", file=sys.stderr)
        return 130
    return code


def check_machine(options: argparse.Namespace) -> int:
    """Report whether this machine can make videos, and what to fix if not."""
    from ..check.run import run_check

    report = run_check(options.model, options.deep, options.online)
    if options.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print(report.as_text(colour=sys.stdout.isatty()))
    return 0 if report.ok else 1


def download_checkpoint(options: argparse.Namespace) -> int:
    """Download a checkpoint, verify every file, then move it into place."""
    from ..checkpoints import registry, transfer
    from ..checkpoints.download import prepare_download
    from ..progress import TransferProgress

    known = registry.get_checkpoint(options.model)
    planned = prepare_download(
        known, options.source, options.endpoint, options.models_dir, options.send_token
    )
    print_error(str(planned))
    if not (options.yes or _user_agrees()):
        return 2
    with TransferProgress() as progress:
        transfer.fetch_checkpoint(planned, progress)
    print(planned.folder)
    return 0


def verify_checkpoints(options: argparse.Namespace) -> int:
    """Hash a checkpoint's files and compare them with its manifest; all checkpoints by default."""
    from .. import settings
    from ..checkpoints import manifest, transfer
    from ..progress import TransferProgress

    names = [path.parent.name for path in settings.models_dir().glob(f"*/{manifest.NAME}")]
    if not (options.model or names):
        raise ModelMissing(f"no checkpoint in {settings.models_dir()} has a {manifest.NAME} yet")
    bad = False
    for name in [options.model] if options.model else sorted(names):
        with TransferProgress() as progress:
            verified = transfer.verify_checkpoint(name, progress)
        print(verified)
        if verified.problems and options.repair:
            with TransferProgress() as progress:
                transfer.repair_checkpoint(verified, options.endpoint, options.send_token, progress)
            print(f"{verified.folder}: repaired")
        bad |= bool(verified.problems) and not options.repair
    if bad:
        print_error("cogvx: repair it with 'cogvx verify --repair'")
    return int(bad)


def _user_agrees() -> bool:
    """Whether the user agrees to the listed download and its licence."""
    if not sys.stdin.isatty():
        raise RequestError("yes", False, "there is nobody to ask: add --yes to agree beforehand")
    return input("Fetch it, under this licence? [y/N] ").strip().lower() in ("y", "yes")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; docs/cli.md is written from it."""
    parser = OneLineParser(prog="cogvx", description="A workbench for CogVideoX.")
    parser.add_argument("--version", action="version", version=f"cogvx {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=OneLineParser)
    _add_check(commands)
    add_generate(add_command(commands, "generate", generate_video_command))
    command = add_command(commands, "run", run_notebook_command)
    command.add_argument("notebook", help="03_generate, or the path of a notebook")
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    command.add_argument("-p", help="a parameter, parsed as its type in the notebook", **pair)
    command.add_argument("-r", help="a parameter that is text", **pair)
    command.add_argument("--output-notebook", metavar="F", help="where the executed copy goes")
    videos.add_list(add_command(commands, "list", videos.list_results))
    command = add_command(commands, "show", show_settings)
    command.add_argument("file", help="an mp4 made with this workbench")
    command = add_command(commands, "reproduce", reproduce_video)
    command.add_argument("file", help="an mp4 made with this workbench")
    command.add_argument(
        "--output", help="save the new video there; by default it is only compared"
    )
    _add_download(commands)
    experiments.add_bench(add_command(commands, "bench", experiments.run_bench))
    experiments.add_sweep(add_command(commands, "sweep", experiments.run_sweep_command))
    return parser


def _add_download(commands) -> None:
    command = add_command(commands, "download", download_checkpoint)
    command.add_argument(
        "model",
        nargs="?",
        default="CogVideoX-5b",
        help="name of the checkpoint (default: CogVideoX-5b)",
    )
    sources = ["auto", "modelscope", "huggingface"]
    command.add_argument(
        "--source",
        choices=sources,
        default="auto",
        help="hub to use; auto: the first that can be reached (default: auto)",
    )
    command.add_argument(
        "--models-dir", metavar="D", help="folder for its folder (default: models/)"
    )
    command.add_argument("--yes", action="store_true", help="agree without being asked")
    checking = add_command(commands, "verify", verify_checkpoints)
    checking.add_argument("model", nargs="?", help="a name or a folder (default: all there are)")
    checking.add_argument("--repair", action="store_true", help="download damaged files again")
    for parser in (command, checking):
        parser.add_argument("--endpoint", default="", metavar="URL", help="address of a mirror")
        parser.add_argument("--send-token", action="store_true", help="send the mirror your token")


def _add_check(commands) -> None:
    command = add_command(commands, "check", check_machine)
    command.add_argument("--model", default="auto", help="a name, a folder or auto (default: auto)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument(
        "--deep", action="store_true", help="also hash every file of the checkpoints"
    )
    command.add_argument("--online", action="store_true", help="check that the hubs can be reached")


def add_command(commands, name: str, function) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
    command.add_argument("--debug", action="store_true", help="show tracebacks")
    command.set_defaults(command=function)
    return command


def _message_line(error: Exception) -> str:
    return " ".join(str(error).splitlines())


def _is_reader_gone() -> bool:
    """Whether the reader of stdout closed the pipe, as in ``cogvx list | head``."""
    try:
        print(flush=True)  # the write that failed may have left nothing in the buffer
    except BrokenPipeError:
        # Python flushes stdout once more at exit, which must not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
