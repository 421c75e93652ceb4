"""A benchmark as values: rows of what was measured, with what is told of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..checkpoints.registry import TEXT
from ..loras.entries import shown_loras
from ..planning.speedups import SDPA, SPEED_UPS
from ..results.fidelity import FidelityRow
from ..text import GIB

STAGES = ("text", "encode", "denoise", "decode", "write")
"""Stages of each video. Loading and compiling, which only the first needs, are separate columns."""

WARM_STEPS = 2
"""Steps of the first video of a kind, which compiles and warms up and isn't counted."""

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
    placement: str  # as requested: one of placements.PLACEMENTS, or "auto"
    task: str = TEXT  # one of registry.TASKS
    lora: str = ""  # merged into the weights: as a request's, each by its content
    error: str = ""
    measured: Measurement | None = None

    @property
    def kind(self) -> str:
        """What was requested, in words; the same whenever it is measured again."""
        size = f"{self.frames} frames × {self.steps} steps"
        setup = f"{self.speed}, {self.placement}{self.with_loras}"
        return f"{self.model}, {self.made_of}{size}, {setup}"

    @property
    def made_of(self) -> str:
        """The task before the size; empty for text alone."""
        return f"{self.task}, " * (self.task != TEXT)

    @property
    def with_loras(self) -> str:
        """The LoRAs after how it is made; empty without."""
        return f", with {shown_loras(self.lora)}" * bool(self.lora)

    @property
    def kind_key(self) -> tuple:
        """Identifies what was requested."""
        return *self.video, self.steps, self.speed, self.placement

    @property
    def video(self) -> tuple[str, int, int, int, str, str]:
        """What rows to be compared have in common: model, frames, height, width, task, LoRAs."""
        return self.model, self.frames, self.height, self.width, self.task, self.lora

    @property
    def title(self) -> str:
        """The speed, or the baseline's title."""
        return BASELINES[self.speed].title if self.speed in BASELINES else self.speed

    @property
    def setup(self) -> str:
        """How it was made: speed or baseline, then what the plan chose."""
        if self.measured is None:
            return f"{self.title}, {self.placement}{self.with_loras}"
        plan = self.measured.plan
        others = [row for row in SPEED_UPS.values() if row.field != "attention" and row.label]
        on = [(row, plan[row.field]) for row in others if plan[row.field] in row.values]
        labels = [row.label.format(value) for row, value in on]
        attention = [plan["attention"]] if plan["attention"] != SDPA else []
        tiled = ["tiled"] * plan["tiled"]
        count = 1 + len(plan.get("peers") or ())  # missing in older files
        gpus = [f"{count} GPUs"] * (count > 1)
        made = ", ".join([self.title, plan["placement"], *gpus, *tiled, *labels, *attention])
        return made + self.with_loras

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
    fidelity: tuple[FidelityRow, ...] = ()  # how far videos lie from those of exact

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
        timed = any(row.error and row.speed not in BASELINES for row in self.rows)
        return timed or any(row.error for row in self.fidelity)
