"""The speed-ups that a plan can have on a machine, and what it lacks for the others. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..errors import RequestError
from .machine import Machine
from .plan import SWITCHED_OFF, Plan, drop_incompatible, gpu_for, placements_by_memory
from .speed_up import Conditions, SpeedUp
from .speedups import AUTO, FORMER_ATTENTIONS, SDPA, SPEED_UPS, SPEEDS


def conditions_for(plan: Plan, machine: Machine, steps: int) -> Conditions:
    """What the speed-ups of a plan depend on."""
    gpu = gpu_for(plan, machine)
    card = (gpu.name, gpu.capability) if gpu else ("", (0, 0))
    return Conditions(
        plan.dtype, steps, *card, machine.compiler, machine.versions, plan.model.checkpoint
    )


def missing_requirement(plan: Plan, machine: Machine, steps: int) -> str:
    """What this machine lacks for a plan that was made elsewhere; empty if nothing."""
    gpu = gpu_for(plan, machine)
    if gpu is not None and plan.dtype == "bfloat16" and not gpu.bf16:
        return f"{gpu.name} has no fast bfloat16"
    conditions = conditions_for(plan, machine, steps)
    for row in plan.speed_ups:
        needed = missing_needs(plan, row) if plan.device != "cpu" else ""
        if obstacle := row.obstacle(conditions, getattr(plan, row.field)) or needed:
            return obstacle
    return ""


def missing_needs(plan: Plan, row: SpeedUp) -> str:
    """Which speed-up a plan hasn't that another needs; empty if none."""
    missing = (SPEED_UPS[name].title for name in row.needs if SPEED_UPS[name] not in plan.speed_ups)
    return next((f"{row.title} needs {title}" for title in missing), "")


def resolve_speed_ups(draft: Plan, machine: Machine, steps: int) -> Plan:
    """The plan with the speed-ups that its speed brings on this machine; reasons for the others.

    Raises:
        RequestError: if the named attention isn't available, or a package is missing that the
            speed needs.
    """
    conditions = conditions_for(draft, machine, steps)
    attention = FORMER_ATTENTIONS.get(draft.attention, draft.attention)
    plan = replace(draft, attention=attention)
    for row in plan.speed_ups:  # named, not chosen
        value = getattr(plan, row.field)
        if obstacle := row.obstacle(conditions, value):
            raise RequestError(row.field, value, f"{obstacle}, or use {SWITCHED_OFF[row.field]}")
    for row in SPEED_UPS.values():
        chosen = getattr(plan, row.field) not in (AUTO, False, "")
        if plan.speed in row.speeds and not row.by_cost and not chosen:
            plan = _with_speed_up(plan, row, conditions)
    return replace(plan, attention=SDPA) if plan.attention == AUTO else plan


def _with_speed_up(plan: Plan, row: SpeedUp, conditions: Conditions) -> Plan:
    """The plan with a speed-up where it is available and worth it; with the reason where not."""
    missing = row.lacks(conditions, "")
    if not missing and (needed := missing_needs(plan, row)):
        return replace(plan, reasons=(*plan.reasons, needed))
    value = "" if missing else row.choose(conditions)
    package = row.missing_package(conditions.versions)
    if value and not package:
        reasons = (*plan.reasons, *filter(None, [row.reason]))
        return replace(plan, **{row.field: value}, reasons=reasons)
    if value and not (row.exact or row.optional):
        raise RequestError("speed", plan.speed, f"{package}, or use exact")
    if value:
        return replace(plan, reasons=(*plan.reasons, f"{package}; it would be faster"))
    if row.exact or row.optional:
        return plan
    return replace(plan, reasons=(*plan.reasons, f"{row.title} {missing}"))


def candidate_plans(draft: Plan, machine: Machine, steps: int) -> Iterator[Plan]:
    """Every way of running it, from the largest on the device to the smallest."""
    conditions = conditions_for(draft, machine, steps)
    optional = {
        row.field: (getattr(draft, row.field), row.values[0])
        for row in SPEED_UPS.values()
        if row.by_cost
        and draft.speed in (row.speeds or SPEEDS)
        and getattr(draft, row.field) == SWITCHED_OFF[row.field]
        and not row.obstacle(conditions, row.values[0])
    }
    switches = itertools.product(*optional.values())
    for (placement, tiled), states in itertools.product(placements_by_memory(draft), switches):
        options = dict(zip(optional, states, strict=True))
        plan = drop_incompatible(replace(draft, placement=placement, tiled=tiled, **options))
        if all(getattr(plan, name) == state for name, state in options.items()):
            yield plan


def missing_speed_ups(speed: str, used: Sequence[SpeedUp], reasons: Sequence[str]) -> str:
    """What a speed brings elsewhere and a plan does without, with its reasons; empty if nothing.

    Args:
        used: the speed-ups of the plan.
        reasons: those of the plan; one that concerns a speed-up begins with its title.
    """
    rows = [row for row in SPEED_UPS.values() if speed in row.speeds and not row.exact]
    brought = [row for row in rows if not (row.by_cost or row.optional)]
    missing = [row for row in brought if row.field not in {other.field for other in used}]
    if not missing:
        return ""
    why = "; ".join(text for text in reasons if text.startswith(tuple(r.title for r in missing)))
    if len(missing) == len(brought):
        return f"{speed} changes nothing here, the video is made as with exact: {why}"
    return f"{speed} does without a part here: {why}"
