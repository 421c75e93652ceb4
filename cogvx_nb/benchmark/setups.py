"""What a benchmark compares, the report that it fills, and why a row of it failed."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from .. import __version__
from ..errors import CogvxError, RequestError
from ..planning.machine import Machine
from ..planning.placements import FORMER_PLACEMENTS, PLACEMENTS
from ..planning.speedups import MIN_CACHED_STEPS, SPEEDS
from .report import BASELINES, Report


@dataclass(frozen=True, slots=True)
class Setup:
    """A kind of row, for every frame count."""

    speed: str  # one of SPEEDS, or of BASELINES
    placement: str  # one of placements.PLACEMENTS, or "auto" for the planner's choice


def make_setups(
    speeds: Sequence[str], placements: Sequence[str], steps: int, baselines: Sequence[str] = ()
) -> list[Setup]:
    """Each speed with each placement, and the baselines.

    Raises:
        RequestError: if there is none, no such one, or the steps are too few for it.
    """
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
    if "turbo" in speeds and steps < MIN_CACHED_STEPS:
        why = f"the step cache of turbo needs {MIN_CACHED_STEPS} or more: use 50, or another speed"
        raise RequestError("steps", steps, why)
    setups = [Setup(*pair) for pair in itertools.product(speeds, placements)]
    if not (setups or baselines):
        raise RequestError("speed", "", f"use some of {', '.join(SPEEDS)}, or a baseline")
    return setups + [Setup(name, "auto") for name in baselines]


def new_report(machine: Machine, peak_tflops: dict[str, float]) -> Report:
    """A report of a machine, still without rows."""
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


def row_error(error: Exception) -> str:
    """Why a row failed, in one line."""
    message = str(error) if isinstance(error, CogvxError) else f"{type(error).__name__}: {error}"
    return " ".join(message.split())[:300]
