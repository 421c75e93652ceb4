"""Grids over pictures and clips: each is kept by its content, and told by its name."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import CIRCLE
from PIL import Image

from cogvx_nb import settings
from cogvx_nb.errors import RequestError
from cogvx_nb.media.kept import keep_file
from cogvx_nb.planning.yaml_loading import load_yaml
from cogvx_nb.results import input_uses
from cogvx_nb.workbench import grid_file, grid_plan, grid_sweep, grid_work
from cogvx_nb.workbench.grid_axis import parse_axis
from cogvx_nb.workbench.prediction import Prediction

VALUES = {"prompt": CIRCLE, "model": "cogvideox-tiny-i2v", "steps": 2, "frames": 9}


@pytest.fixture
def pictures(tiny, outputs, tmp_path):
    """Two pictures of one name in two folders."""
    paths = [tmp_path / folder / "1.png" for folder in "ab"]
    for path, shade in zip(paths, (40, 200), strict=True):
        path.parent.mkdir()
        Image.fromarray(np.full((96, 144, 3), shade, np.uint8)).save(path)
    return paths


def plan(*sides, **changes) -> grid_plan.GridPlan:
    axes = [parse_axis(*side) for side in sides]
    return grid_plan.plan_grid(axes, VALUES | changes, lambda *_: Prediction(1.0, 0.0))


def test_pictures_are_told_apart_and_kept_by_their_content(pictures, outputs):
    planned = plan(("image", ", ".join(map(str, pictures))), ("seed", "1, 2"))
    kept = [keep_file(path) for path in pictures]
    named = [f"{name}#1.png" for name in kept]
    assert planned.axes[0].values == tuple(named)
    assert planned.axes[0].labels == ("image a/1.png", "image b/1.png")
    typed = parse_axis("image", ", ".join(named))
    assert typed.labels == tuple(f"image {name[7:15]}/1.png" for name in named)
    assert plan(("seed", "1, 2"), image=str(pictures[0])).values["image"] == named[0]
    sweep = load_yaml(grid_sweep.sweep_text(planned.axes, planned.values))
    assert sweep["grid"]["image"] == named

    grid = grid_file.new_grid(planned, [grid_file.GridCell(path="made.mp4")] * 4)
    assert {name[7:71] for name in named} <= input_uses.find_uses().files.keys()
    (settings.outputs_dir() / "made.mp4").touch()
    pictures[0].write_bytes(pictures[1].read_bytes())
    pictures[1].unlink()
    read = grid_file.read_grid(grid.name)
    assert read.axes[0].labels == planned.axes[0].labels
    request = grid_plan.request_of(read.cell_values(1))
    assert (request.image, request.input_names) == (kept[1], {"image": "1.png"})
    later = plan(("image", f"{pictures[0]}, {named[0]}"), ("seed", "1"))
    assert [request.image for request in later.requests] == [kept[1], kept[0]]
    there = grid_work.Grids.finished_cells(later, grid.name)
    assert {number: cell.path for number, cell in there.items()} == dict.fromkeys(
        (0, 1), "made.mp4"
    )
    replaced = plan(("image", str(pictures[0])), ("seed", "1, 3"))
    assert sorted(grid_work.Grids.finished_cells(replaced, grid.name)) == [0]


def test_files_of_one_content_and_values_that_change_nothing_are_refused(pictures):
    kept = keep_file(pictures[0])
    with pytest.raises(RequestError, match=r"image = '1.png': makes no difference to "):
        plan(("image", f"{pictures[0]}, {kept}#1.png"))
    for side in (("strength", "0.4, 0.8"), ("fit", "crop, pad")):
        with pytest.raises(RequestError, match="makes no difference to"):
            plan(side, model="cogvideox-tiny")
    assert len(plan(("fit", "crop, pad"), image=str(pictures[0])).requests) == 2
