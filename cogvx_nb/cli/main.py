"""The ``cogvx`` command: a door onto the road, with exit codes and one-line errors."""

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

SECONDS = 0.05
"""Until a signal that was lost comes again: by then its exception is done with."""


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Within this, SIGTERM is a SystemExit of 143, as Ctrl-C is a KeyboardInterrupt.

    Python drops an exception that a finalizer ends with, so a signal that came during one would
    have no effect (docs.python.org, object.__del__): it is sent again. For the main thread.
    """
    term, hook = signal.signal(signal.SIGTERM, _exit_on_signal), sys.unraisablehook

    def again(dropped) -> None:
        lost = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}.get(dropped.exc_type)
        if lost is None:
            hook(dropped)
        else:
            threading.Timer(SECONDS, os.kill, (os.getpid(), lost)).start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, term)


def _exit_on_signal(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


CUT_OFF = 141
"""What a shell makes of SIGPIPE, which ends other programs there."""


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
    """Run a command; returns its exit code: 0 done, 1 failed, 2 invalid, 130 / 143 interrupted, 141
    where what read its output went away before the end, as ``head`` does."""
    with handle_signals():
        return _run_command(arguments)


def _run_command(arguments: list[str] | None) -> int:
    options, code = build_parser().parse_args(arguments), CUT_OFF
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
    """Say whether this machine can make videos, and what to mend if not."""
    from ..check.run import run_check

    report = run_check(options.model, options.deep, options.online)
    if options.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print(report.as_text(colour=sys.stdout.isatty()))
    return 0 if report.ok else 1


def download_checkpoint(options: argparse.Namespace) -> int:
    """Fetch a checkpoint: list, ask, fetch, verify, put in place."""
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
    """Hash a checkpoint's files again and compare; all checkpoints if none is named."""
    from .. import settings
    from ..checkpoints import manifest, transfer
    from ..progress import TransferProgress

    found = sorted(path.parent.name for path in settings.models_dir().glob(f"*/{manifest.NAME}"))
    if not (options.model or found):
        raise ModelMissing(f"no checkpoint in {settings.models_dir()} has a {manifest.NAME} yet")
    bad = False
    for name in [options.model] if options.model else found:
        with TransferProgress() as progress:
            verified = transfer.verify_checkpoint(name, progress)
        print(verified)
        if verified.problems and options.repair:
            with TransferProgress() as progress:
                transfer.repair_checkpoint(verified, options.endpoint, options.send_token, progress)
            print(f"{verified.folder}: repaired")
        bad |= bool(verified.problems) and not options.repair
    if bad:
        print_error("cogvx: mend it with 'cogvx verify --repair'")
    return int(bad)


def _user_agrees() -> bool:
    """Whether the user agrees to the download and the licence that were shown."""
    if not sys.stdin.isatty():
        raise RequestError("yes", False, "there is nobody to ask: add --yes to agree beforehand")
    return input("Fetch it, under this licence? [y/N] ").strip().lower() in ("y", "yes")


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="cogvx", description="A workbench for CogVideoX.")
    parser.add_argument("--version", action="version", version=f"cogvx {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=OneLineParser)
    _add_check(commands)
    add_generate(add_command(commands, "generate", generate_video_command))
    command = add_command(commands, "run", run_notebook_command)
    command.add_argument("notebook", help="03_generate, or the path of a notebook")
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    command.add_argument("-p", help="a parameter, read as the type it has in the notebook", **pair)
    command.add_argument("-r", help="a parameter that is text", **pair)
    command.add_argument("--output-notebook", metavar="F", help="where the executed copy goes")
    videos.add_list(add_command(commands, "list", videos.list_results))
    command = add_command(commands, "show", show_settings)
    command.add_argument("file", help="an mp4 made with this workbench")
    command = add_command(commands, "reproduce", reproduce_video)
    command.add_argument("file", help="an mp4 made with this workbench")
    command.add_argument(
        "--output", help="keep the new video there; by default it is only compared"
    )
    _add_download(commands)
    experiments.add_bench(add_command(commands, "bench", experiments.run_bench))
    experiments.add_sweep(add_command(commands, "sweep", experiments.run_sweep_command))
    return parser


def _add_download(commands) -> None:
    command = add_command(commands, "download", download_checkpoint)
    command.add_argument("model", nargs="?", default="CogVideoX-5b", help="default: CogVideoX-5b")
    sources = ["auto", "modelscope", "huggingface"]
    command.add_argument("--source", choices=sources, default="auto", help="default: auto")
    command.add_argument("--models-dir", metavar="D", help="default: models/")
    command.add_argument("--yes", action="store_true", help="agree without being asked")
    checking = add_command(commands, "verify", verify_checkpoints)
    checking.add_argument("model", nargs="?", help="a name or a folder (default: all there are)")
    checking.add_argument("--repair", action="store_true", help="fetch again what is bad")
    for one in (command, checking):
        one.add_argument("--endpoint", default="", metavar="URL", help="address of a mirror")
        one.add_argument("--send-token", action="store_true", help="give the mirror your token")


def _add_check(commands) -> None:
    command = add_command(commands, "check", check_machine)
    command.add_argument("--model", default="auto", help="a name, a folder or auto (default: auto)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--deep", action="store_true", help="hash every file of the checkpoints")
    command.add_argument("--online", action="store_true", help="ask whether the hubs answer")


def add_command(commands, name: str, function) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
    command.add_argument("--debug", action="store_true", help="show tracebacks")
    command.set_defaults(command=function)
    return command


def _message_line(error: Exception) -> str:
    return " ".join(str(error).splitlines())


def _is_reader_gone() -> bool:
    """Whether nobody reads what is printed any more, as after ``cogvx list | head``."""
    try:
        print(flush=True)  # what was printed before may be lost, and tell nothing any more
    except BrokenPipeError:
        # So that Python's own flush at the end has where to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
