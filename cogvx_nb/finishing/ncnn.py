"""Networks in ncnn's files, run by torch: as many kinds of layers as upscaling networks have.

A ``.param`` file lists layers as text, a ``.bin`` file has their weights one after another
(github.com/Tencent/ncnn/wiki/param-and-model-file-structure). Both are read whole and checked: all
of the bytes belong to a layer, and no layer lacks any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelCorrupt

MAGIC = "7767517"
HALF = (0x01306B47).to_bytes(4, "little")
"""Before the weights of a convolution that are float16."""

LARGEST_TEXT, LARGEST_WEIGHTS = 2**20, 2**28
"""Bytes. The largest of Real-ESRGAN's have 117,030 and 33,424,520."""

MODES = {1: "nearest", 2: "bilinear", 3: "bicubic"}
"""Of ncnn's ``Interp``, of which all are torch's with corners not aligned."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A line of a ``.param`` file; options are by number, and lists are tuples."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: dict[int, float | tuple[float, ...]]

    def whole(self, option: int, default: int = 0) -> int:
        return int(self.options.get(option, default))


class Weights:
    """The bytes of a ``.bin`` file, taken from its start on."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, size: int) -> bytes:
        found = self.data[self.place : self.place + size]
        if len(found) != size:
            raise ValueError(f"has {len(self.data):,} bytes, too few")
        self.place += size
        return found

    def floats(self, count: int) -> Tensor:
        return torch.from_numpy(np.frombuffer(self.take(4 * count), "<f4").copy())

    def tagged(self, count: int) -> Tensor:
        """Float16 weights behind their tag, padded to four bytes."""
        if self.take(4) != HALF:
            raise ValueError("has weights of another kind than float16")
        found = np.frombuffer(self.take(2 * count), "<f2").astype(np.float32)
        self.take(2 * count % 4)
        return torch.from_numpy(found)


class Sum(nn.Module):
    def __init__(self, factors: tuple[float, ...]) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, *values: Tensor) -> Tensor:
        total = values[0] * self.factors[0] if self.factors[0] != 1 else values[0]
        for value, factor in zip(values[1:], self.factors[1:], strict=True):
            total = torch.add(total, value, alpha=factor)
        return total


class Join(nn.Module):
    def forward(self, *values: Tensor) -> Tensor:
        return torch.cat(values, dim=1)


class Resize(nn.Module):
    def __init__(self, mode: str, scale: float) -> None:
        super().__init__()
        self.mode, self.scale = mode, scale

    def forward(self, value: Tensor) -> Tensor:
        aligned = None if self.mode == "nearest" else False
        return F.interpolate(value, scale_factor=self.scale, mode=self.mode, align_corners=aligned)


def _convolution(layer: Layer, channels: int, weights: Weights) -> tuple[nn.Module, int, float]:
    outputs, side, count = layer.whole(0), layer.whole(1), layer.whole(6)
    if count != outputs * channels * side * side or not layer.whole(5):
        raise ValueError(f"{layer.name} doesn't fit its {channels} inputs")
    module = nn.Conv2d(channels, outputs, side, 1, layer.whole(4))
    module.weight.data = weights.tagged(count).view(outputs, channels, side, side)
    module.bias.data = weights.floats(outputs)
    if layer.whole(9) == 2:
        slope = layer.options[-23310][0]
        return nn.Sequential(module, nn.LeakyReLU(slope, inplace=True)), outputs, 1
    if layer.whole(9):
        raise ValueError(f"{layer.name} has an activation that isn't known")
    return module, outputs, 1


def _prelu(layer: Layer, channels: int, weights: Weights) -> tuple[nn.Module, int, float]:
    module = nn.PReLU(channels)
    module.weight.data = weights.floats(layer.whole(0))
    if layer.whole(0) != channels:
        raise ValueError(f"{layer.name} doesn't fit its {channels} inputs")
    return module, channels, 1


def _shuffle(layer: Layer, channels: int, weights: Weights) -> tuple[nn.Module, int, float]:
    factor = layer.whole(0, 1)
    return nn.PixelShuffle(factor), channels // factor**2, factor


def _resize(layer: Layer, channels: int, weights: Weights) -> tuple[nn.Module, int, float]:
    scale = float(layer.options[1])
    return Resize(MODES[layer.whole(0)], scale), channels, scale


def _sum(layer: Layer, channels: int, weights: Weights) -> tuple[nn.Module, int, float]:
    weighted = layer.kind == "Eltwise"
    if layer.whole(0) != weighted:  # 1 is Eltwise's sum, and 0 that of BinaryOp
        raise ValueError(f"{layer.name} is no sum")
    factors = layer.options.get(-23301) or (1.0,) * len(layer.inputs)
    return Sum(tuple(factors)), channels // len(layer.inputs), 1


