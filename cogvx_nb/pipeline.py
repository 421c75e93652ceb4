"""The diffusers pipeline, loaded and placed as a plan says. The only importer of diffusers."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import time
from dataclasses import dataclass, field

import accelerate
import diffusers
import torch
import transformers
from diffusers.models import attention_dispatch
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0

from . import attention, prompts, random_weights
from .errors import ModelCorrupt, OutOfMemory, RequestError
from .plan import STOCK, Plan, step_down
from .weights import file_hashes

diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()

CPU_OUT = ("can't allocate memory", "could not create a primitive", "could not create a memory")
"""What torch's CPU allocator, and oneDNN under it, say when memory runs out."""


HANDED_OVER = ("old_pred_original_sample", "noise_pred")
"""What step callbacks get for previews: names that the pipeline's loop has, but doesn't offer."""


@dataclass
class Loaded:
    """A pipeline in memory.

    Attributes:
        pipe: the diffusers pipeline; None once it was dropped.
        plan: how it is placed now.
        hashes: SHA-256 of the checkpoint's files, by relative path.
        seconds: what loading took; 0 when it was there already.
    """

    pipe: diffusers.CogVideoXPipeline | None
    plan: Plan
    hashes: dict[str, str] = field(repr=False)
    seconds: float = 0.0

    def apply(self, plan: Plan) -> None:
        """Place the same checkpoint as another plan says.

        Raises:
            OutOfMemory: if not even the smallest plan can be placed.
        """
        if _key(plan) == _key(self.plan):
            self.plan = plan
            return
        pipe, self.pipe = self.pipe, None  # stays empty if this is interrupted half-way
        if self.plan.placement == "streamed" or plan.dtype != self.plan.dtype:
            del pipe  # streaming hooks and another precision: only a fresh load undoes them
            free_memory()
            pipe = _from_pretrained(plan)
        self.plan = _place(pipe, plan)
        self.pipe = pipe


_loaded: Loaded | None = None


def load(plan: Plan) -> Loaded:
    """Load the plan's checkpoint, or hand out the one that is loaded already.

    At most one pipeline is kept in a process: another checkpoint takes its place.

    Raises:
        ModelCorrupt: if the files can't be loaded.
        OutOfMemory: if not even the smallest plan can be placed.
        RequestError: if the plan's attention can't be had here.
    """
    global _loaded
    _attention(plan.attention)  # said before the minutes that loading takes
    start = time.perf_counter()
    hashes = file_hashes(plan.model)
    if _loaded is not None and _loaded.pipe is not None and _loaded.hashes == hashes:
        _loaded.apply(plan)
        _loaded.seconds = time.perf_counter() - start
        return _loaded
    release()
    pipe = _from_pretrained(plan) if plan.model.folder else _from_nothing(plan)
    plan = _place(pipe, plan)
    _loaded = Loaded(pipe, plan, hashes, time.perf_counter() - start)
    return _loaded


def release() -> None:
    """Drop the loaded pipeline and give its memory back."""
    global _loaded
    if _loaded is not None:
        _loaded.pipe = None
    _loaded = None
    free_memory()


def free_memory() -> None:
    """Give memory that no tensor uses back to the device, and to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        # It keeps what is freed: hundreds of MiB after a decode on the CPU.
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def synchronize(device: str) -> None:
    """Wait until a device has done all that it was given."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says with this exception that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in CPU_OUT)


