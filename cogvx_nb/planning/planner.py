"""How this machine will make a request: the fastest plan that fits, and what to go on with.

Pure arithmetic over the request and the machine. A plan chooses device, precision, placement, VAE
tiling and speed-ups. It never changes what was asked for.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..checkpoints import registry, store
from ..checkpoints.registry import Checkpoint
from ..checkpoints.store import Model
from ..errors import DoesNotFit, ModelError, ModelMissing
from ..text import GIB
from . import memory, plan, timing
from .machine import Gpu, Machine
from .plan import (
    AUTO,
    COMPILABLE,
    FLASH4_REASON,
    PLACEMENTS,
    RECORDED,
    STOCK,
    Plan,
    compiled_key,
    drop_incompatible,
    gpu_for,
    missing_requirement,
    placements_by_memory,
    rank,
)
from .request import VideoRequest, nearest

SPARE_BYTES = 0.25 * GIB
"""Of a GPU, for libraries that are loaded after it was asked what is free."""

SPARE_RAM = 1.0 * GIB

EQUAL_MEMORY_SHARE = 0.05
"""Of a GPU's memory: one that has less than another by no more than that has as much."""


def find_model(name: str, machine: Machine, frames: int = 13) -> tuple[Model, str]:
    """Find the checkpoint to run, and say why where the choice was ours.

    ``auto`` is CogVideoX-5b where it is complete and a plan for it fits a GPU, else the embedded.

    Returns:
        (model, note): the note is empty when a model was named.

    Raises:
        ModelError: if a named model is missing or not whole.
    """
    if name.strip().lower() != "auto":
        return store.locate_checkpoint(name), ""
    wanted, embedded = registry.COGVIDEOX_5B, registry.TINY
    command = store.download_command(wanted)
    try:
        model = store.locate_checkpoint(wanted.name)
        if not machine.gpus:
            reason = f"there is no GPU here; name {wanted.name} to run it on the CPU"
        else:
            predict_plan(model, machine, nearest(frames, wanted.frames))
            return model, f"{wanted.name}, which fits the GPU here"
    except ModelMissing:
        reason = f"{wanted.name} is not on this machine; get it with: {command}"
    except (ModelError, DoesNotFit) as error:
        reason = str(error)
    return store.locate_checkpoint(embedded.name), f"the small embedded {embedded.name}: {reason}"


def plan_request(request: VideoRequest, machine: Machine, videos: int = 1) -> Plan:
    """The fastest plan that fits; one that is exact before one that is not.

    Args:
        videos: how many of the kind are to come, which share a compilation.

    Raises:
        DoesNotFit: with what would.
        RequestError: if a package that the speed needs is missing, or the device can't have the
            attention.
    """
    size = (request.frames, request.height, request.width, request.guidance > 1)
    guess = _largest_plan(request.model, machine, *size)
    guess = replace(guess, attention=request.attention, speed=request.speed)
    return _fastest_fitting(guess, machine, request.steps, videos)


def predict_plan(
    model: Model | Checkpoint, machine: Machine, frames: int, speed: str = "exact", steps: int = 50
) -> Plan:
    """The plan for a video of a model's own size with guidance, before anything is asked for.

    Args:
        model: a checkpoint that is here, or one that is only known.

    Raises:
        DoesNotFit: with what would.
    """
    if isinstance(model, Checkpoint):
        model = Model(model, Path(model.name), {}, model.parameters)
    height, width = model.checkpoint.height, model.checkpoint.width
    guess = _largest_plan(model, machine, frames, height, width, True)
    return _fastest_fitting(replace(guess, attention=AUTO, speed=speed), machine, steps)


def replay_plan(request: VideoRequest, machine: Machine, choices: dict) -> Plan:
    """The plan that a sidecar records, to make its video again; ``plan_request`` where it can't be had here,
    with the reason."""
    plan = plan_request(request, machine)
    if choices.get("device", "cpu").split(":")[0] != plan.device.split(":")[0]:
        return plan
    kept = {name: choices[name] for name in RECORDED if name in choices}
    kept["compiled"] = choices.get("compiled", False)
    kept.setdefault("attention", STOCK)  # older ones had no other
    changed = replace(plan, **kept, reasons=("as it was made before",))
    changed = _with_predictions(changed, machine, request.steps)
    gpu = gpu_for(plan, machine)
    why = missing_requirement(changed, gpu, machine, request.steps)
    if not why and not _fits(changed, gpu, machine):
        why = f"{changed.placement} doesn't fit here"
    if why:
        return replace(plan, reasons=(*plan.reasons, f"not as it was made before: {why}"))
    return changed


