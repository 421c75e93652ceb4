"""What a saved notebook shows where no kernel runs: a picture of the latest results, a sentence."""

from __future__ import annotations

from ipywidgets import DOMWidget

from ..errors import CogvxError
from ..results import pictures
from ..text import data_url, render_template

SHOWN = 6
"""Results in the picture."""


class SavedView:
    """An output below the page, which hides it; it is kept up to date as videos are made.

    Args:
        page: with ``desk``, and its trait ``roll``.
    """

    def __init__(self, page: DOMWidget) -> None:
        self._page, self._handle = page, None

    def show(self) -> None:
        """Display it in the running cell."""
        from IPython.display import HTML, display

        self._handle = display(HTML(self.html()), display_id=True)
        self._page.observe(lambda change: self._update(), "roll")

    def html(self) -> str:
        """The output: a page's styles hide it while the page is alive."""
        results = [result for _, result in self._page.desk.roll[:SHOWN]]
        stills = []
        for result in results:
            try:
                shown = result.settings.shown
                middle = shown.frames / shown.fps / 2
                still = pictures.still_image(result.path, middle, pictures.THUMBNAIL_WIDTH)
            except CogvxError:  # deleted, or no ffmpeg
                continue
            stills.append((data_url("image/webp", still), result.settings.request.prompt))
        return render_template("saved_workbench.html", stills=stills)

    def _update(self) -> None:
        from IPython.display import HTML

        if self._handle is not None:
            self._handle.update(HTML(self.html()))
