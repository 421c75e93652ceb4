"""Work of one GPU whose launches are recorded, and launched again as one (a CUDA graph)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable

import torch


class Recordings:
    """Pieces of work that are done many times, always on the same tensors.

    A piece runs as it is the first time, when it may be compiled; the second time its launches are
    recorded. On a CPU every call runs it.

    Args:
        enabled: False where tensors that the work reads move between its calls.
    """

    def __init__(self, device: torch.device, enabled: bool = True) -> None:
        self._enabled = enabled and device.type == "cuda"
        self._ran: set[Hashable] = set()
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool, self._stream = None, None
        if self._enabled:
            self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)

    def run(self, name: Hashable, work: Callable[[], object], recordable: bool = True) -> None:
        """Do a piece of work, on the current stream.

        Args:
            name: of the piece; another thread's pieces must have other recordings.
            work: what it computes is in tensors that were there before.
            recordable: whether it never waits for the GPU.
        """
        if not (self._enabled and recordable):
            work()
            return
        if (graph := self._graphs.get(name)) is None:
            if name not in self._ran:
                self._ran.add(name)
                work()
                return
            graph = self._graphs[name] = self._record(work)
        graph.replay()

    def _record(self, work: Callable[[], object]) -> torch.cuda.CUDAGraph:
        # torch.cuda.graph would empty the allocator's cache and wait for the GPU each time.
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # says only that it failed
                    graph.capture_end()
                raise
            graph.capture_end()
        return graph
