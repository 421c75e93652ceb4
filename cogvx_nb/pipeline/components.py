"""The parts of a pipeline, from a checkpoint's files or with random weights."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import accelerate
import diffusers
import torch
import transformers
from torch.overrides import TorchFunctionMode

from .. import settings
from ..checkpoints.registry import ARCHITECTURE_KEYS, TINY, Checkpoint
from ..checkpoints.store import read_config
from ..planning import request
from ..planning.plan import Plan
from .vae import Autoencoder

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


def random_configs(checkpoint: Checkpoint) -> dict[str, dict]:
    """Configuration of each of ``COMPONENTS``, as diffusers and transformers take it."""
    if checkpoint.name == TINY.name:
        return {name: _embedded_config(name) for name in COMPONENTS}
    transformer = dict(zip(ARCHITECTURE_KEYS, checkpoint.architecture, strict=True)) | {
        "in_channels": checkpoint.in_channels,
        "use_rotary_positional_embeddings": checkpoint.rotary_embeddings,
    }
    vae = {"scaling_factor": checkpoint.vae_scaling_factor}
    parts = (T5_XXL, transformer, vae, SCHEDULER | {"_class_name": checkpoint.scheduler})
    return dict(zip(COMPONENTS, parts, strict=True))


def _embedded_config(component: str) -> dict:
    name = "scheduler_config.json" if component == "scheduler" else "config.json"
    return read_config(settings.models_dir() / TINY.name / component / name)


DRAWS = 2
"""Noise tensors that ``CogVideoXDPMScheduler.step`` draws, except in the first and last step."""


class Scheduler(diffusers.CogVideoXDPMScheduler):
    """``CogVideoXDPMScheduler`` of diffusers that draws noise ahead; its results are the same bits.

    A step of diffusers draws up to two noise tensors with a CPU generator, which makes the same
    noise for every device, while the device is idle: 28 ms each of a step of 1.4 s at 49 frames
    on an H100. Here the next step's are drawn while the device computes.
    """

    _noise: _CpuNoise | None = None

    def step(self, *args, generator=None, **kwargs):
        """See ``CogVideoXDPMScheduler.step``."""
        if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
            return super().step(*args, generator=generator, **kwargs)
        if self._noise is None or self._noise.generator is not generator:
            self._noise = _CpuNoise(generator)
        with self._noise:
            result = super().step(*args, generator=generator, **kwargs)
        self._noise.draw_ahead()
        return result


class _CpuNoise(TorchFunctionMode):
    """While active, ``torch.randn`` returns tensors drawn ahead, in the order of the draws."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator
        self._ready: deque[torch.Tensor] = deque()
        self._thread: threading.Thread | None = None
        self._arguments: tuple[tuple, dict] = ((), {})

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is not torch.randn:
            return func(*args, **kwargs)
        self._arguments = (args, kwargs)
        self._wait()
        return self._ready.popleft() if self._ready else func(*args, **kwargs)

    def draw_ahead(self) -> None:
        """Draw what the next step will need, in a thread that ends with that."""
        self._wait()
        self._thread = threading.Thread(target=self._draw, name="noise")
        self._thread.start()

    def _draw(self) -> None:
        args, kwargs = self._arguments
        while len(self._ready) < DRAWS:
            drawn = torch.randn(*args, **kwargs)
            if torch.cuda.is_available():
                # From pinned memory the copy is asynchronous.
                with contextlib.suppress(RuntimeError):  # none left: only slower
                    drawn = drawn.pin_memory()
            self._ready.append(drawn)

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None


diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()

EXPOSED_LOOP_VARIABLES = ("old_pred_original_sample", "noise_pred")
"""Local variables of the denoising loop of diffusers that step callbacks read for previews, added
to its public list."""

COMPONENT_CLASSES = {
    "transformer": diffusers.CogVideoXTransformer3DModel,
    "text_encoder": transformers.T5EncoderModel,
    "vae": Autoencoder,
}
"""In the order in which they are loaded: the largest first, while most memory is free."""


def assemble_pipeline(
    plan: Plan, place: Callable[[str, torch.nn.Module], None]
) -> diffusers.CogVideoXPipeline:
    """A pipeline of a plan's checkpoint.

    Args:
        place: called with the name and module of each component before the next is loaded, so that
            RAM has to hold only what stays there.

    Raises:
        OSError, ValueError, RuntimeError, KeyError: from the libraries, for bad files.
    """
    load = _load_from_files if plan.model.folder else _make_random
    modules = {}
    for name in COMPONENT_CLASSES:
        modules[name] = load(name, plan).eval().requires_grad_(False)
        place(name, modules[name])
    pipe = diffusers.CogVideoXPipeline(
        tokenizer=request.load_tokenizer(plan.model),
        scheduler=_load_scheduler(plan),
        **modules,
    )
    pipe.set_progress_bar_config(disable=True)
    pipe._callback_tensor_inputs = [*pipe._callback_tensor_inputs, *EXPOSED_LOOP_VARIABLES]
    return pipe


def _load_from_files(name: str, plan: Plan) -> torch.nn.Module:
    folder, dtype = Path(plan.model.folder) / name, getattr(torch, plan.dtype)
    options = {"use_safetensors": True, "local_files_only": True}
    if name == "text_encoder":
        return COMPONENT_CLASSES[name].from_pretrained(folder, dtype=dtype, **options)
    return COMPONENT_CLASSES[name].from_pretrained(folder, torch_dtype=dtype, **options)


def _make_random(name: str, plan: Plan) -> torch.nn.Module:
    """A component of the checkpoint's shapes with random weights, in seconds."""
    config = random_configs(plan.model.checkpoint)[name]
    with accelerate.init_empty_weights():
        if name == "text_encoder":
            module = COMPONENT_CLASSES[name](transformers.T5Config(**config))
        else:
            module = COMPONENT_CLASSES[name].from_config(config)
    device = "cpu" if plan.offload.offloads else plan.device
    _fill_random(module, device, getattr(torch, plan.dtype))
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


def _load_scheduler(plan: Plan):
    checkpoint: Checkpoint = plan.model.checkpoint
    kind = getattr(diffusers, checkpoint.scheduler)
    if kind is diffusers.CogVideoXDPMScheduler:
        kind = Scheduler
    if plan.model.folder is None:
        return kind.from_config(random_configs(checkpoint)["scheduler"])
    folder = Path(plan.model.folder) / "scheduler"
    config = kind.load_config(folder, local_files_only=True)
    return kind.from_config(config, timestep_spacing=checkpoint.timestep_spacing)
