"""What a page can ask about results: find and filter them, mark them, move them to the trash."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from .. import settings
from ..errors import CogvxError
from ..results import trash
from ..results.catalogue import Catalogue
from ..results.filters import GROUPS, KINDS, Condition, Search, is_sortable
from ..results.formats import available_formats
from ..results.marks import MOST_STARS, change_marks
from ..results.typed import Range
from .actions import Action, NoArguments, Paths, Reply
from .desk import Desk
from .rows import entry_row, read_entry

MOST_ROWS, MOST_SELECTED = 200, 1000
"""Rows of a page, and results that an action takes at once."""

FACETS = (
    "model",
    "frames",
    "steps",
    "height",
    "width",
    "guidance",
    "speed",
    "attention",
    "device",
    "placement",
    "quantized",
    "sweep",
    "grid",
    "finished",
)
"""Columns whose values a page offers; the others can be compared with a value that one types."""

_queries = ThreadPoolExecutor(1, thread_name_prefix="cogvx gallery")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which results, in which order."""

    text: str = ""
    tag: str = ""
    stars: int = 0
    seed: int | None = None
    where: tuple[Condition, ...] = ()
    sort: str = "made"
    ascending: bool = False
    group: str = ""
    trashed: bool = False  # those in the trash
    offset: Annotated[int, Range(0, 2**40)] = 0
    limit: Annotated[int, Range(1, MOST_SELECTED)] = 60

    @property
    def search(self) -> Search:
        return Search(
            text=self.text, tag=self.tag, stars=self.stars, seed=self.seed, where=self.where
        )


@dataclass(frozen=True, slots=True)
class Marking:
    """Changes of the marks of some results; None leaves them."""

    paths: tuple[str, ...]
    stars: Annotated[int, Range(0, MOST_STARS)] | None = None
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Emptying:
    count: int  # of the results in the trash, as the page showed it


def _later(work: Callable[[Desk, object], Reply]) -> Callable[[Desk, object], Future]:
    """An action that answers from the thread of the queries, one after another."""
    return functools.wraps(work)(lambda desk, wanted: _queries.submit(work, desk, wanted))


@functools.lru_cache(maxsize=2)
def _trashed(folder: Path) -> Catalogue:
    return Catalogue(folder)


def _catalogue(desk: Desk, wanted: Wanted) -> Catalogue:
    catalogue = _trashed(trash.trash_folder()) if wanted.trashed else desk.session.catalogue
    catalogue.refresh()
    return catalogue


def _browse(desk: Desk, wanted: Wanted):
    return _catalogue(desk, wanted).browse(
        wanted.search,
        sort=wanted.sort,
        ascending=wanted.ascending,
        group=wanted.group,
        limit=wanted.limit,
        offset=wanted.offset,
    )


@_later
def find(desk: Desk, wanted: Wanted) -> Reply:
    """Rows of a page of results, and how many there are."""
    found = _browse(desk, replace(wanted, limit=min(wanted.limit, MOST_ROWS)))
    outputs = settings.outputs_dir()
    pairs = zip(found.entries, found.sizes, strict=True)
    rows = [entry_row(entry, outputs, size) for entry, size in pairs]
    return Reply({"rows": rows, "total": found.total, "offset": wanted.offset})


@_later
def select(desk: Desk, wanted: Wanted) -> Reply:
    """Paths of a part of a list, at most ``MOST_SELECTED``."""
    found = _browse(desk, wanted)
    outputs = settings.outputs_dir()
    paths = [entry.path.relative_to(outputs).as_posix() for entry in found.entries]
    return Reply({"paths": paths, "total": found.total})


@_later
def facets(desk: Desk, wanted: Wanted) -> Reply:
    """What can be filtered, sorted and grouped by, with the values that occur."""
    catalogue = _catalogue(desk, wanted)
    columns = [
        {
            "name": name,
            "kind": kind.__name__,
            "values": catalogue.values(name) if name in FACETS else [],
        }
        for name, kind in KINDS.items()
        if name not in ("stars", "tags", "frame_hash")  # asked for in other ways
    ]
    return Reply(
        {
            "columns": columns,
            "tags": catalogue.values("tags"),
            "sorts": [name for name in KINDS if is_sortable(name)],
            "groups": list(GROUPS),
        }
    )


@_later
def tags(desk: Desk, wanted: NoArguments) -> Reply:
    """All tags, those of the most results first."""
    desk.session.catalogue.refresh()
    return Reply(desk.session.catalogue.values("tags"))


def formats(desk: Desk, wanted: NoArguments) -> Reply:
    """Each format of an export that can be written here, by its name: what it is, and which of
    quality, fps and loop it has."""
    kinds = available_formats().items()
    return Reply({name: {"about": kind.about, "takes": kind.takes} for name, kind in kinds})


def _each(desk: Desk, paths: Iterable[str], work: Callable[[Path], object]) -> Reply:
    """Do something with each path: what came of it, and a line for each that failed."""
    done, problems = [], []
    for text in paths:
        try:
            done.append(work(desk.path_of(text)))
        except CogvxError as error:
            problems.append(str(error))
    return Reply({"done": done, "problems": problems})


@_later
def mark(desk: Desk, wanted: Marking) -> Reply:
    """Change stars, tags or note; answers with the new rows."""
    outputs = settings.outputs_dir()

    def change(path: Path) -> dict:
        entry = read_entry(path, outputs)
        change_marks(
            path,
            entry.frame_hash,
            stars=wanted.stars,
            add_tags=wanted.add_tags,
            remove_tags=wanted.remove_tags,
            note=wanted.note,
        )
        return entry_row(read_entry(path, outputs), outputs)

    return _each(desk, wanted.paths, change)


@_later
def move_to_trash(desk: Desk, wanted: Paths) -> Reply:
    """Move results to the trash; answers with the paths there, which ``gallery.restore`` takes."""

    def move(path: Path) -> str:
        moved = desk.name_of(trash.move_to_trash(path))
        desk.take_off(desk.name_of(path))
        return moved

    return _each(desk, wanted.paths, move)


@_later
def restore(desk: Desk, wanted: Paths) -> Reply:
    """Move results out of the trash; answers with their paths."""

    def move(path: Path) -> str:
        name = desk.name_of(trash.restore(path))
        desk.put_back(name)
        return name

    return _each(desk, wanted.paths, move)


@_later
def empty(desk: Desk, wanted: Emptying) -> Reply:
    """Delete what is in the trash, if it is as many results as the page showed."""
    return Reply({"deleted": trash.empty_trash(wanted.count)})


ACTIONS: dict[str, Action] = {
    "gallery.find": Action(Wanted, find),
    "gallery.select": Action(Wanted, select),
    "gallery.facets": Action(Wanted, facets),
    "gallery.tags": Action(NoArguments, tags),
    "gallery.formats": Action(NoArguments, formats),
    "gallery.mark": Action(Marking, mark),
    "gallery.trash": Action(Paths, move_to_trash),
    "gallery.restore": Action(Paths, restore),
    "gallery.empty": Action(Emptying, empty),
}
