"""How large the change of a LoRA is, without the product of its matrices and without torch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..checkpoints.headers import Tensor, read_tensors
from .modules import BLOCKS
from .reader import LoraFile

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def change_norms(lora: LoraFile) -> dict[str, float]:
    """Frobenius norm of the change at weight 1 by block, ``0`` … , or by layer outside of them.

    That of up B and down A is the root of the trace of (BᵀB)(AAᵀ), of rank × rank. NaN where a
    matrix holds NaN or infinity. Layers with 8-bit floats are left out, and DoRA's norms don't
    count.
    """
    tensors, _ = read_tensors(lora.path, "fetch it again")
    squares: dict[str, float] = {}
    for layer in lora.layers:
        up, down = _matrix(lora.path, tensors[layer.up]), _matrix(lora.path, tensors[layer.down])
        if up is None or down is None:
            continue
        with np.errstate(all="ignore"):
            square = layer.scale**2 * float(np.sum((up.T @ up) * (down @ down.T)))
        square = max(0.0, square) if math.isfinite(square) else math.nan
        parts = layer.module.split(".")
        name = parts[1] if parts[0] == BLOCKS else layer.module
        squares[name] = squares.get(name, 0.0) + square
    return {name: math.sqrt(square) for name, square in squares.items()}


def _matrix(path: Path, tensor: Tensor) -> np.ndarray | None:
    """A tensor as a matrix of float64; None for 8-bit floats."""
    kind = "<u2" if tensor.dtype == "BF16" else TYPES.get(tensor.dtype)
    if kind is None:
        return None
    values = np.fromfile(path, kind, tensor.count, offset=tensor.start)
    if tensor.dtype == "BF16":  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64).reshape(tensor.shape[0], -1)
