"""Headers of safetensors files: what they say of their weights, read without these."""

from __future__ import annotations

import json
import math
import operator
import struct
from pathlib import Path

from ..errors import ModelCorrupt

HEADER_BYTES = 2**24
"""Most bytes of a header; CogVideoX-5b's largest has 0.1 MB. The safetensors library allows 100 MB,
which take half a minute and gigabytes to read."""

WEIGHT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
"""Bytes of each type of weights, by its name in safetensors files."""


def read_header(path: Path, remedy: str) -> tuple[int, int, int]:
    """Bytes of data, weights and tensors that a safetensors file declares.

    The format is 8 bytes of header length, a JSON header with the offsets of each tensor, then data
    (https://github.com/huggingface/safetensors#format).

    Args:
        remedy: of a damaged file, for the message.

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
        header.pop("__metadata__", None)
        data = max(operator.index(tensor["data_offsets"][1]) for tensor in header.values())
        counts = [_count_weights(tensor) for tensor in header.values()]
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
    return data, sum(counts), len(counts)


def _count_weights(tensor: dict) -> int:
    """How many a tensor of a header holds; ValueError or LookupError if it holds something else."""
    count, (start, end) = math.prod(map(operator.index, tensor["shape"])), tensor["data_offsets"]
    if count * WEIGHT_BYTES[tensor["dtype"]] != end - start:
        raise ValueError("a tensor of another size than it declares")
    return count
