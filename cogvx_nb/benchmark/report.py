"""A benchmark as values: rows, what changed between two reports, and ratios to a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..checkpoints.registry import TEXT
from ..planning.speedups import SDPA, SPEED_UPS
from ..text import GIB

STAGES = ("text", "encode", "denoise", "decode", "write")
"""Stages of each video. Loading and compiling, which only the first needs, are separate columns."""

WARM_STEPS = 2
"""Steps of the first video of a kind, which compiles and warms up and isn't counted."""

MEMORY_TOLERANCE = 0.02
"""Relative differences of reserved memory up to this don't count: the allocator's vary."""

BUSY_SPREAD = 0.2
"""Relative spread of the repeats above which something else kept the machine busy."""

FULL_STEPS = 50
"""Steps of the videos that are compared with published times: the default of CogVideoX."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A system that the workbench is compared with; its key in ``BASELINES`` is its rows' speed."""

    title: str
    description: str


BASELINES = {
    "stock": Baseline(
        "diffusers (stock)",
        "the pipeline and VAE of diffusers, no offload, nothing compiled",
    ),
    "seed": Baseline(
        "seed script",
        "the script that this workbench started from: float16, DDIM, model offload, slicing",
    ),
}


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of something that was repeated."""

    median: float
    spread: float  # (largest - smallest) / median
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DecodeTiming:
    """Decoding the same latents several times."""

    seconds: Timing
    bytes: int | None  # allocated beyond the loaded models at most; None on a CPU


@dataclass(frozen=True, slots=True)
class GpuUsage:
    """What a GPU used between two moments; None where it isn't known."""

    allocated_bytes: int | None = None  # peak of tensors in torch's allocator
    reserved_bytes: int | None = None  # peak of what the allocator held
    joules: float | None = None  # energy of the whole GPU
    sm_mhz: int | None = None  # clock of its multiprocessors, median of the samples
    throttled: tuple[str, ...] | None = None  # what lowered the clock in a sample


@dataclass(frozen=True, slots=True)
class Measurement:
    """Times and memory of one kind of video."""

    plan: dict[str, object]  # see Plan.choices
    load_seconds: float
    compile_seconds: float | None  # of the first video; None if nothing was compiled
    seconds: dict[str, Timing]  # of each of STAGES
    video_seconds: Timing  # all stages
    step_seconds: Timing  # mean denoising step of each video
    gpu: GpuUsage  # while the videos were made; energy of one video
    decodes: dict[str, DecodeTiming | None] | None  # "whole" and "tiled"; see measure_decodes
    predicted_bytes: int | None = None  # the plan's; None for a baseline
    predicted_seconds: dict[str, float] = field(default_factory=dict)  # of each stage
    mfu: float | None = None  # see peak.model_flops_utilisation


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of video: measured, or failed with an error."""

    model: str
    frames: int
    steps: int
    height: int
    width: int
    speed: str  # one of speedups.SPEEDS, or of BASELINES
    placement: str  # as requested: one of plan.PLACEMENTS, or "auto"
    task: str = TEXT  # one of registry.TASKS
    error: str = ""
    measured: Measurement | None = None

    @property
    def kind(self) -> str:
        """What was requested, in words; the same whenever it is measured again."""
        size = f"{self.frames} frames × {self.steps} steps"
        return f"{self.model}, {self.made_of}{size}, {self.speed}, {self.placement}"

    @property
    def made_of(self) -> str:
        """The task before the size; empty for text alone."""
        return f"{self.task}, " * (self.task != TEXT)

    @property
    def kind_key(self) -> tuple:
        """Identifies what was requested."""
        return *self.video, self.steps, self.speed, self.placement

    @property
    def video(self) -> tuple[str, int, int, int, str]:
        """What rows to be compared have in common: model, frames, height, width, task."""
        return self.model, self.frames, self.height, self.width, self.task

    @property
    def title(self) -> str:
        """The speed, or the baseline's title."""
        return BASELINES[self.speed].title if self.speed in BASELINES else self.speed

    @property
    def setup(self) -> str:
        """How it was made: speed or baseline, then what the plan chose."""
        if self.measured is None:
            return f"{self.title}, {self.placement}"
        plan = self.measured.plan
        others = [row for row in SPEED_UPS.values() if row.field != "attention"]
        on = [(row, plan[row.field]) for row in others if plan[row.field] in row.values]
        labels = [row.label.format(value) for row, value in on]
        attention = [plan["attention"]] if plan["attention"] != SDPA else []
        tiled = ["tiled"] * plan["tiled"]
        return ", ".join([self.title, plan["placement"], *tiled, *labels, *attention])

    @property
    def busy(self) -> bool:
        """Whether its repeats vary so much that its times can't be trusted."""
        return bool(self.measured and self.measured.video_seconds.spread > BUSY_SPREAD)

    @property
    def full_video_seconds(self) -> float:
        """Seconds of a video of ``FULL_STEPS``, extrapolated if this one has others."""
        return self.measured.video_seconds.median + self._extrapolated_seconds

    @property
    def full_video_stages(self) -> dict[str, float]:
        """Seconds of each stage of such a video."""
        stages = {name: self.measured.seconds[name].median for name in STAGES}
        return stages | {"denoise": stages["denoise"] + self._extrapolated_seconds}

    @property
    def _extrapolated_seconds(self) -> float:
        return (FULL_STEPS - self.steps) * self.measured.step_seconds.median

    def __str__(self) -> str:
        if self.measured is None:
            return f"failed: {self.error}"
        step, reserved = self.measured.step_seconds, self.measured.gpu.reserved_bytes
        seconds = self.measured.seconds
        stages = [f"{n} {seconds[n].median:.2f} s" for n in STAGES if seconds[n].median]
        memory = [f"{reserved / GIB:.1f} GiB"] if reserved else []
        pace = f"{step.median:.3f} s a step (± {step.spread:.0%})"
        parts = ", ".join([pace, *stages, *memory])
        return f"{self.setup}: {parts}" + "; the machine was busy" * self.busy


