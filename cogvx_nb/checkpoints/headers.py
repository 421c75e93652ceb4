"""Headers of safetensors files: what they say of their weights, read without these."""

from __future__ import annotations

import json
import math
import operator
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelCorrupt

HEADER_BYTES = 2**24
"""Most bytes of a header; CogVideoX-5b's largest has 0.1 MB. The safetensors library allows 100 MB,
which take half a minute and gigabytes to read."""

WEIGHT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
"""Bytes of each type of weights, by its name in safetensors files."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a safetensors file, as its header declares it."""

    dtype: str  # one of ``WEIGHT_BYTES``, or of the other types that were asked for
    shape: tuple[int, ...]
    start: int  # offset of its data in the file
    bytes: int

    @property
    def count(self) -> int:
        """Weights in it."""
        return math.prod(self.shape)


def read_header(path: Path, remedy: str) -> tuple[int, int, int]:
    """Bytes of data, weights and tensors that a safetensors file declares; see ``read_tensors``."""
    tensors = read_tensors(path, remedy)[0].values()
    data = sum(tensor.bytes for tensor in tensors)
    return data, sum(tensor.count for tensor in tensors), len(tensors)


def read_tensors(
    path: Path, remedy: str, types: Mapping[str, int] = WEIGHT_BYTES
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(the tensors of a safetensors file by name, the texts of its metadata).

    The format is 8 bytes of header length, a JSON header with the offsets of each tensor, then data
    (https://github.com/huggingface/safetensors#format).

    Args:
        remedy: of a damaged file, for the message.
        types: bytes of each type of numbers that it may hold.

    Raises:
        ModelCorrupt: if the header is damaged or the file has another size than it declares.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, HEADER_BYTES):
                raise ValueError("header longer than the file, or than any")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", None) or {}
        texts = {str(key): value for key, value in metadata.items() if isinstance(value, str)}
        data = max(operator.index(tensor["data_offsets"][1]) for tensor in header.values())
        tensors = {name: _tensor(tensor, 8 + length, types) for name, tensor in header.items()}
    except OSError as error:
        raise ModelCorrupt(f"{path} can't be read: {error.strerror}") from error
    except (
        ValueError,
        struct.error,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ModelCorrupt(f"{path} is no safetensors file of weights: {remedy}") from error
    if size != 8 + length + data:
        raise ModelCorrupt(f"{path} has {size:,} bytes of {8 + length + data:,}: {remedy}")
    return tensors, texts


def _tensor(declared: dict, base: int, types: Mapping[str, int]) -> Tensor:
    """A tensor of a header; ValueError or LookupError if it holds something else than it says."""
    shape = tuple(map(operator.index, declared["shape"]))
    start, end = map(operator.index, declared["data_offsets"])
    if math.prod(shape) * types[declared["dtype"]] != end - start or min((start, *shape)) < 0:
        raise ValueError("a tensor of another size than it declares")
    return Tensor(declared["dtype"], shape, base + start, end - start)
