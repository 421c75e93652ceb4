"""The parts of a pipeline, from a checkpoint's files or with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import accelerate
import diffusers
import torch
import transformers

from . import random_weights
from .checkpoints import store
from .checkpoints.registry import Checkpoint
from .planning.plan import Plan
from .scheduler import Scheduler
from .vae import Autoencoder

diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()

HANDED_OVER = ("old_pred_original_sample", "noise_pred")
"""What step callbacks get for previews: names that the pipeline's loop has, but doesn't offer."""

CLASSES = {
    "transformer": diffusers.CogVideoXTransformer3DModel,
    "text_encoder": transformers.T5EncoderModel,
    "vae": Autoencoder,
}
"""In the order in which they are loaded: the largest first, while there is most room."""

Placed = Callable[[str, torch.nn.Module], None]


def assemble(plan: Plan, place: Placed) -> diffusers.CogVideoXPipeline:
    """A pipeline of a plan's checkpoint.

    Args:
        place: called with each part's name and the part, before the next is loaded: RAM needs to
            hold only what stays there.

    Raises:
        OSError, ValueError, RuntimeError, KeyError: whatever the libraries say of bad files.
    """
    make = _from_files if plan.model.folder else _from_nothing
    parts = {}
    for name in CLASSES:
        parts[name] = make(name, plan).eval().requires_grad_(False)
        place(name, parts[name])
    pipe = diffusers.CogVideoXPipeline(
        tokenizer=store.load_tokenizer(plan.model), scheduler=_scheduler(plan), **parts
    )
    pipe.set_progress_bar_config(disable=True)
    pipe._callback_tensor_inputs = [*pipe._callback_tensor_inputs, *HANDED_OVER]
    return pipe


def _from_files(name: str, plan: Plan) -> torch.nn.Module:
    folder, dtype = Path(plan.model.folder) / name, getattr(torch, plan.dtype)
    options = {"use_safetensors": True, "local_files_only": True}
    if name == "text_encoder":
        return CLASSES[name].from_pretrained(folder, dtype=dtype, **options)
    return CLASSES[name].from_pretrained(folder, torch_dtype=dtype, **options)


def _from_nothing(name: str, plan: Plan) -> torch.nn.Module:
    """A part of the checkpoint's shapes with random weights, in seconds."""
    config = random_weights.configs(plan.model.checkpoint)[name]
    with accelerate.init_empty_weights():
        if name == "text_encoder":
            made = CLASSES[name](transformers.T5Config(**config))
        else:
            made = CLASSES[name].from_config(config)
    _fill(made, "cpu" if plan.placement != "resident" else plan.device, getattr(torch, plan.dtype))
    if name == "text_encoder":
        made.tie_weights()
    return made


def _fill(module: torch.nn.Module, device: str, dtype: torch.dtype) -> None:
    """Weights from one block of random numbers, over and over: drawing 10¹⁰ takes minutes."""
    block = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).mul(0.02)
    block = block.to(device, dtype)
    full = getattr(module, "_keep_in_fp32_modules", None) or ()  # as from files
    for name, empty in list(module.named_parameters()):
        count, kind = empty.numel(), dtype
        if dtype == torch.float16 and set(full) & set(name.split(".")):
            kind = torch.float32
        if empty.ndim > 1:
            flat = block.repeat(-(-count // len(block)))[:count].to(kind)
        else:  # norms and biases
            flat = torch.full((count,), float(name.endswith("weight")), dtype=kind, device=device)
        accelerate.utils.set_module_tensor_to_device(
            module, name, device, value=flat.view(empty.shape), dtype=kind
        )


def _scheduler(plan: Plan):
    checkpoint: Checkpoint = plan.model.checkpoint
    kind = getattr(diffusers, checkpoint.scheduler)
    if kind is diffusers.CogVideoXDPMScheduler:
        kind = Scheduler
    if plan.model.folder is None:
        return kind.from_config(random_weights.configs(checkpoint)["scheduler"])
    folder = Path(plan.model.folder) / "scheduler"
    config = kind.load_config(folder, local_files_only=True)
    return kind.from_config(config, timestep_spacing=checkpoint.timestep_spacing)
