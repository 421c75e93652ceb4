"""The contact sheets of a grid: one for each of its pages, as PNG and as mp4."""

from __future__ import annotations

import io
import json
from pathlib import Path

from PIL import Image

from .. import files, settings
from ..errors import RequestError, ResultError
from ..results import video
from ..results.result import Result, read_result
from ..results.sheet import Sheet, common_pace, plan_sheet
from .grid_file import KeptGrid, grids_folder


def save_sheet(grid: KeptGrid, page: int = 0) -> tuple[Path, Path]:
    """Write the sheet of a page beside the grid's file, with the videos that there are by now.

    Args:
        page: from 0.

    Returns:
        (the middle frame as PNG, all as mp4).

    Raises:
        ResultError: if there is no video yet, or one can't be read.
        DiskFull, OutputError: if they can't be written.
    """
    pages = len(grid.axes[2].values)
    if not 0 <= page < pages:
        raise RequestError("page", page, f"the grid has {pages}")
    sheet, names = _fill_sheet(grid, page)
    axes = {"columns": grid.axes[0].labels, "rows": grid.axes[1].labels}
    if pages > 1:
        axes |= {"page": grid.axes[2].labels[page]}
    tag = json.dumps({"grid": axes | {"videos": names}}, ensure_ascii=True)
    name = grid.name if pages == 1 else f"{grid.name}-page-{page + 1}"
    return _write_sheet(grids_folder() / name, sheet, tag)


def _fill_sheet(grid: KeptGrid, page: int) -> tuple[Sheet, list[list[str]]]:
    """(the sheet of a page, the file or state of each of its cells)."""
    across, down, _ = grid.axes
    wide, tall = len(across.values), len(down.values)
    cells = grid.cells[page * wide * tall : (page + 1) * wide * tall]
    results: dict[int, Result] = {}
    for number, cell in enumerate(cells):
        path = settings.outputs_dir() / cell.path
        if cell.path and path.is_file():
            results[number] = read_result(path)
    if not results:
        raise ResultError("no video of this sheet is there yet")
    requests = [result.settings.request for result in results.values()]
    pace = common_pace([r.frames for r in requests], [r.fps for r in requests])
    picture = requests[0].height, requests[0].width
    sheet = Sheet(plan_sheet(across.labels, down.labels, picture, pace[0]), *pace)
    for number, result in results.items():  # one at a time: a hundred decoded take gigabytes
        clip = video.decode_video(result.path)
        sheet.paste(*divmod(number, wide), clip, result.settings.request.fps)
    names = [
        results[number].path.name if number in results else cell.state
        for number, cell in enumerate(cells)
    ]
    return sheet, [names[start : start + wide] for start in range(0, len(names), wide)]


def _write_sheet(stem: Path, sheet: Sheet, tag: str) -> tuple[Path, Path]:
    png, mp4 = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.mp4")
    poster = io.BytesIO()
    Image.fromarray(sheet.pages[len(sheet.pages) // 2]).save(poster, "PNG")
    with files.translate_errors(stem.parent):
        stem.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(png, poster.getvalue())
        with files.partial_file(mp4) as partial:
            video.encode_video(sheet.pages, partial, sheet.fps, tag)
            partial.replace(mp4)
    return png, mp4
