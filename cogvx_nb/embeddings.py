"""Prompts as the text encoder reads them, kept on disk: another seed needs no encoder again."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch

from . import files, settings
from .pipeline import Loaded

MOST_FILES = 500
"""Kept; the oldest go first. One of CogVideoX-5b is 226 × 4096 numbers, 1.8 MB."""

DECIDING = ("text_encoder/", "tokenizer/", "random weights")
"""Files of a checkpoint that decide what becomes of a prompt."""


def of(text: str, loaded: Loaded, encode: Callable[[str], torch.Tensor]) -> torch.Tensor:
    """The embedding of a text, (1, tokens, width) in the encoder's precision on its device.

    Bit by bit what ``encode`` gives: the same files, precision, kind of device and versions.

    Args:
        encode: called if it isn't kept yet.
    """
    path = folder() / f"{_key(text, loaded)}.safetensors"
    with contextlib.suppress(OSError, safetensors.SafetensorError, KeyError):
        found = safetensors.torch.load_file(path, device=loaded.plan.device)["embedding"]
        path.touch()
        return found
    made = encode(text)
    if torch.isfinite(made).all():  # else another try may do better
        with contextlib.suppress(OSError):  # a folder that can't be written costs time, no more
            _keep(path, made)
    return made


def folder() -> Path:
    """Where they are kept; it can be deleted."""
    return settings.outputs_dir() / ".embeddings"


def _key(text: str, loaded: Loaded) -> str:
    plan = loaded.plan
    files = {name: value for name, value in loaded.hashes.items() if name.startswith(DECIDING)}
    device = torch.device(plan.device)
    where = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    limit = plan.model.checkpoint.text_tokens
    versions = torch.__version__, importlib.metadata.version("transformers")
    deciding = [text, sorted(files.items()), plan.dtype, where, versions, limit]
    return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()


def _keep(path: Path, embedding: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, safetensors.torch.save({"embedding": embedding.contiguous().cpu()}))
    kept = sorted(path.parent.glob("*.safetensors"), key=lambda one: one.stat().st_mtime)
    for old in kept[:-MOST_FILES]:
        old.unlink(missing_ok=True)
