"""How far videos lie from those of ``exact``, as benchmarks of a machine measured it. No torch."""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import dataclass, field, replace
from typing import Annotated

from ..checkpoints.registry import TEXT
from ..loras.entries import shown_loras
from ..planning.former_names import rename_step_cache
from ..planning.machine import Machine
from ..planning.plan import RECORDED, Plan, gpu_for
from ..planning.speedups import SPEED_UPS
from .typed import FieldError, Range, read_as

REFERENCE = ("exact", "auto")
"""Speed and placement of the videos that the others are compared with."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of two clips of the same prompt, seed, length and size."""

    name: str  # field of ``ClipDistance``
    title: str
    unit: str
    digits: int  # after the point, where it is shown
    worst: str  # which of several clips lies farthest: that of the ``lowest`` or ``highest`` value
    description: str


MEASURES = {
    row.name: row
    for row in (
        Measure(
            "psnr",
            "PSNR",
            " dB",
            1,
            "lowest",
            "10 log₁₀(255² / mean squared error), over all pixels, channels and frames of a clip",
        ),
        Measure(
            "ssim",
            "SSIM",
            "",
            3,
            "lowest",
            "structural similarity with its authors' Gaussian window and constants (1 for equal "
            "frames), mean of the frames, by torchmetrics",
        ),
        Measure(
            "flip",
            "ꟻLIP",
            "",
            3,
            "highest",
            "how visible the difference is where two images alternate at 67 pixels per degree "
            "(0 for equal frames, at most 1), mean of up to 8 frames, by NVIDIA's flip-evaluator",
        ),
    )
}
"""By name. ꟻLIP: Andersson et al. 2020, ``https://doi.org/10.1145/3406183``."""


@dataclass(frozen=True, slots=True)
class ClipDistance:
    """A clip beside the one that ``exact`` makes of the same prompt and seed."""

    prompt: str
    seed: int
    psnr: Annotated[float, Range(-1000, 1000)] | None  # None where every pixel is equal
    ssim: Annotated[float, Range(-1.001, 1.001)]  # -1 … 1, and rounding
    flip: Annotated[float, Range(0, 1)]
    strip: str = ""  # some frames of it in a row: a WebP in base64

    @property
    def identical(self) -> bool:
        return self.psnr is None

    def value(self, name: str) -> float:
        """A measure; infinite for the PSNR of equal clips."""
        value = getattr(self, name)
        return math.inf if value is None else value


@dataclass(frozen=True, slots=True)
class FidelityRow:
    """A way of making videos, compared with ``exact`` on the same machine."""

    model: str
    device: str  # the GPU's name, or cpu
    frames: int
    height: int
    width: int
    steps: int
    speed: str  # one of speedups.SPEEDS
    placement: str  # as requested: one of placements.PLACEMENTS, or "auto"
    task: str = TEXT
    lora: str = ""  # merged into the weights: as a request's, each by its content
    note: str = ""  # what the speed does without on this machine
    same_plan: bool = False  # nothing is done otherwise than for ``exact``, so nothing was made
    error: str = ""
    plan: dict[str, object] = field(default_factory=dict)  # see ``computing_choices``
    seconds: float | None = None  # of all denoising steps, median of the clips
    clips: tuple[ClipDistance, ...] = ()

    @property
    def is_reference(self) -> bool:
        return (self.speed, self.placement) == REFERENCE

    @property
    def video(self) -> tuple:
        """What rows to be compared have in common."""
        return (*self._made_of, self.frames, self.height, self.width, self.steps)

    @property
    def _made_of(self) -> tuple:
        return self.model, self.device, self.task, self.lora

    @property
    def title(self) -> str:
        """Speed and placement, with what was merged."""
        placement = "" if self.placement == "auto" else f", {self.placement}"
        return f"{self.speed}{placement}" + f", with {shown_loras(self.lora)}" * bool(self.lora)

    @property
    def length(self) -> str:
        return f"{self.frames} frames × {self.steps} steps"

    @property
    def kind(self) -> str:
        """What was compared, in words."""
        return f"{self.model}, {self.length}: {self.title}"

    @property
    def setup(self) -> str:
        """What the plan chose: placement and speed-ups."""
        on = [row for row in SPEED_UPS.values() if self.plan.get(row.field) in row.values]
        labels = [row.label.format(self.plan[row.field]) for row in on if row.label]
        peers = str(self.plan.get("peers") or "")
        gpus = [f"{peers.count(',') + 2} GPUs"] * bool(peers)
        return ", ".join([str(self.plan.get("placement", "")), *gpus, *labels])

    @property
    def identical(self) -> bool:
        """Whether every pixel is that of ``exact``."""
        return bool(self.clips) and all(clip.identical for clip in self.clips)

    def median(self, name: str) -> float:
        """The median of a measure over the clips, of which there must be some; where two are in
        the middle, the one farther from ``exact``."""
        lowest = MEASURES[name].worst == "lowest"
        choose = statistics.median_low if lowest else statistics.median_high
        return choose(clip.value(name) for clip in self.clips)

    def worst(self, name: str) -> float:
        """That of the clip that lies farthest from ``exact``."""
        choose = min if MEASURES[name].worst == "lowest" else max
        return choose(clip.value(name) for clip in self.clips)

    def __str__(self) -> str:
        if self.error:
            return f"{self.title}: failed: {self.error}"
        if self.same_plan:
            return f"{self.title}: {self.note}"
        if self.is_reference:
            return f"{self.title}: {self.setup}"
        parts = [f"{row.title} {format_measure(row, self.median(name))}" for name, row in VALUES]
        return f"{self.title} beside exact: {', '.join(parts)}"


