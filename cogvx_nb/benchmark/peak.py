"""Peak throughput of matrix products, and the share of it that denoising reaches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from ..planning import cost
from ..planning.plan import Plan

GPU_SIZE, CPU_SIZE = 8192, 1024
"""Rows and columns of the matrices. On a GPU 1.1 TFLOP, enough to fill an H100 for 1.4 ms."""

GROUPS = 7
"""Timings of a matrix product, after one that isn't counted."""

PRODUCTS = 5
"""Products in each timing: synchronising takes some 10 µs, which one product alone would show."""


def measure_peak_throughput(device: str) -> dict[str, float]:
    """TFLOP/s of large matrix products by dtype.

    ``float8`` has row-wise scales, like quantized layers of the transformer. Dtypes that the device
    doesn't support, or has no fast arithmetic for, are missing.

    Args:
        device: ``"cpu"`` or ``"cuda:N"``.
    """
    import torch

    if device == "cpu":
        products, size = {"float32": _plain_matmul}, CPU_SIZE
    else:
        capability = torch.cuda.get_device_capability(torch.device(device))
        products, size = {"float16": _plain_matmul, "float32": _plain_matmul}, GPU_SIZE
        if capability >= (8, 0):
            products["bfloat16"] = _plain_matmul
        if capability >= (8, 9):
            products["float8"] = _float8_matmul
    rates = {}
    for dtype, prepare in products.items():
        try:
            multiply = prepare(size, device, dtype)
            rates[dtype] = 2 * size**3 / _matmul_seconds(multiply, device) / 1e12
        except RuntimeError:  # no kernel for this GPU, or no memory for the matrices
            continue
    return rates


def model_flops_utilisation(
    plan: Plan, steps: int, step_seconds: float, peak_tflops: dict[str, float]
) -> float | None:
    """MFU of denoising: FLOP/s of each GPU over the peak matmul throughput of the weights' dtype.

    Quantized models are compared with the 16-bit peak too, so that rows can be compared with each
    other: it could exceed 1. Steps that a step cache skips count as no FLOP.

    Args:
        steps: of the video.
        step_seconds: mean of all steps.

    Returns:
        None if the peak isn't known.
    """
    peak = peak_tflops.get(plan.dtype)
    if not peak or not step_seconds:
        return None
    computed = sum(cost.step_shares(plan, steps)) / steps
    flop = computed * cost.total_step_flop(plan, plan.frames) / len(plan.devices)
    return flop / step_seconds / (peak * 1e12)


def _plain_matmul(size: int, device: str, dtype: str) -> Callable[[], object]:
    """A product of random matrices: zeros would take less power, and be faster."""
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    return lambda: torch.mm(a, b)


def _float8_matmul(size: int, device: str, dtype: str) -> Callable[[], object]:
    """The same in float8 with a scale for each row of the left and column of the right matrix."""
    import torch

    a, b = (torch.randn(size, size, device=device).to(torch.float8_e4m3fn) for _ in range(2))
    rows, columns = torch.ones(size, 1, device=device), torch.ones(1, size, device=device)
    return lambda: torch._scaled_mm(
        a, b.t(), scale_a=rows, scale_b=columns, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def _matmul_seconds(multiply: Callable[[], object], device: str) -> float:
    """Seconds of one product: the median of ``GROUPS`` timings."""
    import torch

    def synchronize() -> None:
        if device != "cpu":
            torch.cuda.synchronize(device)

    times = []
    for _ in range(1 + GROUPS):
        synchronize()
        start = time.perf_counter()
        for _ in range(PRODUCTS):
            multiply()
        synchronize()
        times.append((time.perf_counter() - start) / PRODUCTS)
    return statistics.median(times[1:])
