"""8-bit weights of the transformer's blocks: products in 8 bits, or storage alone, by torchao."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from ..errors import RequestError, optional_import
from ..planning.speedups import SPEED_UPS

QUANTIZED_LAYERS = ("attn1.", "ff.")
"""Linear layers with nine tenths of a block's weights; the others are given two rows at a time."""

# torchao's own settings for the compiler search for minutes and gain next to nothing.
CONFIGS = {
    "fp8": lambda torchao: torchao.Float8DynamicActivationFloat8WeightConfig(
        granularity=torchao.PerRow(), set_inductor_config=False
    ),
    "int8": lambda torchao: torchao.Int8DynamicActivationInt8WeightConfig(
        set_inductor_config=False
    ),
    "int8_weights": lambda torchao: torchao.Int8WeightOnlyConfig(set_inductor_config=False),
}
"""torchao's configuration of each format that a plan can have; all have a scale for each row."""


def quantize_transformer(
    transformer: torch.nn.Module, kind: str, device: str, stays: bool = True
) -> None:
    """Quantize the blocks' weights, and with ``fp8`` and ``int8`` their inputs at run time.

    Args:
        kind: one of ``CONFIGS``, or empty for not at all.
        device: where it is computed.
        stays: whether the weights stay there. Else each block goes back to the CPU before the
            next is quantized, its weights as plain tensors that offload hooks can move.

    Raises:
        RequestError: if torchao is missing.
    """
    if not kind:
        return
    make_error = functools.partial(RequestError, "speed", "fast")
    row = SPEED_UPS["quantized"]
    torchao = optional_import("torchao.quantization", row.extra, row.title, make_error=make_error)
    config = CONFIGS[kind](torchao)
    for block in transformer.transformer_blocks:
        torchao.quantize_(block, config, _is_quantized, device=device)
        if kind == "int8_weights":
            _replace_layers(block, CompactLinear)
        elif not stays:
            _replace_layers(block, PlainLinear)
        if not stays:
            block.to("cpu")


def _is_quantized(module: torch.nn.Module, name: str) -> bool:
    return isinstance(module, torch.nn.Linear) and any(part in name for part in QUANTIZED_LAYERS)


class PlainLinear(torch.nn.Module):
    """A linear layer whose quantized weight is held as the plain tensors that it consists of.

    Hooks that move weights replace ``parameter.data``, and compiled code refers to parameters;
    neither works with a tensor subclass that is exchanged. The results are those of the layer that
    it is made from, bit by bit.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        weight = linear.weight
        names, attributes = weight.__tensor_flatten__()
        for name in names:
            part = torch.nn.Parameter(getattr(weight, name), requires_grad=False)
            self.register_parameter(name, part)
        self.bias, self.names = linear.bias, tuple(names)
        # Equal for the same layer of all blocks, so that these share their compiled code.
        self.format = f"{type(weight).__name__} {tuple(weight.shape)} {sorted(attributes.items())}"
        _REBUILD[self.format] = functools.partial(_rebuild, type(weight), self.names, attributes)

    @property
    def parts(self) -> list[torch.Tensor]:
        return [getattr(self, name) for name in self.names]

    @property
    def weight(self) -> torch.Tensor:
        """The quantized weight, which shares their memory."""
        return _REBUILD[self.format](*self.parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _linear(x, self.bias, self.format, *self.parts)


_REBUILD: dict[str, Callable[..., torch.Tensor]] = {}
"""Makes a weight of its plain tensors, by ``PlainLinear.format``."""


def _rebuild(kind: type, names: tuple[str, ...], attributes: dict, *parts) -> torch.Tensor:
    return kind.__tensor_unflatten__(dict(zip(names, parts, strict=True)), attributes, None, None)


@torch.compiler.allow_in_graph  # dynamo can't trace the constructor, but what follows can
def _linear(x: torch.Tensor, bias: torch.Tensor | None, layout: str, *parts) -> torch.Tensor:
    return torch.nn.functional.linear(x, _REBUILD[layout](*parts), bias)


class CompactLinear(torch.nn.Module):
    """A linear layer whose weight is kept in 8 bits and multiplied in those of its input.

    Its results are torchao's for the layer that it is made from, bit by bit. It is one operator for
    the compiler, which would try kernels for such products for more than a minute (one H200).
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        for name in ("qdata", "scale"):
            part = torch.nn.Parameter(getattr(linear.weight, name), requires_grad=False)
            self.register_parameter(name, part)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return compact_linear(x, self.qdata, self.scale, self.bias)


@torch.library.custom_op("cogvx_nb::compact_linear", mutates_args=())
def compact_linear(
    x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """A product with a weight in int8 that has a scale for each row.

    Args:
        x: (…, inputs).
        weight, scale, bias: (outputs, inputs), (outputs, 1) and (outputs).
    """
    product = torch.mm(x.flatten(0, -2), weight.t().to(x.dtype))
    product = product * scale.to(product.dtype).flatten()
    if bias is not None:
        product += bias
    return product.unflatten(0, x.shape[:-1])


@compact_linear.register_fake
def _(x, weight, scale, bias) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _replace_layers(module: torch.nn.Module, kind: type[torch.nn.Module]) -> None:
    """Replace each quantized linear layer by one that is made from it."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.Linear) and hasattr(child.weight, "__tensor_flatten__"):
            setattr(module, name, kind(child))
        else:
            _replace_layers(child, kind)
