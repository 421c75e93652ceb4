"""GPUs that share the steps of a video: what may be asked for, and a plan's choices. No torch.

With an even number and guidance each of its halves is computed by half of the GPUs; those of a half
share the rows of the latents and exchange tokens around each attention (``pipeline.split``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from ..checkpoints.registry import SIZE_MULTIPLE
from ..errors import RequestError
from .machine import Gpu, Machine
from .plan import Plan, gpu_for
from .speedups import AUTO

MOST_GPUS = 64


def parse_gpus(text: str) -> int | tuple[int, ...] | None:
    """How many GPUs, which ones by their indices, or None for ``auto``.

    Raises:
        RequestError: if it is none of these.
    """
    if text == AUTO:
        return None
    if re.fullmatch(r"\s*\d{1,3}\s*", text, re.ASCII) and 0 < int(text) <= MOST_GPUS:
        return int(text)
    if re.fullmatch(r"\s*\d{1,3}\s*(,\s*\d{1,3}\s*)*,?\s*", text, re.ASCII) and "," in text:
        indices = tuple(int(part) for part in text.split(",") if part.strip())
        if len(set(indices)) == len(indices):
            return indices
    raise RequestError("gpus", text, "use auto, a number of GPUs, or their indices such as 0,2")


def gpu_choices(draft: Plan, machine: Machine, asked: str) -> Iterator[Plan]:
    """The draft on each set of GPUs that is asked for and can share a step; one GPU first.

    Raises:
        RequestError: if this machine hasn't got them, or they can't share it.
    """
    wanted, first = parse_gpus(asked), gpu_for(draft, machine)
    if first is None:
        if wanted is not None and wanted != 1:
            raise RequestError("gpus", asked, "torch sees no GPU here: use auto")
        yield draft
        return
    if isinstance(wanted, tuple):
        yield _on(draft, _named(wanted, machine, asked), machine, asked)
        return
    alike = [gpu for gpu in machine.gpus if gpu.name == first.name and gpu != first]
    row = [first, *sorted(alike, key=lambda gpu: -gpu.free_bytes)]
    if wanted is not None:
        if wanted > len(row):
            raise RequestError("gpus", asked, f"there are {len(row)} of {first.name} here")
        yield _on(draft, row[:wanted], machine, asked)
        return
    yield draft
    for count in range(2, len(row) + 1):
        plan = _with_gpus(draft, row[:count])
        if not obstacle(plan, machine):
            yield plan


def obstacle(plan: Plan, machine: Machine) -> str:
    """Why a plan's GPUs can't share a step, in one line; empty if they can."""
    checkpoint, parts = plan.model.checkpoint, plan.parts
    heads = checkpoint.architecture[1]
    if parts == 1:
        return ""
    if not checkpoint.rotary_embeddings or checkpoint.learned_positions:
        return f"{checkpoint.name} adds positions to its tokens: only guidance can be split"
    if parts > (most := min(heads, plan.height // SIZE_MULTIPLE)):
        return f"at most {most} GPUs can share a clip of {checkpoint.name} at this size"
    gpus = {f"cuda:{gpu.index}": gpu for gpu in machine.gpus}
    members = [gpus[name] for name in plan.devices if name in gpus]
    for one in members:
        apart = [other.index for other in members if other is not one]
        missing = next((index for index in apart if index not in one.reaches), None)
        if missing is not None:
            pair = f"cuda:{one.index} and cuda:{missing}"
            return f"{pair} can't reach each other directly: only guidance can be split"
    return ""


def _on(draft: Plan, gpus: list[Gpu], machine: Machine, asked: str) -> Plan:
    plan = _with_gpus(draft, gpus)
    if why := obstacle(plan, machine):
        raise RequestError("gpus", asked, why)
    return plan


def _with_gpus(draft: Plan, gpus: list[Gpu]) -> Plan:
    device, *peers = (f"cuda:{gpu.index}" for gpu in gpus)
    plan = replace(draft, device=device, peers=tuple(peers))
    if not peers:
        return plan
    halves = "the halves of guidance" if plan.halves == 2 else ""
    rows = f"{plan.parts} shares of the rows" if plan.parts > 1 else ""
    what = " and ".join(filter(None, [halves, rows]))
    return replace(plan, reasons=(*plan.reasons, f"{len(gpus)} GPUs share a step: {what}"))


def _named(indices: tuple[int, ...], machine: Machine, asked: str) -> list[Gpu]:
    gpus = {gpu.index: gpu for gpu in machine.gpus}
    for index in indices:
        if index not in gpus:
            here = ", ".join(map(str, gpus))
            raise RequestError("gpus", asked, f"there is no GPU {index} here, but {here}")
    return [gpus[index] for index in indices]


def peers_like(recorded: tuple, plan: Plan, machine: Machine) -> tuple[tuple[str, ...], str]:
    """As many other GPUs as were recorded, whichever they are; and why there aren't so many."""
    asked = str(1 + len(recorded))
    try:
        return next(gpu_choices(replace(plan, peers=()), machine, asked)).peers, ""
    except RequestError as error:
        return (), f"{asked} GPUs shared its steps: {error.remedy}"


def full_gpu(plan: Plan, machine: Machine) -> Gpu | None:
    """One of a plan's other GPUs that hasn't the memory; None if all have it."""
    peers = (gpu for gpu in machine.gpus if f"cuda:{gpu.index}" in plan.peers)
    return next((gpu for gpu in peers if plan.peer_bytes > gpu.room_bytes), None)


def fewer_gpus(plan: Plan, failed: str) -> Plan:
    """The plan on half of its GPUs, without one that failed; on one where two are left.

    Args:
        failed: its name, such as ``cuda:1``, in any text.
    """
    left = [name for name in plan.peers if not re.search(rf"\b{name}\b", failed)]
    return replace(plan, peers=tuple(left[: len(plan.devices) // 2 - 1]))