def _join(layer: Layer, channels: int, weights: Weights) -> tuple[nn.Module, int, float]:
    return Join(), channels, 1


KINDS: dict[str, Callable[[Layer, int, Weights], tuple[nn.Module, int, float]]] = {
    "Convolution": _convolution,
    "PReLU": _prelu,
    "PixelShuffle": _shuffle,
    "Interp": _resize,
    "BinaryOp": _sum,
    "Eltwise": _sum,
    "Concat": _join,
}
"""Each makes a module of a layer and of the channels of all its inputs together, and says how many
channels come out and how many times as high and wide."""


class Graph(nn.Module):
    """A network as its files have it.

    Attributes:
        scale: how many times as high and wide its pictures come out.
        values: at most so many values are alive at once for each pixel of its input.
        reach: convolutions before the first resize: as many pixels around one decide about it.
    """

    def __init__(self, layers: list[Layer], weights: Weights) -> None:
        super().__init__()
        source = dict.fromkeys(layers[0].outputs, "picture")
        shapes, self.plan, made, self.reach = {"picture": (3, 1.0)}, [], [], 0
        for layer in layers[1:]:
            inputs = tuple(source[name] for name in layer.inputs)
            if layer.kind == "Split":
                source |= dict.fromkeys(layer.outputs, inputs[0])
                continue
            if layer.kind not in KINDS:
                raise ValueError(f"has a layer {layer.kind!r}, which isn't known")
            channels = sum(shapes[name][0] for name in inputs)
            module, outputs, times = KINDS[layer.kind](layer, channels, weights)
            self.reach += layer.kind == "Convolution" and shapes[inputs[0]][1] == 1
            (name,) = layer.outputs
            source[name], shapes[name] = name, (outputs, shapes[inputs[0]][1] * times)
            self.plan.append((inputs, name))
            made.append(module)
        if weights.place != len(weights.data):
            raise ValueError(f"has {len(weights.data) - weights.place:,} bytes too many")
        self.steps, self.result = nn.ModuleList(made), name
        channels, self.scale = shapes[name]
        if channels != 3:
            raise ValueError("makes no pictures")
        last = {name: place for place, (names, _) in enumerate(self.plan) for name in names}
        self.dead = [
            [name for name in dict.fromkeys(names) if last[name] == place]
            for place, (names, _) in enumerate(self.plan)
        ]
        self.values = self._most_values(shapes)

    def _most_values(self, shapes: dict[str, tuple[int, float]]) -> float:
        sizes = {name: channels * scale**2 for name, (channels, scale) in shapes.items()}
        alive = most = sizes["picture"]
        for (_, name), dead in zip(self.plan, self.dead, strict=True):
            alive += sizes[name]
            most = max(most, alive)
            alive -= sum(sizes[other] for other in dead)
        return most

    def forward(self, picture: Tensor) -> Tensor:
        """(batch, 3, height, width) in 0 … 1, ``scale`` times as large in what comes out."""
        alive = {"picture": picture}
        for module, (inputs, name), dead in zip(self.steps, self.plan, self.dead, strict=True):
            alive[name] = module(*(alive[other] for other in inputs))
            for other in dead:
                del alive[other]
        return alive[self.result]


def read_graph(text: Path, weights: Path) -> Graph:
    """A network of its ``.param`` and ``.bin`` files.

    Raises:
        ModelCorrupt: if they can't be read, or don't fit each other.
    """
    try:
        lines = _bounded(text, LARGEST_TEXT).decode().split("\n")
        layers = [_layer(line) for line in lines[2:] if line.strip()]
        count = int(lines[1].split()[0])
        if lines[0].strip() != MAGIC or len(layers) != count or layers[0].kind != "Input":
            raise ValueError("is no list of an ncnn network's layers")
        return Graph(layers, Weights(_bounded(weights, LARGEST_WEIGHTS)))
    except (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelCorrupt(
            f"{weights} or its .param is damaged ({reason}): install its package again"
        ) from None


def _bounded(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError("is too large")
    return data


def _layer(line: str) -> Layer:
    kind, name, inputs, outputs, *rest = line.split()
    names, settings = rest[: int(inputs) + int(outputs)], rest[int(inputs) + int(outputs) :]
    options: dict[int, float | tuple[float, ...]] = {}
    for setting in settings:
        number, _, value = setting.partition("=")
        parts = tuple(float(part) for part in value.split(","))
        # Lists have a number below -23300, and their length first.
        options[int(number)] = parts[1:] if int(number) <= -23300 else parts[0]
    return Layer(kind, name, tuple(names[: int(inputs)]), tuple(names[int(inputs) :]), options)
