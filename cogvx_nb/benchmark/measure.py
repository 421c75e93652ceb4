"""Times one kind of video on a loaded pipeline: warm-up apart, synchronised, medians."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from ..pipeline import generate, loader, optimization
from ..pipeline.vae import decode_latents
from ..planning.plan import Plan
from ..planning.request import VideoRequest
from ..progress import Step
from ..results import result
from .record import STAGES

SM_CLOCK = 1
"""NVML's number of the multiprocessors' clock."""

THROTTLES = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "kept in step with another GPU",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "power brake",
}
"""What slows a GPU down, by bit of NVML's mask. Its other bits say that it is idle, or that a clock
was chosen."""

SAMPLE_INTERVAL_SECONDS = 0.5
"""Between two looks at the clocks, so that looking takes no time worth mention."""


@dataclass(frozen=True, slots=True)
class GpuUsage:
    """What was measured between a start and an end.

    Attributes:
        allocated_bytes, reserved_bytes: most that torch's allocator had in use, and held.
        joules: energy of the whole GPU.
        sm_mhz: clock of its multiprocessors, the median of those that were sampled.
        throttled: what slowed it down at some sample; empty for nothing.
    """

    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    joules: float | None = None
    sm_mhz: int | None = None
    throttled: tuple[str, ...] | None = None


class GpuMonitor:
    """Measures from its start to each ``read``.

    Args:
        device: ``"cpu"``, of which nothing is known, or ``"cuda:N"``.
    """

    def __init__(self, device: str) -> None:
        self._index = int(device.partition(":")[2] or 0) if device != "cpu" else None
        self._nvml, self._handle = None, None
        self._clocks: list[int] = []
        self._reasons: list[int] = []
        self._sampled = 0.0
        if self._index is not None:
            import torch

            with contextlib.suppress(Exception):  # no package, no driver, no right to ask
                import pynvml

                pynvml.nvmlInit()
                uuid = f"GPU-{torch.cuda.get_device_properties(self._index).uuid}"
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                self._nvml = pynvml
            torch.cuda.synchronize(self._index)
            torch.cuda.reset_peak_memory_stats(self._index)
        self._energy = self._joules()

    def sample(self) -> None:
        """Look at the clocks, to be called again and again while the GPU is at work."""
        if self._nvml is None or time.perf_counter() - self._sampled < SAMPLE_INTERVAL_SECONDS:
            return
        self._sampled = time.perf_counter()
        clock = self._ask("nvmlDeviceGetClockInfo", SM_CLOCK)
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        self._clocks += [] if clock is None else [clock]
        self._reasons += [] if reasons is None else [reasons]

    def read(self) -> GpuUsage:
        """What was taken since the start."""
        if self._index is None:
            return GpuUsage()
        import torch

        torch.cuda.synchronize(self._index)
        joules, throttled = self._joules(), None
        if self._reasons:
            throttled = tuple(
                name for bit, name in THROTTLES.items() if any(one & bit for one in self._reasons)
            )
        known = joules is not None and self._energy is not None
        return GpuUsage(
            allocated_bytes=torch.cuda.max_memory_allocated(self._index),
            reserved_bytes=torch.cuda.max_memory_reserved(self._index),
            joules=joules - self._energy if known else None,
            sm_mhz=round(statistics.median(self._clocks)) if self._clocks else None,
            throttled=throttled,
        )

    def _joules(self) -> float | None:
        """That the GPU took since its driver was loaded."""
        found = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if found is None else found / 1000

    def _ask(self, function: str, *values: int) -> int | None:
        """What NVML says of the GPU; None where it says nothing."""
        if self._nvml is None:
            return None
        with contextlib.suppress(Exception):  # a card or a driver that doesn't tell
            return getattr(self._nvml, function)(self._handle, *values)
        return None


WARM_STEPS = 2
DECODE_REPEATS = 3
"""Of the same latents, each way, after one that doesn't count."""


class SystemUnderTest(Protocol):
    """What makes videos: the workbench, or what it is measured beside."""

    load_seconds: float
    tile: tuple[int, ...]

    @property
    def plan(self) -> Plan: ...

    @property
    def vae(self) -> torch.nn.Module: ...

    def make(
        self, wanted: VideoRequest, path: Path, after_step: Callable[[], None]
    ) -> dict[str, float]: ...


def clear_process_state() -> None:
    """Leave nothing of an earlier row: its models, its memory, the code that it compiled."""
    if torch.cuda.is_available():
        torch.compiler.reset()  # what is on disk stays, as for a new process
    loader.release_pipeline()