VALUES = tuple(MEASURES.items())


def format_measure(measure: Measure, value: float) -> str:
    """A value with its unit; equal clips are ``identical`` by PSNR."""
    return f"{value:.{measure.digits}f}{measure.unit}" if math.isfinite(value) else "identical"


MOST_CLIPS = 1000
"""Of a row: more can't be read again (``typed.MAX_ITEMS``)."""

STRIP_LENGTH = 500_000
"""Most characters of a strip in base64; usual ones have some ten thousand."""


def read_rows(content: object, *, strips: bool = True) -> tuple[FidelityRow, ...]:
    """The rows in a benchmark's JSON; none in one that measured times only.

    Args:
        strips: whether to keep the pictures.

    Raises:
        FieldError: if they aren't such rows.
    """
    if not isinstance(content, dict):
        raise FieldError("must be an object", content)
    entries = content.get("fidelity", [])
    bare = [_without_strips(entry) for entry in entries] if isinstance(entries, list) else entries
    read = read_as(tuple[FidelityRow, ...], bare)
    rows = tuple(replace(row, plan=rename_step_cache(row.plan)) for row in read)
    for row in rows:
        if not (row.clips or row.error or row.same_plan):
            raise FieldError("has no clips", row.kind, "fidelity")
    if not strips:
        return rows
    return tuple(map(_with_strips, rows, entries))


def _without_strips(entry: object) -> object:
    """A row's JSON whose texts are all short."""
    if not (isinstance(entry, dict) and isinstance(entry.get("clips"), list)):
        return entry
    clips = [clip | {"strip": ""} if isinstance(clip, dict) else clip for clip in entry["clips"]]
    return entry | {"clips": clips}


def _with_strips(row: FidelityRow, entry: dict) -> FidelityRow:
    clips = [
        replace(clip, strip=_checked_strip(values.get("strip", "")))
        for clip, values in zip(row.clips, entry.get("clips", []), strict=True)
    ]
    return replace(row, clips=tuple(clips))


def _checked_strip(value: object) -> str:
    if not isinstance(value, str) or not BASE64.fullmatch(value) or len(value) > STRIP_LENGTH:
        raise FieldError("must be a picture in base64", value, "strip", "fidelity")
    return value


BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


def computing_choices(plan: Plan) -> dict[str, object]:
    """How a plan computes a video; the same for two speeds that do the same on a machine."""
    values = {name: getattr(plan, name) for name in (*RECORDED, "device") if name != "speed"}
    return {k: ", ".join(v) if isinstance(v, tuple) else v for k, v in values.items()}


def device_name(plan: Plan, machine: Machine) -> str:
    """The name of the GPU that a plan runs on; ``cpu`` without one."""
    gpu = gpu_for(plan, machine)
    return gpu.name if gpu else plan.device
