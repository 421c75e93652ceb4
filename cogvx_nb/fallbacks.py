"""The plan that a video goes on with after something failed or ran out."""

from __future__ import annotations

from dataclasses import replace

from . import cost, ways
from .plan import Plan


def unflashed(plan: Plan, why: str) -> Plan:
    """The same plan with torch's attention, which is exact too, where FlashAttention 4 fails."""
    reasons = tuple(reason for reason in plan.reasons if reason != ways.FLASHED)
    return replace(plan, attention=ways.STOCK, seconds={}, reasons=(*reasons, why))


def offloaded(plan: Plan) -> Plan:
    """The same plan with whole models moved to and fro, after they didn't fit all at once."""
    reasons = (*plan.reasons, f"memory ran out as {plan.placement}")
    return _counted(replace(plan, placement="model_offload", reasons=reasons))


def uncompiled(plan: Plan, why: str) -> Plan:
    """The same plan with nothing compiled, after compiling failed; eager 8-bit products are slow,
    so without them too."""
    reasons = (*plan.reasons, f"compiling failed: {why}")
    return _counted(replace(plan, compiled=False, quantized="", reasons=reasons))


def of_frames(plan: Plan, frames: int) -> Plan:
    """The same plan for fewer frames."""
    return _counted(replace(plan, frames=frames))


def in_tiles(plan: Plan) -> Plan:
    """The same plan with a VAE that decodes in tiles, after memory ran out as it decoded whole."""
    reasons = (*plan.reasons, "memory ran out decoding whole")
    return _counted(replace(plan, tiled=True, reasons=reasons))


def step_down(plan: Plan) -> Plan | None:
    """The next smaller plan for the same request that the RAM has room for, or None after the
    smallest."""
    rungs = list(ways.ladder(plan))[ways.rung(plan) + 1 :]
    how = f"{plan.placement}{' with tiles' if plan.tiled else ''}"
    reasons = (*plan.reasons, f"memory ran out as {how}")
    for placement, tiled in rungs:
        changed = replace(plan, placement=placement, tiled=tiled, reasons=reasons)
        stepped = _counted(ways.combined(changed))
        smaller = stepped.peak_bytes < cost.peak_bytes(plan) or (placement, tiled) == rungs[-1]
        if smaller and _has_ram(stepped):
            return stepped
    return None


def _counted(plan: Plan) -> Plan:
    """The plan with what it needs; how long it takes isn't known."""
    needs = {"peak_bytes": cost.peak_bytes(plan), "ram_bytes": cost.ram_bytes(plan)}
    return replace(plan, **needs, seconds={})


def _has_ram(plan: Plan) -> bool:
    return plan.device == "cpu" or not plan.ram_room_bytes or plan.ram_bytes <= plan.ram_room_bytes
