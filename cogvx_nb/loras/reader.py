"""A LoRA file: which layers it changes, by how much its trainer scales them, and what it can't be
used for. Only headers and single numbers are read."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints.headers import Tensor, read_tensors
from ..checkpoints.registry import CHECKPOINTS, Checkpoint
from ..errors import ModelCorrupt, RequestError
from ..hashing import sha256
from ..paths import read_json, user_path
from ..text import plain_line
from .modules import linear_shapes
from .names import ALPHA, DOWN, MAGNITUDE, REFUSED, UP, Format, read_name

TENSOR, HEADER, CONFIG, FORMAT, NONE = "tensor", "header", "adapter_config.json", "format", "none"
"""Where a file's alpha stands. ``FORMAT``: its trainer has always the same; ``NONE``: nowhere, so
it is taken for the rank, a scale of 1."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

METADATA = "lora_adapter_metadata"
"""Key of diffusers' metadata in a header: JSON of peft's configuration."""

SCALARS = {"F64": "<d", "F32": "<f", "F16": "<e"}


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

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA for a checkpoint."""

    path: Path
    sha256: str
    format: str  # of its names, for people
    layers: tuple[LoraLayer, ...]  # in the transformer's order
    metadata: dict[str, str]  # of the header


def read_lora(name: str | Path, checkpoint: Checkpoint) -> LoraFile:
    """A LoRA file, for a checkpoint that it fits.

    Raises:
        RequestError: if it is none, damaged, or doesn't fit, in one line with the remedy.
    """
    path = user_path(name, "lora")
    tensors, metadata = _read_tensors(path)
    shapes = linear_shapes(checkpoint)
    found, formats = _sort_tensors(path, tensors, shapes)
    _check_modules(path, found, shapes, checkpoint)
    config = _adapter_config(path, metadata)
    layers = [
        _layer(path, module, found[module], tensors, config, formats)
        for module in shapes
        if module in found
    ]
    for layer in layers:
        _check_shape(path, layer, tensors, shapes[layer.module], checkpoint)
    title = ", ".join(dict.fromkeys(known.title for known in formats))
    return LoraFile(path, sha256(path), title, tuple(layers), metadata)


def fitting_checkpoints(name: str | Path) -> list[Checkpoint]:
    """The checkpoints that a LoRA file fits.

    Raises:
        RequestError: if it fits none, with what is wrong for the nearest.
    """
    fitting, problems = [], []
    for checkpoint in CHECKPOINTS:
        try:
            read_lora(name, checkpoint)
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
    if not path.is_file():
        raise _unusable(path, "is no file: check its name")
    try:
        return read_tensors(path, "fetch it again")
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
    for name in tensors:
        for held, reason in REFUSED.items():
            if held in name:
                raise _unusable(path, f"holds {plain_line(name)[:80]}, {reason}")
        read = read_name(name, shapes)
        if read is None:
            raise _unusable(
                path,
                f"holds {plain_line(name)[:80]}, which no LoRA of CogVideoX has: it is for "
                "another model, or of a format that isn't read",
            )
        part, known = read
        found.setdefault(part.module, {})[part.kind] = name
        if part.kind != ALPHA:
            formats.append(known)
    return found, list({known.title: known for known in formats}.values())


def _check_modules(
    path: Path, found: Mapping[str, dict], shapes: Mapping[str, object], checkpoint: Checkpoint
) -> None:
    unknown = [module for module in found if module not in shapes]
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
    config: tuple[dict, str],
    formats: list[Format],
) -> LoraLayer:
    rank = tensors[parts[DOWN]].shape[0]
    values, source = config
    if ALPHA in parts:
        alpha, source = _scalar(path, tensors[parts[ALPHA]]), TENSOR
    elif (given := _configured_alpha(values, module)) is not None:
        alpha = given
    elif any(known.unscaled for known in formats):
        alpha, source = 1.0, FORMAT
    else:
        alpha, source = float(rank), NONE
    names = parts[DOWN], parts[UP]
    return LoraLayer(module, *names, rank, alpha, source, parts.get(MAGNITUDE, ""))


def _adapter_config(path: Path, metadata: Mapping[str, str]) -> tuple[dict, str]:
    """(peft's configuration, where it stands); empty where there is none."""
    if METADATA in metadata:
        try:
            content = json.loads(metadata[METADATA])
        except (ValueError, RecursionError):
            content = {}
        if isinstance(content, dict):
            own = {k.removeprefix("transformer."): v for k, v in content.items()}
            return own, HEADER
    try:
        content = read_json(path.with_name(CONFIG))
    except (OSError, ValueError):
        return {}, NONE
    return (content, CONFIG) if isinstance(content, dict) else ({}, NONE)


def _configured_alpha(values: Mapping, module: str) -> float | None:
    """Alpha of a layer by peft's configuration."""
    pattern = values.get("alpha_pattern")
    if isinstance(pattern, dict):
        for name, alpha in pattern.items():
            if module.endswith(str(name)) and _is_number(alpha):
                return float(alpha)
    alpha = values.get("lora_alpha")
    return float(alpha) if _is_number(alpha) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scalar(path: Path, tensor: Tensor) -> float:
    """The only number of a tensor."""
    with path.open("rb") as file:
        file.seek(tensor.start)
        data = file.read(tensor.bytes)
    if tensor.count != 1 or len(data) != tensor.bytes:
        raise _unusable(path, f"has an alpha of {tensor.count} numbers: fetch it again")
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
    inputs = down.count // max(1, layer.rank)  # of a convolution too
    if (up.shape[0], inputs) == shape and up.count == up.shape[0] * layer.rank:
        return
    widths = {c.name: linear_shapes(c).get(layer.module) for c in CHECKPOINTS}
    fits = [name for name, other in widths.items() if other == (up.shape[0], inputs)]
    remedy = f"it is for {', '.join(fits[:3])}" if fits else "it is for another model"
    raise _unusable(
        path,
        f"has {up.shape[0]} × {inputs} for {layer.module}, and {checkpoint.name} "
        f"{shape[0]} × {shape[1]}: {remedy}",
    )