@dataclass(frozen=True, slots=True)
class Report:
    """A benchmark of one machine."""

    made: str  # date and time, ISO 8601
    machine: dict[str, object]  # see planning.machine.Machine
    fingerprint: str  # the same where times can be compared: hash of hardware and versions
    peak_tflops: dict[str, float]  # matmul throughput by dtype, TFLOP/s
    rows: tuple[Row, ...] = ()

    @property
    def device(self) -> str:
        """What it ran on, in words."""
        names = [gpu["name"] for gpu in self.machine["gpus"]]
        return ", ".join(names) or f"no GPU, {self.machine['threads']} threads"

    @property
    def peaks(self) -> str:
        """Peak matmul throughput of each dtype, in words."""
        rates = [(k, f"{v:.0f}" if v >= 100 else f"{v:.3g}") for k, v in self.peak_tflops.items()]
        return ", ".join(map(" ".join, rates)) or "not measured"

    @property
    def measured_rows(self) -> list[Row]:
        """Rows that didn't fail."""
        return [row for row in self.rows if row.measured is not None]

    @property
    def kinds(self) -> str:
        """What was measured, a line for each row: the same whenever it is measured again."""
        return "\n".join(
            f"{row.model}, {row.made_of}{row.frames} frames × {row.steps} steps: {row.setup}"
            for row in self.rows
        )

    @property
    def failed(self) -> bool:
        """Whether a row of the workbench failed. A baseline may, on a GPU too small for it."""
        return any(row.error and row.speed not in BASELINES for row in self.rows)


def compare_reports(before: Report, after: Report) -> list[str]:
    """What changed from one report to another by more than the spreads of both, a line each."""
    old, new = ({row.kind_key: row for row in report.rows} for report in (before, after))
    changes = []
    if before.fingerprint != after.fingerprint:
        changes.append("the machines or their versions differ")
    for key in dict.fromkeys([*old, *new]):
        row = old.get(key) or new[key]
        changes += [f"{row.kind}: {change}" for change in _row_changes(old.get(key), new.get(key))]
    return changes


@dataclass(frozen=True, slots=True)
class Speedup:
    """How many times as fast as a baseline a row is; None where one of the times isn't known."""

    row: Row
    step: float | None
    video: float | None  # of FULL_STEPS
    whole: float | None  # decoding without tiles
    tiled: float | None  # and with
    memory: float | None  # reserved bytes of the row over the baseline's


def speedups(rows: Sequence[Row], baseline: str) -> list[Speedup]:
    """Each other row that was measured, compared with the baseline's row of the same video."""
    measured = [row for row in rows if row.measured is not None]
    baselines = {row.video: row for row in measured if row.speed == baseline}
    return [
        _speedup(row, baselines[row.video])
        for row in measured
        if row.video in baselines and row.speed != baseline
    ]


def _speedup(row: Row, base: Row) -> Speedup:
    new, old = row.measured, base.measured
    return Speedup(
        row,
        step=_ratio(old.step_seconds.median, new.step_seconds.median),
        video=_ratio(base.full_video_seconds, row.full_video_seconds),
        whole=_ratio(_decode_seconds(old, "whole"), _decode_seconds(new, "whole")),
        tiled=_ratio(_decode_seconds(old, "tiled"), _decode_seconds(new, "tiled")),
        memory=_ratio(new.gpu.reserved_bytes, old.gpu.reserved_bytes),
    )


def _row_changes(old: Row | None, new: Row | None) -> Iterator[str]:
    if old is None or new is None:
        yield "only in the second" if old is None else "only in the first"
    elif new.error:
        if not old.error:
            yield f"now fails: {new.error}"
    elif old.error:
        yield f"works, failed before: {old.error}"
    else:
        if old.setup != new.setup:
            yield f"made as {new.setup}, was {old.setup}"
        yield from _timing_changes(old.measured, new.measured)
        before, after = old.measured.gpu.reserved_bytes, new.measured.gpu.reserved_bytes
        if before and after and abs(after / before - 1) > MEMORY_TOLERANCE:
            yield f"memory {before / GIB:.1f} → {after / GIB:.1f} GiB"


def _timing_changes(old: Measurement, new: Measurement) -> Iterator[str]:
    pairs = {name: (old.seconds[name], new.seconds[name]) for name in STAGES}
    pairs["a step"] = (old.step_seconds, new.step_seconds)
    for name, (before, after) in pairs.items():
        spread = before.spread * before.median + after.spread * after.median
        if before.median and abs(after.median - before.median) > spread:
            ratio = after.median / before.median
            yield f"{name} {before.median:.3f} → {after.median:.3f} s ({ratio:.2f} ×)"


def _decode_seconds(measured: Measurement, name: str) -> float | None:
    timing = (measured.decodes or {}).get(name)
    return timing and timing.seconds.median


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return numerator / denominator if numerator and denominator else None
