"""Benchmarks of whole videos by frames, speed and placement, and of baselines."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..checkpoints import registry, store
from ..checkpoints.registry import Model
from ..errors import RequestError
from ..planning import model_choice, planner, request
from ..planning.probe import probe_machine
from ..planning.request import VideoRequest
from . import inputs, peak, storage
from .progress import BenchProgress
from .report import BASELINES, WARM_STEPS, Measurement, Report, Row
from .setups import Setup, make_setups, new_report, row_error

PROMPT = "a red circle moving right on a black background"

SHARED_VIDEOS = 100
"""Videos that share a compilation for the planner: rows show one of a long series, and the time of
compilation in a separate column."""


def run_benchmark(
    model: Model,
    frames: Sequence[int],
    steps: int = 50,
    repeats: int = 3,
    speeds: Sequence[str] = ("exact",),
    placements: Sequence[str] = ("auto",),
    baselines: Sequence[str] = (),
    path: Path | None = None,
    progress: BenchProgress | None = None,
    tasks: Sequence[str] = (),
    lora: str = "",
) -> Report:
    """Time videos of each task and frame count at each speed with each placement, and of each
    baseline.

    Args:
        frames: counts; where there is none those that the checkpoint offers.
        model: may have random weights; see ``store.random_model``.
        repeats: videos of each kind, after a short one that isn't counted; at least 3.
        baselines: of ``BASELINES``; the only rows if ``speeds`` is empty.
        path: written after each row, so that an interruption keeps what was done.
        progress: shows what is measured; by default one of its own.
        tasks: of ``registry.TASKS``; by default the checkpoint's first. Baselines make text to
            video only.
        lora: that field of a request; baselines have the same weights, merged.

    Returns:
        A report with a row for each kind; a row that failed has its error.

    Raises:
        RequestError: if an argument is invalid.
        OutputError: if the report can't be written.
    """
    requests = _requests(model, tasks, frames, steps, baselines, lora)
    if repeats < 3:
        raise RequestError("repeats", repeats, "a spread needs at least 3")
    setups = make_setups(speeds, placements, steps, baselines)
    machine = probe_machine()  # first: it sets environment variables that torch reads on import
    from ..pipeline import loader, optimization

    loader.release_pipeline()
    gpu = machine.gpu_with_most_free_memory
    rates = peak.measure_peak_throughput(f"cuda:{gpu.index}" if gpu else "cpu")
    optimization.free_memory()
    report = new_report(machine, rates)
    kinds = list(itertools.product(setups, requests))
    with progress or BenchProgress() as shown:
        shown.keep(f"peak matmul throughput, TFLOP/s: {report.peaks}")
        shown.plan([video.frames for _, video in kinds], WARM_STEPS + repeats * steps)
        for setup, video in kinds:
            size = f"{video.task}, {video.frames} frames × {steps} steps"
            shown.begin_kind(f"{model.name}, {size}, {setup.speed}, {setup.placement}")
            row = _measure_row(video, setup, repeats, rates, shown.step)
            shown.end_kind(str(row))
            report = replace(report, rows=(*report.rows, row))
            if path is not None:
                storage.save_report(report, path)
    loader.release_pipeline()
    return report


def _requests(
    model: Model,
    tasks: Sequence[str],
    frames: Sequence[int],
    steps: int,
    baselines: Sequence[str],
    lora: str = "",
) -> list[VideoRequest]:
    """A request for each task and frame count, on one GPU."""
    able = model.checkpoint.tasks
    tasks = list(dict.fromkeys(tasks)) or [able[0]]
    for task in tasks:
        if task not in able:
            raise RequestError("task", task, f"{model.name} does {', '.join(able)}")
        if baselines and task != registry.TEXT:
            raise RequestError("baseline", baselines[0], "makes text to video only: leave it out")
    with tempfile.TemporaryDirectory() as folder:
        return [
            request.make_request(
                model,
                PROMPT,
                frames=count,
                steps=steps,
                strict=True,
                lora=lora,
                gpus="1",  # rows are of one GPU, like those that they are compared with
                **inputs.task_values(task, model.checkpoint, count, Path(folder)),
            )
            for task in tasks
            for count in dict.fromkeys(frames or model.checkpoint.frames)
        ]


def find_benchmark_model(
    name: str, weights: str, tasks: Sequence[str] = (), lora: str = ""
) -> Model:
    """The checkpoint to time: ``files``, or its shapes with ``random`` weights; for ``auto`` one
    that does the first of some tasks and that LoRAs fit.

    Raises:
        RequestError, ModelError: if there is no such checkpoint.
    """
    if weights == "random":
        return store.random_model(registry.get_checkpoint(name))
    if weights != "files":
        raise RequestError("weights", weights, "use files or random")
    given = inputs.INPUTS_OF.get(tasks[0], ()) if tasks else ()
    return model_choice.find_model(name, probe_machine, given=given, lora=lora)[0]


def parse_numbers(text: str, field: str = "frames") -> list[int]:
    """Integers from a list with commas: ``13, 25``.

    Raises:
        RequestError: if an item isn't an integer.
    """
    try:
        return [int(item) for item in parse_names(text)]
    except ValueError:
        raise RequestError(field, text, "use numbers with commas, such as 13, 25") from None


def parse_names(text: str) -> list[str]:
    """Words from a list with commas; none from an empty text."""
    return [item.strip() for item in text.split(",") if item.strip()]


def _measure_row(
    video: VideoRequest,
    setup: Setup,
    repeats: int,
    peak_tflops: dict[str, float],
    after_step: Callable[[], None],
) -> Row:
    """One kind of video, measured; or the error that prevented it."""
    size = (video.frames, video.steps, video.height, video.width)
    row = Row(video.model.name, *size, setup.speed, setup.placement, video.task, video.lora)
    try:
        measured = _measure_setup(video, setup, repeats, peak_tflops, after_step)
        return replace(row, measured=measured)
    except Exception as error:  # of torch or a library too: the other rows, and hours, go on
        return replace(row, error=row_error(error))


def _measure_setup(
    video: VideoRequest,
    setup: Setup,
    repeats: int,
    peak_tflops: dict[str, float],
    after_step: Callable[[], None],
) -> Measurement:
    from . import baselines, measure

    measure.clear_process_state()
    machine = probe_machine()
    if setup.speed in BASELINES:
        chosen = baselines.baseline_plan(setup.speed, planner.plan_request(video, machine))
        system = baselines.DiffusersBaseline(setup.speed, chosen)
    else:
        video = replace(video, speed=setup.speed)
        chosen = planner.plan_request(video, machine, videos=SHARED_VIDEOS)
        if setup.placement != "auto":
            chosen = planner.with_placement(chosen, setup.placement, machine, video.steps)
        system = measure.WorkbenchUnderTest(chosen)
    measured = measure.measure_video(system, video, repeats, after_step)
    used, step = system.plan, measured.step_seconds.median
    mfu = peak.model_flops_utilisation(used, video.steps, step, peak_tflops)
    seconds = {name: value for name, value in used.seconds.items() if name != "compile"}
    predicted = {"predicted_bytes": used.peak_bytes or None, "predicted_seconds": seconds}
    return replace(measured, mfu=mfu, **predicted)
