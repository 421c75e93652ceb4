"""The plan that a video goes on with after something failed or ran out."""

from __future__ import annotations

from dataclasses import replace

from . import cost, ways
from .plan import Plan


def uncompiled(plan: Plan, why: str) -> Plan:
    """The same plan with nothing compiled, after compiling failed; eager 8-bit products are slow,
    so without them too."""
    reasons = (*plan.reasons, f"compiling failed: {why}")
    changed = replace(plan, compiled=False, quantized="", seconds={}, reasons=reasons)
    return replace(changed, peak_bytes=cost.peak_bytes(changed))


def of_frames(plan: Plan, frames: int) -> Plan:
    """The same plan for fewer frames."""
    changed = replace(plan, frames=frames, seconds={})
    return replace(changed, peak_bytes=cost.peak_bytes(changed))


def in_tiles(plan: Plan) -> Plan:
    """The same plan with a VAE that decodes in tiles, after memory ran out as it decoded whole."""
    changed = replace(plan, tiled=True, reasons=(*plan.reasons, "memory ran out decoding whole"))
    return replace(changed, peak_bytes=cost.peak_bytes(changed))


def step_down(plan: Plan) -> Plan | None:
    """The next smaller plan for the same request, or None after the smallest."""
    rungs = list(ways.ladder(plan))[ways.rung(plan) + 1 :]
    for placement, tiled in rungs:
        stepped = ways.combined(replace(plan, placement=placement, tiled=tiled))
        peak = cost.peak_bytes(stepped)
        if peak < cost.peak_bytes(plan) or (placement, tiled) == rungs[-1]:
            how = f"{plan.placement}{' with tiles' if plan.tiled else ''}"
            reasons = (*plan.reasons, f"memory ran out as {how}")
            ram = cost.ram_bytes(stepped)
            return replace(stepped, peak_bytes=peak, ram_bytes=ram, seconds={}, reasons=reasons)
    return None
