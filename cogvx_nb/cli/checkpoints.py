"""``cogvx check``, ``download`` and ``verify``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CogvxError, ModelMissing, RequestError
from ..text import print_error
from .streams import output_colour, output_width

if TYPE_CHECKING:
    from ..checkpoints.registry import Checkpoint


def check_machine(options: argparse.Namespace) -> int:
    """Report whether this machine can make videos, and what to fix if not."""
    from ..check.progress import CheckProgress
    from ..check.run import run_check
    from ..check.terminal import terminal_lines

    with CheckProgress() as watch:
        report = run_check(options.model, options.deep, options.online, watch)
    if options.json:
        print(json.dumps(report.as_json(), indent=2))
    elif width := output_width():
        print("\n".join(terminal_lines(report, width, output_colour())))
    else:
        print(report.as_text())
    return 0 if report.ok else 1


def download_checkpoint(options: argparse.Namespace) -> int:
    """Download a checkpoint, verify every file, then move it into place."""
    from ..checkpoints import registry, transfer
    from ..checkpoints.download import prepare_download
    from ..progress import TransferProgress

    known = registry.get_checkpoint(options.model)
    with TransferProgress() as progress:
        planned = prepare_download(
            known,
            options.source,
            options.endpoint,
            options.models_dir,
            options.send_token,
            options.text_encoder_from,
            on_event=progress,
        )
    print_error(str(planned))
    if not (options.yes or _user_agrees()):
        return 2
    with TransferProgress() as progress:
        transfer.fetch_checkpoint(planned, progress)
    print(planned.folder)
    return 0


def verify_files(options: argparse.Namespace) -> int:
    """Hash files of a checkpoint or a fetched LoRA and compare them with what their hub listed; all
    there are by default."""
    from ..progress import TransferProgress

    bad = False
    for verify, repair in _to_verify(options.model):
        with TransferProgress() as progress:
            verified = verify(progress)
        print(verified)
        if verified.problems and options.repair:
            with TransferProgress() as progress:
                repair(verified, options.endpoint, options.send_token, progress)
            print(f"{verified.path}: repaired")
        bad |= bool(verified.problems) and not options.repair
    if bad:
        print_error("cogvx: repair it with 'cogvx verify --repair'")
    return int(bad)


def _to_verify(name: str | None) -> list[tuple[Callable, Callable]]:
    """What verifies each checkpoint and fetched LoRA of a name, or all, and what repairs it."""
    from .. import settings
    from ..checkpoints import manifest, registry, verification
    from ..loras import verification as loras

    def checkpoint(name: str) -> tuple[Callable, Callable]:
        return partial(verification.verify_checkpoint, name), verification.repair_checkpoint

    def lora(path: Path) -> tuple[Callable, Callable]:
        return partial(loras.verify_lora, path), loras.repair_lora

    fetched = loras.fetched_loras()
    if name is not None:
        is_lora = name in fetched and registry.find_checkpoint(name) is None
        return [lora(fetched[name]) if is_lora else checkpoint(name)]
    folders = sorted(path.parent for path in settings.models_dir().glob(f"*/{manifest.NAME}"))
    if not (folders or fetched):
        raise ModelMissing(f"no checkpoint in {settings.models_dir()} has a {manifest.NAME} yet")
    return [*map(checkpoint, map(str, folders)), *map(lora, fetched.values())]


def list_models(options: argparse.Namespace) -> int:
    """List the checkpoints of the family: which are here, and how much a download takes."""
    from ..checkpoints import registry
    from ..text import format_bytes

    rows = [("model", "here", "download", "made from", "licence")]
    for known in registry.CHECKPOINTS:
        size = "none" if known.is_embedded else format_bytes(known.stored_bytes)
        licence = known.licence.removesuffix(" License")
        rows.append((known.name, _state(known), size, ", ".join(known.tasks), licence))
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    if 0 < output_width() < sum(widths) + 2 * (len(widths) - 1):
        widths.pop()  # the licence, which a download shows
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
    return 0


def _state(known: Checkpoint) -> str:
    """Whether a checkpoint is here, in a word; ``cogvx check`` says more."""
    from .. import settings
    from ..checkpoints import manifest, store

    models = settings.models_dir()
    if not (models / known.name).is_dir():
        unfinished = (models / manifest.UNFINISHED / known.name).is_dir()
        return "unfinished" if unfinished else "no"
    try:
        store.locate_checkpoint(known.name)
    except (CogvxError, OSError):
        return "damaged"
    return "yes"


def _user_agrees() -> bool:
    """Whether the user agrees to the listed download and its licence."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise RequestError("yes", False, "there is nobody to ask: add --yes to agree beforehand")
    try:
        answer = input("Fetch it, under this licence? [y/N] ")
    except (EOFError, UnicodeDecodeError):  # Ctrl-D
        answer = ""
    return answer.strip().lower() in ("y", "yes")


def add_models(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx models``: none."""


def add_download(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx download``."""
    command.add_argument(
        "model",
        nargs="?",
        default="CogVideoX-5b",
        help="name of the checkpoint, of those that 'cogvx models' lists (default: CogVideoX-5b)",
    )
    sources = ["auto", "modelscope", "huggingface"]
    command.add_argument(
        "--source",
        choices=sources,
        default="auto",
        help="hub to use; auto: the first that can be reached (default: auto)",
    )
    command.add_argument(
        "--text-encoder-from",
        default="",
        metavar="NAME",
        help="checkpoint whose text encoder is taken instead of the own one; CogVideoX-5b's has "
        "half the size of those of CogVideoX1.5",
    )
    command.add_argument(
        "--models-dir", metavar="D", help="folder for its folder (default: models/)"
    )
    command.add_argument("--yes", action="store_true", help="agree without being asked")
    _add_mirror(command)


def add_verify(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx verify``."""
    command.add_argument(
        "model", nargs="?", help="a name or a folder, or a fetched LoRA (default: all there are)"
    )
    command.add_argument("--repair", action="store_true", help="download damaged files again")
    _add_mirror(command)


def _add_mirror(command: argparse.ArgumentParser) -> None:
    command.add_argument("--endpoint", default="", metavar="URL", help="address of a mirror")
    command.add_argument("--send-token", action="store_true", help="send the mirror your token")


def add_check(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx check``."""
    command.add_argument("--model", default="auto", help="a name, a folder or auto (default: auto)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument(
        "--deep", action="store_true", help="also hash every file of the checkpoints"
    )
    command.add_argument("--online", action="store_true", help="check that the hubs can be reached")
