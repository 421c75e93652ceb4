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

AUTO, STOCK, FLASH4 = "auto", "stock", "flash4"
"""Attentions that aren't a backend of diffusers: the best exact one here, the pipeline's own, and
``flash_attention``."""

FLASH4_GPUS = (9, 10)
"""Major compute capabilities that FlashAttention 4 is written for, as torch has them
(``torch.nn.attention._fa4``): data-centre Hopper and Blackwell."""

FLASHED = "FlashAttention 4, exact"
"""The reason for it that a plan gives."""

FEWEST_REUSED = 20
"""Denoising steps from which on some can reuse others: with 6 the video is another one."""


def all_of(guess: Plan, gpu: Gpu | None, machine: Machine) -> Iterator[Plan]:
    """Every way of running it, from the largest on the device to the smallest."""
    compiling = (False, True) if can_compile(gpu, machine) else (False,)
    for (placement, tiled), compiled in itertools.product(ladder(guess), compiling):
        one = combined(replace(guess, placement=placement, tiled=tiled, compiled=compiled))
        if one.compiled == compiled:
            yield one


def can_compile(gpu: Gpu | None, machine: Machine) -> bool:
    """Whether blocks can be compiled for a device; Triton needs capability 7.0."""
    return gpu is not None and machine.compiler and gpu.capability >= (7, 0)


def combined(plan: Plan) -> Plan:
    """The plan without what its placement doesn't combine with. Eager 8-bit products are slow."""
    on_gpu = plan.device != "cpu"
    quantized = plan.quantized if plan.placement in QUANTIZES else ""
    compiled = (plan.compiled or bool(quantized and on_gpu)) and plan.placement in COMPILES
    return replace(plan, quantized=quantized, compiled=compiled)


def attended(guess: Plan, gpu: Gpu | None, machine: Machine) -> Plan:
    """With the attention that is the best of the exact ones here, where it may be chosen.

    Raises:
        RequestError: if FlashAttention 4 was asked for and can't be had, or not on its device.
    """
    if guess.attention == FLASH4 and not _can_flash(guess, gpu):
        needs = "it needs a GPU of capability 8.0 or more, and half precision: use stock"
        raise RequestError("attention", FLASH4, needs)
    if guess.attention == FLASH4 and not _flash4(machine):
        remedy = "can't be had here: pip install -e '.[flash]', or use stock"
        raise RequestError("attention", FLASH4, remedy)
    if guess.attention != AUTO:
        return guess
    if not (_can_flash(guess, gpu) and gpu.capability[0] in FLASH4_GPUS):
        return replace(guess, attention=STOCK)
    if not _flash4(machine):
        why = "FlashAttention 4 would be faster: pip install -e '.[flash]'"
        return replace(guess, attention=STOCK, reasons=(*guess.reasons, why))
    return replace(guess, attention=FLASH4, reasons=(*guess.reasons, FLASHED))


def lacking(plan: Plan, gpu: Gpu | None, machine: Machine, steps: int) -> str:
    """What this machine lacks for a plan that was made elsewhere; empty if nothing."""
    if gpu is not None and plan.dtype == "bfloat16" and not gpu.bf16:
        return f"{gpu.name} has no fast bfloat16"
    if plan.attention == FLASH4 and not (_can_flash(plan, gpu) and _flash4(machine)):
        return "FlashAttention 4 can't be had here: pip install -e '.[flash]' on a GPU's machine"
    if plan.compiled and not can_compile(gpu, machine):
        return "nothing can be compiled here"
    if gpu is None or not plan.quantized:
        return ""
    try:
        here = sped_up(replace(plan, quantized="", speed="fast"), gpu, machine, steps).quantized
    except RequestError as error:
        return str(error)
    return "" if here == plan.quantized else f"no {plan.quantized} products on {gpu.name}"


def _can_flash(plan: Plan, gpu: Gpu | None) -> bool:
    return gpu is not None and gpu.capability >= (8, 0) and plan.dtype != "float32"


def _flash4(machine: Machine) -> bool:
    return bool(machine.versions.get("flash-attn-4"))


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
    if not machine.compiler:
        why = "8-bit products need Triton and a C compiler, such as gcc"
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
