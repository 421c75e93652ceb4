"""Benchmarks of whole videos by frames, speed and placement, and of baselines; matmul peak."""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from .. import __version__
from ..checkpoints import registry, store
from ..checkpoints.registry import Model
from ..errors import CogvxError, RequestError
from ..planning import cost, planner, request
from ..planning.machine import Machine
from ..planning.plan import FORMER_PLACEMENTS, PLACEMENTS, Plan
from ..planning.probe import probe_machine
from ..planning.request import VideoRequest
from ..planning.speedups import MIN_CACHED_STEPS, SPEEDS
from . import storage
from .report import BASELINES, Measurement, Report, Row

GPU_SIZE, CPU_SIZE = 8192, 1024
"""Rows and columns of the matrices. On a GPU 1.1 TFLOP, enough to fill an H100 for 1.4 ms."""

GROUPS = 7
"""Timings of a matrix product, after one that isn't counted."""

PRODUCTS = 5
"""Products in each timing: synchronising takes some 10 µs, which one product alone would show."""


def measure_peak_throughput(device: str) -> dict[str, float]:
    """TFLOP/s of large matrix products by dtype.

    ``float8`` has row-wise scales, like quantized layers of the transformer. Dtypes that the device
    doesn't support, or has no fast arithmetic for, are missing.

    Args:
        device: ``"cpu"`` or ``"cuda:N"``.
    """
    import torch

    if device == "cpu":
        products, size = {"float32": _plain_matmul}, CPU_SIZE
    else:
        capability = torch.cuda.get_device_capability(torch.device(device))
        products, size = {"float16": _plain_matmul, "float32": _plain_matmul}, GPU_SIZE
        if capability >= (8, 0):
            products["bfloat16"] = _plain_matmul
        if capability >= (8, 9):
            products["float8"] = _float8_matmul
    rates = {}
    for dtype, prepare in products.items():
        try:
            multiply = prepare(size, device, dtype)
            rates[dtype] = 2 * size**3 / _matmul_seconds(multiply, device) / 1e12
        except RuntimeError:  # no kernel for this GPU, or no memory for the matrices
            continue
    return rates


def model_flops_utilisation(
    plan: Plan, steps: int, step_seconds: float, peak_tflops: dict[str, float]
) -> float | None:
    """MFU of denoising: FLOP/s over the peak matmul throughput of the weights' dtype.

    Quantized models are compared with the 16-bit peak too, so that rows can be compared with each
    other: it could exceed 1. Steps that a step cache skips count as no FLOP.

    Args:
        steps: of the video.
        step_seconds: mean of all steps.

    Returns:
        None if the peak isn't known.
    """
    peak = peak_tflops.get(plan.dtype)
    if not peak or not step_seconds:
        return None
    computed = len(plan.step_cost.computed_steps(steps)) / steps
    return computed * cost.total_step_flop(plan, plan.frames) / step_seconds / (peak * 1e12)


def _plain_matmul(size: int, device: str, dtype: str) -> Callable[[], object]:
    """A product of random matrices: zeros would take less power, and be faster."""
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    return lambda: torch.mm(a, b)


