"""``cogvx storyboard``."""

from __future__ import annotations

import argparse

from ..planning.field import PROMPT
from ..planning.fields import FIELDS, INPUTS
from ..text import print_error
from .videos import SECTIONS, add_field, add_output

OF_ROWS = ("prompt", *INPUTS)
"""Fields that only rows give."""


def add_storyboard(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx storyboard``: a file, and what all of its rows have in common."""
    command.add_argument(
        "file",
        help="YAML, JSON, JSONL, CSV or TSV: rows of a prompt, other fields of cogvx generate, and "
        "a transition: cut (the default), continue or fade",
    )
    titles = {section: title for section, title in SECTIONS.items() if section != PROMPT}
    groups = {PROMPT: command.add_argument_group("of all rows that don't say it")}
    groups |= {section: command.add_argument_group(title) for section, title in titles.items()}
    for name, field in FIELDS.items():
        if name not in OF_ROWS:
            add_field(groups[field.section], field)
    add_output(command.add_argument_group("file"))


def make_storyboard_command(options: argparse.Namespace) -> int:
    """Make a video of several prompts; pieces that are there are taken."""
    from ..progress import Progress
    from ..storyboard import make_storyboard

    values = {name: getattr(options, name) for name in FIELDS if name not in OF_ROWS}
    with Progress() as progress:
        board = make_storyboard(
            options.file, options.output, overwrite=options.overwrite, on_event=progress, **values
        )
    for number, piece in enumerate(board.pieces, 1):
        how = "made" if piece.made else "there already"
        print_error(f"{number} {piece.transition:8} {how:13} {piece.result.path}")
    made = sum(piece.made for piece in board.pieces)
    frames = board.result.settings.shown.frames
    print_error(f"{frames} frames of {len(board.pieces)} pieces, {made} of them made now")
    print(board.result.path)
    return 0
