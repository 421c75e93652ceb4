"""What a machine is to a planner: GPUs, memory, package versions, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass

from ..text import GIB

SPARE_GPU_BYTES = 0.25 * GIB
"""GPU memory that plans leave free: libraries that are loaded after it was queried take some."""

SPARE_RAM_BYTES = 1.0 * GIB
"""RAM that plans leave free."""

EQUAL_MEMORY_SHARE = 0.05
"""GPUs whose free memory differs by less than this share count as equal."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One CUDA device.

    Attributes:
        index: its number in torch.
        name: as the driver gives it.
        total_bytes, free_bytes: its memory, and what no other process holds now.
        capability: compute capability, (major, minor).
        bf16: whether bfloat16 arithmetic is fast (Ampere, 8.0, and newer).
    """

    index: int
    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int]
    bf16: bool

    @property
    def room_bytes(self) -> float:
        """Memory that a plan may take."""
        return self.free_bytes - SPARE_GPU_BYTES


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as a planner sees it.

    Attributes:
        system: operating system, architecture and Python version.
        cores: processors that this process may use.
        threads: threads that torch computes with on the CPU.
        ram_bytes, ram_free_bytes: memory in all, and what no other process needs.
        gpus: CUDA devices, possibly none.
        versions: installed version of each package in ``PACKAGES``; None where missing.
        compiled: names of the code that was compiled here before; see ``plan.compiled_key``.
        compiler: whether torch finds what it compiles for a GPU with: Triton and a C compiler.
    """

    system: str
    cores: int
    threads: int
    ram_bytes: int
    ram_free_bytes: int
    gpus: tuple[Gpu, ...]
    versions: dict[str, str | None]
    compiled: tuple[str, ...] = ()
    compiler: bool = True

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
