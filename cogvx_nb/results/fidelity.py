"""How far videos lie from those of ``exact``, as benchmarks of a machine measured it. No torch."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from .. import settings
from ..checkpoints.registry import TEXT
from ..loras.entries import shown_loras
from ..paths import read_json
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
    placement: str  # as requested: one of plan.PLACEMENTS, or "auto"
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
        labels = [row.label.format(self.plan[row.field]) for row in on]
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


def benchmarks_folder() -> Path:
    """Where benchmarks are written by default."""
    return settings.outputs_dir() / "benchmarks"


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
    rows = read_as(tuple[FidelityRow, ...], bare)
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


class MeasuredFidelity:
    """The rows of all benchmarks in a folder; each file is read again when it changes."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._read: dict[tuple[str, int, int], tuple[FidelityRow, ...]] = {}

    def find(self, plan: Plan, steps: int, machine: Machine) -> FidelityRow | None:
        """How far videos of a plan lie from those of ``exact``: the newest row of its checkpoint
        and device whose plan has the same approximations; one of as many steps and frames if
        there is one. None for a plan with LoRAs, and where nothing was measured.
        """
        device = device_name(plan, machine)
        fitting = [
            row
            for row in self._rows()
            if (row.model, row.device, row.speed) == (plan.model.name, device, plan.speed)
            and row.clips
            and not (row.lora or plan.loras or row.is_reference)
            and _approximations(row.plan) == _approximations(plan.choices)
        ]
        wanted = (steps, plan.frames)
        closest = [[row.steps == wanted[0], row.frames == wanted[1]] for row in fitting]
        return max(zip(closest, range(len(fitting)), fitting, strict=True), default=[None])[-1]

    def _rows(self) -> list[FidelityRow]:
        """Those of the oldest file first."""
        known, read = self._read, {}
        for path, key in _files(self._folder or benchmarks_folder()):
            read[key] = known[key] if key in known else _rows_of(path)
        self._read = read
        return [row for rows in read.values() for row in rows]


def _files(folder: Path) -> list[tuple[Path, tuple[str, int, int]]]:
    """Benchmarks, the oldest first, each with what changes when it is written again."""
    found = []
    for path in folder.glob("[!.]*.json"):
        try:
            status = path.stat()
        except OSError:  # deleted meanwhile
            continue
        found.append((path, (path.name, status.st_mtime_ns, status.st_size)))
    return sorted(found, key=lambda one: one[1][1])


def _rows_of(path: Path) -> tuple[FidelityRow, ...]:
    """Rows of a file; none of one that is no benchmark: any may lie there."""
    try:
        return read_rows(read_json(path), strips=False)
    except (OSError, ValueError):
        return ()


def _approximations(choices: Mapping[str, object]) -> dict[str, object]:
    """The choices of a plan that change frames by more than rounding."""
    names = ["tiled", *(row.field for row in SPEED_UPS.values() if not row.exact)]
    return {name: choices.get(name) for name in names}


def computing_choices(plan: Plan) -> dict[str, object]:
    """How a plan computes a video; the same for two speeds that do the same on a machine."""
    values = {name: getattr(plan, name) for name in (*RECORDED, "device") if name != "speed"}
    return {k: ", ".join(v) if isinstance(v, tuple) else v for k, v in values.items()}


def device_name(plan: Plan, machine: Machine) -> str:
    """The name of the GPU that a plan runs on; ``cpu`` without one."""
    gpu = gpu_for(plan, machine)
    return gpu.name if gpu else plan.device


def fidelity_label(row: FidelityRow) -> str:
    """The measured distance in a few words, such as ``37 dB from exact``."""
    if row.identical:
        return "identical to exact"
    return f"{row.median('psnr'):.0f} dB from exact"


def fidelity_sentence(row: FidelityRow) -> str:
    """The same with what was measured."""
    count = len(row.clips)
    clips = f"{count} video{'s' * (count != 1)} of {row.length}"
    return f"{fidelity_label(row)}, measured here on {clips} (PSNR of the same seed)"