def _float8_matmul(size: int, device: str, dtype: str) -> Callable[[], object]:
    """The same in float8 with a scale for each row of the left and column of the right matrix."""
    import torch

    a, b = (torch.randn(size, size, device=device).to(torch.float8_e4m3fn) for _ in range(2))
    rows, columns = torch.ones(size, 1, device=device), torch.ones(1, size, device=device)
    return lambda: torch._scaled_mm(
        a, b.t(), scale_a=rows, scale_b=columns, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def _matmul_seconds(multiply: Callable[[], object], device: str) -> float:
    """Seconds of one product: the median of ``GROUPS`` timings."""
    import torch

    def synchronize() -> None:
        if device != "cpu":
            torch.cuda.synchronize(device)

    times = []
    for _ in range(1 + GROUPS):
        synchronize()
        start = time.perf_counter()
        for _ in range(PRODUCTS):
            multiply()
        synchronize()
        times.append((time.perf_counter() - start) / PRODUCTS)
    return statistics.median(times[1:])


PROMPT = "a red circle moving right on a black background"

SHARED_VIDEOS = 100
"""Videos that share a compilation for the planner: rows show one of a long series, and the time of
compilation in a separate column."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A kind of row, for every frame count."""

    speed: str  # one of SPEEDS, or of BASELINES
    placement: str  # one of plan.PLACEMENTS, or "auto" for the planner's choice


def run_benchmark(
    model: Model,
    frames: Sequence[int],
    steps: int = 50,
    repeats: int = 3,
    speeds: Sequence[str] = ("exact",),
    placements: Sequence[str] = ("auto",),
    baselines: Sequence[str] = (),
    path: Path | None = None,
    log: Callable[[str], None] = print,
) -> Report:
    """Time videos of each frame count at each speed with each placement, and of each baseline.

    Args:
        model: may have random weights; see ``store.random_model``.
        repeats: videos of each kind, after a short one that isn't counted; at least 3.
        baselines: of ``BASELINES``; the only rows if ``speeds`` is empty.
        path: written after each row, so that an interruption keeps what was done.
        log: called with each line of progress.

    Returns:
        A report with a row for each kind; a row that failed has its error.

    Raises:
        RequestError: if an argument is invalid.
        OutputError: if the report can't be written.
    """
    requests = [
        request.make_request(model, PROMPT, frames=count, steps=steps, strict=True)
        for count in dict.fromkeys(frames)
    ]
    setups = _setups(speeds, placements, baselines, repeats)
    if "turbo" in speeds and steps < MIN_CACHED_STEPS:
        why = f"the step cache of turbo needs {MIN_CACHED_STEPS} or more: use 50, or another speed"
        raise RequestError("steps", steps, why)
    machine = probe_machine()  # first: it sets environment variables that torch reads on import
    from ..pipeline import loader, optimization

    loader.release_pipeline()
    gpu = machine.gpu_with_most_free_memory
    peak = measure_peak_throughput(f"cuda:{gpu.index}" if gpu else "cpu")
    optimization.free_memory()
    report = _new_report(machine, peak)
    log(f"peak matmul throughput, TFLOP/s: {report.peaks}")
    for setup, video in itertools.product(setups, requests):
        size = f"{video.frames} frames × {steps} steps"
        log(f"{model.name}, {size}, {setup.speed}, {setup.placement}")
        row = _measure_row(video, setup, repeats, peak)
        log(f"  {row}")
        report = replace(report, rows=(*report.rows, row))
        if path is not None:
            storage.save_report(report, path)
    loader.release_pipeline()
    return report


def find_benchmark_model(name: str, weights: str) -> Model:
    """The checkpoint to time: ``files``, or its shapes with ``random`` weights.

    Raises:
        RequestError, ModelError: if there is no such checkpoint.
    """
    if weights == "random":
        return store.random_model(registry.get_checkpoint(name))
    if weights != "files":
        raise RequestError("weights", weights, "use files or random")
    return planner.find_model(name, probe_machine())[0]


def parse_numbers(text: str) -> list[int]:
    """Integers from a list with commas: ``13, 25``.

    Raises:
        RequestError: if an item isn't an integer.
    """
    try:
        return [int(item) for item in parse_names(text)]
    except ValueError:
        raise RequestError("frames", text, "use numbers with commas, such as 13, 25") from None


def parse_names(text: str) -> list[str]:
    """Words from a list with commas; none from an empty text."""
    return [item.strip() for item in text.split(",") if item.strip()]


def _setups(
    speeds: Sequence[str], placements: Sequence[str], baselines: Sequence[str], repeats: int
) -> list[Setup]:
    placements = [FORMER_PLACEMENTS.get(name, name) for name in placements]
    valid = {
        "speed": (speeds, SPEEDS),
        "placement": (placements, ("auto", *PLACEMENTS)),
        "baseline": (baselines, BASELINES),
    }
    for field, (values, allowed) in valid.items():
        for value in values:
            if value not in allowed:
                raise RequestError(field, value, f"use one of {', '.join(allowed)}")
    if repeats < 3:
        raise RequestError("repeats", repeats, "a spread needs at least 3")
    setups = [Setup(*pair) for pair in itertools.product(speeds, placements)]
    if not (setups or baselines):
        raise RequestError("speed", "", f"use some of {', '.join(SPEEDS)}, or a baseline")
    return setups + [Setup(name, "auto") for name in baselines]


def _new_report(machine: Machine, peak_tflops: dict[str, float]) -> Report:
    import torch

    versions = machine.versions | {"cuda": torch.version.cuda, "cogvx-nb": __version__}
    gpus = [gpu.name for gpu in machine.gpus]
    comparable = json.dumps([machine.system, machine.cores, machine.threads, gpus, versions])
    return Report(
        made=datetime.now().astimezone().isoformat(timespec="seconds"),
        machine=asdict(replace(machine, compiled=(), versions=versions)),
        fingerprint=hashlib.sha256(comparable.encode()).hexdigest()[:12],
        peak_tflops=peak_tflops,
    )


def _measure_row(
    video: VideoRequest, setup: Setup, repeats: int, peak_tflops: dict[str, float]
) -> Row:
    """One kind of video, measured; or the error that prevented it."""
    size = (video.frames, video.steps, video.height, video.width)
    row = Row(video.model.name, *size, setup.speed, setup.placement)
    try:
        return replace(row, measured=_measure_setup(video, setup, repeats, peak_tflops))
    except CogvxError as error:
        message = str(error)
    except Exception as error:  # of torch or a library: the other rows, and hours, go on
        message = f"{type(error).__name__}: {error}"
    return replace(row, error=" ".join(message.split())[:300])


def _measure_setup(
    video: VideoRequest, setup: Setup, repeats: int, peak_tflops: dict[str, float]
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
    measured = measure.measure_video(system, video, repeats)
    used, step = system.plan, measured.step_seconds.median
    mfu = model_flops_utilisation(used, video.steps, step, peak_tflops)
    seconds = {name: value for name, value in used.seconds.items() if name != "compile"}
    predicted = {"predicted_bytes": used.peak_bytes or None, "predicted_seconds": seconds}
    return replace(measured, mfu=mfu, **predicted)
