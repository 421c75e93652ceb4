"""A LoRA file: which layers it changes, by how much its trainer scales them, and what it can't be
used for. Only headers and single numbers are read."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints.headers import WEIGHT_BYTES, Tensor, read_tensors
from ..checkpoints.registry import CHECKPOINTS, Checkpoint
from ..errors import ModelCorrupt, RequestError
from ..paths import user_path
from ..text import plain_line
from .layers import LoraLayer
from .library import file_hash
from .modules import linear_shapes
from .names import ALPHA, DOWN, MAGNITUDE, UP, Format, other_model, read_name, refusal
from .scales import FORMAT, NONE, TENSOR, Scaling, read_scaling

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

SCALARS = {"F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "I32": "<i", "I16": "<h"}
"""How the numbers of alpha are stored; some trainers write whole ones."""

TYPES = WEIGHT_BYTES | {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA for a checkpoint."""

    path: Path
    sha256: str
    format: str  # of its names, for people
    layers: tuple[LoraLayer, ...]  # in the transformer's order
    metadata: dict[str, str]  # of the header


def read_lora(name: str | Path, checkpoint: Checkpoint, beside: bool = True) -> LoraFile:
    """A LoRA file, for a checkpoint that it fits.

    Args:
        beside: whether peft's configuration beside it counts; what is named by its content alone
            is the same wherever that is.

    Raises:
        RequestError: if it is none, damaged, or doesn't fit, in one line with the remedy.
    """
    path = user_path(name, "lora")
    tensors, metadata = _read_tensors(path)
    shapes = linear_shapes(checkpoint)
    found, formats = _sort_tensors(path, tensors, shapes)
    _check_modules(path, found, shapes, checkpoint)
    config = read_scaling(path, metadata, beside)
    if config.unread:
        shown = plain_line(config.unread)[:40]
        raise _unusable(path, f"has an alpha for {shown}, which isn't a layer's name: list names")
    layers = [
        _layer(path, module, found[module], tensors, config, formats)
        for module in shapes
        if module in found
    ]
    for layer in layers:
        _check_shape(path, layer, tensors, shapes[layer.module], checkpoint)
    title = ", ".join(dict.fromkeys(known.title for known in formats))
    return LoraFile(path, file_hash(path), title, tuple(layers), metadata)


def fitting_checkpoints(name: str | Path) -> list[Checkpoint]:
    """The checkpoints that a LoRA file fits.

    Raises:
        RequestError: if it fits none, with what is wrong for the nearest.
    """
    return readable_with(CHECKPOINTS, lambda checkpoint: read_lora(name, checkpoint))


def readable_with(
    checkpoints: Iterable[Checkpoint], read: Callable[[Checkpoint], object]
) -> list[Checkpoint]:
    """Those checkpoints for which LoRAs can be read.

    Args:
        read: reads them for a checkpoint, or raises RequestError.

    Raises:
        RequestError: if there is none, with what is wrong for the first.
    """
    fitting, problems = [], []
    for checkpoint in checkpoints:
        try:
            read(checkpoint)
            fitting.append(checkpoint)
        except RequestError as error:
            problems.append(error)
    if not fitting:
        raise problems[0]
    return fitting


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if path.suffix in PICKLES:
        raise _unusable(
            path, "is a pickle, which can run any code when opened: convert it to .safetensors"
        )
    if path.is_dir():
        raise _unusable(path, "is a folder: name the file in it")
    if not path.is_file():
        raise _unusable(path, "is no file: check its name")
    try:
        return read_tensors(path, "fetch it again", TYPES)
    except ModelCorrupt as error:
        raise _unusable(path, str(error).removeprefix(f"{path} ")) from error


def _unusable(path: Path, remedy: str) -> RequestError:
    return RequestError("lora", str(path), remedy)


def _sort_tensors(
    path: Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, dict[str, str]], list[Format]]:
    """(names of tensors by kind, by layer; the formats of their names)."""
    found: dict[str, dict[str, str]] = {}
    formats: list[Format] = []
    adapters = set()
    for name in tensors:
        shown = plain_line(name)[:80]
        if reason := refusal(name):
            raise _unusable(path, f"holds {shown}, {reason}")
        read = read_name(name, shapes)
        if read is None:
            raise _unusable(path, f"holds {shown}, {_unknown(tensors)}")
        part, known = read
        parts = found.setdefault(part.module, {})
        if part.adapter:
            adapters.add(part.adapter)
        if len(adapters) > 1:
            named = " and ".join(plain_line(one)[:40] for one in sorted(adapters))
            raise _unusable(path, f"holds the adapters {named}: save each in a file of its own")
        if part.kind in parts:
            raise _unusable(path, f"holds {shown} a second time by another name: fetch it again")
        parts[part.kind] = name
        if part.kind != ALPHA:
            formats.append(known)
    return found, list({known.title: known for known in formats}.values())


def _unknown(names: Iterable[str]) -> str:
    """What a file with a tensor that no LoRA of CogVideoX has is."""
    names = list(names)
    if model := other_model(names):
        return f"as a LoRA for {model} does: use one for CogVideoX"
    if not any("lora" in name or "matrix_" in name for name in names):
        return (
            "which no LoRA of CogVideoX has: it seems to hold a model's whole weights, whose "
            "folder is chosen as the model"
        )
    return "which no LoRA of CogVideoX has: it is for another model, or of a format that isn't read"


