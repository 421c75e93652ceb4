"""How large the change of a LoRA is, alone and beside the weights, without torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ..checkpoints.headers import Tensor, read_tensors
from ..checkpoints.registry import Model
from ..checkpoints.store import weight_tensors
from .layers import LoraLayer
from .modules import BLOCKS, linear_shapes
from .reader import LoraFile

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""How numpy reads each type of floats; ``BF16`` is the upper half of a float32."""

CHUNK = 2**18
"""Values of a weight that are read at once. Their 2 MB of float64 stay in the cache: 0.9 × 10⁹
values a second on one core, and 0.27 × 10⁹ with whole weights (measured, bfloat16)."""

TOTAL = "all"
"""Among blocks, all of them together."""


def change_norms(lora: LoraFile) -> dict[str, float]:
    """Frobenius norm of the change at weight 1 by block, ``0`` … , or by layer outside of them.

    NaN where a matrix holds NaN or infinity. Layers with 8-bit floats are left out, and DoRA's
    norms don't count.
    """
    tensors, _ = read_tensors(lora.path, "fetch it again")
    squares: dict[str, float] = {}
    for layer in lora.layers:
        square = _matrices_square(lora.path, tensors, layer)
        if square is not None:
            squares[_block(layer)] = squares.get(_block(layer), 0.0) + square
    return {name: math.sqrt(square) for name, square in squares.items()}


def relative_changes(lora: LoraFile, model: Model) -> dict[str, float]:
    """Norm of the change at weight 1 over that of the weights of the layers that it changes.

    By block as of ``change_norms``, and for ``TOTAL``. That of DoRA is how far the weights that it
    gives are from those of the checkpoint. NaN where a matrix holds NaN or infinity; layers with
    8-bit floats are left out. One layer is in memory at a time.

    Args:
        model: that the LoRA fits, with its files.

    Raises:
        ModelError: if these aren't whole.
    """
    squares: dict[str, tuple[float, float]] = {}
    for layer, change, weight in _compared(lora, model):
        for name in (_block(layer), TOTAL):
            before = squares.get(name, (0.0, 0.0))
            squares[name] = before[0] + change, before[1] + weight
    squares |= {TOTAL: squares.pop(TOTAL)} if squares else {}
    return {
        name: math.sqrt(change / weight) if weight else math.nan
        for name, (change, weight) in squares.items()
    }


def _compared(lora: LoraFile, model: Model) -> Iterator[tuple[LoraLayer, float, float]]:
    """Each layer with the squared norms of its change and of its weight."""
    tensors, _ = read_tensors(lora.path, "fetch it again")
    weights, shapes = weight_tensors(model.part("transformer")), linear_shapes(model.checkpoint)
    for layer in lora.layers:
        path, weight = weights.get(f"{layer.module}.weight", (None, None))
        shape = shapes[layer.module]
        if weight is None or weight.dtype not in TYPES or weight.count != math.prod(shape):
            continue
        if layer.magnitude:
            change = _dora_square(lora.path, tensors, layer, _read(path, weight, shape))
        else:
            change = _matrices_square(lora.path, tensors, layer)
        if change is not None:
            yield layer, change, _weight_square(path, weight)


def _block(layer: LoraLayer) -> str:
    parts = layer.module.split(".")
    return parts[1] if parts[0] == BLOCKS else layer.module


def _matrices_square(path: Path, tensors: Mapping[str, Tensor], layer: LoraLayer) -> float | None:
    """Squared norm of a layer's change, without the product of its matrices.

    That of up B and down A is the trace of (BᵀB)(AAᵀ), of rank × rank.
    """
    if tensors[layer.up].dtype not in TYPES or tensors[layer.down].dtype not in TYPES:
        return None
    up, down = _matrix(path, tensors[layer.up]), _matrix(path, tensors[layer.down])
    with np.errstate(all="ignore"):
        square = layer.scale**2 * float(np.sum((up.T @ up) * (down @ down.T)))
    return max(0.0, square) if math.isfinite(square) else math.nan


def _dora_square(
    path: Path, tensors: Mapping[str, Tensor], layer: LoraLayer, weight: np.ndarray
) -> float | None:
    """Squared norm of DoRA's change of a weight (outputs, inputs), which is overwritten; float32
    throughout, for the largest have 38 million values."""
    parts = [tensors[name] for name in (layer.up, layer.down, layer.magnitude)]
    if any(part.dtype not in TYPES for part in parts):
        return None
    up, down, norms = (_matrix(path, part).astype(np.float32) for part in parts)
    with np.errstate(all="ignore"):
        given = weight + (up * np.float32(layer.scale)) @ down
        axis = 0 if layer.by_column else 1
        own = np.sqrt(np.einsum("ij,ij->j" if layer.by_column else "ij,ij->i", given, given))
        given *= np.expand_dims(norms.ravel() / own, axis)
        given -= weight
        square = float(np.vdot(given, given))
    return square if math.isfinite(square) else math.nan


def _weight_square(path: Path, tensor: Tensor) -> float:
    square = 0.0
    for start in range(0, tensor.count, CHUNK):
        values = _values(path, tensor, start, min(CHUNK, tensor.count - start))
        square += float(values @ values)
    return square


def _read(path: Path, tensor: Tensor, shape: tuple[int, int]) -> np.ndarray:
    """A weight of float32."""
    weight = np.empty(tensor.count, np.float32)
    for start in range(0, tensor.count, CHUNK):
        count = min(CHUNK, tensor.count - start)
        weight[start : start + count] = _values(path, tensor, start, count)
    return weight.reshape(shape)


def _matrix(path: Path, tensor: Tensor) -> np.ndarray:
    """A tensor as a matrix of float64."""
    return _values(path, tensor, 0, tensor.count).reshape(tensor.shape[0], -1)


def _values(path: Path, tensor: Tensor, start: int, count: int) -> np.ndarray:
    """Some values of a tensor in order, float64."""
    kind = np.dtype(TYPES[tensor.dtype])
    values = np.fromfile(path, kind, count, offset=tensor.start + start * kind.itemsize)
    if tensor.dtype == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64)
