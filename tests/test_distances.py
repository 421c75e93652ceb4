"""How far videos lie from exact: measures of known values, a real comparison, its doors."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import CIRCLE
from PIL import Image
from test_page import open_page, shown  # noqa: F401  fixtures

from cogvx_nb.benchmark import distances, fidelity, storage
from cogvx_nb.cli.main import main
from cogvx_nb.errors import CogvxError, RequestError, ResultError
from cogvx_nb.planning import planner
from cogvx_nb.reports.bench_page import bench_page
from cogvx_nb.reports.fidelity import fidelity_table
from cogvx_nb.results.fidelity import ClipDistance, FidelityRow
from cogvx_nb.results.measured_fidelity import (
    MeasuredFidelity,
    fidelity_label,
    fidelity_sentence,
)


def clip(*colours: int, size: int = 24) -> np.ndarray:
    """A frame of each grey level."""
    return np.stack([np.full((size, size, 3), colour, np.uint8) for colour in colours])


def test_psnr_is_that_of_the_whole_clip():
    assert distances.psnr(clip(7, 9), clip(7, 9)) is None
    assert distances.psnr(clip(0), clip(1)) == pytest.approx(20 * math.log10(255))
    assert distances.psnr(clip(255), clip(0)) == pytest.approx(0.0), "no bytes that wrap around"
    half = 10 * math.log10(255**2 / (16 / 2))
    assert distances.psnr(clip(7, 9), clip(7, 13)) == pytest.approx(half), "not the frames' mean"


def test_ssim_is_that_of_its_authors():
    assert distances.ssim(clip(7, 9), clip(7, 9)) == pytest.approx(1.0)
    a, b, c1 = 60 / 255, 120 / 255, 0.01**2
    levels = (2 * a * b + c1) / (a * a + b * b + c1)
    assert distances.ssim(clip(60), clip(120)) == pytest.approx(levels, abs=1e-9)
    mean = (1 + levels) / 2
    assert distances.ssim(clip(9, 60), clip(9, 120)) == pytest.approx(mean, abs=1e-9)
    # One window: the formula by hand, with Gaussian weights.
    x, y = np.random.default_rng(0).integers(0, 256, (2, 11, 11)).astype(np.uint8)
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line) / line.sum() ** 2
    p, q = x / 255, y / 255
    mx, my = (weights * p).sum(), (weights * q).sum()
    vx, vy = (weights * p * p).sum() - mx * mx, (weights * q * q).sum() - my * my
    cov, c2 = (weights * p * q).sum() - mx * my, 0.03**2
    by_hand = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    frames = (np.repeat(image[None, :, :, None], 3, axis=3) for image in (x, y))
    assert distances.ssim(*frames) == pytest.approx(by_hand, abs=1e-9)


def test_flip_is_that_of_its_authors():
    assert distances.flip(clip(7, 9), clip(7, 9)) == 0.0
    # Black beside white differs in lightness alone: HyAB 100, raised to 0.7, mapped to 0.95 … 1
    # between 0.4 of the largest distance and the largest, which is 41.2763 (Andersson et al. 2020).
    power, most = 100**0.7, 41.2763
    known = 0.95 + 0.05 * (power - 0.4 * most) / (most - 0.4 * most)
    assert distances.flip(clip(0), clip(255)) == pytest.approx(known, abs=1e-3)
    assert distances.flip(clip(0, 0), clip(0, 255)) == pytest.approx(known / 2, abs=1e-3)
    many = [clip(*([0] * 99 + [last])) for last in (0, 255)]
    assert distances.flip(*many) == pytest.approx(known / distances.FLIP_FRAMES, abs=1e-3)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The JSON of a comparison that the command made, and what it printed."""
    folder = tmp_path_factory.mktemp("fidelity")
    prompts, path, out = folder / "prompts.txt", folder / "a.json", io.StringIO()
    prompts.write_text(f"# one is enough\n{CIRCLE}\n")
    flags = ["--model", "tiny", "--frames", "9", "--steps", "20", "--seeds", "7"]
    flags += ["--prompts", str(prompts), "--output", str(path)]
    with contextlib.redirect_stdout(out):
        assert main(["bench", "--fidelity", *flags]) == 0
    return path, out.getvalue()


