"""The contact sheet of a sweep: its videos by two parameters, as HTML."""

from __future__ import annotations

from pathlib import Path

from . import experiment, text
from .experiment import Experiment, Seen
from .results import video
from .results.video import Clip
from .text import SHORT, html_text

MOST_PLAYING = 24
"""Videos that play by themselves; of more each waits for a click."""


def sheet(
    found: Experiment,
    rows: str = "",
    columns: str = "",
    *,
    most_bytes: int,
    height: int = 240,
    folder: Path | None = None,
) -> str:
    """All videos, in a table of two parameters or one after another.

    Args:
        rows, columns: see ``experiment.axes``.
        most_bytes, height: of the small copies in it, see ``clips.of``.
        folder: that the page will lie in, for links to the videos; none without.

    Returns:
        HTML; empty if there are no videos.

    Raises:
        RequestError: see ``experiment.axes``.
    """
    down, across = experiment.axes(found, rows, columns)
    if not found.shown:
        return ""
    copies = video.embed_clips([run.video for run in found.shown], most_bytes, height)
    maker = _Cells(found, (down, across), copies, folder)
    if not (down or across):
        return f"<div>{''.join(map(maker.cell, found.runs))}</div>"
    return maker.table(down, across)


class _Cells:
    """Makes the cells of a sheet."""

    def __init__(
        self,
        found: Experiment,
        axes: tuple[str, str],
        copies: dict[Path, Clip],
        folder: Path | None,
    ) -> None:
        self._found, self._copies, self._folder = found, copies, folder
        self._others = [name for name in found.varying if name not in axes]
        playing = sum(bool(clip.moving) for clip in copies.values()) <= MOST_PLAYING
        self._plays = "autoplay preload='metadata'" if playing else "preload='none'"

    def table(self, down: str, across: str) -> str:
        cells: dict[tuple[str, str], list[Seen]] = {}
        for run in self._found.runs:
            cells.setdefault((run.value(down), run.value(across)), []).append(run)
        heads, sides = self._found.values(across), self._found.values(down)
        named = [html_text(name) for name in (down, across) if name]
        lines = [f"<th class='small'>{' ↓ · '.join(named)}{' →' if across else ''}</th>"]
        lines[0] += "".join(f"<th>{text.clamped(head)}</th>" for head in heads)
        for side in sides:
            wide = " class='down'" if len(side) > SHORT else ""
            line = f"<th{wide}>{text.clamped(side)}</th>"
            for head in heads:
                shown = "".join(map(self.cell, cells.get((side, head), [])))
                line += f"<td>{shown}</td>"
            lines.append(line)
        made = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<div class='wide'><table class='sheet'>{made}</table></div>"

    def cell(self, run: Seen) -> str:
        return f"<figure>{self._picture(run)}<figcaption>{self._caption(run)}</figcaption></figure>"

    def _picture(self, run: Seen) -> str:
        if not run.video:
            return ""
        clip = self._copies[run.video]
        if clip.moving:
            poster = f" poster='{clip.still}'" if clip.still else ""
            return (
                f"<video controls loop muted playsinline {self._plays}{poster}"
                f" src='{clip.moving}'></video>"
            )
        still = f"<img alt='' src='{clip.still}'>" if clip.still else ""
        if self._folder is None:
            return still
        return f"<a href='{text.link(run.video, self._folder)}'>{still or 'the video'}</a>"

    def _caption(self, run: Seen) -> str:
        said = [f"{html_text(name)} {html_text(run.value(name))}" for name in self._others]
        parts = [f"<span class='clamp'>{' · '.join(said)}</span>"] if said else []
        if run.state != "done":
            parts.append(f"<span class='{run.state}'>{run.state}</span> {html_text(run.error)}")
        if run.group:
            parts.append(f"<span class='mark'>≈ alike: {run.group}</span>")
        return "".join([*parts, f"<div class='small'><code>{text.escaped(run.id)}</code></div>"])
