"""LoRA files as diffusers writes them, with what was trained and how in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from .. import files
from .scales import METADATA

PREFIX = "transformer."
"""Of a layer's name in diffusers' files."""


def write_lora(
    path: Path,
    matrices: Mapping[str, tuple[np.ndarray, np.ndarray]],
    alpha: float,
    metadata: Mapping[str, str],
) -> None:
    """Write a LoRA of one rank whole, under a name that isn't taken.

    Args:
        matrices: down (rank, inputs) and up (outputs, rank) of each layer, by diffusers' name.
        metadata: further texts of the header.

    Raises:
        OutputExists: if there is a file of that name.
        OutputError, DiskFull: if it can't be written.
    """
    tensors = {}
    for module, (down, up) in matrices.items():
        tensors[f"{PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(down)
        tensors[f"{PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(up)
    rank = next(iter(matrices.values()))[0].shape[0]
    config = {"r": rank, "lora_alpha": alpha, "target_modules": list(_endings(matrices))}
    adapter = json.dumps({f"{PREFIX}{key}": value for key, value in config.items()})
    content = save(tensors, {"format": "pt", METADATA: adapter, **metadata})
    with files.translate_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.partial_file(path) as partial:
            partial.write_bytes(content)
            files.fsync(partial)
            files.publish(partial, path)


def _endings(modules: Mapping[str, object]) -> dict[str, None]:
    """Layers without their block's number, as peft takes them."""
    return dict.fromkeys(module.split(".", 2)[-1] for module in modules)
