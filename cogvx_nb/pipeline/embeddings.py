"""Cached embeddings of prompts in the outputs folder."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch

from .. import files, settings

MOST_EMBEDDINGS = 500
"""Cached prompt embeddings; the oldest are deleted first. One of CogVideoX-5b has 226 × 4096
numbers, 1.8 MB."""


def embeddings_folder() -> Path:
    """Where embeddings are cached; it can be deleted."""
    return settings.outputs_dir() / ".embeddings"


def store_embedding(path: Path, embedding: torch.Tensor) -> None:
    """Write an embedding to the cache, and delete the oldest where there are too many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = safetensors.torch.save({"embedding": embedding.contiguous().cpu()})
    files.write_whole(path, content, sync=False)
    paths = sorted(path.parent.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    for old in paths[:-MOST_EMBEDDINGS]:
        old.unlink(missing_ok=True)
