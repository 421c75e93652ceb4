"""Times one kind of video on a loaded pipeline: warm-up apart, synchronised, medians."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

import torch

from .bench_file import STAGES
from .meter import Meter
from .pipeline import generate, loader, optimization
from .pipeline.vae import decode_latents
from .planning.plan import Plan
from .planning.request import VideoRequest
from .progress import Step
from .results import result

WARM_STEPS = 2
DECODES = 3
"""Of the same latents, each way, after one that doesn't count."""


class Subject(Protocol):
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


def start_afresh() -> None:
    """Leave nothing of an earlier row: its models, its memory, the code that it compiled."""
    if torch.cuda.is_available():
        torch.compiler.reset()  # what is on disk stays, as for a new process
    loader.release()


class Workbench:
    """The workbench's own road, from a request to an mp4.

    Raises:
        ModelCorrupt, OutOfMemory, RequestError: as ``pipeline.load``.
    """

    def __init__(self, fitted: Plan) -> None:
        self._loaded = loader.load(fitted)
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
        result.save(made, path)
        return made.seconds | {"write": time.perf_counter() - start}


class _Clock:
    """When each step was done."""

    def __init__(self, device: str, meter: Meter) -> None:
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


def measure(subject: Subject, wanted: VideoRequest, repeats: int) -> dict:
    """The columns of a row that come from work; see ``benchmark.run``."""
    rows: list[dict[str, float]] = []
    steps: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        short = replace(wanted, steps=min(wanted.steps, WARM_STEPS))
        warm = subject.make(short, Path(scratch) / "warm.mp4", lambda: None)
        optimization.free_memory()
        meter = Meter(subject.plan.device)
        for number in range(repeats):
            clock = _Clock(subject.plan.device, meter)
            rows.append(subject.make(wanted, Path(scratch) / f"{number}.mp4", clock))
            steps.append(clock.step_seconds(rows[-1]["denoise"], subject.plan.reuse))
    reading = asdict(meter.read())
    if reading["joules"] is not None:
        reading["joules"] /= repeats
    return {
        "plan": subject.plan.choices,
        "load_seconds": subject.load_seconds,
        "compile_seconds": warm.get("compile"),
        "seconds": {name: summary([row[name] for row in rows]) for name in STAGES},
        "video_seconds": summary([sum(row[name] for name in STAGES) for row in rows]),
        "step_seconds": summary(steps),
        **reading,
        # On a CPU tiles take several times as long, and nobody asks for them.
        "vae": decodes(subject, wanted) if subject.plan.device != "cpu" else None,
    }


def decodes(subject: Subject, wanted: VideoRequest, repeats: int = DECODES) -> dict | None:
    """Seconds and memory of decoding the same latents whole and in tiles.

    Returns:
        ``whole`` and ``tiled``: a ``summary`` with ``bytes`` above what the models take, None on a
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
                found[name] = _decode(vae, device, wanted, repeats)
            except ValueError:  # of decode_latents, for tiles that don't add up
                continue
            except Exception as error:
                if not optimization.is_out_of_memory(error):
                    raise
    finally:
        vae.use_tiling = tiling
    return found


def summary(values: list[float]) -> dict:
    """Median, all values, and how far the extremes lie apart as a part of the median."""
    middle = statistics.median(values)
    spread = (max(values) - min(values)) / middle if middle else 0.0
    return {"median": middle, "spread": spread, "all": values}


def _decode(vae: torch.nn.Module, device: str, wanted: VideoRequest, repeats: int) -> dict:
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
    return summary(times) | {"bytes": used}