def _check_modules(
    path: Path, found: Mapping[str, dict], shapes: Mapping[str, object], checkpoint: Checkpoint
) -> None:
    unknown = [module for module in found if module not in shapes]
    if unknown and (model := other_model(unknown)):
        shown = plain_line(unknown[0])[:60]
        raise _unusable(path, f"changes {shown}, as a LoRA for {model}: use one for CogVideoX")
    if unknown:
        raise _unusable(
            path,
            f"changes {len(unknown)} of {len(found)} layers that {checkpoint.name} doesn't "
            f"have, such as {plain_line(unknown[0])[:60]}: use it with the checkpoint that it was "
            "made for",
        )
    for module, parts in found.items():
        if missing := [kind for kind in (DOWN, UP) if kind not in parts]:
            raise _unusable(path, f"lacks the {missing[0]} matrix of {module}: fetch it again")


def _layer(
    path: Path,
    module: str,
    parts: Mapping[str, str],
    tensors: Mapping[str, Tensor],
    config: Scaling,
    formats: list[Format],
) -> LoraLayer:
    rank = tensors[parts[DOWN]].shape[0] if tensors[parts[DOWN]].shape else 0
    source = config.origin
    if ALPHA in parts:
        alpha, source = _scalar(path, tensors[parts[ALPHA]]), TENSOR
    elif (given := config.alpha_of(module)) is not None:
        alpha = given
    elif any(known.unscaled for known in formats):
        alpha, source = 1.0, FORMAT
    else:
        alpha, source = float(rank), NONE
    if rank == 0:
        raise _unusable(path, f"has a rank of 0 for {module}: fetch it again")
    if not 0 < alpha < math.inf:
        raise _unusable(path, f"has an alpha of {alpha:g} for {module}: fetch it again")
    magnitude = parts.get(MAGNITUDE, "")
    shape = tensors[magnitude].shape if magnitude else ()
    columns = len(shape) == 2 and shape[0] == 1 and tensors[parts[UP]].shape[0] > 1
    by_root = config.by_root and source == config.origin
    names = parts[DOWN], parts[UP]
    return LoraLayer(module, *names, rank, alpha, source, magnitude, columns, by_root)


def _scalar(path: Path, tensor: Tensor) -> float:
    """The only number of a tensor."""
    with path.open("rb") as file:
        file.seek(tensor.start)
        data = file.read(tensor.bytes)
    if tensor.count != 1 or len(data) != tensor.bytes or tensor.dtype not in (*SCALARS, "BF16"):
        kind = f"{tensor.count} numbers of {tensor.dtype}"
        raise _unusable(path, f"has an alpha of {kind}: fetch it again")
    if tensor.dtype == "BF16":  # the upper half of a float32
        return struct.unpack("<f", b"\0\0" + data)[0]
    return float(struct.unpack(SCALARS[tensor.dtype], data)[0])


def _check_shape(
    path: Path,
    layer: LoraLayer,
    tensors: Mapping[str, Tensor],
    shape: tuple[int, int],
    checkpoint: Checkpoint,
) -> None:
    up, down = tensors[layer.up], tensors[layer.down]
    for name in filter(None, (layer.up, layer.down, layer.magnitude)):
        if (dtype := tensors[name].dtype) not in WEIGHT_BYTES:
            raise _unusable(path, f"holds whole numbers ({dtype}), which aren't read: save floats")
    if layer.magnitude:
        _check_magnitude(path, layer, tensors[layer.magnitude], shape)
    if not up.shape:
        raise _unusable(path, f"has a single number for {layer.module}: fetch it again")
    inputs = down.count // max(1, layer.rank)  # of a convolution too
    if (up.shape[0], inputs) == shape and down.count == inputs * layer.rank:
        if up.count == up.shape[0] * layer.rank:
            return
        ranks = f"{layer.rank} and {up.count // up.shape[0]}"
        raise _unusable(
            path, f"has matrices of the ranks {ranks} for {layer.module}: fetch it again"
        )
    widths = {c.name: linear_shapes(c).get(layer.module) for c in CHECKPOINTS}
    fits = [name for name, other in widths.items() if other == (up.shape[0], inputs)]
    remedy = f"it is for {', '.join(fits[:3])}" if fits else "it is for another model"
    raise _unusable(
        path,
        f"has {up.shape[0]} × {inputs} for {layer.module}, and {checkpoint.name} "
        f"{shape[0]} × {shape[1]}: {remedy}",
    )


def _check_magnitude(path: Path, layer: LoraLayer, norms: Tensor, shape: tuple[int, int]) -> None:
    """Check that DoRA's norms are one for each row, (outputs) or (outputs, 1), or for each column,
    (1, inputs)."""
    rows, columns = shape
    count = columns if layer.by_column else rows
    if norms.count != count or norms.shape[0] not in (1, rows):
        shown = " × ".join(map(str, norms.shape))
        raise _unusable(
            path, f"has norms of {shown} for {layer.module}, of {rows} × {columns}: fetch it again"
        )
