"""What ``cogvx show`` prints of a video for a person."""

from __future__ import annotations

import textwrap

from ..errors import ResultError
from ..planning.schedulers import AUTO
from ..results.marks import read_marks
from ..results.recipe import command_line
from ..results.records import Sidecar, used_inputs
from ..results.result import Result
from ..text import GIB, format_duration, full_number, plain_line

NAME_WIDTH = 11
"""Columns of the names."""

LEAST_WIDTH = 40
"""Columns that a value is wrapped at least to."""


def summary_lines(result: Result, width: int = 0) -> list[str]:
    """How a video was made, a name and its value a line, and the command that makes it again.

    Args:
        width: terminal columns that values are wrapped to; 0 for whole lines.
    """
    values = _values(result.settings) | _marks(result)
    lines = [str(result.path)]
    for name, value in values.items():
        if value:
            lines += _wrapped(name, plain_line(value), width)
    try:
        again = command_line(result.settings)
    except ResultError as error:
        again = f"({error})"
    return [*lines, "", f"again:  {plain_line(again)}", "all of it:  cogvx show FILE --json"]


def _values(sidecar: Sidecar) -> dict[str, str]:
    request, plan, machine = sidecar.request, sidecar.plan, sidecar.machine
    shown, finished = sidecar.shown, sidecar.finished
    variation = ""
    if request.variation_strength:
        strength = full_number(request.variation_strength)
        variation = f", turned {strength} towards {request.variation_seed}"
    placed = [plan.device, plan.dtype, plan.placement, plan.attention]
    placed += ["tiled VAE"] * bool(plan.tiled) + [plan.speed]
    total = format_duration(sum(sidecar.seconds.values()))
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in sidecar.seconds.items())
    gpus = ", ".join(machine.gpus or ())
    ram = f"{machine.ram_bytes / GIB:.0f} GiB" if machine.ram_bytes else ""
    return {
        "prompt": request.prompt,
        "without": request.negative_prompt,
        "typed": sidecar.enriched_from,
        "template": sidecar.typed_templates,
        "model": sidecar.checkpoint.name,
        "video": f"{shown.frames} frames of {shown.height} × {shown.width} at {shown.fps} fps",
        "pieces": ", ".join(f"{piece.name} ({piece.transition})" for piece in sidecar.pieces),
        "finished": f"{finished}, of {finished.source}" if finished else "",
        **_inputs(sidecar),
        "denoising": f"{request.steps} steps, guidance {full_number(request.guidance)}",
        "scheduler": "" if request.scheduler == AUTO else request.scheduler,
        "seed": f"{request.seed}{variation}",
        "plan": ", ".join(filter(None, placed)),
        "seconds": f"{total}: {stages}",
        "made": sidecar.made.replace("T", " ")[:16],
        "machine": ", ".join(filter(None, [gpus, machine.system, ram])),
        "adjusted": "; ".join(map(str, sidecar.adjustments)),
        "notes": "; ".join(sidecar.notes),
    }


def _inputs(sidecar: Sidecar) -> dict[str, str]:
    """What it was made from: the file that was given, what it is kept as, and how it was used."""
    request = sidecar.request
    details = {
        "image": [f"latents scaled as {request.image_scale}"],
        "video": [f"from {full_number(request.video_start)} s"] * bool(request.video_start)
        + [f"strength {full_number(request.strength)}"],
        "extend": [f"and {request.frames} frames more"],
    }
    lines = {}
    for used in used_inputs(sidecar):
        words = [f"{used.name}, kept as {used.value}", *details.get(used.field, ())]
        lines[used.field.replace("_", " ")] = ", ".join([*words, f"fit {request.fit}"])
    return lines


def _marks(result: Result) -> dict[str, str]:
    try:
        marks = read_marks(result.path, result.frame_hash)
    except ResultError as error:
        return {"marks": str(error)}
    return {"stars": "★" * marks.stars, "tags": ", ".join(marks.tags), "note": marks.note}


def _wrapped(name: str, value: str, width: int) -> list[str]:
    parts = textwrap.wrap(value, max(width - NAME_WIDTH, LEAST_WIDTH)) if width else [value]
    heads = [name, *[""] * (len(parts) - 1)]
    return [f"{head:<{NAME_WIDTH}}{part}" for head, part in zip(heads, parts, strict=True)]
