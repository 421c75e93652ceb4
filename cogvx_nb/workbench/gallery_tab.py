"""Results on disk, newest first: look through, search, play, load back, make again, throw away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets

from ..errors import CogvxError
from ..results import catalogue, result, video
from ..results.catalogue import Entry
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
"""Results on a page."""

ANY = "any"


class Gallery(widgets.VBox):
    """The results of the outputs folder.

    Args:
        session: runs the jobs that reproduce results; by default this process's.
        load: called with a sidecar's settings when they are to be loaded back.
        compare: called with the paths of the results that are to be compared.
    """

    def __init__(
        self,
        session: Session | None = None,
        load: Callable[[dict], None] | None = None,
        compare: Callable[[list[Path]], None] | None = None,
    ) -> None:
        self._session = session or current_session()
        self._catalogue = self._session.catalogue
        self._on_load, self._on_compare = load, compare
        self._chosen: list[Path] = []
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
        """Take in what changed on disk, and show the page again."""
        self._catalogue.refresh()
        there = {self.model: self._catalogue.models(), self.frames: self._catalogue.frame_counts()}
        for field, values in there.items():
            options = [ANY, *values]
            if options != list(field.options):
                kept = field.value
                field.options = options
                field.value = kept if kept in options else ANY
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
        made = entry.made.replace("T", " ")[:16]
        chosen = widgets.Checkbox(
            value=entry.path in self._chosen, description="compare", indent=False
        )
        chosen.layout.width = "auto"
        chosen.observe(lambda change: self._choose(entry.path, change["new"]), "value")
        actions = [
            button("", "play", "play it", lambda: self._play(entry.path)),
            button("", "repeat", "make it again, and compare", lambda: self._again(entry.path)),
            button("", "trash", "move it to the trash", lambda: self._trash(entry.path)),
        ]
        if self._on_load:
            load = button("", "upload", "load its settings", lambda: self._load_back(entry.path))
            actions.insert(1, load)
        if self._on_compare:
            actions.append(chosen)
        said = f"{bold_html(prompt)}<br>{html_lines([facts, f'{entry.model} · {made}'])}"
        text = html_note(html_paragraph(said), "caption")
        return widgets.VBox([picture, text, control_row(*actions)]).add_class("cogvx-card")

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
        if entries != self._entries:  # else a click on its way would miss its button
            self._entries, pictures = entries, video.thumbnails(entries)
            replace_children(
                self.cards, [self._card(e, p) for e, p in zip(entries, pictures, strict=True)]
            )
        last = self._offset + len(entries)
        self.count.value = f"{self._offset + 1}–{last} of {total:,}" if entries else "none"
        self.newer.disabled, self.older.disabled = self._offset == 0, last >= total

    # --- what can be done -------------------------------------------------------------------------

    def _choose(self, path: Path, wanted: bool) -> None:
        self._chosen = [other for other in self._chosen if other != path]
        if wanted:
            self._chosen.append(path)
        self._offer_comparison()

    def _offer_comparison(self) -> None:
        count = len(self._chosen)
        self.comparison.description = f"Compare ({count})" if count else "Compare"
        self.comparison.disabled = not 2 <= count <= 6
        self.comparison.tooltip = "play the chosen in step: choose two to six"
        self.comparison.layout.display = None if self._on_compare else "none"

    def _show_compared(self) -> None:
        self._attempt(lambda: self._on_compare(list(self._chosen)))

    def _play(self, path: Path) -> None:
        self._attempt(lambda: replace_children(self.details, [Viewer(result.read_result(path))]))

    def _load_back(self, path: Path) -> None:
        self._attempt(lambda: self._on_load(result.read_result(path).settings))

    def _again(self, path: Path) -> None:
        from .. import workflow  # late: it loads torch, and looking takes none

        def submit() -> None:
            original = result.read_result(path)
            self._session.queue.submit(workflow.request_of(original.settings), original)
            self.message.value = html_lines([f"{path.name} is in the queue, to be made again"])

        self._attempt(submit)

    def _trash(self, path: Path) -> None:
        def move() -> None:
            self._trashed.append(catalogue.move_to_trash(path))
            self._choose(path, False)
            self.message.value = html_lines([f"{path.name} is in {self._trashed[-1].parent}"])
            self._offer_undo()
            self.show()

        self._attempt(move)

    def _restore(self) -> None:
        def move() -> None:
            self.message.value = html_lines(
                [f"{catalogue.restore(self._trashed.pop()).name} is back"]
            )
            self._offer_undo()
            self.show()

        self._attempt(move)

    def _offer_undo(self) -> None:
        count = len(self._trashed)
        self.undo.description = f"Undo ({count})" if count > 1 else "Undo"
        self.undo.layout.display = None if count else "none"

    def _attempt(self, act: Callable[[], None]) -> None:
        """Do it, and say what is wrong if it can't be done."""
        try:
            act()
        except CogvxError as error:
            self.message.value = bold_html(error)
