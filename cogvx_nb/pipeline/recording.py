"""Work of one GPU whose launches are recorded, and launched again as one (a CUDA graph)."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Hashable

import torch


class Recordings:
    """Pieces of work that are done many times, always on the same tensors.

    A piece runs as it is the first time, when it may be compiled; the second time its launches are
    recorded. On a CPU every call runs it, and on a GPU too once a recording has failed, be it that
    there is no memory for it.

    Args:
        enabled: False where tensors that the work reads move between its calls.
    """

    def __init__(self, device: torch.device, enabled: bool = True) -> None:
        self._device, self._enabled = device, enabled and device.type == "cuda"
        self._ran: set[Hashable] = set()
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle() if self._enabled else None

    def __len__(self) -> int:
        """Pieces that are recorded."""
        return len(self._graphs)

    def run(self, name: Hashable, work: Callable[[], object], recordable: bool = True) -> None:
        """Do a piece of work, on the current stream.

        Args:
            name: of the piece; another thread's pieces must have other recordings.
            work: what it computes is in tensors that were there before.
            recordable: whether it never waits for the GPU.
        """
        if self._enabled and recordable and name not in self._graphs:
            if name in self._ran:
                self._record(name, work)
            self._ran.add(name)
        if self._enabled and name in self._graphs:
            self._graphs[name].replay()
        else:
            work()

    def _record(self, name: Hashable, work: Callable[[], object]) -> None:
        # torch.cuda.graph would empty the allocator's cache and wait for the GPU each time.
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        stream, lock = _recorder(self._device)
        with lock, torch.cuda.stream(stream):
            stream.wait_stream(current)
            torch.cuda.current_blas_handle()  # gets its memory, which would stay in the pool
            try:
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                try:
                    work()
                except BaseException:
                    with contextlib.suppress(RuntimeError):  # says only that it failed
                        graph.capture_end()
                    raise
                graph.capture_end()
            except RuntimeError:
                self._enabled = False
                with contextlib.suppress(RuntimeError):  # which torch leaves out when it fails
                    torch._C._cuda_endAllocateToPool(self._device.index, self._pool)
            else:
                self._graphs[name] = graph


@functools.cache
def _recorder(device: torch.device) -> tuple[torch.cuda.Stream, threading.Lock]:
    """The stream that records a device's work, and who may use it.

    torch has 32 streams of a priority for a device and gives them out in turn, so that it is one
    for all recordings. Copies have another priority: none of theirs is ever this one.
    """
    return torch.cuda.Stream(device), threading.Lock()
