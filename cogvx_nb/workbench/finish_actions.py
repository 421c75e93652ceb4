"""Actions that finish results: more frames a second, larger ones; as jobs of the queue."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from ..errors import CogvxError
from ..finishing.methods import INTERPOLATIONS, UPSCALERS
from ..finishing.needs import lacking
from ..finishing.recipe import FACTORS, MOST_FPS, Recipe
from ..finishing.work import check_work
from ..results.result import read_result
from .actions import Action, NoArguments, Reply
from .desk import Desk
from .jobs import Job


@dataclass(frozen=True, slots=True)
class Finishing:
    """Results, and what to make of each; the fields of ``Recipe``."""

    paths: tuple[str, ...]
    fps: int | None = None
    factor: int | None = None
    scale: int | None = None
    interpolation: str | None = None
    upscaler: str | None = None


def list_methods(desk: Desk, arguments: NoArguments) -> Reply:
    """What results can be finished by."""
    return Reply(
        {
            "factors": FACTORS,
            "most_fps": MOST_FPS,
            "interpolations": {name: row.about for name, row in INTERPOLATIONS.items()},
            "upscalers": {
                name: {
                    "about": row.about,
                    "scales": row.scales,
                    "lacking": lacking(row.package, name),
                }
                for name, row in UPSCALERS.items()
            },
        }
    )


def finish_results(desk: Desk, arguments: Finishing) -> Future:
    """Queue a job for each result. Replies with their ids, and a line for each that can't be.

    Raises:
        RequestError: if the same is wrong for all of them.
    """
    names = Recipe.__dataclass_fields__
    recipe = Recipe(**{name: getattr(arguments, name) for name in names})
    return desk.in_background(_queue_each, desk, arguments.paths, recipe)


def _queue_each(desk: Desk, paths: tuple[str, ...], recipe: Recipe) -> Reply:
    ids, problems = [], []
    for text in paths:
        try:
            source = read_result(desk.path_of(text))
            shown = source.settings.shown
            check_work(shown.frames, shown.height, shown.width, shown.fps, recipe)
        except CogvxError as error:
            if len(paths) == 1:
                raise
            problems.append(f"{text}: {error}")
            continue
        ids.append(desk.session.queue.add(Job(None, source, recipe)).id)
    return Reply({"ids": ids, "problems": problems})


ACTIONS = {
    "finish.methods": Action(NoArguments, list_methods),
    "queue.finish": Action(Finishing, finish_results),
}
