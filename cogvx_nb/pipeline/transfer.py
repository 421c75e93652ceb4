"""Components' weights moved to a GPU by several threads through pinned RAM."""

from __future__ import annotations

import concurrent.futures
import queue
from collections.abc import Callable

import torch
from torch import Tensor

THREADS = 4
"""That move CogVideoX-5b's transformer from the page cache in 0.35 of torch's own time, which
copies pageable memory; eight take 0.57 of it (one H200, ``benchmarks/load.py``)."""

PIECE = 2**24
"""Bytes that a thread copies through pinned RAM at a time; it has two such pieces."""


class Lane:
    """What one thread copies with: two pieces of pinned RAM, and a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pieces = [torch.empty(PIECE, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self._events = [torch.cuda.Event() for _ in range(2)]

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Fill one piece while the other is on its way."""
        with torch.cuda.stream(self._stream):
            copy_by_pieces(source, target, self._pieces, self._wait, self._sent)
            self._stream.synchronize()

    def _wait(self, number: int) -> None:
        self._events[number].synchronize()

    def _sent(self, number: int) -> None:
        self._events[number].record(self._stream)


def copy_by_pieces(
    source: Tensor,
    target: Tensor,
    pieces: list[Tensor],
    wait: Callable[[int], None],
    sent: Callable[[int], None],
) -> None:
    """Copy a contiguous tensor to another of its shape and type, through pieces of bytes in turn.

    Args:
        wait, sent: called with a piece's number before it is filled and after it was sent.
    """
    given, taken = source.view(-1).view(torch.uint8), target.view(-1).view(torch.uint8)
    size = len(pieces[0])
    for count, start in enumerate(range(0, len(given), size)):
        number = count % len(pieces)
        wait(number)
        part = given[start : start + size]
        piece = pieces[number][: len(part)]
        piece.copy_(part)
        taken[start : start + size].copy_(piece, non_blocking=True)
        sent(number)


def moves_by_pieces(parameter: Tensor) -> bool:
    """Whether a parameter is plain, in RAM, and without gaps: torch moves the others."""
    plain = type(parameter) is torch.nn.Parameter and parameter.device.type == "cpu"
    return plain and parameter.is_contiguous() and parameter.numel() > 0


def move_component(part: torch.nn.Module, device: str, threads: int = THREADS) -> None:
    """Move a component to a device."""
    if device.startswith("cuda"):
        with torch.cuda.device(device):
            _move_by_threads(part, torch.device("cuda", torch.cuda.current_device()), threads)
    part.to(device)  # what is left


def _move_by_threads(part: torch.nn.Module, device: torch.device, threads: int) -> None:
    lanes: queue.SimpleQueue[Lane] = queue.SimpleQueue()
    try:
        for _ in range(threads):
            lanes.put(Lane(device))
    except RuntimeError:  # no pinned RAM, as in some containers
        return
    # Memory that is given out here may still be read by what was queued before.
    torch.cuda.synchronize(device)

    def move(parameter: torch.nn.Parameter) -> None:
        moved, lane = torch.empty_like(parameter.data, device=device), lanes.get()
        try:
            lane.copy(parameter.data, moved)
        finally:
            lanes.put(lane)
        parameter.data = moved

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(move, filter(moves_by_pieces, part.parameters())))
