"""``cogvx generate``, ``list``, ``show`` and ``reproduce``."""

from __future__ import annotations

import argparse
import json
import sys

from ..errors import PathError, RequestError
from ..planning.field import DETAILS, INPUT, PROMPT, SEED, VIDEO, Field
from ..planning.fields import FIELDS
from ..text import (
    format_duration,
    plain_line,
    print_error,
)
from .filters import add_filters, filter_values
from .streams import output_width
from .table import format_table, result_row

SECTIONS = {
    PROMPT: "prompt",
    INPUT: "picture or clip to start from",
    VIDEO: "video",
    SEED: "seed",
    DETAILS: "details",
}
"""Groups of flags in the help of ``cogvx generate``, by sections of the workbench's form."""


def add_list(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx list``."""
    add_filters(command)
    command.add_argument(
        "--sort",
        default="made",
        metavar="COLUMN",
        help="made, stars, seconds or another column of numbers, the highest first (default: made)",
    )
    command.add_argument("--ascending", action="store_true", help="the lowest or oldest first")
    command.add_argument(
        "--limit", type=int, default=20, help="print at most so many (default: 20)"
    )
    command.add_argument(
        "--export",
        metavar="FILE",
        help="write all matching results to a .csv or .parquet file instead",
    )


def list_results(options: argparse.Namespace) -> int:
    """List results, newest first, or export them."""
    from ..results import export
    from ..results.catalogue import Catalogue

    if options.limit < 1:
        raise RequestError("limit", options.limit, "1 or more")
    if options.export is not None:
        export.resolve_output_path(options.export)
    catalogue = Catalogue()
    catalogue.refresh()
    filters = filter_values(options)
    total = catalogue.count(options.search, **filters)
    if options.export is not None:
        path = export.save_export(catalogue.pages(options.search, **filters), options.export)
        print(f"results: {total:,}", file=sys.stderr)
        print(path)
        return 0
    order = {"sort": options.sort, "ascending": options.ascending}
    entries = catalogue.find(options.search, **filters, **order, limit=min(options.limit, total))
    if entries:
        rows = [result_row(entry) for entry in entries]
        print("\n".join(format_table(rows, output_width())))
    for problem in filter(None, (entry.marks_problem for entry in entries)):
        print_error(f"cogvx: {plain_line(problem)}")
    more = "; more by --limit, all by --export" if len(entries) < total else ""
    print(f"results: {len(entries):,} of {total:,}{more}", file=sys.stderr)
    return 0


def generate_video_command(options: argparse.Namespace) -> int:
    """Make a video from a prompt, a picture or a clip."""
    from .. import workflow
    from ..progress import Progress

    values = {name: getattr(options, name) for name in FIELDS} | {"styles": options.style}
    with Progress() as progress:
        video = workflow.generate_video(
            output=options.output, overwrite=options.overwrite, on_event=progress, **values
        )
    seconds = sum(video.settings.seconds.values())
    print_error(f"{video.settings.shown.frames} frames in {format_duration(seconds)}")
    print(video.path)
    return 0


def show_settings(options: argparse.Namespace) -> int:
    """Print how a video was made, and the command that makes it again."""
    from ..results import result
    from . import summary

    shown = result.read_result(_named_video(options))
    _print_note(shown)
    if options.json:
        print(json.dumps(shown.sidecar_json(), ensure_ascii=not _prints_unicode(), indent=2))
        return 0
    print("\n".join(summary.summary_lines(shown, output_width())))
    return 0


def _prints_unicode() -> bool:
    """Whether stdout can hold any text; JSON is escaped elsewhere, since a sign that is replaced
    would be another value."""
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")


def _named_video(options: argparse.Namespace) -> str:
    """The file that was named.

    Raises:
        PathError: if none was, with the newest.
    """
    if options.file is not None:
        return options.file
    from ..results.catalogue import Catalogue

    catalogue = Catalogue()
    catalogue.refresh()
    newest = [entry.path for entry in catalogue.find("", limit=1)]
    hint = f"such as the newest, {newest[0]}" if newest else "by its path"
    raise PathError(f"name a video, {hint}; 'cogvx list' shows all of them")


def _print_note(shown) -> None:
    """Print the note on a result's settings, if there is one."""
    if shown.note:
        print_error(f"cogvx: {plain_line(shown.note)}")


def reproduce_video(options: argparse.Namespace) -> int:
    """Make a video again: identical (exit code 0), the file changed since, or different (1)."""
    from .. import reproduction
    from ..progress import Progress
    from ..results import output, result

    original = result.read_result(_named_video(options))
    _print_note(original)
    if options.output is not None:
        if original.settings.derived:
            command = "finish" if original.settings.finished else "storyboard"
            remedy = f"frames of such a video are compared only: cogvx {command} writes them"
            raise RequestError("output", options.output, remedy)
        output.check_output(options.output)
    with Progress() as progress:
        again = reproduction.reproduce(original, progress)
    if original.settings.derived:
        print(again)
        return 0 if again.identical else 1
    try:
        if options.output is not None:
            print(result.save_result(again.generated, options.output).path)
    finally:
        print(again)
    return 0 if again.identical else 1


def save_kept_frames(options: argparse.Namespace) -> int:
    """Save the frames of a video that couldn't be written."""
    from ..results import result

    print(result.save_frames(options.file, options.output, overwrite=options.overwrite).path)
    return 0


def add_show(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx show``."""
    _add_file(command)
    command.add_argument("--json", action="store_true", help="print all that is recorded, as JSON")


def _add_file(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", nargs="?", help="an mp4 made with this workbench")


def add_reproduce(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx reproduce``."""
    _add_file(command)
    command.add_argument(
        "--output", help="save the new video there; by default it is only compared"
    )


def add_save(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx save``."""
    command.add_argument("file", help="the file of frames that an error message named")
    add_output(command)


def add_generate(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx generate``: a flag for each field of a request."""
    command.usage = "%(prog)s --prompt PROMPT [options]"
    groups = {key: command.add_argument_group(title) for key, title in SECTIONS.items()}
    for field in FIELDS.values():
        add_field(groups[field.section], field)
    groups[PROMPT].add_argument(
        "--style",
        action="append",
        default=[],
        metavar="NAME",
        help="a style of outputs/styles.csv to put around the prompt; can be given more than once",
    )
    add_output(command.add_argument_group("file"))


def add_output(command: argparse._ActionsContainer) -> None:
    """The arguments that name a new video."""
    command.add_argument("--output", help="mp4 to write (default: a new name in outputs/<date>/)")
    command.add_argument("--overwrite", action="store_true", help="replace the output file")


def add_field(command: argparse._ActionsContainer, field: Field) -> None:
    """The flag of a field of a request."""
    if field.kind is bool:
        command.add_argument(field.flag, action="store_true", help=field.help)
        return
    if field.many:
        again = f"{field.help}; can be given more than once"
        command.add_argument(
            field.flag, action="append", default=[], metavar="NAME[:WEIGHT]", help=again
        )
        return
    shown = f"{field.help} (default: {field.default})" if field.default else field.help
    choices = [choice for choice in field.choices if choice] or None
    command.add_argument(
        field.flag,
        type=field.kind,
        default=field.default,
        choices=choices,
        metavar="FILE" if field.media else None,
        help=shown,
    )
