"""Times one kind of video: a warm-up that doesn't count, synchronised stages, medians."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch

from .. import workflow
from ..pipeline import loader, optimization
from ..pipeline.failures import is_out_of_memory
from ..pipeline.vae import decode_latents
from ..planning.plan import Plan
from ..planning.request import VideoRequest
from ..progress import Event, FramesDone, Step
from .report import STAGES, WARM_STEPS, DecodeTiming, GpuUsage, Measurement, Timing

SM_CLOCK = 1
"""NVML_CLOCK_SM."""

THROTTLE_REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost with another GPU",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "power brake",
}
"""Bits of NVML's mask of throttle reasons that lower a clock (nvml.h). Its other bits mean that
the GPU is idle, or that a user chose the clock."""

SAMPLE_INTERVAL_SECONDS = 0.5
"""At least this long between two samples of the clocks, so that sampling costs nothing."""


class GpuMonitor:
    """Measures a GPU from its creation to each ``read``: memory by torch, the rest by NVML.

    Args:
        device: ``"cuda:N"``; or ``"cpu"``, for which every value is None.
    """

    def __init__(self, device: str) -> None:
        self._index = int(device.partition(":")[2] or 0) if device != "cpu" else None
        self._nvml, self._handle = None, None
        self._clocks: list[int] = []
        self._throttle_masks: list[int] = []
        self._sampled = 0.0
        if self._index is not None:
            with contextlib.suppress(Exception):  # no package, no driver, or no permission
                import pynvml

                pynvml.nvmlInit()
                uuid = f"GPU-{torch.cuda.get_device_properties(self._index).uuid}"
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                self._nvml = pynvml
            torch.cuda.synchronize(self._index)
            torch.cuda.reset_peak_memory_stats(self._index)
        self._joules_at_start = self._total_joules()

    def sample(self) -> None:
        """Sample the clocks; to be called often while the GPU works."""
        if self._nvml is None or time.perf_counter() - self._sampled < SAMPLE_INTERVAL_SECONDS:
            return
        self._sampled = time.perf_counter()
        clock = self._query("nvmlDeviceGetClockInfo", SM_CLOCK)
        mask = self._query("nvmlDeviceGetCurrentClocksThrottleReasons")
        self._clocks += [] if clock is None else [clock]
        self._throttle_masks += [] if mask is None else [mask]

    def read(self) -> GpuUsage:
        """Usage since the start."""
        if self._index is None:
            return GpuUsage()
        torch.cuda.synchronize(self._index)
        joules, throttled = self._total_joules(), None
        if self._throttle_masks:
            throttled = tuple(
                reason
                for bit, reason in THROTTLE_REASONS.items()
                if any(mask & bit for mask in self._throttle_masks)
            )
        known = joules is not None and self._joules_at_start is not None
        return GpuUsage(
            allocated_bytes=torch.cuda.max_memory_allocated(self._index),
            reserved_bytes=torch.cuda.max_memory_reserved(self._index),
            joules=joules - self._joules_at_start if known else None,
            sm_mhz=round(statistics.median(self._clocks)) if self._clocks else None,
            throttled=throttled,
        )

    def _total_joules(self) -> float | None:
        """Energy of the GPU since its driver was loaded."""
        millijoules = self._query("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1000

    def _query(self, function: str, *values: int) -> int | None:
        """A value from NVML; None where it has none."""
        if self._nvml is None:
            return None
        with contextlib.suppress(Exception):  # not supported by the GPU or its driver
            return getattr(self._nvml, function)(self._handle, *values)
        return None


DECODE_REPEATS = 3
"""Times that the same latents are decoded each way, after one that isn't counted."""


class SystemUnderTest(Protocol):
    """The system under test: the workbench, or a baseline."""

    load_seconds: float
    tile: tuple[int, ...]  # arguments of ``vae.enable_tiling``

    @property
    def plan(self) -> Plan: ...

    @property
    def vae(self) -> torch.nn.Module: ...

    def make(
        self, request: VideoRequest, path: Path, after_step: Callable[[], None]
    ) -> dict[str, float]: ...


def clear_process_state() -> None:
    """Drop what an earlier row left: models, memory, compiled code."""
    if torch.cuda.is_available():
        torch.compiler.reset()  # the cache on disk stays, as for a new process
    loader.release_pipeline()


class WorkbenchUnderTest:
    """The workbench, from a request to an mp4 with its sidecar, as users run it.

    Raises:
        ModelCorrupt, OutOfMemory, RequestError: as ``loader.load_pipeline``.
    """

    def __init__(self, plan: Plan) -> None:
        self._loaded = loader.load_pipeline(plan)
        self.load_seconds = self._loaded.seconds
        self.tile = plan.tile

    @property
    def plan(self) -> Plan:
        return self._loaded.plan

    @property
    def vae(self) -> torch.nn.Module:
        return self._loaded.pipe.vae

    def make(
        self, request: VideoRequest, path: Path, after_step: Callable[[], None]
    ) -> dict[str, float]:
        """Make a video; seconds of each stage. The prompt is encoded each time."""
        generated, frames_done = None, 0.0

        def on_event(event: Event) -> None:
            nonlocal generated, frames_done
            if isinstance(event, Step):
                after_step()
            elif isinstance(event, FramesDone):
                generated, frames_done = event.generated, time.perf_counter()

        workflow.make_video(request, path, plan=self.plan, on_event=on_event, reuse_text=False)
        return generated.seconds | {"write": time.perf_counter() - frames_done}


