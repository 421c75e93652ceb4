"""The pages Gallery, all results on disk, and Compare, some of them in step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import ipywidgets as widgets

from ..errors import CogvxError, RequestError
from ..results import pictures, result, trash
from ..results.catalogue import Entry
from ..results.records import Sidecar
from ..results.side_by_side import MOST, comparison_table, side_by_side
from .controls import (
    Viewer,
    bold_html,
    button,
    choice_field,
    control_row,
    html_lines,
    html_note,
    html_paragraph,
    replace_children,
    text_line,
)
from .session import Session, current_session

PAGE = 12
"""Results per page."""

ANY = "any"


class Gallery(widgets.VBox):
    """All results, newest first: search, play, load settings, reproduce, move to the trash.

    Args:
        session: runs the jobs that reproduce results; by default this process's.
        load: loads the settings of a result into a form; without it there is no such button.
        compare: compares the results of these paths; without it none can be selected.
    """

    def __init__(
        self,
        session: Session | None = None,
        load: Callable[[Sidecar], None] | None = None,
        compare: Callable[[list[Path]], None] | None = None,
    ) -> None:
        self._session = session or current_session()
        self._catalogue = self._session.catalogue
        self._on_load, self._on_compare = load, compare
        self._selected: list[Path] = []
        self._trashed: list[Path] = []
        self._entries: list[Entry] = []
        self._offset = 0
        self._build()
        filters = control_row(self.text, self.model, self.frames, self.seed, self.refresh)
        pages = control_row(self.newer, self.older, self.count, self.comparison)
        super().__init__([filters, pages, self.message, self.undo, self.cards, self.details])
        self.add_class("cogvx-gallery")
        self.show()

    def show(self) -> None:
        """Update filters and page from the disk."""
        self._catalogue.refresh()
        filters = (
            (self.model, self._catalogue.values("model")),
            (self.frames, self._catalogue.values("frames")),
        )
        for field, values in filters:
            options = [ANY, *values]
            if options != list(field.options):
                selected = field.value
                field.options = options
                field.value = selected if selected in options else ANY
        self._show_page()

    # --- building ---------------------------------------------------------------------------------

    def _build(self) -> None:
        self.text = text_line("Search", placeholder="words of the prompt")
        self.model, self.frames = choice_field("Model", [ANY]), choice_field("Frames", [ANY])
        self.seed = text_line("Seed", placeholder="any")
        for field in (self.text, self.model, self.frames, self.seed):
            field.observe(lambda change: self._turn_to(0), "value")
        self.refresh = button("Refresh", "refresh", "look at the disk again", self.show)
        self.newer = button("Newer", "chevron-left", "the page before", lambda: self._turn(-PAGE))
        self.older = button("Older", "chevron-right", "the next page", lambda: self._turn(PAGE))
        self.count = html_note(name="count")
        self.comparison = button(
            "Compare", "columns", "play the chosen in step", self._show_compared
        )
        self.message = html_note(name="gallery-message")
        self.undo = button("Undo", "undo", "take the last out of the trash", self._restore)
        grid = {"grid_template_columns": "repeat(auto-fill, minmax(13em, 1fr))", "grid_gap": "1em"}
        self.cards = widgets.GridBox(layout=grid).add_class("cogvx-cards")
        self.details = widgets.VBox().add_class("cogvx-details")
        self._offer_comparison()
        self._offer_undo()

    def _card(self, entry: Entry, poster: bytes) -> widgets.VBox:
        prompt = entry.prompt if len(entry.prompt) <= 100 else f"{entry.prompt[:99]}…"
        picture = widgets.Image(value=poster, format="webp", layout={"width": "180px"})
        picture.add_class("cogvx-poster")
        facts = f"{entry.frames} frames · {entry.steps} steps · seed {entry.seed}"
        date = entry.made.replace("T", " ")[:16]
        text = f"{bold_html(prompt)}<br>{html_lines([facts, f'{entry.model} · {date}'])}"
        caption = html_note(html_paragraph(text), "caption")
        row = control_row(*self._actions(entry.path))
        return widgets.VBox([picture, caption, row]).add_class("cogvx-card")

    def _actions(self, path: Path) -> list[widgets.Widget]:
        actions = [
            button("", "play", "play it", lambda: self._play(path)),
            button("", "repeat", "make it again, and compare", lambda: self._again(path)),
            button("", "trash", "move it to the trash", lambda: self._trash(path)),
        ]
        if self._on_load:
            load = button("", "upload", "load its settings", lambda: self._load_settings(path))
            actions.insert(1, load)
        if self._on_compare:
            selected = widgets.Checkbox(
                value=path in self._selected, description="compare", indent=False
            )
            selected.layout.width = "auto"
            selected.observe(lambda change: self._select(path, change["new"]), "value")
            actions.append(selected)
        return actions

    # --- pages ------------------------------------------------------------------------------------

    def _filters(self) -> dict[str, object]:
        seed = self.seed.value.strip()
        return {
            "text": self.text.value,
            "model": "" if self.model.value == ANY else self.model.value,
            "frames": 0 if self.frames.value == ANY else self.frames.value,
            "seed": int(seed) if seed.isdecimal() else None,
        }

    def _turn(self, by: int) -> None:
        self._turn_to(self._offset + by)

    def _turn_to(self, offset: int) -> None:
        self._offset = max(0, offset)
        self._show_page()

    def _show_page(self) -> None:
        filters = self._filters()
        total = self._catalogue.count(**filters)
        entries = self._catalogue.find(**filters, limit=PAGE, offset=self._offset)
        if entries != self._entries:  # else a click under way would miss its button
            self._entries, posters = entries, pictures.thumbnails(entries)
            replace_children(
                self.cards, [self._card(e, p) for e, p in zip(entries, posters, strict=True)]
            )
        last = self._offset + len(entries)
        self.count.value = f"{self._offset + 1}–{last} of {total:,}" if entries else "none"
        self.newer.disabled, self.older.disabled = self._offset == 0, last >= total

    # --- actions -------------------------------------------------------------------------

    def _select(self, path: Path, selected: bool) -> None:
        self._selected = [other for other in self._selected if other != path]
        if selected:
            self._selected.append(path)
        self._offer_comparison()

    def _offer_comparison(self) -> None:
        count = len(self._selected)
        self.comparison.description = f"Compare ({count})" if count else "Compare"
        self.comparison.disabled = not 2 <= count <= MOST
        self.comparison.tooltip = "play the chosen in step: choose two to six"
        self.comparison.layout.display = None if self._on_compare else "none"

    def _show_compared(self) -> None:
        self._attempt(lambda: self._on_compare(list(self._selected)))

    def _play(self, path: Path) -> None:
        self._attempt(lambda: replace_children(self.details, [Viewer(result.read_result(path))]))

    def _load_settings(self, path: Path) -> None:
        def load() -> None:
            read = result.read_result(path)
            self._on_load(read.settings)
            self.message.value = html_lines(filter(None, [read.note]))

        self._attempt(load)

    def _again(self, path: Path) -> None:
        from .. import reproduction  # late: it may load torch, which browsing does not need

        def submit() -> None:
            original = result.read_result(path)
            self._session.queue.submit(reproduction.request_of(original.settings), original)
            self.message.value = html_lines([f"{path.name} is in the queue, to be made again"])

        self._attempt(submit)

    def _trash(self, path: Path) -> None:
        def move() -> None:
            self._trashed.append(trash.move_to_trash(path))
            self._select(path, False)
            self.message.value = html_lines([f"{path.name} is in {self._trashed[-1].parent}"])
            self._offer_undo()
            self.show()

        self._attempt(move)

    def _restore(self) -> None:
        def move() -> None:
            self.message.value = html_lines([f"{trash.restore(self._trashed.pop()).name} is back"])
            self._offer_undo()
            self.show()

        self._attempt(move)

    def _offer_undo(self) -> None:
        count = len(self._trashed)
        self.undo.description = f"Undo ({count})" if count > 1 else "Undo"
        self.undo.layout.display = None if count else "none"

    def _attempt(self, act: Callable[[], None]) -> None:
        """Call ``act`` and show its error, if any."""
        try:
            act()
        except CogvxError as error:
            self.message.value = bold_html(error)


class Compare(widgets.VBox):
    """Results side by side, and the settings in which they differ.

    Args:
        paths: two to six mp4 files; they can also be set later by ``show``.

    Raises:
        CogvxError: for another number of files, or one that is not a result.
    """

    def __init__(self, paths: Sequence[str | Path] = ()) -> None:
        super().__init__([html_note("Choose two to six results in the gallery.")])
        self.add_class("cogvx-compare")
        if paths:
            self.show(paths)

    def show(self, paths: Sequence[str | Path]) -> None:
        """Compare other results."""
        if not 2 <= len(paths) <= MOST:
            raise RequestError("results", len(paths), f"choose two to {MOST} to compare")
        results = [result.read_result(path) for path in paths]
        player = widgets.Video(value=side_by_side(results), format="mp4", autoplay=True, loop=True)
        player.layout = {"max_width": "98%"}
        player.add_class("cogvx-video")
        replace_children(self, [player, html_note(comparison_table(results), "differences")])
