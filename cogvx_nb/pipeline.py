"""The diffusers pipeline, loaded and placed as a plan says; at most one a process."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import time
from dataclasses import dataclass, field

import diffusers
import torch
from safetensors import SafetensorError

from . import components, placement, speedups
from .checkpoints.store import file_hashes
from .errors import ModelCorrupt, OutOfMemory, RequestError
from .planning.plan import FLASH4, Plan, compiled_key
from .planning.planner import offloaded, step_down, unflashed

OUT = (
    "can't allocate memory",
    "could not create a primitive",
    "could not create a memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What is said when memory runs out elsewhere than in torch's allocator of GPU memory: by that of
the CPU, oneDNN, CUDA (pinned RAM too) and its libraries."""


@dataclass
class Loaded:
    """A pipeline in memory.

    Attributes:
        pipe: the diffusers pipeline; None once it was dropped.
        plan: how it is placed now.
        hashes: SHA-256 of the checkpoint's files, by relative path.
        seconds: what ``load`` took, next to nothing when it was there already.
        switches: of the transformer's blocks: whether they run compiled.
        compiled: names of what this process has compiled; see ``plan.compiled_key``.
    """

    pipe: diffusers.CogVideoXPipeline | None
    plan: Plan
    hashes: dict[str, str] = field(repr=False)
    seconds: float = 0.0
    switches: list[speedups.Switch] = field(default_factory=list, repr=False)
    compiled: set[str] = field(default_factory=set, repr=False)

    def apply(self, plan: Plan) -> None:
        """Place the same checkpoint as another plan says.

        Raises:
            OutOfMemory: if not even the smallest plan can be placed.
        """
        # Both stay empty if this ends half-way: the switches hold the transformer too.
        pipe, switches = self.pipe, self.switches
        self.drop()
        if _lasting(plan) != _lasting(self.plan):
            del pipe, switches
            free_memory()
            pipe, switches, plan = _load(plan)
        elif plan.placement != self.plan.placement:
            plan = _moved(pipe, plan)
        _set(pipe, plan, switches)
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
        speedups.warm(self.pipe, self.plan)
        self.compiled.add(self._key())
        speedups.remember(self._key())

    def prepare(self, steps: int) -> None:
        """Make ready for a video of so many denoising steps."""
        speedups.reuse(self.pipe.transformer, steps if self.plan.reuse else None)

    def _key(self) -> str:
        device = self.plan.device
        name = device if device == "cpu" else torch.cuda.get_device_name(device)
        return compiled_key(self.plan, name, importlib.metadata.version("torch"))


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
    start = time.perf_counter()
    plan = _attending(plan)  # before the minutes of loading
    hashes = file_hashes(plan.model)
    if _loaded is None or _loaded.pipe is None or _loaded.hashes != hashes:
        release()
        pipe, switches, plan = _load(plan)
        _set(pipe, plan, switches)
        _loaded = Loaded(pipe, plan, hashes, switches=switches)
    else:
        _loaded.apply(plan)
    _loaded.seconds = time.perf_counter() - start
    return _loaded


def release() -> None:
    """Drop the loaded pipeline and give its memory back."""
    global _loaded
    if _loaded is not None:
        _loaded.drop()
    _loaded = None
    free_memory()


def free_memory() -> None:
    """Give memory that no tensor uses back to the device, and to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        # Of pinned RAM; torch 2.11 has no public name for it.
        empty = getattr(torch.accelerator, "empty_host_cache", None)
        (empty or torch._C._host_emptyCache)()
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        # It keeps what is freed: hundreds of MiB after a decode on the CPU.
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def synchronize(device: str) -> None:
    """Wait until a device has done all that it was given."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says with this exception that memory ran out, on a GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT)


def _attending(plan: Plan) -> Plan:
    """The plan, or with torch's attention where FlashAttention 4 fails.

    Raises:
        RequestError: if another attention does.
    """
    try:
        speedups.try_attention(plan)
    except RequestError as error:
        if plan.attention != FLASH4:
            raise
        return unflashed(plan, str(error))
    return plan


def _load(plan: Plan) -> tuple[diffusers.CogVideoXPipeline, list[speedups.Switch], Plan]:
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
            smaller = step_down(plan)
            if smaller is None:
                raise OutOfMemory(_no_room(plan)) from error
        plan = smaller
        free_memory()


def _load_once(plan: Plan) -> tuple[diffusers.CogVideoXPipeline, list[speedups.Switch]]:
    switches = []

    def place(name: str, part: torch.nn.Module) -> None:
        switches.extend(placement.place_part(plan, name, part))

    try:
        pipe = components.assemble(plan, place)
        placement.hook(pipe, plan)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        if is_out_of_memory(error) or plan.model.folder is None:
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelCorrupt(f"{plan.model.folder} can't be loaded: {reason}") from error
    return pipe, switches


def _moved(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> Plan:
    try:
        placement.move(pipe, plan)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        smaller = offloaded(plan)
        placement.move(pipe, smaller)
        return smaller
    return plan


def _set(pipe: diffusers.CogVideoXPipeline, plan: Plan, switches: list[speedups.Switch]) -> None:
    """What can be changed on a loaded pipeline at any time."""
    for switch in switches:
        switch.turn(plan.compiled)
    pipe.transformer.set_attn_processor(speedups.processor(plan.attention, plan.compiled))
    if plan.tiled:
        pipe.vae.enable_tiling(*plan.model.checkpoint.tile)
    else:
        pipe.vae.disable_tiling()


def _lasting(plan: Plan) -> tuple:
    """What only a fresh load changes: hooks that stream, precision, 8-bit weights."""
    hooks = "" if plan.placement in placement.FREE else plan.placement
    return plan.device, plan.dtype, plan.quantized, hooks


def _no_room(plan: Plan) -> str:
    return (
        f"memory ran out loading {plan.model.name} on {plan.device} ({plan.placement}): close "
        "other programs that use it, or use --model tiny"
    )