class WorkbenchUnderTest:
    """The workbench's own road, from a request to an mp4.

    Raises:
        ModelCorrupt, OutOfMemory, RequestError: as ``loader.load_pipeline``.
    """

    def __init__(self, fitted: Plan) -> None:
        self._loaded = loader.load_pipeline(fitted)
        self.load_seconds = self._loaded.seconds
        self.tile = fitted.model.checkpoint.tile

    @property
    def plan(self) -> Plan:
        return self._loaded.plan

    @property
    def vae(self) -> torch.nn.Module:
        return self._loaded.pipe.vae

    def make(
        self, wanted: VideoRequest, path: Path, after_step: Callable[[], None]
    ) -> dict[str, float]:
        """Make a video, its prompt read anew; seconds of each stage."""

        def heard(event) -> None:
            if isinstance(event, Step):
                after_step()

        made = generate.generate_frames(wanted, self._loaded, heard, reuse_text=False)
        start = time.perf_counter()
        result.save_result(made, path)
        return made.seconds | {"write": time.perf_counter() - start}


class _StepTimer:
    """When each step was done."""

    def __init__(self, device: str, meter: GpuMonitor) -> None:
        self._device, self._meter, self._times = device, meter, []

    def __call__(self) -> None:
        # diffusers waits for the device in each step as well, where it draws a step's noise.
        optimization.synchronize(self._device)
        self._times.append(time.perf_counter())
        self._meter.sample()

    def step_seconds(self, denoise_seconds: float, reuse: bool) -> float:
        """Of a step in the mean; without the first, during which models are still moved.

        Where steps reuse others the first is one of few that are computed, so it counts.
        """
        if reuse or len(self._times) < 2:
            return denoise_seconds / len(self._times)
        return (self._times[-1] - self._times[0]) / (len(self._times) - 1)


def measure_video(subject: SystemUnderTest, wanted: VideoRequest, repeats: int) -> dict:
    """The columns of a row that come from work; see ``runner.run_benchmark``."""
    rows: list[dict[str, float]] = []
    steps: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        short = replace(wanted, steps=min(wanted.steps, WARM_STEPS))
        warm = subject.make(short, Path(scratch) / "warm.mp4", lambda: None)
        optimization.free_memory()
        meter = GpuMonitor(subject.plan.device)
        for number in range(repeats):
            clock = _StepTimer(subject.plan.device, meter)
            rows.append(subject.make(wanted, Path(scratch) / f"{number}.mp4", clock))
            steps.append(clock.step_seconds(rows[-1]["denoise"], subject.plan.reuse))
    reading = asdict(meter.read())
    if reading["joules"] is not None:
        reading["joules"] /= repeats
    return {
        "plan": subject.plan.choices,
        "load_seconds": subject.load_seconds,
        "compile_seconds": warm.get("compile"),
        "seconds": {name: summarize([row[name] for row in rows]) for name in STAGES},
        "video_seconds": summarize([sum(row[name] for name in STAGES) for row in rows]),
        "step_seconds": summarize(steps),
        **reading,
        # On a CPU tiles take several times as long, and nobody asks for them.
        "vae": measure_decodes(subject, wanted) if subject.plan.device != "cpu" else None,
    }


def measure_decodes(
    subject: SystemUnderTest, wanted: VideoRequest, repeats: int = DECODE_REPEATS
) -> dict | None:
    """Seconds and memory of decoding the same latents whole and in tiles.

    Returns:
        ``whole`` and ``tiled``: a ``summarize`` with ``bytes`` above what the models take, None on a
        CPU. One of them is None where memory is too small for it, or where the subject's tiles
        don't add up to the clip; and all where the decoder isn't on the device, since moving it
        would be timed too.
    """
    vae, device = subject.vae, subject.plan.device
    if str(next(vae.parameters()).device) != device:
        return None
    tiling, found = vae.use_tiling, {}
    try:
        for name in ("whole", "tiled"):
            vae.disable_tiling()
            if name == "tiled":
                vae.enable_tiling(*subject.tile)
            found[name] = None
            try:
                found[name] = _time_decode(vae, device, wanted, repeats)
            except ValueError:  # of decode_latents, for tiles that don't add up
                continue
            except Exception as error:
                if not optimization.is_out_of_memory(error):
                    raise
    finally:
        vae.use_tiling = tiling
    return found


def summarize(values: list[float]) -> dict:
    """Median, all values, and how far the extremes lie apart as a part of the median."""
    middle = statistics.median(values)
    spread = (max(values) - min(values)) / middle if middle else 0.0
    return {"median": middle, "spread": spread, "all": values}


def _time_decode(vae: torch.nn.Module, device: str, wanted: VideoRequest, repeats: int) -> dict:
    channels, latent_frames = vae.config.latent_channels, (wanted.frames - 1) // 4 + 1
    shape = (1, latent_frames, channels, wanted.height // 8, wanted.width // 8)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    latents = latents.to(device, vae.dtype)
    optimization.free_memory()
    times, used = [], None
    with torch.no_grad():
        decode_latents(vae, latents, wanted.frames)
        before = torch.cuda.memory_allocated(device) if device != "cpu" else None
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats(device)
        for _ in range(repeats):
            optimization.synchronize(device)
            start = time.perf_counter()
            decode_latents(vae, latents, wanted.frames)
            optimization.synchronize(device)
            times.append(time.perf_counter() - start)
    if device != "cpu":
        used = torch.cuda.max_memory_allocated(device) - before
    return summarize(times) | {"bytes": used}
