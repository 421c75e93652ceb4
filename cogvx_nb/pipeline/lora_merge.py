"""LoRAs merged into a transformer's weights, once, when these are loaded.

What is merged before weights are quantized, pinned, streamed or compiled works with all of that and
costs nothing in a step. A LoRA is never subtracted: without it the weights are read again, so that
they are the checkpoint's bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open

from ..errors import RequestError
from ..loras.layers import LoraLayer, UsedLora
from ..loras.library import file_hash


@dataclass
class Sums:
    """Squared norms over the layers that a LoRA changes, in float64."""

    weights: float = 0.0
    change: float = 0.0
    lost: float = 0.0  # scalar product of the change with what rounding took of the weights

    @property
    def kept_share(self) -> float:
        """Part of the change that the rounded weights show, 1 where nothing was lost."""
        return 1 + self.lost / self.change if self.change else 1.0


def merge_loras(
    transformer: torch.nn.Module, loras: Sequence[UsedLora], device: str, stays: bool = False
) -> None:
    """Add the changes of LoRAs to a transformer's weights: in float32, rounded once.

    With W a layer's weight, w a LoRA's weight and s its scale (alpha over rank) the layer gets
    W + Σ w s B A; of DoRA W + Σ w (D - W), where D is W + s B A with the LoRA's own norms
    (arXiv 2402.09353), as ComfyUI does it. ``kept_shares`` of the transformer are then those of the
    LoRAs, in order.

    Args:
        device: where it is computed.
        stays: whether the merged weights stay there; else they go where the weights were.

    Raises:
        RequestError: if a file was changed since it was read, holds NaN, or changes the weights by
            more than they are: nothing of the transformer can be used then.
    """
    sums = [Sums() for _ in loras]
    acting = [(one, of, _open(one)) for one, of in zip(loras, sums, strict=True) if one.weight]
    changed = {}
    for one, of, file in acting:
        for layer in one.layers:
            changed.setdefault(layer.module, []).append((one, layer, of, file))
    for name, parts in changed.items():
        parameter = transformer.get_submodule(name).weight
        base = parameter.data.to(device, torch.float32)
        changes = [one.weight * _change(base, one, layer, file) for one, layer, _, file in parts]
        wanted = base + sum(changes[1:], changes[0])
        merged = wanted.to(parameter.dtype)
        rounding = merged.to(torch.float32) - wanted
        for (_, _, of, _), change in zip(parts, changes, strict=True):
            of.weights += _product(base, base)
            of.change += _product(change, change)
            of.lost += _product(rounding, change)
        parameter.data = merged if stays else merged.to(parameter.device)
    for one, of, _ in acting:
        _check_size(one, of)
    transformer.kept_shares = tuple(of.kept_share for of in sums)


def _open(one: UsedLora) -> safe_open:
    if file_hash(one.path) != one.sha256:
        raise RequestError("lora", str(one.path), "was changed since it was read: give it again")
    try:
        return safe_open(one.path, "pt")
    except (SafetensorError, OSError) as error:
        raise RequestError(
            "lora", str(one.path), f"can't be read ({error}): fetch it again"
        ) from error


def _change(base: torch.Tensor, one: UsedLora, layer: LoraLayer, file: safe_open) -> torch.Tensor:
    """What a LoRA at weight 1 adds to a layer's weight, float32 in its shape."""

    def read(name: str) -> torch.Tensor:
        return file.get_tensor(name).to(base.device, torch.float32)

    up, down = read(layer.up).flatten(1), read(layer.down).flatten(1)
    change = (up @ down).mul_(layer.scale).view(base.shape)
    if layer.magnitude:
        change = _with_norms(base + change, read(layer.magnitude), layer.by_column) - base
    if not torch.isfinite(change).all():
        remedy = f"holds NaN or infinity for {layer.module}: fetch it again"
        raise RequestError("lora", one.name, remedy)
    return change


def _with_norms(weight: torch.Tensor, norms: torch.Tensor, by_column: bool) -> torch.Tensor:
    """A weight whose rows, or whose columns, have norms."""
    flat, norms = weight.flatten(1), norms.flatten()
    own = flat.norm(dim=0 if by_column else 1)
    scale = norms / own
    return (flat * (scale if by_column else scale[:, None])).view(weight.shape)


def _product(first: torch.Tensor, second: torch.Tensor) -> float:
    return torch.sum(first * second, dtype=torch.float64).item()


def _check_size(one: UsedLora, of: Sums) -> None:
    if of.change <= of.weights:
        return
    times = (of.change / of.weights) ** 0.5 if of.weights else float("inf")
    rank = one.rank
    remedy = (
        f"changes its layers by {times:.3g} times their own norm: use a smaller weight, or "
        f"{one.name}:1@alpha=1 if it was trained without a scale (rank {rank})"
    )
    raise RequestError("lora", str(one), remedy)
