"""What a piece of work takes of a GPU: memory, energy, clocks. None where nobody can tell."""

from __future__ import annotations

import contextlib
import statistics
import time
from dataclasses import dataclass

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

APART_SECONDS = 0.5
"""Between two looks at the clocks, so that looking takes no time worth mention."""


@dataclass(frozen=True, slots=True)
class Reading:
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


class Meter:
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
        if self._nvml is None or time.perf_counter() - self._sampled < APART_SECONDS:
            return
        self._sampled = time.perf_counter()
        clock = self._ask("nvmlDeviceGetClockInfo", SM_CLOCK)
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        self._clocks += [] if clock is None else [clock]
        self._reasons += [] if reasons is None else [reasons]

    def read(self) -> Reading:
        """What was taken since the start."""
        if self._index is None:
            return Reading()
        import torch

        torch.cuda.synchronize(self._index)
        joules, throttled = self._joules(), None
        if self._reasons:
            throttled = tuple(
                name for bit, name in THROTTLES.items() if any(one & bit for one in self._reasons)
            )
        known = joules is not None and self._energy is not None
        return Reading(
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
