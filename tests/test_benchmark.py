"""Benchmarks: rows from real videos, kept, compared and shown; random weights of true shapes."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
from dataclasses import replace

import nbformat
import pytest
from conftest import ROOT
from PIL import Image
from test_notebook import execute, nbval, text_of

from cogvx_nb.benchmark import measure, record, references, runner
from cogvx_nb.benchmark.record import STAGES
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.cli.main import build_parser, main
from cogvx_nb.errors import DoesNotFit, OutputError, RequestError, ResultError
from cogvx_nb.pipeline import components, loader
from cogvx_nb.planning import planner, request
from cogvx_nb.reports import bench_page, plots

GIB = 2**30


@pytest.fixture(scope="module")
def measured(tiny, tmp_path_factory):
    """A report, what was said meanwhile, and where it was kept."""
    lines, path = [], tmp_path_factory.mktemp("bench") / "a.json"
    kinds = (["exact"], ["auto", "streamed"], ["stock"])
    return runner.run_benchmark(tiny, [13], 3, 3, *kinds, path, lines.append), lines, path


@pytest.fixture
def found(measured):
    return copy.deepcopy(measured[0])


@pytest.fixture
def on_gpu(found):
    """The same, as if a GPU with all its instruments had been measured; of random weights."""
    decodes = {"whole": {"median": 1.0, "bytes": 5 * GIB}, "tiled": None}
    for row in found["rows"]:
        row["model"] += " (random weights)"
        if not row["error"]:
            row |= {"reserved_bytes": 20 * GIB, "allocated_bytes": 19 * GIB, "vae": decodes}
            row |= {"joules": 9000.0, "sm_mhz": 1700, "throttled": ["power cap"]}
            row |= {"predicted_seconds": {"text": 0.5, "denoise": 2.0, "decode": 1.0}}
            row["plan"] |= {"compiled": True, "quantized": "fp8", "reuse": True}
    return found


def test_a_row_is_what_was_measured(found):
    row, failed, *_ = found["rows"]
    assert (row["frames"], row["steps"], row["speed"], row["placement"]) == (13, 3, "exact", "auto")
    for stage in STAGES:
        values = row["seconds"][stage]["all"]
        assert len(values) == 3
        assert min(values) <= row["seconds"][stage]["median"] <= max(values)
        assert min(values) > 0
    wholes = [sum(row["seconds"][stage]["all"][n] for stage in STAGES) for n in range(3)]
    assert row["video_seconds"]["all"] == pytest.approx(wholes)
    assert all(
        2 * step < whole  # the first step isn't among them
        for step, whole in zip(
            row["step_seconds"]["all"], row["seconds"]["denoise"]["all"], strict=True
        )
    )
    assert row["joules"] is row["reserved_bytes"] is row["vae"] is None, "null where nobody knows"
    assert row["compile_seconds"] is None
    assert row["load_seconds"] > 0
    assert row["predicted_bytes"] == row["plan"]["peak_bytes"] > 0
    assert failed["error"] == "streamed is no placement for cpu: use resident"


def test_baselines_stand_beside_it(found):
    stock = found["rows"][-1]
    assert (stock["speed"], stock["error"], stock["plan"]["dtype"]) == ("stock", "", "float32")
    assert stock["predicted_bytes"] is None
    assert set(stock) == set(found["rows"][0]), "with the same columns"
    (one,) = record.speedup_ratios(found["rows"], "stock")  # not the row that failed, nor itself
    row = found["rows"][0]
    assert one["step"] == stock["step_seconds"]["median"] / row["step_seconds"]["median"]
    assert one["video"] > 0
    assert one["memory"] is one["whole"] is None
    assert record.speedup_ratios(found["rows"], "seed") == []
    assert record.any_failed(found), "because of the placement that a CPU doesn't have"
    assert not record.any_failed({"rows": [row, stock | {"error": "out of memory"}]})


def test_a_baseline_decodes_as_diffusers_does(tiny, here):
    import diffusers

    from cogvx_nb.benchmark import baselines, measure

    small = {"height": 64, "width": 96, "allow_untrained_size": True}
    asked = request.make_request(tiny, runner.PROMPT, steps=2, **small)
    fitted = planner.plan_request(asked, here)
    beside = baselines.DiffusersBaseline("stock", baselines.baseline_plan("stock", fitted))
    assert type(beside.vae) is diffusers.AutoencoderKLCogVideoX
    times = measure.measure_decodes(beside, asked, repeats=1)
    assert times["whole"]["median"] > 0
    assert times["tiled"] is None, "its own tiles don't add up to so small a clip"
    assert not beside.vae.use_tiling, "as it was"
    on_gpu = replace(fitted, device="cuda:0", dtype="bfloat16", compiled=True, quantized="fp8")
    stock, seed = (baselines.baseline_plan(name, on_gpu) for name in ("stock", "seed"))
    assert (stock.dtype, stock.placement) == ("bfloat16", "resident")
    assert (seed.dtype, seed.placement) == ("float16", "model_offload")
    assert not any((stock.compiled, stock.quantized, seed.compiled, seed.quantized))


def test_the_ceiling_is_what_matrix_products_reach(found, here, tiny):
    rate = found["ceiling"]["float32"]
    assert rate > 0
    row = found["rows"][0]
    assert row["share_of_ceiling"] > 0
    fitted = planner.plan_request(request.make_request(tiny, runner.PROMPT, steps=50), here)
    exact = runner.model_flops_utilisation(fitted, 50, 0.1, {"float32": 1.0})
    assert runner.model_flops_utilisation(fitted, 50, 0.2, {"float32": 1.0}) == pytest.approx(
        exact / 2
    )
    assert (
        runner.model_flops_utilisation(replace(fitted, reuse=True), 50, 0.1, {"float32": 1.0})
        < exact / 2
    )
    assert runner.model_flops_utilisation(fitted, 50, 0.1, {}) is None


def test_reports_are_kept_after_each_row_and_read_back(measured, outputs):
    found, lines, path = measured
    assert record.read_report(path) == json.loads(json.dumps(found))
    assert "TFLOP/s: float32" in lines[0]
    assert "stock, resident: " in lines[-1]
    assert record.resolve_output_path().parent == outputs / "benchmarks"
    with pytest.raises(OutputError, match="exists: choose another name"):
        record.resolve_output_path(path)
    with pytest.raises(OutputError, match=r"'a.txt' must end in \.json"):
        record.resolve_output_path("a.txt")
    with pytest.raises(ResultError, match="make one with 'cogvx bench'"):
        record.newest_report()
    for text, said in (
        ('{"format": 2}', "is no benchmark of this workbench"),
        ('{"format": 1, "rows": []}', "has format 1, not 2: measure again"),
        ("rows", "it isn't JSON"),
    ):
        record.write_page(text, outputs / "bad.json")
        with pytest.raises(ResultError, match=said):
            record.read_report(outputs / "bad.json")
    with pytest.raises(ResultError, match="can't be read"):
        record.read_report(outputs / "none.json")
    with pytest.raises(OutputError, match="can't be written"):
        record.save_report(found, path / "below a file.json")


def test_only_what_changed_beyond_the_spread_is_said(found):
    row = found["rows"][0]
    for one in (*row["seconds"].values(), row["step_seconds"]):
        one |= {"median": 1.0, "spread": 0.05}
    slower = copy.deepcopy(found)
    assert record.compare_reports(found, slower) == []
    slower["rows"][0]["seconds"]["decode"]["median"] = 1.09
    assert record.compare_reports(found, slower) == []
    slower["rows"][0]["step_seconds"]["median"] = 1.2
    (line,) = record.compare_reports(found, slower)
    assert line.endswith("13 frames × 3 steps, exact, auto: a step 1.000 → 1.200 s (1.20 ×)")
    slower["fingerprint"] = "another"
    assert record.compare_reports(found, slower)[0] == "the machines or their versions differ"


def test_a_change_is_one_in_both_directions(found):
    wide, narrow = copy.deepcopy(found), copy.deepcopy(found)
    for one, median, spread in ((wide, 1.0, 0.3), (narrow, 0.65, 0.1)):
        one["rows"][0]["step_seconds"] |= {"median": median, "spread": spread}
    there, back = record.compare_reports(wide, narrow), record.compare_reports(narrow, wide)
    assert len(there) == len(back) == 0, "0.65 ± 0.07 reaches 1.0 ± 0.3"
    narrow["rows"][0]["step_seconds"]["median"] = 0.6
    (there,) = record.compare_reports(wide, narrow)
    (back,) = record.compare_reports(narrow, wide)
    assert there.endswith("(0.60 ×)")
    assert back.endswith("(1.67 ×)")


def test_what_fails_is_missing_or_made_otherwise_is_said(found):
    found |= {"rows": found["rows"][:1]}

    def changed(**values) -> dict:
        report = copy.deepcopy(found)
        report["rows"][0] |= values
        return report

    name = record.compare_reports(found, found | {"rows": []})[0].split(":")[0]
    fails = changed(error="OutOfMemory: none left")
    tiled = changed(plan=found["rows"][0]["plan"] | {"tiled": True})
    assert record.compare_reports(found, found | {"rows": []}) == [f"{name}: only in the first"]
    assert record.compare_reports(found | {"rows": []}, found) == [f"{name}: only in the second"]
    assert record.compare_reports(found, fails) == [f"{name}: now fails: OutOfMemory: none left"]
    assert record.compare_reports(fails, found)[0].startswith(f"{name}: works, failed before")
    (line,) = record.compare_reports(found, tiled)
    assert line == f"{name}: made as exact, resident, tiled, was exact, resident"
    small, large = changed(reserved_bytes=2**30), changed(reserved_bytes=2**31)
    assert record.compare_reports(small, large) == [f"{name}: memory 1.0 → 2.0 GiB"]


def test_videos_of_few_steps_are_reckoned_to_fifty(found):
    row = found["rows"][0]
    row["video_seconds"]["median"], row["step_seconds"]["median"] = 10.0, 2.0
    assert record.full_video_seconds(row) == 10.0 + 47 * 2.0
    denoise = row["seconds"]["denoise"]["median"]
    assert record.full_video_stages(row)["denoise"] == denoise + 47 * 2.0
    (one,) = references.measured_references({"machine": found["machine"], "rows": [row]}, "here")
    assert (one.low, one.high) == (104.0, 104.0)
    assert one.how.endswith("exact, resident, from 3 steps")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"repeats": 2}, "repeats = 2: a spread needs at least 3"),
        ({"speeds": ["warp"]}, "speed = 'warp': use one of exact, fast, turbo"),
        ({"placements": ["nowhere"]}, "placement = 'nowhere': use one of auto, resident"),
        ({"speeds": ["turbo"], "steps": 10}, "steps = 10: turbo reuses none of fewer than 20"),
        ({"speeds": []}, "speed = '': use some of exact, fast, turbo, or a baseline"),
        ({"baselines": ["mine"]}, "baseline = 'mine': use one of stock, seed"),
        ({"frames": [0]}, "frames = 0: use one of 13 / 25 / 49"),
    ],
)
def test_bad_values_end_it_before_any_work(tiny, changed, said):
    with pytest.raises(RequestError, match=re.escape(said)):
        runner.run_benchmark(tiny, **{"frames": [13], "steps": 2} | changed)


def test_lists_and_models_as_people_name_them():
    assert record.parse_numbers(" 13,25 , 49") == [13, 25, 49]
    assert record.parse_names("") == []
    with pytest.raises(RequestError, match="use numbers with commas"):
        record.parse_numbers("13, many")
    with pytest.raises(RequestError, match="use files or random"):
        runner.find_benchmark_model("tiny", "none")


def test_the_page_needs_nothing_else(found):
    hostile = copy.deepcopy(found)
    hostile["rows"][1]["error"] = "<script>alert(1)</script>"
    hostile["machine"]["system"] = "<img src=x>"
    page = bench_page.bench_page(hostile)
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)='(?!data:)", page)
    pictures = re.findall(r"data:image/png;base64,([^']+)", page)
    assert len(pictures) == 3
    for data in pictures:
        assert Image.open(io.BytesIO(base64.b64decode(data))).width == 900
    assert "sayakpaul/diffusers-torchao README.md" in page
    assert "How many times as fast as stock" in page
    assert "as fast as stock" not in bench_page.bench_page(found | {"rows": found["rows"][:-1]})
    assert plots.bench_figures({"rows": []}) == []


def test_reports_of_one_machine_are_shown_as_one(found):
    ours = found | {"rows": found["rows"][:1]}
    theirs = found | {"rows": found["rows"][-1:], "made": "later"}
    page = bench_page.bench_page(ours, theirs)
    assert page.count("<h2>") == 2, "the machine, and the others"
    assert "How many times as fast as stock" in page
    apart = bench_page.bench_page(ours, theirs | {"fingerprint": "another"})
    assert apart.count("<h2>") == 3
    assert "How many times as fast as stock" not in apart


def test_what_a_gpu_tells_is_shown(on_gpu):
    tables = bench_page.bench_tables(on_gpu)
    for shown in ("power cap", "9000", "1700", "20.0", "3.50"):
        assert f"<td>{shown}</td>" in tables
    assert "exact, resident, compiled, fp8, reuse" in tables
    assert tables.count("cogvideox-tiny") == tables.count("cogvideox-tiny (random weights)")
    figures = plots.bench_figures(on_gpu)
    assert len(figures) == 4, "and memory where it is known"
    for figure in figures:
        axes = figure.axes[0]
        words = [axes.get_title(), *(text.get_text() for text in axes.texts)]
        assert "random weights" in " ".join(words)


def test_the_reference_is_shown_where_it_ships(found, tmp_path, monkeypatch):
    shipped = found | {"made": "before"}
    (tmp_path / "data").mkdir()
    for name in references.REFERENCES:
        record.save_report(shipped, tmp_path / "data" / name)
    record.save_report(
        references.published_references(), tmp_path / "data" / "published_timings.json"
    )
    monkeypatch.setattr(references.importlib.resources, "files", lambda name: tmp_path)
    assert "measured with this workbench" in bench_page.published_table(found)
    assert "measured with this workbench" not in bench_page.published_table(shipped), "itself"


def test_random_weights_have_the_true_shapes():
    import diffusers
    import torch
    import transformers

    for known in (registry.COGVIDEOX_5B, registry.COGVIDEOX_2B):
        made = components.random_configs(known)
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


def test_random_weights_run_and_are_labelled(here, tmp_path):
    from cogvx_nb.benchmark import baselines
    from cogvx_nb.pipeline import generate
    from cogvx_nb.results import result

    model = store.random_model(registry.TINY)
    asked = request.make_request(model, runner.PROMPT, steps=2)
    fitted = planner.plan_request(asked, here)
    loaded = loader.load_pipeline(fitted)
    made = generate.generate_frames(asked, loaded)
    loader.release_pipeline()
    assert made.frames.shape == (13, 96, 144, 3)
    assert "(random weights)" in str(loaded.plan)
    assert result.describe_video(made)["checkpoint"]["name"] == "cogvideox-tiny (random weights)"
    assert store.file_hashes(model) == {"random weights": "cogvideox-tiny"}
    beside = baselines.DiffusersBaseline("seed", baselines.baseline_plan("seed", fitted))
    steps = []
    seconds = beside.make(asked, tmp_path / "a.mp4", lambda: steps.append(1))
    assert (len(steps), set(seconds)) == (2, set(STAGES))
    assert all(value > 0 for value in seconds.values())


def test_a_placement_is_taken_or_refused(tiny, here):
    fitted = planner.predict_plan(tiny, here, 13)
    assert planner.with_placement(fitted, "resident", here).peak_bytes == fitted.peak_bytes
    with pytest.raises(DoesNotFit, match="streamed is no placement for cpu"):
        planner.with_placement(fitted, "streamed", here)


def test_a_cpu_has_no_meter():
    one = measure.GpuMonitor("cpu")
    one.sample()
    assert one.read() == measure.GpuUsage()


def test_flags_before_and_after_the_word_run():
    words = (["--steps", "3"], ["run", "--steps", "3"], ["--steps", "3", "run"])
    heard = [vars(build_parser().parse_args(["bench", *one])) for one in words]
    assert heard[0] == heard[1] == heard[2]
    assert heard[0]["steps"] == 3


def test_the_command(tmp_path, outputs, capsys):
    flags = ["--model", "tiny", "--frames", "13", "--steps", "2"]
    assert main(["bench", *flags]) == 0
    path = capsys.readouterr().out.strip()
    assert record.read_report(path)["rows"][0]["frames"] == 13
    assert len(list((outputs / "benchmarks").iterdir())) == 2
    assert main(["bench", *flags, "--output", path]) == 1
    assert capsys.readouterr().err.splitlines() == [f"cogvx: {path} exists: choose another name"]
    assert main(["bench", "compare", path, path]) == 0
    assert capsys.readouterr().out.strip() == "nothing changed by more than the repeats lie apart"
    page = tmp_path / "page.html"
    assert main(["bench", "report", path, path, "--output", str(page)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert page.read_text(encoding="utf-8").count("<h2>") == 2
    assert main(["bench", "report", path, "--output", path]) == 1
    assert "must end in .html" in capsys.readouterr().err
    assert main(["bench", "report", str(page)]) == 1
    assert "it isn't JSON" in capsys.readouterr().err


def test_04_under_papermill(tmp_path):
    path = ROOT / "notebooks" / "04_benchmark.ipynb"
    flags = ["-r", "frames", "13", "-p", "steps", "20", "-r", "speed", "turbo"]
    notebook, copy_path = execute(tmp_path, *flags, path=path)
    (row,) = record.read_report(record.newest_report())["rows"]
    assert (row["steps"], row["speed"]) == (20, "turbo")
    assert "cogvideox-tiny, 13 frames × 20 steps: turbo, resident, reuse" in text_of(notebook)
    shown = nbformat.writes(notebook)
    assert shown.count("image/png") == 3
    assert "published" in shown.lower()
    assert "widgets" not in notebook.metadata
    assert copy_path.stat().st_size < 2_000_000
    done = nbval(copy_path)
    assert done.returncode == 0, done.stdout[-3000:]