def with_placement(plan: Plan, placement: str, machine: Machine, steps: int = 50) -> Plan:
    """The same plan on a placement that was asked for.

    Raises:
        DoesNotFit: if its device has no such placement.
    """
    if placement not in (("resident",) if plan.device == "cpu" else PLACEMENTS):
        raise DoesNotFit(f"{placement} is no placement for {plan.device}: use resident")
    changed = drop_incompatible(
        replace(plan, placement=placement, tiled=False, reasons=("as asked for",))
    )
    return _with_predictions(changed, machine, steps)


def gpu_with_most_free_memory(machine: Machine) -> Gpu | None:
    """The first of the GPUs with most free memory, as good as equal ones taken for equal: what
    libraries hold of the one in use mustn't send the next video to another."""
    most = max((gpu.free_bytes for gpu in machine.gpus), default=0)
    alike = (
        gpu for gpu in machine.gpus if gpu.free_bytes >= most - EQUAL_MEMORY_SHARE * gpu.total_bytes
    )
    return next(alike, None)


def _largest_plan(
    model: Model, machine: Machine, frames: int, height: int, width: int, guided: bool
) -> Plan:
    checkpoint = model.checkpoint
    gpu = gpu_with_most_free_memory(machine)
    if gpu is None:
        device, dtype, reason = "cpu", checkpoint.cpu_dtype, "no GPU here"
    else:
        device, dtype, reason = f"cuda:{gpu.index}", checkpoint.gpu_dtype, gpu.name
        if dtype == "bfloat16" and not gpu.bf16:
            dtype, reason = "float16", f"{gpu.name} has no fast bfloat16"
    size = {"frames": frames, "height": height, "width": width, "guided": guided}
    return Plan(model, device, dtype, "resident", False, **size, reasons=(reason,))


def _fastest_fitting(guess: Plan, machine: Machine, steps: int, videos: int = 1) -> Plan:
    gpu = gpu_for(guess, machine)
    guess = plan.resolve_speed(plan.resolve_attention(guess, gpu, machine), gpu, machine, steps)
    candidates = [
        _with_predictions(one, machine, steps, videos)
        for one in plan.candidate_plans(guess, gpu, machine)
    ]
    fitting = [one for one in candidates if _fits(one, gpu, machine)]
    if not fitting:
        raise DoesNotFit(_explain_shortage(candidates, gpu, machine))
    if gpu is None:
        best = fitting[0]
    else:

        def rank(one: Plan) -> tuple:
            wanted = bool(guess.quantized) and not one.quantized
            return (
                one.tiled,
                wanted,
                sum(timing.stage_seconds(*_timing_arguments(one, machine, steps, videos)).values()),
            )

        best = min(fitting, key=rank)
    reasons = [*best.reasons, PLACEMENTS[best.placement]]
    if guess.quantized and not best.quantized:
        reasons.append(
            f"8-bit products need the whole transformer on the GPU: {best.speed} does without"
        )
    if gpu is not None and not best.compiled and best.placement in COMPILABLE:
        reasons.append("compiling the blocks would take longer than it saves")
    return replace(best, reasons=tuple(reasons))


def _fits(plan: Plan, gpu: Gpu | None, machine: Machine) -> bool:
    if gpu is None:
        return plan.peak_bytes <= machine.ram_free_bytes
    room = gpu.free_bytes - SPARE_BYTES
    return plan.peak_bytes <= room and plan.ram_bytes <= plan.ram_room_bytes


