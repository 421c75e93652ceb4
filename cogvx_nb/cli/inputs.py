"""``cogvx inputs``."""

from __future__ import annotations

import argparse
import sys

from ..text import cut_line, format_bytes, plain_line, print_error

NAME_WIDTH = 32
"""Columns of the name that a file had."""


def add_inputs(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx inputs``."""
    command.add_argument(
        "--remove-unused",
        action="store_true",
        help="delete those that are listed as unused. Results that were saved outside of the "
        "outputs folder aren't known: to make one again, its input is given again",
    )


def list_inputs(options: argparse.Namespace) -> int:
    """List the pictures and clips that videos were made from, and what needs each."""
    from .. import settings
    from ..media import kept
    from ..results import input_uses

    uses = input_uses.find_uses()
    files, unused = kept.kept_files(), input_uses.removable(uses)
    idle = {file.value for file in unused}
    outputs = settings.outputs_dir()
    for file in files:
        digest = file.path.stem
        needing = input_uses.results_of(uses.files.get(digest, []))
        state = "unused" if file.value in idle else "given today"
        if needing:
            more = f" and {len(needing) - 1:,} more" if len(needing) > 1 else ""
            first = needing[0]
            inside = first.is_relative_to(outputs)
            state = f"{first.relative_to(outputs) if inside else first}{more}"
        name = cut_line(plain_line(uses.names.get(digest, "")), NAME_WIDTH)
        print(plain_line("  ".join(filter(None, (file.value, name, _size([file]), state)))))
    for problem in uses.problems:
        print_error(f"cogvx: {plain_line(problem)}")
    print(f"inputs: {len(files):,}, {_size(files)}", file=sys.stderr)
    if options.remove_unused:
        removed = input_uses.remove_unused(uses)
        print(f"removed: {len(removed):,}, {_size(removed)}", file=sys.stderr)
    elif unused:
        line = f"unused: {len(unused):,}, {_size(unused)}; deleted by --remove-unused"
        print(line, file=sys.stderr)
    return 0


def _size(files: list) -> str:
    return format_bytes(sum(file.count for file in files))
