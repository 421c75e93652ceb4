"""The true shapes of each checkpoint, to be filled with random numbers where no weights are.

Time and memory don't depend on what the numbers are, so any GPU can be timed before 21 GB are
fetched. Sources: the ``config.json`` files of zai-org/CogVideoX-5b and zai-org/CogVideoX-2b.
"""

from __future__ import annotations

from . import settings
from .checkpoints.registry import TINY, Checkpoint
from .checkpoints.store import read_json

COMPONENTS = ("text_encoder", "transformer", "vae", "scheduler")

T5_XXL = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}

SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "snr_shift_scale": 1.0,
    "timestep_spacing": "trailing",
}


def configs(checkpoint: Checkpoint) -> dict[str, dict]:
    """Configuration of each of ``COMPONENTS``, as diffusers and transformers take it."""
    if checkpoint.name == TINY.name:
        return {name: _shipped(name) for name in COMPONENTS}
    layers, heads, head_width, height, width = checkpoint.architecture
    transformer = {
        "num_layers": layers,
        "num_attention_heads": heads,
        "attention_head_dim": head_width,
        "sample_height": height,
        "sample_width": width,
        "use_rotary_positional_embeddings": checkpoint.name == "CogVideoX-5b",
    }
    vae = {"scaling_factor": 0.7 if checkpoint.name == "CogVideoX-5b" else 1.15258426}
    parts = (T5_XXL, transformer, vae, SCHEDULER | {"_class_name": checkpoint.scheduler})
    return dict(zip(COMPONENTS, parts, strict=True))


def _shipped(component: str) -> dict:
    name = "scheduler_config.json" if component == "scheduler" else "config.json"
    return read_json(settings.models_dir() / TINY.name / component / name)
