"""Actions of the page Compare: two to six results, and in what they differ."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .. import settings
from ..errors import RequestError
from ..files import translate_errors, write_whole
from ..results.output import slug
from ..results.result import Result, read_result
from ..results.side_by_side import LETTERS, MOST, comparison_rows, side_by_side
from .actions import Action, Reply
from .desk import Desk
from .page_state import input_rows

MOST_FOUND = 24
"""Results of a search that are offered."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The results to compare."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """Words of the prompts of results."""

    text: str = ""


def read_chosen(desk: Desk, paths: tuple[str, ...]) -> list[Result]:
    """The results to compare.

    Raises:
        RequestError: if they are fewer than two or more than ``MOST``.
        ResultError, PathError: if one isn't there.
    """
    if not 2 <= len(paths) <= MOST:
        raise RequestError("compare", len(paths), f"choose two to {MOST} results")
    return [read_result(desk.path_of(path)) for path in paths]


def open_comparison(desk: Desk, arguments: Chosen) -> object:
    """The clips by letter, and the rows of the table: (name, kind, cells), a cell a list of (text,
    whether the others lack it)."""

    def compare() -> Reply:
        results = read_chosen(desk, arguments.paths)
        clips = [
            describe_clip(letter, path, result)
            for letter, path, result in zip(LETTERS, arguments.paths, results, strict=False)
        ]
        rows = [dataclasses.astuple(row) for row in comparison_rows(results)]
        return Reply({"clips": clips, "rows": rows})

    return desk.in_background(compare)


def describe_clip(letter: str, path: str, result: Result) -> dict[str, object]:
    """What a page needs to play a result and to name it."""
    request, shown = result.settings.request, result.settings.shown
    return {
        "letter": letter,
        "path": path,
        "prompt": request.prompt,
        "seed": request.seed,
        "frames": shown.frames,
        "fps": shown.fps,
        "height": shown.height,
        "width": shown.width,
        "inputs": input_rows(result.settings),
        "note": result.note.replace(f"{settings.outputs_dir()}/", ""),
    }


def find_results(desk: Desk, arguments: Search) -> object:
    """The newest results with some words in their prompts, to add to a comparison."""

    def find() -> Reply:
        catalogue = desk.session.catalogue
        catalogue.refresh()
        found = catalogue.find(arguments.text, limit=MOST_FOUND)
        entries = [
            {"path": desk.name_of(entry.path), "prompt": entry.prompt, "seed": entry.seed}
            for entry in found
        ]
        return Reply(entries)

    return desk.in_background(find)


def save_comparison(desk: Desk, arguments: Chosen) -> object:
    """Write all clips in step into one mp4 in ``outputs/comparisons/``; replies with its path."""

    def save() -> Reply:
        results = read_chosen(desk, arguments.paths)
        name = f"{datetime.now():%Y-%m-%d-%H%M%S}-{slug(results[0].settings.request.prompt)}.mp4"
        path = comparisons_folder() / name
        content = side_by_side(results)
        with translate_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        return Reply({"path": desk.name_of(path)})

    return desk.in_background(save)


def comparisons_folder() -> Path:
    return settings.outputs_dir() / "comparisons"


ACTIONS = {
    "compare.open": Action(Chosen, open_comparison),
    "compare.find": Action(Search, find_results),
    "compare.save": Action(Chosen, save_comparison),
}
