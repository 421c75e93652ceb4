"""The ``cogvx`` command: a door onto the road, with exit codes and one-line errors."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import traceback

from . import __version__, bench_cli, list_cli, signals, sweep_cli
from .errors import CogvxError, ModelMissing, RequestError
from .planning.plan import SPEEDS

CUT_OFF = 141
"""What a shell makes of SIGPIPE, which ends other programs there."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 failed, 2 invalid, 130 / 143 interrupted, 141
    where what read its output went away before the end, as ``head`` does."""
    with signals.heard():
        return _main(arguments)


def _main(arguments: list[str] | None) -> int:
    options, code = _parser().parse_args(arguments), CUT_OFF
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
        print(f"cogvx: {_one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("cogvx: interrupted; nothing half-written was left", file=sys.stderr)
        return 130
    return code


def check(options: argparse.Namespace) -> int:
    """Say whether this machine can make videos, and what to mend if not."""
    from .check.run import run_check

    report = run_check(options.model, options.deep, options.online)
    if options.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print(report.as_text(colour=sys.stdout.isatty()))
    return 0 if report.ok else 1


def generate(options: argparse.Namespace) -> int:
    """Make a video, from a prompt to an mp4."""
    from .planning import machine, planner, request
    from .results import result

    result.check_output(options.output, overwrite=options.overwrite)
    here = machine.probe()
    model, why = planner.find_model(options.model, here, options.frames)
    prompt, typed = _enriched(options, model.checkpoint)
    wanted = request.make(
        model,
        prompt,
        options.negative_prompt,
        options.frames,
        options.steps,
        options.height,
        options.width,
        options.guidance,
        options.seed,
        strict=options.strict,
        allow_unknown=options.allow_unknown,
        allow_untrained_size=options.allow_untrained_size,
        enriched_from=typed,
    )
    if why:
        _say(f"model: {why}")
    _say(str(wanted))
    fitted = planner.fit(wanted, here, options.speed, options.attention)
    _say(f"plan: {fitted}")
    for text in fitted.approximations:
        _say(f"approximate: {text}")
    saved = _make(wanted, fitted, options)
    stages = ", ".join(
        f"{stage} {value:.1f} s" for stage, value in saved.settings["seconds"].items()
    )
    _say(f"{saved.settings['request']['frames']} frames: {stages}")
    print(saved.path)
    return 0


def run(options: argparse.Namespace) -> int:
    """Execute a notebook with parameters."""
    from .notebooks import notebook

    print(
        notebook.run_notebook(
            options.notebook, dict(options.p), dict(options.r), options.output_notebook
        )
    )
    return 0


def show(options: argparse.Namespace) -> int:
    """Print a video's settings as JSON."""
    from .results import result

    print(json.dumps(result.read(options.file).settings, ensure_ascii=False, indent=2))
    return 0


def reproduce(options: argparse.Namespace) -> int:
    """Make a video again, and say whether its frames are identical."""
    from . import workflow
    from .progress import Progress
    from .results import result

    original = result.read(options.file)
    if options.output:
        result.check_output(options.output)

    with Progress() as progress:
        again = workflow.reproduce(original, progress)
    try:
        if options.output:
            print(result.save(again.generated, options.output).path)
    finally:
        print(again)
    return 0 if again.identical else 1


def download(options: argparse.Namespace) -> int:
    """Fetch a checkpoint: list, ask, fetch, verify, put in place."""
    from .checkpoints import registry, transfer
    from .checkpoints.download import prepare
    from .progress import TransferProgress

    known = registry.named(options.model)
    planned = prepare(
        known, options.source, options.endpoint, options.models_dir, options.send_token
    )
    _say(str(planned))
    if not (options.yes or _agrees()):
        return 2
    with TransferProgress() as progress:
        transfer.fetch_checkpoint(planned, progress)
    print(planned.folder)
    return 0


def verify(options: argparse.Namespace) -> int:
    """Hash a checkpoint's files again and compare; all checkpoints if none is named."""
    from . import settings
    from .checkpoints import manifest, transfer
    from .progress import TransferProgress

    found = sorted(path.parent.name for path in settings.models_dir().glob(f"*/{manifest.NAME}"))
    if not (options.model or found):
        raise ModelMissing(f"no checkpoint in {settings.models_dir()} has a {manifest.NAME} yet")
    bad = False
    for name in [options.model] if options.model else found:
        with TransferProgress() as progress:
            verified = manifest.verify(name, progress)
        print(verified)
        if verified.problems and options.repair:
            with TransferProgress() as progress:
                transfer.repair(verified, options.endpoint, options.send_token, progress)
            print(f"{verified.folder}: repaired")
        bad |= bool(verified.problems) and not options.repair
    if bad:
        _say("cogvx: mend it with 'cogvx verify --repair'")
    return int(bad)


def _agrees() -> bool:
    """Whether the user agrees to the download and the licence that were shown."""
    if not sys.stdin.isatty():
        raise RequestError("yes", False, "there is nobody to ask: add --yes to agree beforehand")
    return input("Fetch it, under this licence? [y/N] ").strip().lower() in ("y", "yes")


