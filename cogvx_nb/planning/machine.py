"""GPUs, memory and package versions of a machine, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass

from ..text import GIB

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number, by the name of its torch dtype."""

SPARE_GPU_BYTES = 0.25 * GIB
"""GPU memory that plans leave free: libraries that are loaded after it was queried take some."""

SPARE_RAM_BYTES = 1.0 * GIB
"""RAM that plans leave free."""

EQUAL_MEMORY_SHARE = 0.05
"""GPUs whose free memory differs by less than this share count as equal."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One CUDA device."""

    index: int  # in torch
    name: str  # from the driver
    total_bytes: int
    free_bytes: int  # not held by other processes
    capability: tuple[int, int]  # compute capability, (major, minor)
    bf16: bool  # fast bfloat16: Ampere (8.0) and newer
    reaches: tuple[int, ...] = ()  # indices of the GPUs whose memory it reads directly

    @property
    def room_bytes(self) -> float:
        """Memory that a plan may take."""
        return self.free_bytes - SPARE_GPU_BYTES


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as the planner sees it."""

    system: str  # operating system, architecture and Python version
    cores: int  # that this process may use
    threads: int  # of torch on the CPU
    ram_bytes: int
    ram_free_bytes: int  # not needed by other processes
    gpus: tuple[Gpu, ...]
    versions: dict[str, str | None]  # of each of probe.PACKAGES; None where it isn't installed
    compiled: tuple[str, ...] = ()  # keys of code in the compile cache; see plan.compiled_key
    compiler: bool = True  # Triton and a C compiler, with which torch compiles for a GPU

    @property
    def ram_room_bytes(self) -> int:
        """RAM that a plan may take."""
        return int(max(1, self.ram_free_bytes - SPARE_RAM_BYTES))

    @property
    def gpu_with_most_free_memory(self) -> Gpu | None:
        """The first of the GPUs with the most free memory.

        Small differences don't count: what libraries hold of the GPU in use mustn't send the next
        video to another one.
        """
        most = max((gpu.free_bytes for gpu in self.gpus), default=0)
        least = {gpu: most - EQUAL_MEMORY_SHARE * gpu.total_bytes for gpu in self.gpus}
        return next((gpu for gpu in self.gpus if gpu.free_bytes >= least[gpu]), None)