def _from_pretrained(plan: Plan) -> diffusers.CogVideoXPipeline:
    checkpoint = plan.model.checkpoint
    tokenizer = prompts.load_tokenizer(plan.model)
    try:
        pipe = diffusers.CogVideoXPipeline.from_pretrained(
            plan.model.folder,
            tokenizer=tokenizer,
            dtype=getattr(torch, plan.dtype),
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(_no_room(plan)) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelCorrupt(f"{plan.model.folder} can't be loaded: {reason}") from error
    scheduler = getattr(diffusers, checkpoint.scheduler)
    pipe.scheduler = scheduler.from_config(
        pipe.scheduler.config, timestep_spacing=checkpoint.timestep_spacing
    )
    return _dressed(pipe)


def _from_nothing(plan: Plan) -> diffusers.CogVideoXPipeline:
    """A pipeline of the checkpoint's shapes with random weights, in seconds."""
    made = random_weights.configs(plan.model.checkpoint)
    dtype = getattr(torch, plan.dtype)
    where = plan.device if plan.placement == "resident" else "cpu"
    scheduler = getattr(diffusers, plan.model.checkpoint.scheduler)
    with accelerate.init_empty_weights():
        encoder = transformers.T5EncoderModel(transformers.T5Config(**made["text_encoder"]))
        transformer = diffusers.CogVideoXTransformer3DModel.from_config(made["transformer"])
        vae = diffusers.AutoencoderKLCogVideoX.from_config(made["vae"])
    for module in (encoder, transformer, vae):
        _fill(module, where, dtype)
    encoder.tie_weights()
    tokenizer = prompts.load_tokenizer(plan.model)
    parts = (tokenizer, encoder, vae, transformer, scheduler.from_config(made["scheduler"]))
    return _dressed(diffusers.CogVideoXPipeline(*parts))


def _fill(module: torch.nn.Module, device: str, dtype: torch.dtype) -> None:
    """Weights from one block of random numbers, over and over: drawing 10¹⁰ takes minutes."""
    block = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).mul(0.02)
    block = block.to(device, dtype)
    for name, empty in list(module.named_parameters()):
        count = empty.numel()
        if empty.ndim > 1:
            flat = block.repeat(-(-count // len(block)))[:count]
        else:  # norms and biases
            flat = torch.full((count,), float(name.endswith("weight")), dtype=dtype, device=device)
        accelerate.utils.set_module_tensor_to_device(
            module, name, device, value=flat.view(empty.shape)
        )
    module.eval()


def _dressed(pipe: diffusers.CogVideoXPipeline) -> diffusers.CogVideoXPipeline:
    pipe.set_progress_bar_config(disable=True)
    pipe._callback_tensor_inputs = [*pipe._callback_tensor_inputs, *HANDED_OVER]
    return pipe


def _place(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> Plan:
    """Place a pipeline, on smaller and smaller plans if need be; the plan that it was."""
    while True:
        try:
            _place_once(pipe, plan)
            return plan
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            smaller = step_down(plan)
            if smaller is None:
                raise OutOfMemory(_no_room(plan)) from error
        plan = smaller
        free_memory()


def _place_once(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> None:
    pipe.remove_all_hooks()
    if plan.placement == "resident":
        pipe.to(plan.device)
    elif plan.placement == "model_offload":
        pipe.to("cpu")
        pipe.enable_model_cpu_offload(device=plan.device)
    else:
        pipe.to("cpu")
        device = torch.device(plan.device)
        streamed = {"onload_device": device, "use_stream": True}
        diffusers.hooks.apply_group_offloading(
            pipe.text_encoder, offload_type="leaf_level", **streamed
        )
        diffusers.hooks.apply_group_offloading(
            pipe.transformer, offload_type="block_level", num_blocks_per_group=1, **streamed
        )
        pipe.vae.to(device)
    pipe.transformer.set_attn_processor(_attention(plan.attention))
    if plan.tiled:
        pipe.vae.enable_tiling(*plan.model.checkpoint.tile)
    else:
        pipe.vae.disable_tiling()


def _attention(name: str) -> CogVideoXAttnProcessor2_0 | attention.Processor:
    """What has a transformer's blocks attend by a backend.

    Raises:
        RequestError: if there is none of that name, or it can't be had here.
    """
    if name == STOCK:
        return CogVideoXAttnProcessor2_0()
    known = {backend.value: backend for backend in attention_dispatch.AttentionBackendName}
    if name not in known:
        raise RequestError("attention", name, f"use one of {', '.join((STOCK, *known))}")
    try:
        attention_dispatch._check_attention_backend_requirements(known[name])
        attention_dispatch._maybe_download_kernel_for_backend(known[name])
    except Exception as error:  # of its package, its hub, its card
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RequestError("attention", name, f"can't be had here: {reason}") from error
    dispatch = attention_dispatch.dispatch_attention_fn
    return attention.Processor(functools.partial(dispatch, backend=known[name]))


def _key(plan: Plan) -> tuple:
    return (plan.device, plan.dtype, plan.placement, plan.tiled, plan.attention)


def _no_room(plan: Plan) -> str:
    return (
        f"memory ran out loading {plan.model.name} on {plan.device} ({plan.placement}): close "
        "other programs that use it, or use --model tiny"
    )
