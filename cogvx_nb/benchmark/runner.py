"""Honest timings of whole videos, by frames, speed and placement, beside stock diffusers."""

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
from ..checkpoints.store import Model
from ..errors import CogvxError, RequestError
from ..planning import machine, plan, planner, request, timing
from ..planning.plan import MIN_CACHED_STEPS, Plan, computed_steps
from ..planning.request import VideoRequest
from . import record
from .record import BASELINES, FORMAT, describe_row

GPU_SIZE, CPU_SIZE = 8192, 1024
"""Rows and columns of the matrices. Of a GPU large enough to fill any; on an H100 a product of
1.1 TFLOP takes 1.4 ms in bfloat16."""

GROUPS, PRODUCTS = 7, 5
"""Timings, the first of which doesn't count, and products in each: waiting for a GPU takes some
10 µs, so that one product by itself would look slower than it is."""

FLOAT8 = "float8"


def measure_peak_throughput(device: str) -> dict[str, float]:
    """TFLOP/s of matrix products by the name of their precision.

    ``float8`` is scaled by row, as 8-bit products of a transformer are. A precision that the device
    doesn't have, or has no fast arithmetic for, is missing.

    Args:
        device: ``"cpu"`` or ``"cuda:N"``.
    """
    import torch

    if device == "cpu":
        wanted, size = {"float32": _plain_matmul}, CPU_SIZE
    else:
        capability = torch.cuda.get_device_capability(torch.device(device))
        wanted, size = {"float16": _plain_matmul, "float32": _plain_matmul}, GPU_SIZE
        if capability >= (8, 0):
            wanted["bfloat16"] = _plain_matmul
        if capability >= (8, 9):
            wanted[FLOAT8] = _float8_matmul
    found = {}
    for name, prepare in wanted.items():
        try:
            multiply = prepare(size, device, name)
            found[name] = 2 * size**3 / _matmul_seconds(multiply, device) / 1e12
        except RuntimeError:  # no kernel for this card, or no room for the matrices
            continue
    return found


def model_flops_utilisation(
    plan: Plan, steps: int, step_seconds: float, ceilings: dict[str, float]
) -> float | None:
    """Which part of the ceiling of the weights' precision denoising reaches.

    With 8-bit products it is a share of the 16-bit ceiling too, so that rows can be compared: it
    could exceed 1. Steps that are reused do no arithmetic, and aren't counted as if they did.

    Args:
        steps: of the video.
        step_seconds: of a step in the mean.
    """
    rate = ceilings.get(plan.dtype)
    if not rate or not step_seconds:
        return None
    computed = len(computed_steps(steps)) / steps if plan.reuse else 1.0
    return computed * timing.total_step_flop(plan, plan.frames) / step_seconds / (rate * 1e12)


def _plain_matmul(size: int, device: str, name: str) -> Callable[[], object]:
    """A product of two matrices of random numbers: zeros would take less power, and be faster."""
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, name)) for _ in range(2))
    return lambda: torch.mm(a, b)