@pytest.fixture
def rows(compared):
    return storage.read_report(compared[0]).fidelity


@pytest.mark.slow
def test_each_speed_beside_exact(rows, here):
    exact, fast, turbo = rows
    assert [row.speed for row in rows] == ["exact", "fast", "turbo"]
    assert {(row.model, row.device, row.length) for row in rows} == {
        ("cogvideox-tiny", "cpu", "9 frames × 20 steps")
    }
    assert exact.identical
    (same,) = exact.clips
    assert (same.prompt, same.seed, same.ssim, same.flip) == (CIRCLE, 7, pytest.approx(1.0), 0.0)
    assert fast.same_plan
    assert fast.clips == ()
    assert "changes nothing here" in fast.note
    assert "a GPU only" in fast.note, "the plan's reason"
    assert 15 < turbo.median("psnr") < 60
    assert 0.5 < turbo.median("ssim") < 1
    assert 0 < turbo.median("flip") < 0.5
    assert turbo.setup == "no_offload, step cache"
    assert turbo.seconds < exact.seconds


@pytest.mark.slow
def test_a_table_in_the_terminal_and_a_page_with_strips(compared, rows):
    path, printed = compared
    (line,) = [line for line in printed.splitlines() if "turbo  " in line]
    assert f"{rows[2].median('psnr'):.1f} dB ({rows[2].worst('psnr'):.1f} dB)" in line
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == 2, "exact and turbo"
    assert page.count(">exact</span>") == 1
    assert f"turbo: {rows[2].clips[0].psnr:.1f} dB" in page
    assert "None of them is CogVideoX-5b" in page
    assert "Nothing could be measured" not in page
    assert "Other machines" not in page, "of times"
    report = storage.read_report(path)
    assert bench_page(report, report).count(">exact</span>") == 2
    assert "None of them is CogVideoX-5b" not in bench_page(replace(report, fidelity=()))


def test_several_clips_are_one_row():
    psnr, flip = [30.0, None, 40.0, 35.0], [0.1, 0.0, 0.02, 0.04]
    clips = [
        ClipDistance(CIRCLE, n, a, 0.9, b) for n, (a, b) in enumerate(zip(psnr, flip, strict=True))
    ]
    row = FidelityRow("m", "cpu", 9, 96, 144, 20, "turbo", "auto", clips=tuple(clips))
    assert (row.median("psnr"), row.worst("psnr")) == (35.0, 30.0), "of an even number the worse"
    assert (row.median("flip"), row.worst("flip")) == (0.04, 0.1)
    assert not row.identical
    cells = fidelity_table([row]).rows[0]
    assert cells[3:6] == ("35.0 dB (30.0 dB)", "0.900 (0.900)", "0.040 (0.100)")
    same = replace(row, clips=(clips[1],))
    assert fidelity_label(same) == "identical to exact"
    assert fidelity_table([same]).rows[0][3] == "identical"
    failed = fidelity_table([replace(row, clips=(), error="out of memory")]).rows[0]
    assert failed[-1] == "failed: out of memory"


@pytest.mark.slow
def test_strips_are_pictures_and_nothing_else(compared, tmp_path):
    content = json.loads(compared[0].read_text())
    clips = content["fidelity"][2]["clips"]
    strip = base64.b64decode(clips[0]["strip"])
    assert Image.open(io.BytesIO(strip)).size == (5 * 180 + 4 * 4, 120)
    path = tmp_path / "b.json"
    for bad in ('x" onerror="alert(1)', 5, None, "A" * 600_000):
        clips[0]["strip"] = bad
        path.write_text(json.dumps(content))
        with pytest.raises(ResultError, match=r"strip.*must be a picture in base64"):
            storage.read_report(path)
    clips[0]["strip"], clips[0]["psnr"] = "", "37"
    path.write_text(json.dumps(content))
    with pytest.raises(ResultError, match="must be a number"):
        storage.read_report(path)


