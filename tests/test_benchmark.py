"""Benchmarks: rows from real videos, kept, compared and shown; random weights of true shapes."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import nbformat
import pytest
from conftest import ROOT
from PIL import Image
from test_lora_sweeps import make_lora
from test_notebook import execute, nbval, text_of

from cogvx_nb.benchmark import measure, peak, runner, storage
from cogvx_nb.benchmark.comparison import compare_reports, speedups
from cogvx_nb.benchmark.progress import BenchProgress
from cogvx_nb.benchmark.report import (
    STAGES,
    DecodeTiming,
    GpuUsage,
    Report,
    Row,
    Timing,
)
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.cli.main import build_parser, main
from cogvx_nb.errors import DoesNotFit, OutputError, RequestError, ResultError
from cogvx_nb.loras.entries import is_kept, parse_loras
from cogvx_nb.pipeline import components, loader
from cogvx_nb.planning import planner, request
from cogvx_nb.reports import bench_page, plots

GIB = 2**30


@pytest.fixture(scope="module")
def measured(tiny, tmp_path_factory):
    """A report, what was shown, and the file that it was written to."""
    shown, path = Shown(), tmp_path_factory.mktemp("bench") / "a.json"
    kinds = (["exact"], ["auto", "group_offload"], ["stock"])
    return runner.run_benchmark(tiny, [13], 3, 3, *kinds, path, shown), shown, path


class Shown(BenchProgress):
    """Also records the lines, and the share after each step."""

    def __init__(self):
        super().__init__()
        self.lines, self.shares = [], []

    def keep(self, line):
        self.lines.append(line)
        super().keep(line)

    def step(self):
        super().step()
        self.shares.append(self.share)


@pytest.fixture
def report(measured):
    return measured[0]


def with_rows(report: Report, *rows: Row, **values) -> Report:
    return replace(report, rows=rows, **values)


def remeasured(row: Row, **values) -> Row:
    return replace(row, measured=replace(row.measured, **values))


def timed(seconds: float, spread: float = 0.05) -> Timing:
    return Timing(seconds, spread, (seconds,) * 3)


@pytest.fixture
def on_gpu(report):
    """The same, as if measured with random weights on a GPU that has every instrument."""
    usage = GpuUsage(19 * GIB, 20 * GIB, 9000.0, 1700, ("power cap",))
    decodes = {"whole": DecodeTiming(timed(1.0), 5 * GIB), "tiled": None}
    rows = []
    for row in report.rows:
        row = replace(row, model=f"{row.model} (random weights)")
        if row.measured:
            fast = {"compiled": True, "quantized": "fp8", "step_cache": "halves"}
            plan = row.measured.plan | fast
            predicted = {"text": 0.5, "denoise": 2.0, "decode": 1.0}
            row = remeasured(
                row, gpu=usage, decodes=decodes, plan=plan, predicted_seconds=predicted
            )
        rows.append(row)
    return with_rows(report, *rows)


def test_a_row_is_what_was_measured(report):
    row, failed, *_ = report.rows
    assert (row.frames, row.steps, row.speed, row.placement) == (13, 3, "exact", "auto")
    result = row.measured
    for stage in STAGES:
        values = result.seconds[stage].values
        assert len(values) == 3
        assert min(values) <= result.seconds[stage].median <= max(values)
        assert min(values) > 0 or stage == "encode"  # of text there is nothing to encode
    sums = [sum(result.seconds[stage].values[n] for stage in STAGES) for n in range(3)]
    assert result.video_seconds.values == pytest.approx(sums)
    assert all(
        2 * step < whole  # the first step isn't among them
        for step, whole in zip(
            result.step_seconds.values, result.seconds["denoise"].values, strict=True
        )
    )
    assert result.gpu.joules is result.gpu.reserved_bytes is result.decodes is None, "on a CPU"
    assert result.compile_seconds is None
    assert result.load_seconds > 0
    assert result.predicted_bytes == result.plan["peak_bytes"] > 0
    assert failed.error == "group_offload isn't available on cpu: use no_offload"
    assert failed.measured is None


def test_baselines_are_rows_too(report):
    row, stock = report.rows[0], report.rows[-1]
    assert (stock.speed, stock.error, stock.measured.plan["dtype"]) == ("stock", "", "float32")
    assert stock.measured.predicted_bytes is None
    assert stock.setup == "diffusers (stock), no_offload"
    (speedup,) = speedups(report.rows, "stock")  # not the row that failed, nor itself
    medians = [one.measured.step_seconds.median for one in (stock, row)]
    assert speedup.step == medians[0] / medians[1]
    assert speedup.video > 0
    assert speedup.memory is speedup.whole is None
    assert speedups(report.rows, "seed") == []
    assert report.failed, "because of the placement that a CPU doesn't have"
    failed = replace(stock, error="out of memory", measured=None)
    assert not with_rows(report, row, failed).failed


@pytest.mark.slow
def test_a_baseline_decodes_as_diffusers_does(tiny, here):
    import diffusers

    from cogvx_nb.benchmark import baselines, measure

    small = {"height": 64, "width": 96, "allow_untrained_size": True}
    asked = request.make_request(tiny, runner.PROMPT, steps=2, **small)
    fitted = planner.plan_request(asked, here)
    beside = baselines.DiffusersBaseline("stock", baselines.baseline_plan("stock", fitted))
    assert type(beside.vae) is diffusers.AutoencoderKLCogVideoX
    assert beside.vae._decode.__func__ is diffusers.AutoencoderKLCogVideoX._decode
    times = measure.measure_decodes(beside, asked, repeats=1)
    assert times["whole"].seconds.median > 0
    assert times["tiled"] is None, "its own tiles don't add up to so small a clip"
    assert not beside.vae.use_tiling, "as it was"
    on_gpu = replace(fitted, device="cuda:0", dtype="bfloat16", compiled=True, quantized="fp8")
    stock, seed = (baselines.baseline_plan(name, on_gpu) for name in ("stock", "seed"))
    assert (stock.dtype, stock.placement) == ("bfloat16", "no_offload")
    assert (seed.dtype, seed.placement) == ("float16", "model_offload")
    assert not any((stock.compiled, stock.quantized, seed.compiled, seed.quantized))


def test_mfu_is_relative_to_the_peak_matmul_throughput(report, here, tiny):
    assert report.peak_tflops["float32"] > 0
    assert report.rows[0].measured.mfu > 0
    rates = {"float32": 1.0}
    plan = planner.plan_request(request.make_request(tiny, runner.PROMPT, steps=50), here)
    exact = peak.model_flops_utilisation(plan, 50, 0.1, rates)
    assert peak.model_flops_utilisation(plan, 50, 0.2, rates) == pytest.approx(exact / 2)
    cached = replace(plan, step_cache="halves")
    assert peak.model_flops_utilisation(cached, 50, 0.1, rates) < exact / 2
    shared = replace(plan, device="cuda:0", peers=("cuda:1", "cuda:2"))
    assert peak.model_flops_utilisation(shared, 50, 0.1, rates) == pytest.approx(exact / 3)
    assert peak.model_flops_utilisation(plan, 50, 0.1, {}) is None


def test_rows_are_of_one_gpu_and_others_say_how_many(report, tiny):
    assert {video.gpus for video in runner._requests(tiny, [], [13], 2, [])} == {"1"}
    row = report.rows[0]
    assert "GPU" not in row.setup
    plan = row.measured.plan | {"peers": ["cuda:1", "cuda:2", "cuda:3"]}
    shared = replace(row, measured=replace(row.measured, plan=plan))
    assert ", no_offload, 4 GPUs" in shared.setup
    older = {name: value for name, value in plan.items() if name != "peers"}
    assert replace(row, measured=replace(row.measured, plan=older)).setup == row.setup


def test_reports_are_written_after_each_row_and_read_back(measured, outputs, tmp_path):
    report, shown, path = measured
    again = storage.read_report(path)
    storage.save_report(again, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert again.rows[0].measured.step_seconds == report.rows[0].measured.step_seconds
    assert again.rows[1] == report.rows[1]
    assert json.loads(path.read_bytes())["format"] == 3
    assert "TFLOP/s: float32" in shown.lines[0]
    assert "diffusers (stock), no_offload: " in shown.lines[-1]
    assert shown.shares == sorted(shown.shares)
    assert 0 < shown.shares[0] < 0.1
    assert shown.shares[-1] > 0.9
    timed_rows = [row for row in report.rows if row.measured]
    assert len(shown.shares) == len(timed_rows) * (2 + 3 * 3), "of the warm-up and the videos"
    assert storage.resolve_output_path().parent == outputs / "benchmarks"
    with pytest.raises(OutputError, match="exists: choose another name"):
        storage.resolve_output_path(path)
    with pytest.raises(OutputError, match=r"'a.txt' must end in \.json"):
        storage.resolve_output_path("a.txt")
    with pytest.raises(ResultError, match="make one with 'cogvx bench'"):
        storage.newest_report()
    with pytest.raises(OutputError, match="can't be written"):
        storage.save_report(report, path / "below a file.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 2}', "is no benchmark of this workbench"),
        ('{"format": 1, "rows": []}', "has format 1, not 2 or 3: measure again"),
        ('{"format": 3, "rows": [{}], "made": ""}', "is no benchmark of this workbench"),
        ("rows", "it isn't JSON"),
        (None, "can't be read"),
    ],
)
def test_files_that_are_no_reports(tmp_path, content, message):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ResultError, match=message):
        storage.read_report(path)


def test_reports_of_format_2_are_read(tmp_path):
    files = [storage._data_file(name) for name in storage.REFERENCES]
    written = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    pairs = zip(storage.shipped_reports(), written, strict=True)
    former = [(report, old) for report, old in pairs if old["format"] == 2]
    assert former
    for report, old in former:
        assert report.peak_tflops == old["ceiling"]
        assert len(report.rows) == len(old["rows"]) == len(report.measured_rows)
        for row, entry in zip(report.rows, old["rows"], strict=True):
            result = row.measured
            assert result.mfu == entry["share_of_ceiling"]
            assert result.gpu.joules == entry["joules"]
            assert [*result.step_seconds.values] == entry["step_seconds"]["all"]
            sizes = {name: decode.bytes for name, decode in (result.decodes or {}).items()}
            assert sizes == {name: one["bytes"] for name, one in (entry["vae"] or {}).items()}
        assert compare_reports(report, report) == []
        storage.save_report(report, tmp_path / "new.json")
        assert compare_reports(report, storage.read_report(tmp_path / "new.json")) == []
    report, old = former[-1]
    assert report.rows[0].setup == "exact, no_offload, compiled"
    old["rows"][0]["placement"] = old["rows"][0]["plan"]["placement"] = "streamed"
    storage.write_page(json.dumps(old), tmp_path / "streamed.json")
    row = storage.read_report(tmp_path / "streamed.json").rows[0]
    assert row.placement == row.measured.plan["placement"] == "group_offload", "its name today"
    old = {"format": 2, "rows": [{"error": "x", "placement": "auto"}]}
    storage.write_page(json.dumps(old), tmp_path / "old.json")
    with pytest.raises(ResultError, match="is no benchmark of this workbench"):
        storage.read_report(tmp_path / "old.json")


def test_only_changes_beyond_the_spread_are_listed(report):
    same = {stage: timed(1.0) for stage in STAGES}
    row = remeasured(report.rows[0], seconds=same, step_seconds=timed(1.0))
    before = with_rows(report, row)
    assert compare_reports(before, before) == []
    row = remeasured(row, seconds=same | {"decode": timed(1.09)})
    assert compare_reports(before, with_rows(report, row)) == []
    after = with_rows(report, remeasured(row, step_seconds=timed(1.2)))
    (line,) = compare_reports(before, after)
    assert line.endswith("13 frames × 3 steps, exact, auto: a step 1.000 → 1.200 s (1.20 ×)")
    other = replace(after, fingerprint="another")
    assert compare_reports(before, other)[0] == "the machines or their versions differ"


def test_a_change_is_one_in_both_directions(report):
    def with_step(seconds: float, spread: float) -> Report:
        return with_rows(report, remeasured(report.rows[0], step_seconds=timed(seconds, spread)))

    wide, narrow = with_step(1.0, 0.3), with_step(0.65, 0.1)
    assert compare_reports(wide, narrow) == compare_reports(narrow, wide) == []
    narrow = with_step(0.6, 0.1)
    (there,), (back,) = compare_reports(wide, narrow), compare_reports(narrow, wide)
    assert there.endswith("(0.60 ×)")
    assert back.endswith("(1.67 ×)")


def test_failures_missing_rows_and_other_plans_are_listed(report):
    row, empty = report.rows[0], with_rows(report)
    name, one = row.kind, with_rows(report, row)
    assert compare_reports(one, empty) == [f"{name}: only in the first"]
    assert compare_reports(empty, one) == [f"{name}: only in the second"]
    fails = with_rows(report, replace(row, error="OutOfMemory: none left", measured=None))
    assert compare_reports(one, fails) == [f"{name}: now fails: OutOfMemory: none left"]
    assert compare_reports(fails, one)[0].startswith(f"{name}: works, failed before")
    tiled = with_rows(report, remeasured(row, plan=row.measured.plan | {"tiled": True}))
    (line,) = compare_reports(one, tiled)
    assert line == f"{name}: made as exact, no_offload, tiled, was exact, no_offload"
    small, large = (
        with_rows(report, remeasured(row, gpu=GpuUsage(reserved_bytes=size)))
        for size in (2**30, 2**31)
    )
    assert compare_reports(small, large) == [f"{name}: memory 1.0 → 2.0 GiB"]


def test_videos_of_few_steps_are_extrapolated_to_fifty(report):
    row = remeasured(report.rows[0], video_seconds=timed(10.0), step_seconds=timed(2.0))
    assert row.full_video_seconds == 10.0 + 47 * 2.0
    denoise = row.measured.seconds["denoise"].median
    assert row.full_video_stages["denoise"] == denoise + 47 * 2.0
    (time,) = storage.measured_times(with_rows(report, row), "here")
    assert (time.low, time.high) == (104.0, 104.0)
    assert time.setup.endswith("exact, no_offload, extrapolated from 3 steps")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"repeats": 2}, "repeats = 2: a spread needs at least 3"),
        ({"speeds": ["warp"]}, "speed = 'warp': use one of exact, fast, turbo"),
        ({"placements": ["nowhere"]}, "placement = 'nowhere': use one of auto, no_offload"),
        (
            {"speeds": ["turbo"], "steps": 10},
            "steps = 10: the step cache of turbo needs 20 or more",
        ),
        ({"speeds": []}, "speed = '': use some of exact, fast, turbo, or a baseline"),
        ({"baselines": ["mine"]}, "baseline = 'mine': use one of stock, seed"),
        ({"frames": [0]}, "frames = 0: use 8 N + 1 from 9 to 49, or 13"),
    ],
)
def test_bad_values_end_it_before_any_work(tiny, changed, said):
    with pytest.raises(RequestError, match=re.escape(said)):
        runner.run_benchmark(tiny, **{"frames": [13], "steps": 2} | changed)


def test_lists_and_models_as_people_name_them():
    assert runner.parse_numbers(" 13,25 , 49") == [13, 25, 49]
    assert runner.parse_names("") == []
    with pytest.raises(RequestError, match="use numbers with commas"):
        runner.parse_numbers("13, many")
    with pytest.raises(RequestError, match="use files or random"):
        runner.find_benchmark_model("tiny", "none")


def test_the_page_is_self_contained(report):
    first, failed, stock = report.rows
    failed = replace(failed, error="<script>alert(1)</script>")
    machine = report.machine | {"system": "<img src=x>"}
    page = bench_page.bench_page(with_rows(report, first, failed, stock, machine=machine))
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=['\"](?!data:)", page)
    assert "default-src 'none'; img-src data:;" in page
    pictures = re.findall(r"data:image/png;base64,([^'\"]+)", page)
    assert len(pictures) == 1, "one number of frames is no line"
    for data in pictures:
        assert Image.open(io.BytesIO(base64.b64decode(data))).width == 900
    assert "sayakpaul/diffusers-torchao README.md" in page
    assert "How many times as fast as diffusers (stock)" in page
    assert "How many times" not in bench_page.bench_page(with_rows(report, first, failed))
    assert plots.bench_figures(with_rows(report)) == []


def test_reports_of_one_machine_are_shown_as_one(report):
    ours = with_rows(report, report.rows[0])
    theirs = with_rows(report, report.rows[-1], made="later")
    page = bench_page.bench_page(ours, theirs)
    assert page.count("<h2>") == 2, "the machine, and the others"
    assert "How many times as fast as diffusers (stock)" in page
    separate = bench_page.bench_page(ours, replace(theirs, fingerprint="another"))
    assert separate.count("<h2>") == 3
    assert "How many times" not in separate


def test_measurements_of_a_gpu_are_shown(on_gpu):
    tables = bench_page.bench_tables(on_gpu)
    assert "<td>power cap</td>" in tables
    for value in ("9000", "1700", "20.0", "3.50"):
        assert f'<td class="number">{value}</td>' in tables
    assert "exact, no_offload, compiled, fp8, step cache" in tables
    assert tables.count("cogvideox-tiny") == tables.count("cogvideox-tiny (random weights)")
    figures = plots.bench_figures(on_gpu)
    assert len(figures) == 2, "stages, and memory where it is known"
    for figure in figures:
        axes = figure.axes[0]
        words = [axes.get_title(), *(text.get_text() for text in axes.texts)]
        assert "random weights" in " ".join(words)


def test_only_the_same_checkpoint_elsewhere_is_beside_it(on_gpu):
    def figures(model: str, *counts: int):
        rows = [replace(on_gpu.rows[0], model=model, frames=count) for count in counts]
        return plots.bench_figures(with_rows(on_gpu, *rows))

    small = " ".join(text.get_text() for text in figures("cogvideox-tiny", 49)[-1].axes[0].texts)
    assert "CogVideoX-5b" not in small
    by_frames, *_, references = figures("CogVideoX-5b (random weights)", 13, 49)
    assert [*by_frames.axes[0].get_xticks()] == [13, 49]
    assert by_frames.axes[0].get_ylim()[1] > max(by_frames.axes[0].lines[0].get_ydata())
    words = " ".join(text.get_text() for text in references.axes[0].texts)
    assert "CogVideoX-5b" in words
    assert "cogvideox-tiny" not in words
    assert not any(references.axes[0].xaxis.get_minorticklabels()[n].get_text() for n in range(3))


def test_a_busy_machine_is_marked(report):
    row = next(row for row in report.rows if row.measured)
    calm = with_rows(report, remeasured(row, video_seconds=timed(10.0, 0.05)))
    busy = with_rows(report, remeasured(row, video_seconds=timed(10.0, 1.27)))
    assert "busy" not in str(calm.rows[0]) + bench_page.bench_page(calm)
    assert "the machine was busy" in str(busy.rows[0])
    assert "not to be trusted" in bench_page.bench_verdict(busy)
    assert "± 127% !" in bench_page.bench_tables(busy)
    assert "measure again when it is idle" in bench_page.bench_tables(busy)


def test_the_verdict_is_the_fastest_of_each_length(report):
    row = next(row for row in report.rows if row.measured)
    rows = [
        replace(remeasured(row, video_seconds=timed(seconds)), frames=frames, steps=50, speed=speed)
        for frames, seconds, speed in ((13, 9.0, "exact"), (13, 4.0, "turbo"), (49, 30.0, "exact"))
    ]
    short, long = bench_page.bench_verdict(with_rows(report, *rows)).splitlines()
    assert "4 s for 13 frames and 50 steps, with turbo" in short
    assert "30 s for 49 frames" in long
    assert "extrapolated" not in short
    assert bench_page.bench_verdict(with_rows(report)) == "Nothing could be measured."


def test_shipped_references_are_shown_unless_they_are_the_report(report, tmp_path, monkeypatch):
    shipped = replace(report, made="before")
    (tmp_path / "data").mkdir()
    for name in storage.REFERENCES:
        storage.save_report(shipped, tmp_path / "data" / name)
    published = json.dumps(storage.published_timings())
    storage.write_page(published, tmp_path / "data" / "published_timings.json")
    monkeypatch.setattr(storage.importlib.resources, "files", lambda name: tmp_path)
    assert "measured with this workbench" in bench_page.reference_table(report)
    assert "measured with this workbench" not in bench_page.reference_table(shipped)


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


@pytest.mark.slow
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
    assert result.describe_video(made).checkpoint.name == "cogvideox-tiny (random weights)"
    assert store.file_hashes(model) == {"random weights": "cogvideox-tiny"}
    beside = baselines.DiffusersBaseline("seed", baselines.baseline_plan("seed", fitted))
    steps = []
    seconds = beside.make(asked, tmp_path / "a.mp4", lambda: steps.append(1))
    assert (len(steps), set(seconds)) == (2, set(STAGES) - {"encode"})
    assert all(value > 0 for value in seconds.values())


def test_a_placement_is_taken_or_refused(tiny, here):
    fitted = planner.predict_plan(tiny, here, 13)
    assert planner.with_placement(fitted, "no_offload", here).peak_bytes == fitted.peak_bytes
    with pytest.raises(DoesNotFit, match="group_offload isn't available on cpu"):
        planner.with_placement(fitted, "group_offload", here)


def test_a_cpu_has_no_meter():
    monitor = measure.GpuMonitor("cpu")
    monitor.sample()
    assert monitor.read() == GpuUsage()


def test_flags_before_and_after_the_word_run():
    words = (["--steps", "3"], ["run", "--steps", "3"], ["--steps", "3", "run"])
    heard = [vars(build_parser().parse_args(["bench", *one])) for one in words]
    assert heard[0] == heard[1] == heard[2]
    assert heard[0]["steps"] == 3


@pytest.mark.slow
def test_the_command(tmp_path, outputs, capsys):
    flags = ["--model", "tiny", "--frames", "13", "--steps", "2"]
    assert main(["bench", *flags]) == 0
    path = capsys.readouterr().out.strip()
    assert storage.read_report(path).rows[0].frames == 13
    assert len(list((outputs / "benchmarks").iterdir())) == 2
    assert main(["bench", *flags, "--output", path]) == 1
    assert capsys.readouterr().err.splitlines() == [f"cogvx: {path} exists: choose another name"]
    assert main(["bench", "compare", path, path]) == 0
    assert capsys.readouterr().out.strip() == "no changes beyond the spread of the repeats"
    page = tmp_path / "page.html"
    assert main(["bench", "report", path, path, "--output", str(page)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert page.read_text(encoding="utf-8").count("<h2>") == 2
    assert main(["bench", "report", path, "--output", path]) == 1
    assert "must end in .html" in capsys.readouterr().err
    assert main(["bench", "report", str(page)]) == 1
    assert "it isn't JSON" in capsys.readouterr().err


@pytest.mark.slow
def test_04_under_papermill(tmp_path):
    path = ROOT / "notebooks" / "04_benchmark.ipynb"
    flags = ["-r", "frames", "13", "-p", "steps", "20", "-r", "speed", "turbo"]
    notebook, copy_path = execute(tmp_path, *flags, path=path)
    (row,) = storage.read_report(storage.newest_report()).rows
    assert (row.steps, row.speed) == (20, "turbo")
    assert "cogvideox-tiny, 13 frames × 20 steps: turbo, no_offload, step cache" in text_of(
        notebook
    )
    shown = nbformat.writes(notebook)
    assert 1 <= shown.count("image/png") <= 2, "the stages, and the same checkpoint elsewhere"
    assert "50 steps, with turbo" in shown, "the verdict"
    assert "published" in shown.lower()
    assert "widgets" not in notebook.metadata
    assert copy_path.stat().st_size < 2_000_000
    done = nbval(copy_path)
    assert done.returncode == 0, done.stdout[-3000:]


def test_tasks_are_timed_and_told_apart(tmp_path):
    model = store.locate_checkpoint("cogvideox-tiny-i2v")
    tasks = ["text", "image"]
    report = runner.run_benchmark(model, [9], 2, 3, path=tmp_path / "a.json", tasks=tasks)
    assert [row.task for row in report.rows] == tasks
    encode = [row.measured.seconds["encode"].median for row in report.rows]
    assert encode[0] == 0.0
    assert encode[1] > 0
    assert "cogvideox-tiny-i2v, image, 9 frames" in report.kinds
    assert storage.read_report(tmp_path / "a.json").rows[1].task == "image"
    with pytest.raises(RequestError, match="cogvideox-tiny-i2v does text, image, frames"):
        runner.run_benchmark(model, [9], 2, 3, tasks=["clip"])
    with pytest.raises(RequestError, match="makes text to video only"):
        runner.run_benchmark(model, [9], 2, 3, baselines=["stock"], tasks=["image"])


@pytest.mark.parametrize(("frames", "used"), [((), [17, 49, 81]), ((33,), [33])])
def test_without_counts_those_of_the_checkpoint_are_timed(frames, used):
    model = store.random_model(registry.COGVIDEOX_15_5B)
    requests = runner._requests(model, (), frames, 4, ())
    assert [video.frames for video in requests] == used


def test_loras_are_merged_and_kept_with_the_row(tiny, tmp_path):
    weak = make_lora(tmp_path / "weak.safetensors")
    strong = make_lora(tmp_path / "strong.safetensors", 1)
    path, flags = tmp_path / "a.json", ["--model", "tiny", "--frames", "9", "--steps", "1"]
    loras = ["--lora", f"{weak}:0.5", "--lora", f"{strong}:0"]
    assert main(["bench", *flags, *loras, "--output", str(path)]) == 0
    report = storage.read_report(path)
    (row,) = report.rows
    parsed = [(one.name, one.weight) for one in parse_loras(row.lora)]
    assert parsed == [("weak", 0.5), ("strong", 0)]
    assert is_kept(row.lora)
    assert row.setup == "exact, no_offload, with weak 0.5, strong 0"
    assert row.setup in path.with_suffix(".html").read_text()
    without = replace(row, lora="")
    assert speedups([row, replace(without, speed="stock")], "stock") == []
    changes = compare_reports(with_rows(report, row), with_rows(report, without))
    assert changes == [f"{row.kind}: only in the first", f"{without.kind}: only in the second"]
    assert row.kind == f"{without.kind}, with weak 0.5, strong 0"
    (video,) = runner._requests(tiny, (), [9], 1, (), f"{strong}@alpha=900000")
    for name in ("exact", "stock"):
        failed = runner._measure_row(video, runner.Setup(name, "auto"), 3, {}, lambda: None)
        assert "times their own norm" in failed.error, name
