"""What a LoRA changes, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints.registry import Checkpoint
from ..text import full_number
from .modules import linear_shapes


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """The change of one layer: up (outputs, rank) times down (rank, inputs), times ``scale``."""

    module: str  # as diffusers names it
    down: str  # names of the tensors in the file
    up: str
    rank: int
    alpha: float
    alpha_from: str  # TENSOR, HEADER, CONFIG, FORMAT or NONE
    magnitude: str = ""  # name of DoRA's tensor; empty for a plain LoRA
    by_column: bool = False  # whether that has a norm for each column instead of each row
    by_root: bool = False  # whether the scale is alpha over the root of the rank

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.by_root else self.rank)

    @property
    def alpha_over_rank(self) -> float:
        """The alpha that gives the scale over the rank, as one that is typed does."""
        return self.alpha * (math.sqrt(self.rank) if self.by_root else 1.0)


@dataclass(frozen=True, slots=True)
class UsedLora:
    """A LoRA that was read for a checkpoint, at its weight."""

    name: str
    sha256: str
    path: Path
    weight: float
    alpha: float | None  # instead of the file's own
    layers: tuple[LoraLayer, ...]  # with that alpha
    format: str  # of the file's names, for people

    def __str__(self) -> str:
        return f"{self.name} {full_number(self.weight)}"

    @property
    def key(self) -> tuple:
        """What decides the change that it makes."""
        return self.sha256, self.weight, self.alpha

    @property
    def rank(self) -> int:
        """The largest of its layers."""
        return max(layer.rank for layer in self.layers)


def changed_weights(loras: Iterable[UsedLora], checkpoint: Checkpoint) -> int:
    """Weights of the layers that some LoRAs change."""
    shapes = linear_shapes(checkpoint)
    modules = {layer.module for one in loras if one.weight for layer in one.layers}
    return sum(shapes[module][0] * shapes[module][1] for module in modules)