def _explain_shortage(candidates: list[Plan], gpu: Gpu | None, machine: Machine) -> str:
    """One line: what the smallest would need, what there is, and what to try."""
    smallest = min(candidates, key=lambda one: one.peak_bytes)
    needed, found, where = smallest.peak_bytes, machine.ram_free_bytes, "RAM"
    if gpu is not None:
        needed, found = needed + SPARE_BYTES, gpu.free_bytes
        where = f"GPU memory ({gpu.name})"
        if needed <= found:
            room = found - SPARE_BYTES
            needed = min(one.ram_bytes for one in candidates if one.peak_bytes <= room) + SPARE_RAM
            found, where = machine.ram_free_bytes, "RAM beside its GPU"
    name, frames = smallest.model.name, smallest.frames
    fewest = smallest.model.checkpoint.frames[0]
    fewer = f"{fewest} frames, " if frames > fewest else ""
    return (
        f"{name} at {frames} frames needs {needed / GIB:.1f} GiB of {where} and "
        f"{found / GIB:.1f} GiB are free: try {fewer}a larger machine, or --model tiny"
    )


def _with_predictions(plan: Plan, machine: Machine, steps: int, videos: int = 1) -> Plan:
    """The plan with its predicted memory and time."""
    gpu = gpu_for(plan, machine)
    room = gpu.free_bytes - SPARE_BYTES if gpu else 0
    found = {"peak_bytes": memory.reserved_bytes(plan, room), "ram_bytes": memory.ram_bytes(plan)}
    found["ram_room_bytes"] = int(max(1, machine.ram_free_bytes - SPARE_RAM))
    if gpu is not None and timing.is_known_gpu(gpu):
        found["seconds"] = timing.stage_seconds(*_timing_arguments(plan, machine, steps, videos))
    return replace(plan, **found)


def _timing_arguments(plan: Plan, machine: Machine, steps: int, videos: int) -> tuple:
    """Arguments of ``timing.stage_seconds``."""
    gpu = gpu_for(plan, machine)
    warm = compiled_key(plan, gpu.name, machine.versions.get("torch")) in machine.compiled
    return plan, gpu, steps, warm, videos


def without_flash_attention(plan: Plan, why: str) -> Plan:
    """The same plan with torch's attention, which is exact too, where FlashAttention 4 fails."""
    reasons = tuple(reason for reason in plan.reasons if reason != FLASH4_REASON)
    return replace(plan, attention=STOCK, seconds={}, reasons=(*reasons, why))


def with_model_offload(plan: Plan) -> Plan:
    """The same plan with whole models moved to and fro, after they didn't fit all at once."""
    reasons = (*plan.reasons, f"memory ran out as {plan.placement}")
    return _with_memory(replace(plan, placement="model_offload", reasons=reasons))


def without_compile(plan: Plan, why: str) -> Plan:
    """The same plan with nothing compiled, after compiling failed; eager 8-bit products are slow,
    so without them too."""
    reasons = (*plan.reasons, f"compiling failed: {why}")
    return _with_memory(replace(plan, compiled=False, quantized="", reasons=reasons))


def with_frames(plan: Plan, frames: int) -> Plan:
    """The same plan for fewer frames."""
    return _with_memory(replace(plan, frames=frames))


def with_vae_tiling(plan: Plan) -> Plan:
    """The same plan with a VAE that decodes in tiles, after memory ran out as it decoded whole."""
    reasons = (*plan.reasons, "memory ran out decoding whole")
    return _with_memory(replace(plan, tiled=True, reasons=reasons))


def next_smaller_plan(plan: Plan) -> Plan | None:
    """The next smaller plan for the same request that the RAM has room for, or None after the
    smallest."""
    rungs = list(placements_by_memory(plan))[rank(plan) + 1 :]
    how = f"{plan.placement}{' with tiles' if plan.tiled else ''}"
    reasons = (*plan.reasons, f"memory ran out as {how}")
    for placement, tiled in rungs:
        changed = replace(plan, placement=placement, tiled=tiled, reasons=reasons)
        stepped = _with_memory(drop_incompatible(changed))
        smaller = stepped.peak_bytes < memory.peak_bytes(plan) or (placement, tiled) == rungs[-1]
        if smaller and _has_ram(stepped):
            return stepped
    return None


def _with_memory(plan: Plan) -> Plan:
    """The plan with what it needs; how long it takes isn't known."""
    needs = {"peak_bytes": memory.peak_bytes(plan), "ram_bytes": memory.ram_bytes(plan)}
    return replace(plan, **needs, seconds={})


def _has_ram(plan: Plan) -> bool:
    return plan.device == "cpu" or not plan.ram_room_bytes or plan.ram_bytes <= plan.ram_room_bytes
