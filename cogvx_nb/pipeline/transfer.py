"""Components' weights moved to a GPU by several threads through pinned RAM."""

from __future__ import annotations

import concurrent.futures
import threading

import torch

THREADS = 4
"""On an H200 they move CogVideoX-5b's transformer, 10.4 GiB in the page cache, in 0.62 s; 8 take
1.01 s, and torch alone, which copies pageable memory, 1.77 s (``benchmarks/load.py``)."""

PIECE = 2**24
"""Bytes that a thread copies through pinned RAM at a time; it has two such pieces."""


def move_component(part: torch.nn.Module, device: str, threads: int = THREADS) -> None:
    """Move a component to a device."""
    if not device.startswith("cuda"):
        part.to(device)
        return
    local = threading.local()

    def prepare() -> None:
        local.stream = torch.cuda.Stream(device)
        local.pieces = [torch.empty(PIECE, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        local.events = [torch.cuda.Event() for _ in range(2)]

    def move(parameter: torch.nn.Parameter) -> None:
        source = parameter.data.contiguous().view(-1).view(torch.uint8)
        moved = torch.empty_like(parameter.data, device=device)
        target = moved.view(-1).view(torch.uint8)
        with torch.cuda.stream(local.stream):
            for number, start in enumerate(range(0, len(source), PIECE)):
                piece, event = local.pieces[number % 2], local.events[number % 2]
                event.synchronize()
                given = source[start : start + PIECE]
                piece[: len(given)].copy_(given)
                target[start : start + PIECE].copy_(piece[: len(given)], non_blocking=True)
                event.record(local.stream)
            local.stream.synchronize()
        parameter.data = moved

    plain = [one for one in part.parameters() if type(one) is torch.nn.Parameter and one.is_cpu]
    with concurrent.futures.ThreadPoolExecutor(threads, initializer=prepare) as pool:
        list(pool.map(move, plain))
    part.to(device)  # buffers, and parameters of other kinds