def _enriched(options: argparse.Namespace, checkpoint) -> tuple[str, str]:
    """(the prompt to run, the prompt as typed if a chat model made another of it)."""
    if not options.enrich:
        return options.prompt, ""
    from .planning import enrich

    _say("enrich")
    found = enrich.enrich_prompt(options.prompt, checkpoint)
    _say(f"prompt before: {found.before}\nprompt after ({found.model}): {found.after}")
    return found.after, found.before


def _make(wanted, fitted, options: argparse.Namespace):
    from .pipeline import loader
    from .pipeline.generate import generate_frames
    from .progress import Progress
    from .results import result

    _say("load")
    loaded = loader.load(fitted)
    with Progress() as progress:
        generated = generate_frames(wanted, loaded, progress, fallback=options.fallback)
        return result.save(
            generated, options.output, overwrite=options.overwrite, on_event=progress
        )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="cogvx", description="A workbench for CogVideoX.")
    parser.add_argument("--version", action="version", version=f"cogvx {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    _add_check(commands)
    _add_generate(commands)
    command = _add(commands, "run", run)
    command.add_argument("notebook", help="03_generate, or the path of a notebook")
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    command.add_argument("-p", help="a parameter, read as the type it has in the notebook", **pair)
    command.add_argument("-r", help="a parameter that is text", **pair)
    command.add_argument("--output-notebook", metavar="F", help="where the executed copy goes")
    list_cli.add(_add(commands, "list", list_cli.main))
    command = _add(commands, "show", show)
    command.add_argument("file", help="an mp4 made with this workbench")
    command = _add(commands, "reproduce", reproduce)
    command.add_argument("file", help="an mp4 made with this workbench")
    command.add_argument(
        "--output", help="keep the new video there; by default it is only compared"
    )
    _add_download(commands)
    bench_cli.add(_add(commands, "bench", bench_cli.main))
    sweep_cli.add(_add(commands, "sweep", sweep_cli.main))
    return parser


def _add_download(commands) -> None:
    command = _add(commands, "download", download)
    command.add_argument("model", nargs="?", default="CogVideoX-5b", help="default: CogVideoX-5b")
    sources = ["auto", "modelscope", "huggingface"]
    command.add_argument("--source", choices=sources, default="auto", help="default: auto")
    command.add_argument("--models-dir", metavar="D", help="default: models/")
    command.add_argument("--yes", action="store_true", help="agree without being asked")
    checking = _add(commands, "verify", verify)
    checking.add_argument("model", nargs="?", help="a name or a folder (default: all there are)")
    checking.add_argument("--repair", action="store_true", help="fetch again what is bad")
    for one in (command, checking):
        one.add_argument("--endpoint", default="", metavar="URL", help="address of a mirror")
        one.add_argument("--send-token", action="store_true", help="give the mirror your token")


def _add_check(commands) -> None:
    command = _add(commands, "check", check)
    command.add_argument("--model", default="auto", help="a name, a folder or auto (default: auto)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--deep", action="store_true", help="hash every file of the checkpoints")
    command.add_argument("--online", action="store_true", help="ask whether the hubs answer")


def _add_generate(commands) -> None:
    command = _add(commands, "generate", generate)
    command.add_argument("--prompt", required=True, help="what the video should show")
    command.add_argument(
        "--enrich", action="store_true", help="let a chat model translate and expand the prompt"
    )
    command.add_argument("--negative-prompt", default="", help="what it should not")
    command.add_argument("--output", help="mp4 to write (default: a new name in outputs/<date>/)")
    command.add_argument("--frames", type=int, default=13, help="13, 25 or 49 (default: 13)")
    command.add_argument("--steps", type=int, default=50, help="denoising steps (default: 50)")
    command.add_argument("--height", type=int, help="pixels (default: the model's native height)")
    command.add_argument("--width", type=int, help="pixels (default: the model's native width)")
    command.add_argument(
        "--guidance", type=float, default=6.0, help="guidance scale (default: 6.0)"
    )
    command.add_argument("--seed", type=int, default=42, help="seed (default: 42)")
    command.add_argument("--model", default="auto", help="a name, a folder or auto (default: auto)")
    command.add_argument(
        "--speed",
        choices=SPEEDS,
        default="exact",
        help="exact, fast or turbo (default: exact)",
    )
    command.add_argument(
        "--attention", default="auto", help="stock, flash4, or a backend of diffusers such as sage"
    )
    command.add_argument("--strict", action="store_true", help="refuse instead of adjusting")
    command.add_argument(
        "--allow-untrained-size", action="store_true", help="accept any multiple of 16 as a size"
    )
    command.add_argument(
        "--allow-unknown", action="store_true", help="accept a prompt that the model can't read"
    )
    command.add_argument(
        "--fallback", choices=["reduce"], help="13 frames and 20 steps where memory runs out"
    )
    command.add_argument("--overwrite", action="store_true", help="replace the output file")


def _add(commands, name: str, function) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
    command.add_argument("--debug", action="store_true", help="show tracebacks")
    command.set_defaults(command=function)
    return command


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _one_line(error: Exception) -> str:
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


if __name__ == "__main__":
    sys.exit(main())
