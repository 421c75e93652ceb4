"""The schedulers that a request can choose from. No torch: ``pipeline.schedulers`` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..checkpoints.registry import Checkpoint
from .guidance import AUTHORS, CONSTANT, Guiding, parse_interval

AUTO = "auto"
"""The checkpoint's own scheduler."""


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A way to go from noise to a video in steps, each of which runs the transformer once."""

    name: str
    kind: str  # class name in diffusers
    # Whether the last step ends at zero noise only with as many steps as divide those of training.
    divides: bool = False
    wave: bool = False  # whether it takes the wave of guidance of checkpoints that have it


_ROWS = (
    Scheduler("dpm", "CogVideoXDPMScheduler", divides=True, wave=True),
    Scheduler("ddim", "CogVideoXDDIMScheduler", divides=True),
    Scheduler("euler", "EulerDiscreteScheduler"),
    Scheduler("euler_ancestral", "EulerAncestralDiscreteScheduler"),
    Scheduler("unipc", "UniPCMultistepScheduler"),
    Scheduler("dpm++", "DPMSolverMultistepScheduler"),
)

SCHEDULERS = {row.name: row for row in _ROWS}
"""By name: the two of the authors, then others of diffusers. Not offered are those that run the
transformer twice a step (Heun, DPM2, KDPM2), or more often than there are steps (PNDM)."""

_OWN = {row.kind: row for row in _ROWS}


def used_scheduler(checkpoint: Checkpoint, name: str) -> Scheduler:
    """What a request's scheduler comes to with a checkpoint.

    Args:
        name: one of ``SCHEDULERS``, or ``AUTO``.
    """
    return _OWN[checkpoint.scheduler] if name == AUTO else SCHEDULERS[name]


def has_wave(checkpoint: Checkpoint, name: str) -> bool:
    """Whether guidance goes up and down from step to step, with a scheduler of that name.

    The authors do it with their DPM scheduler and switch it off for DDIM (``use_dynamic_cfg`` in
    ``inference/cli_demo.py`` of zai-org/CogVideo).
    """
    return checkpoint.dynamic_cfg and used_scheduler(checkpoint, name).wave


USUAL_GUIDANCE = 6.0
"""Of requests by default."""


GUIDING = ("guidance", "guidance_schedule", "guidance_interval", "scheduler")
"""Fields of a request that guidance follows from."""


def usual_guidance(checkpoint: Checkpoint) -> Guiding:
    """Guidance as a checkpoint's videos have it by default."""
    return Guiding(USUAL_GUIDANCE, AUTHORS if checkpoint.dynamic_cfg else CONSTANT)


def guiding_of(checkpoint: Checkpoint, values: Mapping[str, object]) -> Guiding:
    """Guidance at each step.

    Args:
        values: of a request's fields, each acceptable by itself; others than ``GUIDING`` are left.

    Raises:
        RequestError: if the interval is none.
    """
    scale, name, interval, scheduler = (values[field] for field in GUIDING)
    schedule = used_guidance(checkpoint, str(scheduler), str(name))
    return Guiding(float(scale), schedule, parse_interval(str(interval)))


def used_guidance(checkpoint: Checkpoint, scheduler: str, name: str) -> str:
    """What a request's schedule of guidance comes to: one of ``guidance.SCHEDULES``.

    Args:
        scheduler: of the request.
        name: one of those, or ``AUTO`` for the authors' where they have one.
    """
    if name != AUTO:
        return name
    return AUTHORS if has_wave(checkpoint, scheduler) else CONSTANT
