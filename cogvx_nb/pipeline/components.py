"""The parts of a pipeline, from a checkpoint's files or with random weights."""

from __future__ import annotations

from collections.abc import Callable

import accelerate
import diffusers
import torch
import transformers

from ..checkpoints import store
from ..checkpoints.registry import ARCHITECTURE_KEYS, Checkpoint, Model
from ..checkpoints.store import read_config
from ..planning import reading
from ..planning.plan import Plan
from .lora_merge import merge_loras
from .weights import COMPONENT_CLASSES, check_configurations, load_component, load_scheduler

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
    "timestep_spacing": "trailing",
}


def random_configs(checkpoint: Checkpoint) -> dict[str, dict]:
    """Configuration of each of ``COMPONENTS``, as diffusers and transformers take it."""
    if checkpoint.is_embedded:
        return {name: _embedded_config(checkpoint, name) for name in COMPONENTS}
    transformer = dict(zip(ARCHITECTURE_KEYS, checkpoint.architecture, strict=True)) | {
        "in_channels": checkpoint.in_channels,
        "use_rotary_positional_embeddings": checkpoint.rotary_embeddings,
        "use_learned_positional_embeddings": checkpoint.learned_positions,
        "patch_size_t": None if checkpoint.patch_frames == 1 else checkpoint.patch_frames,
        "ofs_embed_dim": 512 if checkpoint.offset else None,
    }
    vae = {
        "scaling_factor": checkpoint.vae_scaling_factor,
        "invert_scale_latents": checkpoint.patch_frames > 1,
    }
    scheduler = SCHEDULER | {
        "_class_name": checkpoint.scheduler,
        "snr_shift_scale": checkpoint.snr_shift_scale,
    }
    parts = (T5_XXL, transformer, vae, scheduler)
    return dict(zip(COMPONENTS, parts, strict=True))


def _embedded_config(checkpoint: Checkpoint, component: str) -> dict:
    name = "scheduler_config.json" if component == "scheduler" else "config.json"
    return read_config(store.locate_checkpoint(checkpoint.name).part(component) / name)


diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def assemble_pipeline(
    plan: Plan, place: Callable[[str, torch.nn.Module], None]
) -> diffusers.CogVideoXPipeline:
    """A pipeline of a plan's checkpoint.

    Args:
        place: called with the name and module of each component before the next is loaded, so that
            RAM has to hold only what stays there.

    Raises:
        ModelCorrupt: if the files can't be loaded.
    """
    model = plan.model
    tokenizer, modules = reading.load_tokenizer(model), {}
    if model.folder is not None:
        check_configurations(model, tokenizer)
    scheduler = make_scheduler(model)
    for name in COMPONENT_CLASSES:
        modules[name] = load_part(name, plan)
        place(name, modules[name])
    pipe = diffusers.CogVideoXPipeline(tokenizer=tokenizer, scheduler=scheduler, **modules)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_part(name: str, plan: Plan) -> torch.nn.Module:
    """A component with its weights, and the transformer's LoRAs merged into them.

    Raises:
        ModelCorrupt: if the files can't be loaded.
        RequestError: if a LoRA can't be used.
    """
    device = "cpu" if plan.offload.offloads else plan.device
    part = make_part(name, plan.model, getattr(torch, plan.dtype), device)
    if name == "transformer":
        merge_loras(part, plan.loras, plan.device, stays=name in plan.offload.on_gpu)
    return part


def make_part(name: str, model: Model, dtype: torch.dtype, device: str) -> torch.nn.Module:
    """A component without LoRAs: from files on the CPU, or random on a device.

    Raises:
        ModelCorrupt: if the files can't be loaded.
    """
    if model.folder is None:
        part = _make_random(name, model.checkpoint, dtype, device)
    else:
        part = load_component(name, model, dtype)
    return part.eval().requires_grad_(False)


def make_scheduler(model: Model) -> diffusers.SchedulerMixin:
    """The scheduler that a checkpoint is run with.

    Raises:
        ModelCorrupt: if its configuration can't be read.
    """
    if model.folder is not None:
        return load_scheduler(model)
    config = random_configs(model.checkpoint)["scheduler"]
    return getattr(diffusers, model.checkpoint.scheduler).from_config(config)


def _make_random(
    name: str, checkpoint: Checkpoint, dtype: torch.dtype, device: str
) -> torch.nn.Module:
    """A component of the checkpoint's shapes with random weights, in seconds."""
    config = random_configs(checkpoint)[name]
    with accelerate.init_empty_weights():
        if name == "text_encoder":
            module = COMPONENT_CLASSES[name](transformers.T5Config(**config))
        else:
            module = COMPONENT_CLASSES[name].from_config(config)
    _fill_random(module, device, dtype)
    if name == "text_encoder":
        module.tie_weights()
    return module


def _fill_random(module: torch.nn.Module, device: str, dtype: torch.dtype) -> None:
    """Fill weights with one block of random numbers, repeated: drawing 10¹⁰ takes minutes."""
    block = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).mul(0.02)
    block = block.to(device, dtype)
    float32_layers = getattr(module, "_keep_in_fp32_modules", None) or ()  # as from files
    for name, empty in list(module.named_parameters()):
        count, kind = empty.numel(), dtype
        if dtype == torch.float16 and set(float32_layers) & set(name.split(".")):
            kind = torch.float32
        if empty.ndim > 1:
            flat = block.repeat(-(-count // len(block)))[:count].to(kind)
        else:  # norms and biases
            flat = torch.full((count,), float(name.endswith("weight")), dtype=kind, device=device)
        accelerate.utils.set_module_tensor_to_device(
            module, name, device, value=flat.view(empty.shape), dtype=kind
        )
