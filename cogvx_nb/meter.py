"""What a piece of work takes of a GPU: memory, energy, clocks. None where nobody can tell."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """What was measured between a start and an end.

    Attributes:
        allocated_bytes, reserved_bytes: most that torch's allocator had in use, and held.
        joules: energy of the whole GPU.
        sm_mhz: clock of its multiprocessors at the end.
        throttled: why it was slowed down at the end, as NVML's bit mask; 0 for not at all.
    """

    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    joules: float | None = None
    sm_mhz: int | None = None
    throttled: int | None = None


class Meter:
    """Measures from its start to each ``read``.

    Args:
        device: ``"cpu"``, of which nothing is known, or ``"cuda:N"``.
    """

    def __init__(self, device: str) -> None:
        self._index = int(device.partition(":")[2] or 0) if device != "cpu" else None
        self._nvml, self._handle = None, None
        if self._index is not None:
            self._open_nvml()
            self._reset()
        self._energy = self._ask("nvmlDeviceGetTotalEnergyConsumption")

    def read(self) -> Reading:
        """What was taken since the start."""
        if self._index is None:
            return Reading()
        import torch

        torch.cuda.synchronize(self._index)
        energy = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        known = energy is not None and self._energy is not None
        return Reading(
            allocated_bytes=torch.cuda.max_memory_allocated(self._index),
            reserved_bytes=torch.cuda.max_memory_reserved(self._index),
            joules=(energy - self._energy) / 1000 if known else None,
            sm_mhz=self._ask("nvmlDeviceGetClockInfo", 1),  # NVML_CLOCK_SM
            throttled=self._ask("nvmlDeviceGetCurrentClocksThrottleReasons"),
        )

    def _open_nvml(self) -> None:
        with contextlib.suppress(Exception):  # no package, no driver, no right to ask
            import pynvml
            import torch

            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(self._index).uuid}"
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            self._nvml = pynvml

    def _reset(self) -> None:
        import torch

        torch.cuda.synchronize(self._index)
        torch.cuda.reset_peak_memory_stats(self._index)

    def _ask(self, name: str, *values: int) -> int | None:
        if self._nvml is None:
            return None
        with contextlib.suppress(Exception):  # a card or a driver that doesn't tell
            return getattr(self._nvml, name)(self._handle, *values)
        return None
