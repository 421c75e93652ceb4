"""Seconds that each stage of a video is expected to take, before it is made."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from . import cost, paces
from .machine import Machine
from .paces import MeasuredPace
from .plan import Plan
from .vae_cost import encode_share

IMPORT_SECONDS = 5.0
"""Importing torch and diffusers."""

CPU_TEXT_STEPS = 0.5
"""Encoding the prompts on a CPU, in denoising steps."""

WRITE_SECONDS = 3e-8
"""Per pixel and frame encoded."""

PACED_STAGES = ("load", "text", "decode", "write")
"""Stages whose seconds a measured pace has besides those of a step."""

LOADED_SECONDS = 0.2
"""Loading takes less where the checkpoint was in memory already."""


def expected_seconds(
    plan: Plan,
    machine: Machine,
    steps: int,
    known: Mapping[int, MeasuredPace],
    *,
    loaded: bool = False,
    imported: bool = False,
) -> dict[str, float]:
    """Seconds of each stage, in their order; empty for an unknown GPU without measurements.

    Args:
        steps: denoising steps, for which the plan was made.
        known: as for ``paces.predict_seconds``.
        loaded: whether the checkpoint is in memory.
        imported: whether torch and diffusers are.
    """
    making = _measured(plan, steps, known) if known else _predicted(plan, machine, steps)
    if not making:
        return {}
    load = 0.0
    if not loaded:
        slowest = max((pace.load_seconds for pace in known.values()), default=0.0)
        load = slowest or sum(cost.weight_bytes(plan).values()) / cost.DISK_RATE
        load += 0.0 if imported else IMPORT_SECONDS
    compilation = plan.seconds.get("compile", 0.0)
    once = {"load": load} | ({"compile": compilation} if compilation else {})
    return {stage: seconds for stage, seconds in (once | making).items() if seconds > 0}


def median_pace(measured: Iterable[Iterable[float | None]]) -> MeasuredPace:
    """The pace of some videos: of each the seconds of a step, of all stages but denoising and what
    happens once, and of each of ``PACED_STAGES``; None for those that weren't recorded."""
    columns = [[value or 0.0 for value in column] for column in zip(*measured, strict=True)]
    step, other, load, *stages = columns
    loads = [seconds for seconds in load if seconds > LOADED_SECONDS]
    once = statistics.median(loads) if loads else 0.0
    return MeasuredPace(
        *map(statistics.median, (step, other)), once, *map(statistics.median, stages)
    )


def _measured(plan: Plan, steps: int, known: Mapping[int, MeasuredPace]) -> dict[str, float]:
    pace, ratio = paces.nearest_pace(plan, known)
    return {
        "text": pace.text_seconds,
        "encode": ratio * encode_share(plan) * pace.decode_seconds,
        "denoise": ratio * paces.paced_steps(plan, steps) * pace.step_seconds,
        "decode": ratio * pace.decode_seconds,
        "write": ratio * pace.write_seconds,
    }


def _predicted(plan: Plan, machine: Machine, steps: int) -> dict[str, float]:
    write = WRITE_SECONDS * plan.frames * plan.height * plan.width
    if plan.device != "cpu":
        return plan.seconds | {"write": write} if plan.seconds else {}
    decode_steps = plan.model.checkpoint.decode_steps
    computed = sum(cost.step_shares(plan, steps))
    step = paces.predict_seconds(plan, machine, steps, {}) / (decode_steps + computed)
    return {
        "text": CPU_TEXT_STEPS * step,
        "encode": encode_share(plan) * decode_steps * step,
        "denoise": computed * step,
        "decode": decode_steps * step,
        "write": write,
    }
