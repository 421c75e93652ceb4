"""What a device can do at best: the rate of large matrix products, measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from .planning import timing
from .planning.plan import Plan, computed_steps

GPU_SIZE, CPU_SIZE = 8192, 1024
"""Rows and columns of the matrices. Of a GPU large enough to fill any; on an H100 a product of
1.1 TFLOP takes 1.4 ms in bfloat16."""

GROUPS, PRODUCTS = 7, 5
"""Timings, the first of which doesn't count, and products in each: waiting for a GPU takes some
10 µs, so that one product by itself would look slower than it is."""

FLOAT8 = "float8"


def measure(device: str) -> dict[str, float]:
    """TFLOP/s of matrix products by the name of their precision.

    ``float8`` is scaled by row, as 8-bit products of a transformer are. A precision that the device
    doesn't have, or has no fast arithmetic for, is missing.

    Args:
        device: ``"cpu"`` or ``"cuda:N"``.
    """
    import torch

    if device == "cpu":
        wanted, size = {"float32": _plain}, CPU_SIZE
    else:
        capability = torch.cuda.get_device_capability(torch.device(device))
        wanted, size = {"float16": _plain, "float32": _plain}, GPU_SIZE
        if capability >= (8, 0):
            wanted["bfloat16"] = _plain
        if capability >= (8, 9):
            wanted[FLOAT8] = _scaled
    found = {}
    for name, prepare in wanted.items():
        try:
            multiply = prepare(size, device, name)
            found[name] = 2 * size**3 / _seconds(multiply, device) / 1e12
        except RuntimeError:  # no kernel for this card, or no room for the matrices
            continue
    return found


def share(plan: Plan, steps: int, step_seconds: float, ceilings: dict[str, float]) -> float | None:
    """Which part of the ceiling of the weights' precision denoising reaches.

    With 8-bit products it is a share of the 16-bit ceiling too, so that rows can be compared: it
    could exceed 1. Steps that are reused do no arithmetic, and aren't counted as if they did.

    Args:
        steps: of the video.
        step_seconds: of a step in the mean.
    """
    rate = ceilings.get(plan.dtype)
    if not rate or not step_seconds:
        return None
    computed = len(computed_steps(steps)) / steps if plan.reuse else 1.0
    return computed * timing.total_step_flop(plan, plan.frames) / step_seconds / (rate * 1e12)


def _plain(size: int, device: str, name: str) -> Callable[[], object]:
    """A product of two matrices of random numbers: zeros would take less power, and be faster."""
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, name)) for _ in range(2))
    return lambda: torch.mm(a, b)


def _scaled(size: int, device: str, name: str) -> Callable[[], object]:
    """The same in 8 bits with a scale for each row of the one and each column of the other."""
    import torch

    kind = torch.float8_e4m3fn
    a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    rows, columns = torch.ones(size, 1, device=device), torch.ones(1, size, device=device)
    return lambda: torch._scaled_mm(
        a, b.t(), scale_a=rows, scale_b=columns, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def _seconds(multiply: Callable[[], object], device: str) -> float:
    """Of one product: the median of several groups."""
    import torch

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize(device)

    times = []
    for _ in range(1 + GROUPS):
        wait()
        start = time.perf_counter()
        for _ in range(PRODUCTS):
            multiply()
        wait()
        times.append((time.perf_counter() - start) / PRODUCTS)
    return statistics.median(times[1:])