@pytest.mark.slow
def test_what_was_measured_is_found_for_its_checkpoint_and_device(compared, rows, here, tiny):
    report, folder = storage.read_report(compared[0]), storage.benchmarks_folder()
    known = MeasuredFidelity()
    plan = planner.predict_plan(tiny, here, 13, "turbo", 50)
    assert known.find(plan, 50, here) is None

    def keep(name, **changes):
        turbo = replace(rows[2], **changes)
        storage.save_report(replace(report, fidelity=(*rows[:2], turbo)), folder / name)

    for name, changes in {
        "gpu": {"device": "NVIDIA H100 80GB HBM3"},
        "model": {"model": "CogVideoX-5b"},
        "lora": {"lora": "x"},
        "plan": {"plan": rows[2].plan | {"quantized": "int8"}},
    }.items():
        keep(f"{name}.json", **changes)
        assert known.find(plan, 50, here) is None, name
    (folder / "damaged.json").write_text('{"fidelity": [{"clips": 7}]}')
    older = {name: value for name, value in rows[2].plan.items() if name != "quantized"}
    keep("fitting.json", plan=older)
    assert known.find(plan, 50, here).steps == 20, "the nearest that there is"
    keep("fifty.json", steps=50)
    keep("later.json", frames=13)
    assert known.find(plan, 50, here).steps == 50
    assert known.find(plan, 20, here).frames == 13
    assert known.find(replace(plan, speed="exact"), 50, here) is None
    assert "strip" not in repr(known.find(plan, 50, here)).replace("strip=''", "")


@pytest.mark.slow
def test_the_form_says_what_was_measured_and_nothing_else(compared, rows, shown):  # noqa: F811
    def told():
        return {
            (row["speed"], row["distance"], row["fidelity"])
            for row in shown.ask("form.predict")["data"]
        }

    assert told() == {("exact", "", ""), ("fast", "", ""), ("turbo", "", "")}
    report = storage.read_report(compared[0])
    storage.save_report(report, storage.benchmarks_folder() / "a.json")
    label, sentence = fidelity_label(rows[2]), fidelity_sentence(rows[2])
    assert told() == {("exact", "", ""), ("fast", "", ""), ("turbo", label, sentence)}
    assert label == f"{rows[2].median('psnr'):.0f} dB from exact"
    assert "on 1 video of 9 frames × 20 steps (PSNR of the same seed)" in sentence


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--fidelity", "--baseline", "stock"], "baseline 'stock' has no fidelity"),
        (["--fidelity", "--speed", "exact"], "speed 'exact' is what others are compared with"),
        (["--fidelity", "--speed", "quick"], "speed 'quick' use one of"),
        (["--fidelity", "--steps", "10"], "steps 10 the step cache of turbo needs 20"),
        (
            ["--fidelity", "--weights", "random", "--model", "5b"],
            "weights 'random' makes no videos",
        ),
        (["--fidelity", "--seeds", "x"], "seeds 'x' use numbers"),
        (["--fidelity", "--prompts", "gone.txt"], "prompts 'gone.txt' No such file"),
        (["--prompts", "gone.txt"], "prompts 'gone.txt' is for --fidelity"),
        (["--seeds", "1"], "seeds '1' is for --fidelity"),
    ],
)
def test_what_cannot_be_compared_is_refused(flags, told, capsys, outputs):
    assert main(["bench", "--model", "tiny", *flags]) == 2
    assert told in " ".join(re.sub("[:=]", " ", capsys.readouterr().err).split())
    assert not list(outputs.rglob("*.json"))


def test_a_prompt_file_gives_prompts_only(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a", "seed": 3}\n')
    with pytest.raises(RequestError, match=r"line 1 of p\.jsonl gives seed"):
        fidelity.read_prompts(str(path))
    path.write_text("\n")
    with pytest.raises(RequestError, match="holds no prompt"):
        fidelity.read_prompts(str(path))


def test_a_missing_package_is_named_before_anything_is_made(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "flip_evaluator", None)
    with pytest.raises(CogvxError, match=r"needs the flip-evaluator package.*\[fidelity\]"):
        fidelity.measure_fidelity(tiny, frames=[9], steps=20)


def test_published_figures_name_their_model_and_source():
    published = storage.published_fidelity()
    assert {"speedup", "psnr", "ssim", "lpips", "other"} == set(published["columns"])
    for row in published["rows"]:
        assert row["model"].startswith("CogVideoX")
        assert row["source"]
        assert row.keys() - {"method", "model", "source"} <= set(published["columns"])
