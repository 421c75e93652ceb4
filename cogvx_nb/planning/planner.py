"""How this machine will make a request: the fastest plan that fits, and what to go on with.

Pure arithmetic over the request and the machine. A plan chooses device, precision, placement, VAE
tiling and speed-ups. It never changes the request.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..checkpoints.registry import Checkpoint, Model
from ..errors import DoesNotFit
from ..loras.layers import UsedLora
from ..text import GIB
from . import cost, several_gpus
from .former_names import upgrade_choices
from .guidance import Guiding
from .machine import SPARE_GPU_BYTES, SPARE_RAM_BYTES, Machine
from .placements import NO_OFFLOAD, PLACEMENTS, placement_named
from .plan import (
    RECORDED,
    Plan,
    compiled_key,
    drop_incompatible,
    fits,
    gpu_for,
    placements_by_memory,
)
from .request import VideoRequest
from .requirements import (
    candidate_plans,
    missing_needs,
    missing_requirement,
    resolve_speed_ups,
)
from .speedups import AUTO, SPEED_UPS
from .windows import describe


def plan_request(request: VideoRequest, machine: Machine, videos: int = 1) -> Plan:
    """The fastest plan that fits; one that is exact before one that is not.

    Args:
        videos: how many of the kind are to come, which share a compilation.

    Raises:
        DoesNotFit: with what would.
        RequestError: if a package that the speed needs is missing, or the attention isn't available
            on the device.
    """
    size = (request.clip_frames, request.height, request.width, request.guidance > 1)
    draft = _draft_plan(request.model, machine, *size)
    draft = replace(
        draft,
        guiding=request.guiding,
        attention=request.attention,
        speed=request.speed,
        encoded_frames=request.encoded_frames,
        loras=_acting(request.loras),
    )
    return _fastest_fitting(draft, machine, request.done_steps, videos, request.gpus)


def predict_plan(
    model: Model | Checkpoint,
    machine: Machine,
    frames: int,
    speed: str = "exact",
    steps: int = 50,
    attention: str = AUTO,
    encoded_frames: int = 0,
    loras: Iterable[UsedLora] = (),
    gpus: str = AUTO,
    guiding: Guiding | None = None,
) -> Plan:
    """The plan for a video of a model's native size, before there is a request.

    ``model`` may be the facts of a checkpoint alone, ``encoded_frames`` are of pictures and clips,
    ``loras`` are read for it, ``gpus`` is that field of a request, and ``guiding`` is the
    checkpoint's own by default. Raises what ``plan_request`` raises.
    """
    if isinstance(model, Checkpoint):
        model = Model(model, Path(model.name), {}, model.parameters)
    height, width = model.checkpoint.height, model.checkpoint.width
    guided = guiding is None or guiding.scale > 1
    draft = _draft_plan(model, machine, frames, height, width, guided)
    asked = {"attention": attention, "speed": speed, "encoded_frames": encoded_frames}
    asked |= {"loras": _acting(loras), "guiding": guiding}
    return _fastest_fitting(replace(draft, **asked), machine, steps, gpus=gpus)


def _acting(loras: Iterable[UsedLora]) -> tuple[UsedLora, ...]:
    """Those that change something."""
    return tuple(one for one in loras if one.weight)


def replay_plan(request: VideoRequest, machine: Machine, choices: dict) -> Plan:
    """The plan that a sidecar records, to make its video again.

    Where this machine can't have it the plan of ``plan_request``, with the reason.
    """
    plan, recorded = plan_request(request, machine), upgrade_choices(choices)
    if recorded.get("device", "cpu").split(":")[0] != plan.device.split(":")[0]:
        return plan
    settings = {name: recorded[name] for name in RECORDED if name in recorded}
    settings["peers"], why = several_gpus.peers_like(recorded["peers"], plan, machine)
    changed = replace(plan, **settings, reasons=("as it was made before",))
    if changed.placement not in PLACEMENTS:
        why = f"there is no placement {changed.placement!r}"
    elif not why:
        changed = _with_predictions(changed, machine, request.done_steps)
        why = missing_requirement(changed, machine, request.done_steps)
        if not why and not fits(changed, machine):
            why = f"{changed.placement} doesn't fit here"
    if why:
        return replace(plan, reasons=(*plan.reasons, f"not as it was made before: {why}"))
    return changed


def with_placement(plan: Plan, name: str, machine: Machine, steps: int = 50) -> Plan:
    """The same plan on a named placement.

    Raises:
        DoesNotFit: if its device has no such placement.
        RequestError: if there is none of that name.
    """
    placement = placement_named(name)
    if plan.device == "cpu" and placement.offloads:
        raise DoesNotFit(f"{placement.name} isn't available on {plan.device}: use {NO_OFFLOAD}")
    changed = replace(plan, placement=placement.name, tiled=False, reasons=("as asked for",))
    return _with_predictions(drop_incompatible(changed), machine, steps)


def _draft_plan(
    model: Model, machine: Machine, frames: int, height: int, width: int, guided: bool
) -> Plan:
    """Device and precision; everything else as it takes most memory."""
    checkpoint = model.checkpoint
    gpu = machine.gpu_with_most_free_memory
    if gpu is None:
        device, dtype, reason = "cpu", checkpoint.cpu_dtype, "no GPU here"
    else:
        device, dtype, reason = f"cuda:{gpu.index}", checkpoint.gpu_dtype, gpu.name
        if dtype == "bfloat16" and not gpu.bf16:
            dtype, reason = "float16", f"{gpu.name} has no fast bfloat16"
    size = {"frames": frames, "height": height, "width": width, "guided": guided}
    return Plan(model, device, dtype, NO_OFFLOAD, False, **size, reasons=(reason,))


def _fastest_fitting(
    draft: Plan, machine: Machine, steps: int, videos: int = 1, gpus: str = AUTO
) -> Plan:
    draft = resolve_speed_ups(draft, machine, steps)
    candidates = [
        _with_predictions(plan, machine, steps, videos)
        for one in several_gpus.gpu_choices(draft, machine, gpus)
        for plan in candidate_plans(one, machine, steps)
        if plan.peers or not one.peers
    ]
    fitting = [plan for plan in candidates if fits(plan, machine)]
    if not fitting:
        raise DoesNotFit(_explain_shortage(candidates, machine))
    if draft.device == "cpu":
        return _with_explanations(fitting[0], draft, [])

    def rank(plan: Plan) -> tuple:
        wanted = [row for row in draft.speed_ups if row.placement]
        lost = sum(row not in plan.speed_ups for row in wanted)
        return plan.tiled, lost, sum(_stage_seconds(plan, machine, steps, videos).values())

    return _with_explanations(min(fitting, key=rank), draft, candidates)


def _with_explanations(plan: Plan, draft: Plan, candidates: list[Plan]) -> Plan:
    """The plan with reasons for its placement, and for what it does without."""
    reasons = [*plan.reasons, plan.offload.description]
    if len(plan.windows) > 1:
        reasons.append(describe(plan.model.checkpoint, plan.frames))
    for row in draft.speed_ups:
        if row.requires and row not in plan.speed_ups:
            reasons.append(f"{row.title} needs {row.requires}: {plan.speed} does without")
    alike = [other.speed_ups for other in candidates if other.placement == plan.placement]
    possible = [row for row in itertools.chain(*alike) if not missing_needs(plan, row)]
    for row in SPEED_UPS.values():
        if row.by_cost and row not in plan.speed_ups and row in possible:
            reasons.append(f"{row.title} would take longer than it saves")
    return replace(plan, reasons=tuple(reasons))


def _explain_shortage(candidates: list[Plan], machine: Machine) -> str:
    """What the smallest plan would need, what there is, and what to try, in one line."""
    smallest = min(candidates, key=lambda plan: plan.peak_bytes)
    gpu = gpu_for(smallest, machine)
    needed, free, where = smallest.peak_bytes, machine.ram_free_bytes, "RAM"
    full = several_gpus.full_gpu(smallest, machine)
    if gpu is not None:
        if smallest.peak_bytes <= gpu.room_bytes:
            fitting = (plan for plan in candidates if plan.peak_bytes <= gpu.room_bytes)
            needed = min(plan.ram_bytes for plan in fitting) + SPARE_RAM_BYTES
            where = "RAM besides GPU memory"
        else:
            needed, free = needed + SPARE_GPU_BYTES, gpu.free_bytes
            where = f"GPU memory ({gpu.name})"
    if full is not None:
        needed, free = smallest.peer_bytes + SPARE_GPU_BYTES, full.free_bytes
        where = f"memory of cuda:{full.index} ({full.name})"
    name, frames = smallest.model.name, smallest.frames
    fewest = smallest.model.checkpoint.frames[0]
    fewer = f"{fewest} frames, " if frames > fewest else ""
    fewer = "--gpus auto, " + fewer if full else fewer
    return (
        f"{name} at {frames} frames needs {needed / GIB:.1f} GiB of {where} and "
        f"{free / GIB:.1f} GiB are free: try {fewer}a larger machine, or --model tiny"
    )


def _with_predictions(plan: Plan, machine: Machine, steps: int, videos: int = 1) -> Plan:
    """The plan with its predicted memory and time."""
    gpu, seconds = gpu_for(plan, machine), plan.seconds
    if gpu is not None and cost.is_known_gpu(gpu):
        seconds = _stage_seconds(plan, machine, steps, videos)
    return replace(
        plan,
        peak_bytes=cost.reserved_bytes(plan, gpu.room_bytes if gpu else 0),
        peer_bytes=cost.peer_bytes(plan),
        ram_bytes=cost.ram_bytes(plan),
        ram_room_bytes=machine.ram_room_bytes,
        seconds=seconds,
    )


def _stage_seconds(plan: Plan, machine: Machine, steps: int, videos: int) -> dict[str, float]:
    gpu = gpu_for(plan, machine)
    warm = compiled_key(plan, gpu.name, machine.versions.get("torch")) in machine.compiled
    return cost.stage_seconds(plan, gpu, steps, warm, videos)


def next_plan(plan: Plan, failed: str, why: str = "") -> Plan | None:
    """The plan to go on with after a failure, with the reason; None if there is none.

    Args:
        failed: the name of a speed-up that doesn't work, or what memory ran out in: ``decode`` (its
            latents can be decoded in tiles), ``move`` (only what a loaded pipeline can change to),
            or anything else.
        why: the error of the speed-up, in one line.
    """
    if failed == "gpus":
        fewer = several_gpus.fewer_gpus(plan, why)
        return _with_memory(fewer, *plan.reasons, f"sharing a step among GPUs failed: {why}")
    if failed in SPEED_UPS:
        row = SPEED_UPS[failed]
        reasons = [reason for reason in plan.reasons if reason != row.reason]
        return _with_memory(plan.without(failed), *reasons, f"{row.title} failed: {why}")
    if failed == "decode":
        reasons = (*plan.reasons, "memory ran out with a whole VAE")
        return None if plan.tiled else _with_memory(replace(plan, tiled=True), *reasons)
    return _next_smaller_plan(plan, in_place=failed == "move")


def with_frames(plan: Plan, frames: int) -> Plan:
    """The same plan for another number of frames."""
    encoded = min(plan.encoded_frames, frames)
    return _with_memory(replace(plan, frames=frames, encoded_frames=encoded), *plan.reasons)


def _next_smaller_plan(plan: Plan, in_place: bool) -> Plan | None:
    """The next smaller plan that the RAM has room for, or None after the smallest."""
    rest = list(placements_by_memory(plan))
    rest = rest[rest.index((plan.placement, plan.tiled)) + 1 :]
    reason = f"memory ran out with {plan.placement}{' and a tiled VAE' if plan.tiled else ''}"
    for placement, tiled in rest:
        smaller = replace(plan, placement=placement, tiled=tiled)
        if in_place:
            if smaller.offload.reversible and tiled == plan.tiled:
                smaller = smaller if smaller.offload.splits else replace(smaller, peers=())
                return _with_memory(smaller, *plan.reasons, reason)
            continue
        smaller = _with_memory(drop_incompatible(smaller), *plan.reasons, reason)
        last = (placement, tiled) == rest[-1]
        if (last or smaller.peak_bytes < cost.peak_bytes(plan)) and (
            plan.device == "cpu" or smaller.ram_bytes <= (plan.ram_room_bytes or math.inf)
        ):
            return smaller
    return None


def _with_memory(plan: Plan, *reasons: str) -> Plan:
    """The plan with its predicted memory; its time is unknown."""
    return replace(
        plan,
        peak_bytes=cost.peak_bytes(plan),
        peer_bytes=cost.peer_bytes(plan),
        ram_bytes=cost.ram_bytes(plan),
        seconds={},
        reasons=reasons,
    )
