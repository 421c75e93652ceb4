"""The parts of a pipeline from a checkpoint's files, which may be anybody's.

A configuration is checked before anything of its sizes is made: ten bytes of it can ask for a
terabyte. Only classes that are named here are ever loaded, and only from safetensors.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterator
from pathlib import Path

import diffusers
import torch
import transformers

from ..checkpoints.registry import MAX_STEPS, Model
from ..errors import CogvxError, ModelCorrupt
from ..paths import read_json
from ..text import error_line
from .failures import is_out_of_memory

COMPONENT_CLASSES = {
    "transformer": diffusers.CogVideoXTransformer3DModel,
    "text_encoder": transformers.T5EncoderModel,
    "vae": diffusers.AutoencoderKLCogVideoX,
}
"""In the order in which they are loaded: the largest first, while most memory is free."""

SCHEDULER_CLASSES = (diffusers.CogVideoXDDIMScheduler, diffusers.CogVideoXDPMScheduler)
"""Those of the family; their configurations are alike."""

LARGEST = {
    "transformer": {
        "num_layers": 42,
        "num_attention_heads": 48,
        "attention_head_dim": 64,
        "in_channels": 48,
        "out_channels": 48,
        "time_embed_dim": 512,
        "ofs_embed_dim": 512,
        "text_embed_dim": 4096,
        "patch_size_t": 2,
        "sample_width": 300,
        "sample_height": 300,
        "sample_frames": 85,
        "max_text_seq_length": 226,
    },
    "text_encoder": {
        "vocab_size": 32128,
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
    },
    "vae": {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": 512,
        "latent_channels": 16,
        "layers_per_block": 3,
        "norm_num_groups": 32,
    },
    "scheduler": {},
}
"""Values that decide a component's size, by its configuration's keys: the largest of the family,
CogVideoX1.5 and the models for images included."""

FIXED = {
    "patch_size": 2,
    "temporal_compression_ratio": 4,
    "num_train_timesteps": MAX_STEPS,
    "prediction_type": "v_prediction",
    "trained_betas": None,
}
"""Values that all of the family have, and that this workbench counts on."""

MOST_BLOCKS = 4
"""Resolutions of the VAE, and the length of every list in its configuration."""


def check_configurations(model: Model, tokenizer) -> None:
    """Check the configuration of every part of a checkpoint.

    Args:
        tokenizer: of the checkpoint, whose tokens the text encoder must have.

    Raises:
        ModelCorrupt: with the file, the key and the value.
    """
    for name, kind in COMPONENT_CLASSES.items():
        path = model.part(name) / "config.json"
        config = _read_config(path)
        if config.get("quantization_config"):
            raise ModelCorrupt(
                f"{path} is of quantized weights: use the checkpoint that they were made from, "
                "which --speed fast quantizes"
            )
        is_t5 = name == "text_encoder"
        defaults = transformers.T5Config().to_dict() if is_t5 else _defaults(kind)
        _check_values(path, config, defaults, LARGEST[name])
        last = max(tokenizer.get_vocab().values())
        if is_t5 and last >= config.get("vocab_size", defaults["vocab_size"]):
            raise ModelCorrupt(f"{path} knows fewer tokens than its tokenizer, which has {last}")
    _read_scheduler_config(model.part("scheduler"))


def load_component(name: str, model: Model, dtype: torch.dtype) -> torch.nn.Module:
    """One of ``COMPONENT_CLASSES`` from a checkpoint's files.

    Raises:
        ModelCorrupt: if it can't be loaded whole, or holds what are no weights.
    """
    folder = model.part(name)
    precision = "dtype" if name == "text_encoder" else "torch_dtype"
    with _reported_as_corrupt(folder):
        part, keys = COMPONENT_CLASSES[name].from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **{precision: dtype},
        )
    for reason, kind in (("lacks", "missing_keys"), ("has no place for", "unexpected_keys")):
        if names := sorted(keys[kind]):
            raise ModelCorrupt(f"{folder} {reason} {len(names)} weights, such as {names[0]}")
    for key, weight in part.named_parameters():
        if not weight.is_floating_point():
            raise ModelCorrupt(f"{folder} holds {key} as {weight.dtype}, which are no weights")
        # Of another component it shows in the first denoising step, of the VAE after the last.
        if name == "vae" and not weight.isfinite().all():
            raise ModelCorrupt(f"{folder} holds NaN or infinity in {key}: fetch it again")
    return part


def load_scheduler(model: Model) -> diffusers.SchedulerMixin:
    """The scheduler that a checkpoint is run with, by its files' configuration.

    Raises:
        ModelCorrupt: if it can't be read, or is of another kind.
    """
    kind = getattr(diffusers, model.checkpoint.scheduler)
    config = _read_scheduler_config(model.part("scheduler"))
    with _reported_as_corrupt(model.part("scheduler")):
        return kind.from_config(config, timestep_spacing=model.checkpoint.timestep_spacing)


def _read_scheduler_config(folder: Path) -> dict:
    path = folder / "scheduler_config.json"
    config = _read_config(path)
    _check_values(path, config, _defaults(SCHEDULER_CLASSES[1]), LARGEST["scheduler"])
    names = [kind.__name__ for kind in SCHEDULER_CLASSES]
    if (named := config.get("_class_name", names[0])) not in names:
        raise ModelCorrupt(f"{path} is of {named!r}: the model was made for {' or '.join(names)}")
    return config


def _read_config(path: Path) -> dict:
    with _reported_as_corrupt(path):
        config = read_json(path)
    if not isinstance(config, dict):
        raise ModelCorrupt(f"{path} holds no JSON object: fetch it again")
    return config


def _defaults(kind: type) -> dict[str, object]:
    parameters = inspect.signature(kind.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _check_values(path: Path, config: dict, defaults: dict, largest: dict[str, int]) -> None:
    """Check that each value is of its default's kind, finite, and no larger than any of the
    family's."""
    for key, value in config.items():
        default, limit = defaults.get(key), largest.get(key)
        values = value if isinstance(value, list) and isinstance(default, tuple) else [value]
        kinds = {_kind(item) for item in (default if isinstance(default, tuple) else [default])}
        if default is None:
            kinds = {_kind(None), "number"} if limit else set()
        good = len(values) <= MOST_BLOCKS and all(
            not kinds or _kind(item) in kinds for item in values
        )
        if good and limit:
            good = all(item is None or 0 < item <= limit for item in values)
        good = good and value == FIXED.get(key, value)
        if not good:
            shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
            raise ModelCorrupt(f"{path} has {key} = {shown}, unlike any CogVideoX: fetch it again")


def _kind(value: object) -> str:
    """``number`` of finite ones, else the name of the type."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number" if abs(value) < math.inf else "no number"
    return type(value).__name__


@contextlib.contextmanager
def _reported_as_corrupt(folder: Path) -> Iterator[None]:
    """Raise whatever the libraries do with bad files as ModelCorrupt, but if memory runs out."""
    try:
        yield
    except CogvxError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        line = f"{folder} can't be loaded: fetch it again ({error_line(error):.160})"
        raise ModelCorrupt(line) from error
