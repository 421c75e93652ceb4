"""The diffusers pipeline, loaded and placed as a plan says; at most one in a process."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import diffusers
import safetensors.torch
import torch
from safetensors import SafetensorError

from ..checkpoints.registry import Model
from ..checkpoints.store import file_hashes
from ..errors import DeviceFailed, ModelError, OutOfMemory
from ..planning.plan import Plan, compiled_key
from ..planning.planner import next_plan
from ..planning.probe import remember_compiled
from ..planning.request import VideoRequest
from ..text import first_line
from . import attention, components, copies, optimization
from .embeddings import embeddings_folder, store_embedding
from .failures import SpeedUpFailed, is_out_of_memory
from .optimization import free_memory

EMBEDDING_FILES = ("text_encoder/", "tokenizer/", "random weights")
"""Files of a checkpoint that a prompt's embedding depends on, by the start of their paths."""


@dataclass
class Loaded:
    """A pipeline in memory."""

    pipe: diffusers.CogVideoXPipeline | None  # None once it was dropped
    plan: Plan  # how it is placed now
    hashes: dict[str, str] = field(repr=False)  # SHA-256 of the checkpoint's files, by path
    seconds: float = 0.0  # that load_pipeline took; next to nothing if it was loaded already
    compiled: set[str] = field(default_factory=set, repr=False)  # keys compiled by this process

    def apply(self, plan: Plan) -> None:
        """Change the same checkpoint to another plan, or a smaller one where memory runs out.

        Raises:
            OutOfMemory: if not even the smallest plan can be placed.
        """
        pipe = self.pipe
        self.drop()  # it stays so if this fails half-way
        same_loras = _lora_keys(plan) == _lora_keys(self.plan)
        reload = optimization.load_key(plan) != optimization.load_key(self.plan)
        if reload or not (same_loras or plan.offload.hooks != "sequential"):
            del pipe
            free_memory()
            pipe, plan = _load_with_fallbacks(plan)
        elif not same_loras:
            exchange = functools.partial(copies.exchange_transformer, pipe)
            _, plan = _attempt_with_fallbacks(exchange, plan, "move")
        elif plan.placement != self.plan.placement:
            move = functools.partial(optimization.move_pipeline, pipe)
            _, plan = _attempt_with_fallbacks(move, plan, "move")
        self.plan, self.pipe = _configure(pipe, plan), pipe

    def drop(self) -> None:
        """Forget the pipeline, so that its memory can be freed."""
        self.pipe = None

    @property
    def notes(self) -> list[str]:
        """What the precision of the weights took of the LoRAs, for a person."""
        return [
            f"{self.plan.dtype} weights keep {share:.0%} of the change of {one.name}"
            for one, share in zip(self.plan.loras, self.kept_shares, strict=True)
            if round(share, 2) < 1
        ]

    @property
    def kept_shares(self) -> tuple[float, ...]:
        """Part of the change of each of the plan's LoRAs that the weights show."""
        return self.pipe.transformer.kept_shares

    @property
    def transformer(self):
        """What computes the steps: the pipeline's transformer, or it and its copies together."""
        return self.pipe.split or self.pipe.transformer

    @property
    def to_compile(self) -> bool:
        """Whether the plan needs code that this process hasn't compiled or read from disk yet."""
        return self.plan.compiled and self._compiled_key() not in self.compiled

    def compile(self) -> None:
        """Compile that code, and note that it is on disk.

        Raises:
            SpeedUpFailed: if the compiler fails.
        """
        optimization.compile_blocks(self.transformer, self.plan)
        self.compiled.add(self._compiled_key())
        remember_compiled(self._compiled_key())

    def prepare(self) -> None:
        """Set what each video begins with."""
        for transformer in copies.transformers(self.pipe):
            optimization.apply_speed_ups(optimization.VIDEO, transformer, self.plan)

    def encode(self, request: VideoRequest, use_cache: bool = True) -> dict[int, torch.Tensor]:
        """Embeddings of a prompt, by the first step (from 0) that each is for: (1, tokens, width),
        or with guidance (2, tokens, width), that of the negative prompt first. In the encoder's
        precision on its device.

        Args:
            use_cache: take an embedding from an earlier video, where there was one.
        """
        encode = functools.cache(self._encode_cached if use_cache else self._encode_text)
        texts = request.texts_by_step
        return {step: torch.cat([encode(text) for text in pair]) for step, pair in texts.items()}

    def embedding_key(self, text: str) -> str:
        """Identifies an embedding, bit by bit: text, files, precision, kind of device, versions."""
        plan, device = self.plan, torch.device(self.plan.device)
        hashes = {
            path: value for path, value in self.hashes.items() if path.startswith(EMBEDDING_FILES)
        }
        # The number of CPU threads can change the last bit.
        on_cpu = device.type == "cpu"
        kind = f"cpu {torch.get_num_threads()}" if on_cpu else torch.cuda.get_device_name(device)
        limit = plan.model.checkpoint.text_tokens
        versions = torch.__version__, importlib.metadata.version("transformers")
        parts = [text, sorted(hashes.items()), plan.dtype, kind, versions, limit]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _encode_text(self, text: str) -> torch.Tensor:
        return self.pipe.encode_prompt(
            text,
            do_classifier_free_guidance=False,
            max_sequence_length=self.plan.model.checkpoint.text_tokens,
            device=torch.device(self.plan.device),
        )[0]

    def _encode_cached(self, text: str) -> torch.Tensor:
        path = embeddings_folder() / f"{self.embedding_key(text)}.safetensors"
        with contextlib.suppress(OSError, SafetensorError, KeyError):
            cached = safetensors.torch.load_file(path, device=self.plan.device)["embedding"]
            path.touch()
            return cached
        embedding = self._encode_text(text)
        if torch.isfinite(embedding).all():  # another attempt may succeed
            with contextlib.suppress(OSError):  # a folder that can't be written costs only time
                store_embedding(path, embedding)
        return embedding

    def _compiled_key(self) -> str:
        device = self.plan.device
        name = device if device == "cpu" else torch.cuda.get_device_name(device)
        return compiled_key(self.plan, name, importlib.metadata.version("torch"))


