"""Videos of a prompt with LoRA files at some weights, without keeping any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..checkpoints import store
from ..loras.entries import LoraEntry, write_loras
from ..pipeline.generate import generate_frames
from ..pipeline.loader import load_pipeline
from ..planning import planner, probe
from ..planning.request import make_request


def sample_frames(
    prompt: str, loras: Mapping[Path, float], model: str = "tiny", **values: object
) -> np.ndarray:
    """uint8 (frames, height, width, 3) of a video with LoRA files.

    Args:
        loras: the weight of each file.
        values: other fields of a request, such as ``steps`` and ``seed``.
    """
    entries = [LoraEntry(str(path), weight=weight) for path, weight in loras.items()]
    request = make_request(
        store.locate_checkpoint(model), prompt, lora=write_loras(entries), **values
    )
    loaded = load_pipeline(planner.plan_request(request, probe.probe_machine()))
    return generate_frames(request, loaded).frames