def _float8_matmul(size: int, device: str, name: str) -> Callable[[], object]:
    """The same in 8 bits with a scale for each row of the one and each column of the other."""
    import torch

    kind = torch.float8_e4m3fn
    a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    rows, columns = torch.ones(size, 1, device=device), torch.ones(1, size, device=device)
    return lambda: torch._scaled_mm(
        a, b.t(), scale_a=rows, scale_b=columns, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def _matmul_seconds(multiply: Callable[[], object], device: str) -> float:
    """Of one product: the median of several groups."""
    import torch

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize(device)

    times = []
    for _ in range(1 + GROUPS):
        wait()
        start = time.perf_counter()
        for _ in range(PRODUCTS):
            multiply()
        wait()
        times.append((time.perf_counter() - start) / PRODUCTS)
    return statistics.median(times[1:])


PROMPT = "a red circle moving right on a black background"

SHARED_VIDEOS = 100
"""Videos that share a compilation: rows show what a series of them gets, the compilation apart."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """A kind of row: ``speed`` is one of ``plan.SPEEDS``, or of ``BASELINES``; ``placement`` one of
    ``plan.PLACEMENTS``, or ``auto`` for what the plan chooses."""

    speed: str
    placement: str


def run_benchmark(
    model: Model,
    frames: Sequence[int],
    steps: int = 50,
    repeats: int = 3,
    speeds: Sequence[str] = ("exact",),
    placements: Sequence[str] = ("auto",),
    baselines: Sequence[str] = (),
    path: Path | None = None,
    say: Say = print,
) -> dict:
    """Time videos of each frame count at each speed on each placement.

    Args:
        model: with random weights too; see ``store.random_model``.
        repeats: videos of each kind, after a short one that doesn't count; at least 3.
        baselines: of ``BASELINES``, in rows of their own; without speeds they are all there is.
        path: where the report is kept after each row, so that an interruption leaves what was done.
        say: told what is done, in lines.

    Returns:
        A report, which JSON can hold: the machine, its ceilings in TFLOP/s, and a row for each
        kind. A kind that fails has its error in its row.

    Raises:
        RequestError: if a value can't be.
        OutputError: if the report can't be kept.
    """
    wanted = [
        request.make_request(model, PROMPT, frames=count, steps=steps, strict=True)
        for count in dict.fromkeys(frames)
    ]
    kinds = _setups(speeds, placements, baselines, repeats)
    if "turbo" in speeds and steps < MIN_CACHED_STEPS:
        why = f"turbo reuses none of fewer than {MIN_CACHED_STEPS} steps: use 50, or another speed"
        raise RequestError("steps", steps, why)
    here = machine.probe_machine()  # first: it sets what torch reads when it is loaded
    from ..pipeline import loader, optimization

    loader.release_pipeline()
    report = _new_report(here)
    best = planner.gpu_with_most_free_memory(here)
    report["ceiling"] = measure_peak_throughput(f"cuda:{best.index}" if best else "cpu")
    optimization.free_memory()
    rates = ", ".join(f"{name} {rate:.3g}" for name, rate in report["ceiling"].items())
    say(f"matrix products, TFLOP/s: {rates or 'not measured'}")
    for kind, one in itertools.product(kinds, wanted):
        how = f"{kind.speed}, {kind.placement}"
        say(f"{model.name}, {one.frames} frames × {steps} steps, {how}")
        report["rows"].append(_measure_row(one, kind, repeats, report["ceiling"]))
        say(f"  {describe_row(report['rows'][-1])}")
        if path is not None:
            record.save_report(report, path)
    loader.release_pipeline()
    return report


def find_benchmark_model(name: str, weights: str) -> Model:
    """The checkpoint to time: from its files, or its shapes with random weights.

    Raises:
        RequestError, ModelError: if there is no such checkpoint.
    """
    if weights == "random":
        return store.random_model(registry.get_checkpoint(name))
    if weights != "files":
        raise RequestError("weights", weights, "use files or random")
    return planner.find_model(name, machine.probe_machine())[0]


def _setups(
    speeds: Sequence[str], placements: Sequence[str], baselines: Sequence[str], repeats: int
) -> list[Setup]:
    known = {
        "speed": (speeds, plan.SPEEDS),
        "placement": (placements, ("auto", *planner.PLACEMENTS)),
        "baseline": (baselines, BASELINES),
    }
    for field, (given, allowed) in known.items():
        for value in given:
            if value not in allowed:
                raise RequestError(field, value, f"use one of {', '.join(allowed)}")
    if repeats < 3:
        raise RequestError("repeats", repeats, "a spread needs at least 3")
    ours = [Setup(*pair) for pair in itertools.product(speeds, placements)]
    if not (ours or baselines):
        raise RequestError("speed", "", f"use some of {', '.join(plan.SPEEDS)}, or a baseline")
    return ours + [Setup(name, "auto") for name in baselines]


def _new_report(here: machine.Machine) -> dict:
    """A report without rows. Its fingerprint is the same wherever times can be compared."""
    import torch

    versions = here.versions | {"cuda": torch.version.cuda, "cogvx-nb": __version__}
    described = asdict(replace(here, compiled=())) | {"versions": versions}
    gpus = [gpu.name for gpu in here.gpus]
    same = json.dumps([here.system, here.cores, here.threads, gpus, versions])
    return {
        "format": FORMAT,
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": described,
        "fingerprint": hashlib.sha256(same.encode()).hexdigest()[:12],
        "ceiling": {},
        "rows": [],
    }


def _measure_row(
    wanted: VideoRequest, kind: Setup, repeats: int, ceilings: dict[str, float]
) -> dict:
    """A kind of video, measured; or why it couldn't be."""
    row = {
        "model": wanted.model.name,
        "frames": wanted.frames,
        "steps": wanted.steps,
        "height": wanted.height,
        "width": wanted.width,
        "speed": kind.speed,
        "placement": kind.placement,
        "error": "",
    }
    try:
        return row | _measure_setup(wanted, kind, repeats, ceilings)
    except CogvxError as error:
        said = str(error)
    except Exception as error:  # of torch or a library: the other rows, and hours, go on
        said = f"{type(error).__name__}: {error}"
    return row | {"error": " ".join(said.split())[:300]}


def _measure_setup(
    wanted: VideoRequest, kind: Setup, repeats: int, ceilings: dict[str, float]
) -> dict:
    from . import baselines, measure

    measure.clear_process_state()
    here = machine.probe_machine()
    if kind.speed in BASELINES:
        fitted = baselines.baseline_plan(kind.speed, planner.plan_request(wanted, here))
        subject = baselines.DiffusersBaseline(kind.speed, fitted)
    else:
        wanted = replace(wanted, speed=kind.speed)
        fitted = planner.plan_request(wanted, here, videos=SHARED_VIDEOS)
        if kind.placement != "auto":
            fitted = planner.with_placement(fitted, kind.placement, here, wanted.steps)
        subject = measure.WorkbenchUnderTest(fitted)
    found = measure.measure_video(subject, wanted, repeats)
    used, step = subject.plan, found["step_seconds"]["median"]
    return found | {
        "predicted_bytes": used.peak_bytes or None,
        "predicted_seconds": {n: s for n, s in used.seconds.items() if n != "compile"},
        "share_of_ceiling": model_flops_utilisation(used, wanted.steps, step, ceilings),
    }