_loaded: Loaded | None = None


def load_pipeline(plan: Plan) -> Loaded:
    """Load a plan's checkpoint, or return the one that is loaded already, changed to the plan.

    At most one pipeline is kept in a process: another checkpoint takes its place.

    Raises:
        ModelCorrupt: if the files can't be loaded.
        OutOfMemory: if not even the smallest plan can be placed.
        RequestError: if the plan's attention isn't available here.
    """
    global _loaded
    start = time.perf_counter()
    _, plan = _attempt_with_fallbacks(attention.try_attention, plan, "load")  # takes no minutes
    hashes = file_hashes(plan.model)
    if _loaded is None or _loaded.pipe is None or _loaded.hashes != hashes:
        release_pipeline()
        pipe, plan = _load_with_fallbacks(plan)
        _loaded = Loaded(pipe, _configure(pipe, plan), hashes)
    else:
        _loaded.apply(plan)
    _loaded.seconds = time.perf_counter() - start
    return _loaded


def is_loaded(model: Model) -> bool:
    """Whether a checkpoint's pipeline is in memory."""
    kept = _loaded.plan.model.folder if _loaded is not None and _loaded.pipe is not None else None
    return kept is not None and kept == model.folder


def release_pipeline() -> None:
    """Drop the loaded pipeline and free its memory."""
    global _loaded
    if _loaded is not None:
        _loaded.drop()
    _loaded = None
    free_memory()


def fallback_plan(error: Exception, plan: Plan, task: str) -> Plan | None:
    """The plan to go on with after an error; None if there is none.

    Args:
        task: what failed; see ``planner.next_plan``.

    Raises:
        DeviceFailed: if the device, its driver or torch failed otherwise.
        Exception: the error itself, where another plan is no remedy.
    """
    if isinstance(error, SpeedUpFailed):
        return next_plan(plan, error.name, str(error))
    if is_out_of_memory(error):
        return next_plan(plan, task)
    if isinstance(error, RuntimeError):  # what torch raises for whatever a device or driver does
        raise DeviceFailed(
            f"{plan.device} failed ({first_line(error)}): start a new process, since a GPU that "
            "failed stays unusable in this one; cogvx check shows what torch can use"
        ) from error
    raise error


def _attempt_with_fallbacks(
    attempt: Callable[[Plan], object], plan: Plan, task: str
) -> tuple[object, Plan]:
    """What an attempt returns, and the plan that it succeeded with: this or a later one.

    Raises:
        OutOfMemory: if there is none.
    """
    while True:
        try:
            return attempt(plan), plan
        except Exception as error:
            fallback = fallback_plan(error, plan, task)
            if fallback is None:
                raise OutOfMemory(_out_of_memory_message(plan)) from error
        plan = fallback
        free_memory()


def _load_with_fallbacks(plan: Plan) -> tuple[diffusers.CogVideoXPipeline, Plan]:
    """A new pipeline, and the plan that it follows.

    Raises:
        ModelCorrupt: if the files can't be loaded.
        OutOfMemory: if not even the smallest plan can be placed.
    """
    return _attempt_with_fallbacks(_load_once, plan, "load")


def _load_once(plan: Plan) -> diffusers.CogVideoXPipeline:
    place = functools.partial(optimization.place_component, plan)
    pipe = components.assemble_pipeline(plan, place)
    optimization.install_offload_hooks(pipe, plan)
    if plan.quantized or plan.offload.hooks == "sequential":
        pipe.save_pretrained = _refuse_to_save
    return pipe


def _lora_keys(plan: Plan) -> list[tuple]:
    return [one.key for one in plan.loras]


def _refuse_to_save(*args, **kwargs) -> None:
    """In place of ``save_pretrained`` where weights aren't in memory as diffusers saves them."""
    raise ModelError(
        "quantized or sequentially offloaded weights can't be saved: load the checkpoint on "
        "another plan, by speed='exact' and with more memory"
    )


def _configure(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> Plan:
    """Set what can be changed on a loaded pipeline at any time; the plan that it follows then."""
    match = functools.partial(copies.match_copies, pipe)
    _, plan = _attempt_with_fallbacks(match, plan, "load")
    copies.configure_transformers(pipe, plan)
    if plan.tiled:
        pipe.vae.enable_tiling(*plan.tile)
    else:
        pipe.vae.disable_tiling()
    return plan


def _out_of_memory_message(plan: Plan) -> str:
    return (
        f"memory ran out loading {plan.model.name} on {plan.device} ({plan.placement}): close "
        "other programs that use it, or use --model tiny"
    )
