"""Every way of running a plan's video on its device: placements, tiles, and what combines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from .errors import RequestError
from .machine import Gpu, Machine

if TYPE_CHECKING:
    from .plan import Plan

PLACEMENTS = {
    "resident": "every model stays on the device",
    "text_out": "the text encoder streams from RAM, the rest stays on the GPU",
    "model_offload": "one model at a time moves to the GPU",
    "streamed": "blocks of the models stream from pinned RAM as they are needed",
    "disk": "blocks of the models stream from their files as they are needed",
    "sequential": "one layer at a time moves to the GPU",
}
"""From the largest on the GPU to the smallest."""

COMPILES = ("resident", "text_out", "model_offload", "streamed", "disk")
"""Placements whose blocks can be compiled: ``sequential`` changes layers under them."""

QUANTIZES = ("resident", "text_out")
"""Placements that can have 8-bit products: their weights are made on the GPU and stay there."""

FEWEST_REUSED = 20
"""Denoising steps from which on some can reuse others: with 6 the video is another one."""


def all_of(guess: Plan) -> Iterator[Plan]:
    """Every way of running it, from the largest on the device to the smallest."""
    compiling = (False,) if guess.device == "cpu" else (False, True)
    for (placement, tiled), compiled in itertools.product(ladder(guess), compiling):
        one = combined(replace(guess, placement=placement, tiled=tiled, compiled=compiled))
        if one.compiled == compiled:
            yield one


def combined(plan: Plan) -> Plan:
    """The plan without what its placement doesn't combine with. Eager 8-bit products are slow."""
    on_gpu = plan.device != "cpu"
    quantized = plan.quantized if plan.placement in QUANTIZES else ""
    compiled = (plan.compiled or bool(quantized and on_gpu)) and plan.placement in COMPILES
    return replace(plan, quantized=quantized, compiled=compiled)


def sped_up(guess: Plan, gpu: Gpu | None, machine: Machine, steps: int) -> Plan:
    """With what its speed brings along on this machine.

    Raises:
        RequestError: if a package is missing for it.
    """
    if guess.speed == "exact":
        return guess
    reuse = guess.speed == "turbo"
    if reuse and steps < FEWEST_REUSED:
        reuse = False
        why = f"{steps} steps are too few to reuse any"
        guess = replace(guess, reasons=(*guess.reasons, why))
    if gpu is None:
        why = "8-bit products pay on a GPU only"
        return replace(guess, reuse=reuse, reasons=(*guess.reasons, why))
    kind = "fp8" if guess.dtype == "bfloat16" and gpu.capability >= (8, 9) else "int8"
    if guess.dtype == "float32" or gpu.capability < (8, 0):
        why = f"no 8-bit products in {guess.dtype} on a GPU of capability {gpu.capability[0]}.x"
        return replace(guess, reuse=reuse, reasons=(*guess.reasons, why))
    if not machine.versions.get("torchao"):
        remedy = "8-bit products need torchao: pip install -e '.[fast]', or use exact"
        raise RequestError("speed", guess.speed, remedy)
    return replace(guess, quantized=kind, reuse=reuse)


def ladder(plan: Plan) -> Iterator[tuple[str, bool]]:
    """(placement, tiled VAE) from the largest on the device to the smallest.

    Tiling is an approximation, so it comes after all that does without.
    """
    placements = ("resident",) if plan.device == "cpu" else tuple(PLACEMENTS)
    return ((placement, tiled) for tiled in (False, True) for placement in placements)


def rung(plan: Plan) -> int:
    return list(ladder(plan)).index((plan.placement, plan.tiled))
