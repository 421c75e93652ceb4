"""What a failure of torch means: that memory ran out, or that a speed-up doesn't work here."""

from __future__ import annotations

import torch

from ..text import first_line

OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",
    "could not create a primitive",
    "could not create a memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Parts of the messages when memory runs out outside torch's allocator of GPU memory: in that of
the CPU, oneDNN, CUDA (also for pinned RAM) and its libraries."""


class SpeedUpFailed(Exception):
    """A speed-up doesn't work here; the message is the first line of its error."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name  # in SPEED_UPS


def failed_on(device: torch.device | str, error: BaseException) -> SpeedUpFailed:
    """That a GPU which shares a step failed, and why."""
    why = "memory ran out" if is_out_of_memory(error) else first_line(error)
    return SpeedUpFailed("gpus", f"{device}: {why}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch says that memory ran out, on a GPU or in RAM."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        part in str(error) for part in OUT_OF_MEMORY_MESSAGES
    )
