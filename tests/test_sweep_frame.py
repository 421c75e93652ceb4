"""A sweep as a DataFrame."""

from __future__ import annotations

import math

import nbformat
import pytest
from conftest import CIRCLE

from cogvx_nb.errors import ResultError
from cogvx_nb.sweep import dataframe, driver
from cogvx_nb.sweep.folder import SweepFolder


@pytest.mark.slow
def test_videos_are_measured_once_and_near_duplicates_found(outputs, monkeypatch):
    values = {"model": "tiny", "prompt": CIRCLE, "frames": 9, "steps": 2}
    grid = {"guidance": [6.0, 6.001], "seed": [1, 2]}
    assert driver.run_sweep({"name": "seen", "parameters": values, "grid": grid}).done == 4
    table = dataframe.sweep_dataframe("seen")
    assert [*table["guidance"]] == [6.0, 6.0, 6.001, 6.001]
    assert [*table["state"]] == ["done"] * 4
    assert (table["denoise_seconds"] > 0).all()
    assert (table["predicted_gib"] > 0).all()
    assert (table["sharpness"] > 0).all()
    assert [*table["alike"]] == [1, 2, 1, 2], "a hair's breadth of guidance changes nothing"
    with monkeypatch.context() as patch:
        patch.setattr(dataframe, "measure_result", lambda frames: pytest.fail("measured again"))
        assert dataframe.sweep_dataframe("seen").equals(table)
    (outputs / "sweeps" / "seen" / dataframe.MEASURED).write_text('{"a": [1]}')
    assert dataframe.sweep_dataframe("seen").equals(table), "the file is only a cache"


def test_a_notebook_without_videos_has_a_table_too(outputs, book):
    driver.run_sweep({"name": "mine", "notebook": book("1 / x"), "grid": {"x": [0, 1]}})
    folder = SweepFolder("mine")
    first, second = dataframe.sweep_rows(folder, folder.listed_runs())
    assert (first["x"], first["state"]) == (0, "failed")
    assert first["error"] == "ZeroDivisionError: division by zero"
    assert (second["state"], second["error"], second["video"]) == ("done", "", "")
    assert second["seconds"] > 0
    assert math.isnan(second["motion"])


def test_a_parameter_may_have_the_name_of_another_column(outputs, tmp_path):
    path = tmp_path / "mine.ipynb"
    parameters = nbformat.v4.new_code_cell("state: str = ''\nrun: int = 0\nload_seconds: int = 0")
    parameters.metadata.tags = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=[parameters])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, path)
    grid = {"state": ["failed"], "run": [1, 2], "load_seconds": [7, 8]}
    assert driver.run_sweep({"name": "mine", "notebook": str(path), "grid": grid}).done == 4
    table = dataframe.sweep_dataframe("mine")
    assert [*table["state"]] == ["done"] * 4
    assert [*table["parameter_run"]] == [1, 1, 2, 2]
    assert [*table["parameter_load_seconds"]] == [7, 8, 7, 8]
    assert table["run"].is_unique


def test_an_unknown_sweep_is_refused(outputs):
    with pytest.raises(ResultError, match="no sweep 'none' here; known: none"):
        dataframe.sweep_dataframe("none")
