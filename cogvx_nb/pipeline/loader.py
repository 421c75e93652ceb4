"""The diffusers pipeline, loaded and placed as a plan says; at most one a process."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import diffusers
import safetensors.torch
import torch
from safetensors import SafetensorError

from .. import files, settings
from ..checkpoints.store import file_hashes
from ..errors import ModelCorrupt, OutOfMemory, RequestError
from ..planning.plan import FLASH4, Plan, compiled_key
from ..planning.planner import next_smaller_plan, with_model_offload, without_flash_attention
from ..planning.request import VideoRequest
from . import attention, components, optimization
from .optimization import free_memory, is_out_of_memory


@dataclass
class Loaded:
    """A pipeline in memory.

    Attributes:
        pipe: the diffusers pipeline; None once it was dropped.
        plan: how it is placed now.
        hashes: SHA-256 of the checkpoint's files, by relative path.
        seconds: what ``load_pipeline`` took, next to nothing when it was there already.
        switches: of the transformer's blocks: whether they run compiled.
        compiled: names of what this process has compiled; see ``plan.compiled_key``.
    """

    pipe: diffusers.CogVideoXPipeline | None
    plan: Plan
    hashes: dict[str, str] = field(repr=False)
    seconds: float = 0.0
    switches: list[optimization.CompileToggle] = field(default_factory=list, repr=False)
    compiled: set[str] = field(default_factory=set, repr=False)

    def apply(self, plan: Plan) -> None:
        """Place the same checkpoint as another plan says.

        Raises:
            OutOfMemory: if not even the smallest plan can be placed.
        """
        # Both stay empty if this ends half-way: the switches hold the transformer too.
        pipe, switches = self.pipe, self.switches
        self.drop()
        if _load_key(plan) != _load_key(self.plan):
            del pipe, switches
            free_memory()
            pipe, switches, plan = _load_with_fallbacks(plan)
        elif plan.placement != self.plan.placement:
            plan = _change_placement(pipe, plan)
        _apply_switches(pipe, plan, switches)
        self.plan, self.pipe, self.switches = plan, pipe, switches

    def drop(self) -> None:
        """Forget the pipeline, so that its memory can be given back."""
        self.pipe, self.switches = None, []

    @property
    def to_compile(self) -> bool:
        """Whether its plan needs code that this process hasn't compiled yet, or taken from disk."""
        return self.plan.compiled and self._key() not in self.compiled

    def compile(self) -> None:
        """Compile that code, and note that it is on disk.

        Raises:
            CompileFailed: if the compiler does.
        """
        optimization.compile_blocks(self.pipe, self.plan)
        self.compiled.add(self._key())
        optimization.remember_compiled(self._key())

    def prepare(self, steps: int) -> None:
        """Make ready for a video of so many denoising steps."""
        optimization.set_step_cache(self.pipe.transformer, steps if self.plan.reuse else None)

    def _key(self) -> str:
        device = self.plan.device
        name = device if device == "cpu" else torch.cuda.get_device_name(device)
        return compiled_key(self.plan, name, importlib.metadata.version("torch"))


_loaded: Loaded | None = None


def load_pipeline(plan: Plan) -> Loaded:
    """Load the plan's checkpoint, or hand out the one that is loaded already.

    At most one pipeline is kept in a process: another checkpoint takes its place.

    Raises:
        ModelCorrupt: if the files can't be loaded.
        OutOfMemory: if not even the smallest plan can be placed.
        RequestError: if the plan's attention can't be had here.
    """
    global _loaded
    start = time.perf_counter()
    plan = _with_working_attention(plan)  # before the minutes of loading
    hashes = file_hashes(plan.model)
    if _loaded is None or _loaded.pipe is None or _loaded.hashes != hashes:
        release_pipeline()
        pipe, switches, plan = _load_with_fallbacks(plan)
        _apply_switches(pipe, plan, switches)
        _loaded = Loaded(pipe, plan, hashes, switches=switches)
    else:
        _loaded.apply(plan)
    _loaded.seconds = time.perf_counter() - start
    return _loaded


def release_pipeline() -> None:
    """Drop the loaded pipeline and give its memory back."""
    global _loaded
    if _loaded is not None:
        _loaded.drop()
    _loaded = None
    free_memory()


def _with_working_attention(plan: Plan) -> Plan:
    """The plan, or with torch's attention where FlashAttention 4 fails.

    Raises:
        RequestError: if another attention does.
    """
    try:
        attention.try_attention(plan)
    except RequestError as error:
        if plan.attention != FLASH4:
            raise
        return without_flash_attention(plan, str(error))
    return plan


