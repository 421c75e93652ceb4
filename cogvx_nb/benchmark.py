"""Honest timings of whole videos, by frames, speed and placement, beside stock diffusers."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from . import __version__, bench_file, ceiling
from .bench_compare import described
from .bench_file import BASELINES, FORMAT
from .checkpoints import registry, store
from .checkpoints.store import Model
from .errors import CogvxError, RequestError
from .planning import machine, plan, planner, request
from .planning.plan import FEWEST_REUSED
from .planning.request import VideoRequest

PROMPT = "a red circle moving right on a black background"

MANY = 100
"""Videos that share a compilation: rows show what a series of them gets, the compilation apart."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of row: ``speed`` is one of ``plan.SPEEDS``, or of ``BASELINES``; ``placement`` one of
    ``plan.PLACEMENTS``, or ``auto`` for what the plan chooses."""

    speed: str
    placement: str


def run(
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
        model: with random weights too; see ``random_weights.imagine``.
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
        request.make(model, PROMPT, frames=count, steps=steps, strict=True)
        for count in dict.fromkeys(frames)
    ]
    kinds = _kinds(speeds, placements, baselines, repeats)
    if "turbo" in speeds and steps < FEWEST_REUSED:
        why = f"turbo reuses none of fewer than {FEWEST_REUSED} steps: use 50, or another speed"
        raise RequestError("steps", steps, why)
    here = machine.probe()  # first: it sets what torch reads when it is loaded
    from .pipeline import loader, optimization

    loader.release()
    report = _head(here)
    best = planner.roomiest(here)
    report["ceiling"] = ceiling.measure(f"cuda:{best.index}" if best else "cpu")
    optimization.free_memory()
    rates = ", ".join(f"{name} {rate:.3g}" for name, rate in report["ceiling"].items())
    say(f"matrix products, TFLOP/s: {rates or 'not measured'}")
    for kind, one in itertools.product(kinds, wanted):
        how = f"{kind.speed}, {kind.placement}"
        say(f"{model.name}, {one.frames} frames × {steps} steps, {how}")
        report["rows"].append(_row(one, kind, repeats, report["ceiling"]))
        say(f"  {described(report['rows'][-1])}")
        if path is not None:
            bench_file.save(report, path)
    loader.release()
    return report


def find_model(name: str, weights: str) -> Model:
    """The checkpoint to time: from its files, or its shapes with random weights.

    Raises:
        RequestError, ModelError: if there is no such checkpoint.
    """
    if weights == "random":
        return store.random_model(registry.named(name))
    if weights != "files":
        raise RequestError("weights", weights, "use files or random")
    return planner.find_model(name, machine.probe())[0]


def _kinds(
    speeds: Sequence[str], placements: Sequence[str], baselines: Sequence[str], repeats: int
) -> list[Kind]:
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
    ours = [Kind(*pair) for pair in itertools.product(speeds, placements)]
    if not (ours or baselines):
        raise RequestError("speed", "", f"use some of {', '.join(plan.SPEEDS)}, or a baseline")
    return ours + [Kind(name, "auto") for name in baselines]


def _head(here: machine.Machine) -> dict:
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


def _row(wanted: VideoRequest, kind: Kind, repeats: int, ceilings: dict[str, float]) -> dict:
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
        return row | _measured(wanted, kind, repeats, ceilings)
    except CogvxError as error:
        said = str(error)
    except Exception as error:  # of torch or a library: the other rows, and hours, go on
        said = f"{type(error).__name__}: {error}"
    return row | {"error": " ".join(said.split())[:300]}


def _measured(wanted: VideoRequest, kind: Kind, repeats: int, ceilings: dict[str, float]) -> dict:
    from . import baseline, measure

    measure.start_afresh()
    here = machine.probe()
    if kind.speed in BASELINES:
        fitted = baseline.planned(kind.speed, planner.fit(wanted, here))
        subject = baseline.Baseline(kind.speed, fitted)
    else:
        fitted = planner.fit(wanted, here, kind.speed, videos=MANY)
        if kind.placement != "auto":
            fitted = planner.placed(fitted, kind.placement, here, wanted.steps)
        subject = measure.Workbench(fitted)
    found = measure.measure(subject, wanted, repeats)
    used, step = subject.plan, found["step_seconds"]["median"]
    return found | {
        "predicted_bytes": used.peak_bytes or None,
        "predicted_seconds": {n: s for n, s in used.seconds.items() if n != "compile"},
        "share_of_ceiling": ceiling.share(used, wanted.steps, step, ceilings),
    }
