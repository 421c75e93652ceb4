"""The storyboard's table on disk, as it was left: pages and kernels to come have it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from .. import settings
from ..errors import CogvxError
from ..files import translate_errors, write_whole
from ..paths import read_json
from ..planning.storyboards import MOST_ROWS
from ..results.typed import FieldError, read_as
from .board import Board

MOST_BYTES = 2**24
"""Of the file: 200 prompts of 10,000 characters, which may be typed, take 12 MB where each is
escaped."""


def board_path() -> Path:
    """The file."""
    return settings.outputs_dir() / ".storyboard.json"


def read_board() -> Board | None:
    """The table as it was left; None where there is none, or it can't be read."""
    try:
        kept = read_as(Board, read_json(board_path(), MOST_BYTES))
    except (OSError, ValueError, FieldError, CogvxError):
        return None
    return kept if 0 < len(kept.rows) <= MOST_ROWS else None


def write_board(board: Board) -> None:
    """Keep the table, whole or not at all.

    Raises:
        OutputError: if it can't be written.
    """
    path = board_path()
    with translate_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(board)).encode(), sync=False)