def _load_with_fallbacks(
    plan: Plan,
) -> tuple[diffusers.CogVideoXPipeline, list[optimization.CompileToggle], Plan]:
    """A fresh pipeline, its blocks' switches, and the plan that it was: smaller and smaller ones
    are tried if need be.

    Raises:
        ModelCorrupt: if the files can't be loaded.
        OutOfMemory: if not even the smallest plan can be placed.
    """
    while True:
        try:
            return *_load_once(plan), plan
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            smaller = next_smaller_plan(plan)
            if smaller is None:
                raise OutOfMemory(_out_of_memory_message(plan)) from error
        plan = smaller
        free_memory()


def _load_once(plan: Plan) -> tuple[diffusers.CogVideoXPipeline, list[optimization.CompileToggle]]:
    switches = []

    def place(name: str, part: torch.nn.Module) -> None:
        switches.extend(optimization.place_component(plan, name, part))

    try:
        pipe = components.assemble_pipeline(plan, place)
        optimization.install_offload_hooks(pipe, plan)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        if is_out_of_memory(error) or plan.model.folder is None:
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelCorrupt(f"{plan.model.folder} can't be loaded: {reason}") from error
    return pipe, switches


def _change_placement(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> Plan:
    try:
        optimization.move_pipeline(pipe, plan)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        smaller = with_model_offload(plan)
        optimization.move_pipeline(pipe, smaller)
        return smaller
    return plan


def _apply_switches(
    pipe: diffusers.CogVideoXPipeline, plan: Plan, switches: list[optimization.CompileToggle]
) -> None:
    """What can be changed on a loaded pipeline at any time."""
    for switch in switches:
        switch.turn(plan.compiled)
    pipe.transformer.set_attn_processor(
        attention.attention_processor(plan.attention, plan.compiled)
    )
    if plan.tiled:
        pipe.vae.enable_tiling(*plan.model.checkpoint.tile)
    else:
        pipe.vae.disable_tiling()


def _load_key(plan: Plan) -> tuple:
    """What only a fresh load changes: hooks that stream, precision, 8-bit weights."""
    hooks = "" if plan.placement in optimization.REVERSIBLE else plan.placement
    return plan.device, plan.dtype, plan.quantized, hooks


def _out_of_memory_message(plan: Plan) -> str:
    return (
        f"memory ran out loading {plan.model.name} on {plan.device} ({plan.placement}): close "
        "other programs that use it, or use --model tiny"
    )


MOST_FILES = 500
"""Kept; the oldest go first. One of CogVideoX-5b is 226 × 4096 numbers, 1.8 MB."""

DECIDING = ("text_encoder/", "tokenizer/", "random weights")
"""Files of a checkpoint that decide what becomes of a prompt."""


def cached_embedding(
    text: str, loaded: Loaded, encode: Callable[[str], torch.Tensor]
) -> torch.Tensor:
    """The embedding of a text, (1, tokens, width) in the encoder's precision on its device.

    Bit by bit what ``encode`` gives: the same files, precision, kind of device and versions.

    Args:
        encode: called if it isn't kept yet.
    """
    path = embeddings_folder() / f"{_embedding_key(text, loaded)}.safetensors"
    with contextlib.suppress(OSError, safetensors.SafetensorError, KeyError):
        found = safetensors.torch.load_file(path, device=loaded.plan.device)["embedding"]
        path.touch()
        return found
    made = encode(text)
    if torch.isfinite(made).all():  # else another try may do better
        with contextlib.suppress(OSError):  # a folder that can't be written costs time, no more
            _keep_embedding(path, made)
    return made


def embeddings_folder() -> Path:
    """Where they are kept; it can be deleted."""
    return settings.outputs_dir() / ".embeddings"


def _embedding_key(text: str, loaded: Loaded) -> str:
    plan = loaded.plan
    files = {name: value for name, value in loaded.hashes.items() if name.startswith(DECIDING)}
    device = torch.device(plan.device)
    where = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    limit = plan.model.checkpoint.text_tokens
    versions = torch.__version__, importlib.metadata.version("transformers")
    deciding = [text, sorted(files.items()), plan.dtype, where, versions, limit]
    return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()


def _keep_embedding(path: Path, embedding: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(path, safetensors.torch.save({"embedding": embedding.contiguous().cpu()}))
    kept = sorted(path.parent.glob("*.safetensors"), key=lambda one: one.stat().st_mtime)
    for old in kept[:-MOST_FILES]:
        old.unlink(missing_ok=True)


def encode_prompts(
    request: VideoRequest, loaded: Loaded, device: torch.device, reuse_text: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Embeddings of prompt and negative prompt; the latter None without guidance."""

    def encode(text: str) -> torch.Tensor:
        limit = request.model.checkpoint.text_tokens
        return loaded.pipe.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=limit, device=device
        )[0]

    texts = [request.prompt] + ([request.negative_prompt] if request.guidance > 1 else [])
    if reuse_text:
        made = [cached_embedding(text, loaded, encode) for text in texts]
    else:
        made = [encode(text) for text in texts]
    return made[0], made[1] if len(made) > 1 else None
