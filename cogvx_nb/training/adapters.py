"""Trainable low-rank changes beside a transformer's linear layers (LoRA, arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import RequestError


class LoraLinear(nn.Module):
    """A frozen linear layer plus ``scale * up @ down`` of its input, in the adapters' precision."""

    def __init__(self, base: nn.Module, down: Tensor, up: Tensor, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.base(inputs)
        change = F.linear(F.linear(inputs.to(self.down.dtype), self.down), self.up)
        return outputs + (self.scale * change).to(outputs.dtype)


def add_adapters(
    transformer: nn.Module,
    layers: Sequence[str],
    rank: int,
    scale: float,
    generator: torch.Generator,
) -> dict[str, LoraLinear]:
    """Add float32 adapters that change nothing yet, by names of layers; all else is frozen.

    Down matrices are drawn as peft draws them (``kaiming_uniform_`` with a = √5), up is zero.

    Args:
        layers: ends of names, such as ``attn1.to_q``.

    Raises:
        RequestError: if no layer has such a name.
    """
    transformer.requires_grad_(False)
    names = [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(tuple(f".{end}" for end in layers))
    ]
    if not names:
        raise RequestError("layers", ", ".join(layers), "name linear layers such as attn1.to_q")
    added = {}
    for name in names:
        base = transformer.get_submodule(name)
        bound = base.in_features**-0.5
        down = (2 * torch.rand(rank, base.in_features, generator=generator) - 1) * bound
        up = torch.zeros(base.out_features, rank)
        device = base.weight.device
        added[name] = LoraLinear(base, down.to(device), up.to(device), scale)
        transformer.set_submodule(name, added[name])
    return added