class _StepTimer:
    """Records when each step ended."""

    def __init__(self, device: str, monitor: GpuMonitor, after_step: Callable[[], None]) -> None:
        self._device, self._monitor, self._times = device, monitor, []
        self._after_step = after_step

    def __call__(self) -> None:
        # diffusers synchronises in each step as well, where it draws the step's noise.
        optimization.synchronize(self._device)
        self._times.append(time.perf_counter())
        self._monitor.sample()
        self._after_step()

    def step_seconds(self, denoise_seconds: float, step_cache: bool) -> float:
        """Mean of the steps without the first, during which models are still moved.

        With a step cache the first is one of the few that are computed, so it counts.
        """
        if step_cache or len(self._times) < 2:
            return denoise_seconds / len(self._times)
        return (self._times[-1] - self._times[0]) / (len(self._times) - 1)


def measure_video(
    system: SystemUnderTest, request: VideoRequest, repeats: int, after_step: Callable[[], None]
) -> Measurement:
    """Make the same video several times; predictions and MFU are left open."""
    videos: list[dict[str, float]] = []
    steps: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        short = replace(request, steps=min(request.steps, WARM_STEPS))
        warm = system.make(short, Path(scratch) / "warm.mp4", after_step)
        optimization.free_memory()
        monitor = GpuMonitor(system.plan.device)
        for number in range(repeats):
            timer = _StepTimer(system.plan.device, monitor, after_step)
            videos.append(system.make(request, Path(scratch) / f"{number}.mp4", timer))
            steps.append(timer.step_seconds(videos[-1]["denoise"], bool(system.plan.step_cache)))
    usage = monitor.read()
    if usage.joules is not None:
        usage = replace(usage, joules=usage.joules / repeats)
    return Measurement(
        plan=system.plan.choices,
        load_seconds=system.load_seconds,
        compile_seconds=warm.get("compile"),
        seconds={name: summarize([row.get(name, 0.0) for row in videos]) for name in STAGES},
        video_seconds=summarize([sum(row.get(name, 0.0) for name in STAGES) for row in videos]),
        step_seconds=summarize(steps),
        gpu=usage,
        # On a CPU tiles take several times as long, and nobody asks for them.
        decodes=measure_decodes(system, request) if system.plan.device != "cpu" else None,
    )


def measure_decodes(
    system: SystemUnderTest, request: VideoRequest, repeats: int = DECODE_REPEATS
) -> dict[str, DecodeTiming | None] | None:
    """Decode the same latents whole and in tiles.

    Returns:
        ``whole`` and ``tiled``; one of them is None if it runs out of memory, or if its tiles
        don't add up to the clip. None if the VAE isn't on the device, since moving it would be
        timed too.
    """
    vae, device = system.vae, system.plan.device
    if str(next(vae.parameters()).device) != device:
        return None
    tiling, decodes = vae.use_tiling, {}
    try:
        for name in ("whole", "tiled"):
            vae.disable_tiling()
            if name == "tiled":
                vae.enable_tiling(*system.tile)
            decodes[name] = None
            try:
                decodes[name] = _time_decode(vae, device, request, repeats)
            except ValueError:  # of decode_latents, for tiles that don't add up
                continue
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
    finally:
        vae.use_tiling = tiling
    return decodes


def summarize(seconds: Sequence[float]) -> Timing:
    """Median and relative spread of repeated timings."""
    median = statistics.median(seconds)
    spread = (max(seconds) - min(seconds)) / median if median else 0.0
    return Timing(median, spread, tuple(seconds))


def _time_decode(
    vae: torch.nn.Module, device: str, request: VideoRequest, repeats: int
) -> DecodeTiming:
    channels, latent_frames = vae.config.latent_channels, (request.frames - 1) // 4 + 1
    shape = (1, latent_frames, channels, request.height // 8, request.width // 8)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    latents = latents.to(device, vae.dtype)
    optimization.free_memory()
    times, peak = [], None
    with torch.no_grad():
        decode_latents(vae, latents, request.frames)
        before = torch.cuda.memory_allocated(device) if device != "cpu" else None
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats(device)
        for _ in range(repeats):
            optimization.synchronize(device)
            start = time.perf_counter()
            decode_latents(vae, latents, request.frames)
            optimization.synchronize(device)
            times.append(time.perf_counter() - start)
    if device != "cpu":
        peak = torch.cuda.max_memory_allocated(device) - before
    return DecodeTiming(summarize(times), peak)
