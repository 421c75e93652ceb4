"""Benchmarks: rows from real videos, kept, compared and shown; random weights of true shapes."""

from __future__ import annotations

import base64
import copy
import io
import json
import re

import nbformat
import pytest
from conftest import ROOT, run_cogvx
from PIL import Image
from test_notebook import execute

from cogvx_nb import (
    benchmark,
    checkpoints,
    meter,
    pipeline,
    random_weights,
    report,
    request,
    weights,
)
from cogvx_nb.errors import DoesNotFit, OutputError, RequestError, ResultError

COUNTS = checkpoints.COGVIDEOX_5B.parameters


@pytest.fixture(scope="module")
def found(tiny):
    lines = []
    made = benchmark.run(tiny, [13], 2, 3, ["auto", "streamed"], lines.append)
    return made | {"lines": lines}


def test_a_row_is_what_was_measured(found):
    row, failed = found["rows"]
    assert (row["frames"], row["steps"], row["placement"], row["error"]) == (13, 2, "auto", "")
    for stage in benchmark.STAGES:
        values = row["seconds"][stage]["all"]
        assert len(values) == 3
        assert min(values) <= row["seconds"][stage]["median"] <= max(values)
        assert min(values) > 0
    assert row["step_seconds"]["median"] == row["seconds"]["denoise"]["median"] / 2
    assert row["joules"] is row["reserved_bytes"] is None, "null where nobody can tell"
    assert failed["error"] == "streamed is no placement for cpu: use resident"
    assert "denoise" in found["lines"][1]
    assert json.loads(json.dumps(found))["machine"]["versions"]["torch"]


def test_reports_are_kept_and_read_back(found, outputs):
    path = benchmark.save(found)
    assert path.parent == outputs / "benchmarks"
    assert benchmark.read(path)["rows"] == json.loads(json.dumps(found["rows"]))
    with pytest.raises(OutputError, match="exists: choose another name"):
        benchmark.save(found, path)
    path.write_text('{"format": 1}')
    with pytest.raises(ResultError, match="is no benchmark of this workbench"):
        benchmark.read(path)
    with pytest.raises(ResultError, match="can't be read"):
        benchmark.read(outputs / "none.json")


def test_only_what_changed_beyond_the_spread_is_said(found):
    row = found["rows"][0]
    for stage in benchmark.STAGES:
        row["seconds"][stage] |= {"median": 1.0, "spread": 0.05}
    slower = copy.deepcopy(found)
    assert benchmark.compare(found, slower) == []
    slower["rows"][0]["seconds"]["decode"]["median"] = 1.09
    assert benchmark.compare(found, slower) == []
    slower["rows"][0]["seconds"]["decode"]["median"] = 1.2
    (line,) = benchmark.compare(found, slower)
    assert line.endswith("decode 1.000 → 1.200 s (1.20 ×)")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"repeats": 2}, "repeats = 2: a spread needs at least 3"),
        ({"placements": ["nowhere"]}, "placement = 'nowhere': use one of auto, resident"),
        ({"frames": [0]}, "frames = 0: use one of 13 / 25 / 49"),
    ],
)
def test_bad_values_end_it_before_any_work(tiny, changed, said):
    with pytest.raises(RequestError, match=re.escape(said)):
        benchmark.run(tiny, **{"frames": [13], "steps": 2} | changed)


def test_lists_and_models_as_people_name_them():
    assert benchmark.numbers(" 13,25 , 49") == [13, 25, 49]
    with pytest.raises(RequestError, match="use numbers with commas"):
        benchmark.numbers("13, many")
    with pytest.raises(RequestError, match="use files or random"):
        benchmark.find_model("tiny", "none")


def test_the_page_needs_nothing_else(found):
    hostile = copy.deepcopy(found)
    hostile["rows"][1]["error"] = "<script>alert(1)</script>"
    page = report.page(hostile)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)='(?!data:)", page)
    pictures = re.findall(r"data:image/png;base64,([^']+)", page)
    assert len(pictures) == 2
    for data in pictures:
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (840, 408)
    assert "sayakpaul/diffusers-torchao README.md" in page
    row = copy.deepcopy(found["rows"][0]) | {"reserved_bytes": 2**30}
    assert len(report.figures({"rows": [row]})) == 3, "and memory where it is known"
    assert report.figures({"rows": []}) == []


def test_random_weights_have_the_true_shapes():
    import diffusers
    import torch
    import transformers

    for known in (checkpoints.COGVIDEOX_5B, checkpoints.COGVIDEOX_2B):
        made = random_weights.configs(known)
        with torch.device("meta"):
            parts = {
                "text_encoder": transformers.T5EncoderModel(
                    transformers.T5Config(**made["text_encoder"])
                ),
                "transformer": diffusers.CogVideoXTransformer3DModel.from_config(
                    made["transformer"]
                ),
                "vae": diffusers.AutoencoderKLCogVideoX.from_config(made["vae"]),
            }
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
        assert counts == known.parameters


def test_random_weights_run_and_are_labelled(here):
    from cogvx_nb import generate, plan, result

    model = random_weights.imagine(checkpoints.TINY)
    asked = request.make(model, benchmark.PROMPT, steps=2)
    loaded = pipeline.load(plan.fit(asked, here))
    made = generate.run(asked, loaded)
    pipeline.release()
    assert made.frames.shape == (13, 96, 144, 3)
    assert "(random weights)" in str(loaded.plan)
    assert result.describe(made)["checkpoint"]["name"] == "cogvideox-tiny (random weights)"
    assert weights.file_hashes(model) == {"random weights": "cogvideox-tiny"}


def test_a_placement_is_taken_or_refused(tiny, here):
    from cogvx_nb import plan

    fitted = plan.foresee(tiny, here, 13)
    assert plan.placed(fitted, "resident").peak_bytes == fitted.peak_bytes
    with pytest.raises(DoesNotFit, match="streamed is no placement for cpu"):
        plan.placed(fitted, "streamed")


def test_a_cpu_has_no_meter():
    assert meter.Meter("cpu").read() == meter.Reading()


def test_the_command(tmp_path, outputs):
    flags = ["--model", "tiny", "--frames", "13", "--steps", "2"]
    done = run_cogvx("bench", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = done.stdout.strip()
    assert benchmark.read(path)["rows"][0]["frames"] == 13
    assert len(list((outputs / "benchmarks").iterdir())) == 2
    again = run_cogvx("bench", *flags, "--output", path, cwd=tmp_path)
    assert again.returncode == 1
    assert again.stderr.splitlines() == [f"cogvx: {path} exists: choose another name"]
    same = run_cogvx("bench", "--compare", path, path, cwd=tmp_path)
    assert (same.returncode, same.stdout.strip()) == (
        0,
        "nothing changed by more than the repeats lie apart",
    )


def test_04_under_papermill(tmp_path):
    path = ROOT / "notebooks" / "04_benchmark.ipynb"
    flags = ["-r", "frames", "13", "-p", "steps", "2", "-r", "output", "b.json"]
    notebook, copy_path = execute(tmp_path, *flags, path=path)
    assert benchmark.read(tmp_path / "b.json")["rows"][0]["steps"] == 2
    shown = nbformat.writes(notebook)
    assert shown.count("image/png") == 2
    assert "published" in shown.lower()
    assert "widgets" not in notebook.metadata
    assert copy_path.stat().st_size < 2_000_000
