"""Honest timings of whole videos: warm-up apart, synchronised, medians of several."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

from . import __version__, checkpoints, machine, plan, random_weights, request, settings
from .errors import CogvxError, OutputError, RequestError, ResultError
from .weights import Model

FORMAT = 1
PROMPT = "a red circle moving right on a black background"
WARM_STEPS = 2
STAGES = ("text", "denoise", "decode", "write")

Say = Callable[[str], None]


def run(
    model: Model,
    frames: Sequence[int],
    steps: int = 50,
    repeats: int = 3,
    placements: Sequence[str] = ("auto",),
    say: Say = print,
) -> dict:
    """Time videos of each frame count on each placement.

    Args:
        model: with random weights too; see ``random_weights.imagine``.
        repeats: videos of each kind, after a short one that doesn't count; at least 3.
        placements: of ``plan.PLACEMENTS``, or ``auto`` for what the plan chooses.
        say: told what is done, in lines.

    Returns:
        A report, which JSON can hold: the machine, and a row for each kind. A kind that fails has
        its error in its row.

    Raises:
        RequestError: if a value can't be.
    """
    if repeats < 3:
        raise RequestError("repeats", repeats, "a spread needs at least 3")
    for name in placements:
        if name not in ("auto", *plan.PLACEMENTS):
            known = ", ".join(("auto", *plan.PLACEMENTS))
            raise RequestError("placement", name, f"use one of {known}")
    wanted = [request.make(model, PROMPT, frames=count, steps=steps) for count in frames]
    here = machine.probe()
    rows = []
    for one in wanted:
        for placement in placements:
            say(f"{model.name}, {one.frames} frames × {steps} steps, {placement}")
            rows.append(_row(one, here, placement, repeats))
            say(f"  {described(rows[-1])}")
    return {
        "format": FORMAT,
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": asdict(here) | {"cogvx-nb": __version__},
        "rows": rows,
    }


def find_model(name: str, weights: str) -> Model:
    """The checkpoint to time: from its files, or its shapes with random weights.

    Raises:
        RequestError, ModelError: if there is no such checkpoint.
    """
    if weights == "random":
        return random_weights.imagine(checkpoints.named(name))
    if weights != "files":
        raise RequestError("weights", weights, "use files or random")
    return plan.find_model(name, machine.probe())[0]


def numbers(text: str) -> list[int]:
    """Whole numbers as people list them: ``13, 25``.

    Raises:
        RequestError: if one is none.
    """
    try:
        return [int(part) for part in names(text)]
    except ValueError:
        raise RequestError("frames", text, "use numbers with commas, such as 13, 25") from None


def names(text: str) -> list[str]:
    """Words as people list them, with commas."""
    return [part.strip() for part in text.split(",")]


def place(output: str | Path | None = None) -> Path:
    """Where a report will go, by default under a new name in ``outputs/benchmarks/``.

    Doors ask before the work, which can take hours.

    Raises:
        OutputError: if there is one already.
    """
    name = datetime.now().strftime("%Y-%m-%d-%H%M%S.json")
    path = Path(output).expanduser().absolute() if output else folder() / name
    if path.exists():
        raise OutputError(f"{path} exists: choose another name")
    return path


def save(report: dict, output: str | Path | None = None) -> Path:
    """Write a report as JSON; see ``place``.

    Raises:
        OutputError: if it can't be written, or there is one already.
    """
    path = place(output)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}") from error
    return path


def read(path: str | Path) -> dict:
    """A report that was saved.

    Raises:
        ResultError: if there is none.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ResultError(f"{path} is no benchmark: it isn't JSON") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or "rows" not in found:
        raise ResultError(f"{path} is no benchmark of this workbench")
    return found


def folder() -> Path:
    """Where reports go."""
    return settings.outputs_dir() / "benchmarks"


def described(row: dict) -> str:
    """A row in a line: the median of each stage and how far the repeats lie apart."""
    if row["error"]:
        return f"failed: {row['error']}"
    stages = ", ".join(f"{name} {row['seconds'][name]['median']:.2f} s" for name in STAGES)
    peak = f", {row['reserved_bytes'] / 2**30:.1f} GiB" if row["reserved_bytes"] else ""
    step = row["step_seconds"]
    return f"{step['median']:.3f} s a step (± {step['spread']:.0%}), {stages}{peak}"


def compare(before: dict, after: dict) -> list[str]:
    """What changed from one report to another by more than the repeats of both lie apart."""
    known = {_kind(row): row for row in before["rows"] if not row["error"]}
    changes = []
    for row in after["rows"]:
        old = known.get(_kind(row))
        if old is None or row["error"]:
            continue
        for name in STAGES:
            a, b = old["seconds"][name], row["seconds"][name]
            ratio = b["median"] / a["median"] if a["median"] else 1.0
            if abs(ratio - 1) > a["spread"] + b["spread"]:
                what = f"{row['model']}, {row['frames']} frames, {row['placement']}: {name}"
                changes.append(f"{what} {a['median']:.3f} → {b['median']:.3f} s ({ratio:.2f} ×)")
    return changes


def _row(wanted: request.VideoRequest, here: machine.Machine, placement: str, repeats: int) -> dict:
    """A kind of video, measured; or why it couldn't be."""
    row = {
        "model": wanted.model.name,
        "frames": wanted.frames,
        "steps": wanted.steps,
        "height": wanted.height,
        "width": wanted.width,
        "placement": placement,
        "error": "",
    }
    try:
        fitted = plan.fit(wanted, here)
        if placement != "auto":
            fitted = plan.placed(fitted, placement)
        return row | _measured(wanted, fitted, repeats)
    except CogvxError as error:
        return row | {"error": " ".join(str(error).split())}


def _measured(wanted: request.VideoRequest, fitted: plan.Plan, repeats: int) -> dict:
    from . import generate, pipeline, result  # late: they load torch
    from .meter import Meter

    loaded = pipeline.load(fitted)
    first = loaded.seconds
    generate.run(replace(wanted, steps=WARM_STEPS), loaded)
    meter, seconds = Meter(loaded.plan.device), {name: [] for name in STAGES}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(repeats):
            made = generate.run(wanted, loaded, reuse_text=False)
            start = time.perf_counter()
            result.save(made, Path(scratch) / f"{number}.mp4")
            for name, value in (made.seconds | {"write": time.perf_counter() - start}).items():
                if name in seconds:
                    seconds[name].append(value)
    reading = asdict(meter.read())
    if reading["joules"] is not None:
        reading["joules"] = reading["joules"] / repeats
    return {
        "plan": loaded.plan.choices,
        "predicted_bytes": loaded.plan.peak_bytes,
        "load_seconds": first,
        "seconds": {name: _summary(values) for name, values in seconds.items()},
        "step_seconds": _summary([value / wanted.steps for value in seconds["denoise"]]),
        **reading,
    }


def _summary(values: list[float]) -> dict:
    """Median, all values, and how far the extremes lie apart as a part of the median."""
    middle = statistics.median(values)
    spread = (max(values) - min(values)) / middle if middle else 0.0
    return {"median": middle, "spread": spread, "all": values}


def _kind(row: dict) -> tuple:
    return tuple(row[name] for name in ("model", "frames", "steps", "height", "placement"))
