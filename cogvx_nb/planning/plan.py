"""A plan, and what can be in one: placements, speeds, attentions, and what combines. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

from ..checkpoints import registry
from ..checkpoints.store import Model
from ..errors import RequestError
from ..text import GIB
from .machine import Gpu, Machine

PLACEMENTS = {
    "resident": "every model stays on the device",
    "text_out": "the text encoder streams from RAM, the rest stays on the GPU",
    "model_offload": "one model at a time moves to the GPU",
    "streamed": "blocks of the models stream from pinned RAM as they are needed",
    "disk": "blocks of the models stream from their files as they are needed",
    "sequential": "one layer at a time moves to the GPU",
}
"""From the largest on the GPU to the smallest."""

COMPILABLE = ("resident", "text_out", "model_offload", "streamed", "disk")
"""Placements whose blocks can be compiled: ``sequential`` changes layers under them."""

QUANTIZABLE = ("resident", "text_out")
"""Placements that can have 8-bit products: their weights are made on the GPU and stay there."""

AUTO, STOCK, FLASH4 = "auto", "stock", "flash4"
"""Attentions that aren't a backend of diffusers: the best exact one here, the pipeline's own, and
``flash_attention``."""

FLASH4_GPUS = (9, 10)
"""Major compute capabilities that FlashAttention 4 is written for, as torch has them
(``torch.nn.attention._fa4``): data-centre Hopper and Blackwell."""

FLASH4_REASON = "FlashAttention 4, exact"
"""The reason for it that a plan gives."""

MIN_CACHED_STEPS = 20
"""Denoising steps from which on some can reuse others: with 6 the video is another one."""


def candidate_plans(guess: Plan, gpu: Gpu | None, machine: Machine) -> Iterator[Plan]:
    """Every way of running it, from the largest on the device to the smallest."""
    compiling = (False, True) if can_compile(gpu, machine) else (False,)
    for (placement, tiled), compiled in itertools.product(placements_by_memory(guess), compiling):
        one = drop_incompatible(replace(guess, placement=placement, tiled=tiled, compiled=compiled))
        if one.compiled == compiled:
            yield one


def can_compile(gpu: Gpu | None, machine: Machine) -> bool:
    """Whether blocks can be compiled for a device; Triton needs capability 7.0."""
    return gpu is not None and machine.compiler and gpu.capability >= (7, 0)


def drop_incompatible(plan: Plan) -> Plan:
    """The plan without what its placement doesn't combine with. Eager 8-bit products are slow."""
    on_gpu = plan.device != "cpu"
    quantized = plan.quantized if plan.placement in QUANTIZABLE else ""
    compiled = (plan.compiled or bool(quantized and on_gpu)) and plan.placement in COMPILABLE
    return replace(plan, quantized=quantized, compiled=compiled)


def resolve_attention(guess: Plan, gpu: Gpu | None, machine: Machine) -> Plan:
    """With the attention that is the best of the exact ones here, where it may be chosen.

    Raises:
        RequestError: if FlashAttention 4 was asked for and can't be had, or not on its device.
    """
    if guess.attention == FLASH4 and not _supports_flash(guess, gpu):
        needs = "it needs a GPU of capability 8.0 or more, and half precision: use stock"
        raise RequestError("attention", FLASH4, needs)
    if guess.attention == FLASH4 and not _has_flash_attention_4(machine):
        remedy = "can't be had here: pip install -e '.[flash]', or use stock"
        raise RequestError("attention", FLASH4, remedy)
    if guess.attention != AUTO:
        return guess
    if not (_supports_flash(guess, gpu) and gpu.capability[0] in FLASH4_GPUS):
        return replace(guess, attention=STOCK)
    if not _has_flash_attention_4(machine):
        why = "FlashAttention 4 would be faster: pip install -e '.[flash]'"
        return replace(guess, attention=STOCK, reasons=(*guess.reasons, why))
    return replace(guess, attention=FLASH4, reasons=(*guess.reasons, FLASH4_REASON))


def missing_requirement(plan: Plan, gpu: Gpu | None, machine: Machine, steps: int) -> str:
    """What this machine lacks for a plan that was made elsewhere; empty if nothing."""
    if gpu is not None and plan.dtype == "bfloat16" and not gpu.bf16:
        return f"{gpu.name} has no fast bfloat16"
    if plan.attention == FLASH4 and not (
        _supports_flash(plan, gpu) and _has_flash_attention_4(machine)
    ):
        return "FlashAttention 4 can't be had here: pip install -e '.[flash]' on a GPU's machine"
    if plan.compiled and not can_compile(gpu, machine):
        return "nothing can be compiled here"
    if gpu is None or not plan.quantized:
        return ""
    try:
        here = resolve_speed(
            replace(plan, quantized="", speed="fast"), gpu, machine, steps
        ).quantized
    except RequestError as error:
        return str(error)
    return "" if here == plan.quantized else f"no {plan.quantized} products on {gpu.name}"


def _supports_flash(plan: Plan, gpu: Gpu | None) -> bool:
    return gpu is not None and gpu.capability >= (8, 0) and plan.dtype != "float32"


def _has_flash_attention_4(machine: Machine) -> bool:
    return bool(machine.versions.get("flash-attn-4"))


def resolve_speed(guess: Plan, gpu: Gpu | None, machine: Machine, steps: int) -> Plan:
    """With what its speed brings along on this machine.

    Raises:
        RequestError: if a package is missing for it.
    """
    if guess.speed == "exact":
        return guess
    reuse = guess.speed == "turbo"
    if reuse and steps < MIN_CACHED_STEPS:
        reuse = False
        why = f"{steps} steps are too few to reuse any"
        guess = replace(guess, reasons=(*guess.reasons, why))
    if gpu is None:
        why = "8-bit products pay on a GPU only"
        return replace(guess, reuse=reuse, reasons=(*guess.reasons, why))
    kind = "fp8" if guess.dtype == "bfloat16" and gpu.capability >= (8, 9) else "int8"
    if guess.dtype == "float32" or gpu.capability < (8, 0):
        why = f"no 8-bit products in {guess.dtype} on a GPU of capability {gpu.capability[0]}.x"
        return replace(guess, reuse=reuse, reasons=(*guess.reasons, why))
    if not machine.compiler:
        why = "8-bit products need Triton and a C compiler, such as gcc"
        return replace(guess, reuse=reuse, reasons=(*guess.reasons, why))
    if not machine.versions.get("torchao"):
        remedy = "8-bit products need torchao: pip install -e '.[fast]', or use exact"
        raise RequestError("speed", guess.speed, remedy)
    return replace(guess, quantized=kind, reuse=reuse)


def placements_by_memory(plan: Plan) -> Iterator[tuple[str, bool]]:
    """(placement, tiled VAE) from the largest on the device to the smallest.

    Tiling is an approximation, so it comes after all that does without.
    """
    placements = ("resident",) if plan.device == "cpu" else tuple(PLACEMENTS)
    return ((placement, tiled) for tiled in (False, True) for placement in placements)


def rank(plan: Plan) -> int:
    return list(placements_by_memory(plan)).index((plan.placement, plan.tiled))


SPEEDS = {
    "exact": "stock arithmetic up to rounding",
    "fast": "8-bit matrix products",
    "turbo": "8-bit matrix products, and steps that reuse others: approximate",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How a request will be run.

    Attributes:
        model: the checkpoint.
        device: ``"cpu"`` or ``"cuda:N"``.
        dtype: name of the torch dtype of the weights.
        placement: one of ``PLACEMENTS``.
        tiled: whether the VAE decodes in tiles, an approximation.
        frames, height, width, guided: the size of the work.
        attention: name of a backend of diffusers; or ``stock``, what its pipeline does by itself,
            or ``flash4``, FlashAttention 4.
        speed: one of ``SPEEDS``, as it was asked for.
        compiled: whether the transformer's blocks are compiled.
        quantized: kind of the 8-bit matrix products, ``fp8`` or ``int8``; else empty.
        reuse: whether steps reuse others; see ``plan.computed_steps``.
        peak_bytes: predicted peak on the device; of a GPU what torch's allocator reserves.
        ram_bytes: predicted need of RAM.
        ram_room_bytes: RAM that it may take; 0 where nobody looked.
        seconds: predicted time of each stage, the model loaded; empty where nothing is known.
        reasons: why, for a person.
    """

    model: Model
    device: str
    dtype: str
    placement: str
    tiled: bool
    frames: int
    height: int
    width: int
    guided: bool
    attention: str = STOCK
    speed: str = "exact"
    compiled: bool = False
    quantized: str = ""
    reuse: bool = False
    peak_bytes: int = 0
    ram_bytes: int = 0
    ram_room_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict, hash=False)
    reasons: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        """Clips that a denoising step works on: with guidance, one with and one without prompt."""
        return 2 if self.guided else 1

    def tokens(self, frames: int) -> int:
        """Tokens that the transformer sees for a clip of so many frames, text included."""
        patch = registry.SIZE_MULTIPLE
        patches = (self.height // patch) * (self.width // patch)
        return self.model.checkpoint.text_tokens + patches * ((frames - 1) // 4 + 1)

    @property
    def choices(self) -> dict[str, object]:
        """The part that a sidecar keeps, and that ``again`` takes back."""
        values = asdict(replace(self, model=None))
        return {name: values[name] for name in (*RECORDED, "device", *PREDICTED)}

    @property
    def approximations(self) -> list[str]:
        """What of it changes more than rounding, for a person."""
        found = {
            "the VAE decodes in tiles": self.tiled,
            f"matrix products in 8 bits ({self.quantized})": self.quantized,
            "steps reuse others": self.reuse,
        }
        return [text for text, true in found.items() if true]

    def __str__(self) -> str:
        done = [self.placement, "tiled VAE" * self.tiled, "compiled" * self.compiled]
        done += [self.quantized, "reused steps" * self.reuse]
        how = ", ".join(part for part in done if part)
        return (
            f"{self.model.name} on {self.device} in {self.dtype}, {how}, "
            f"about {self.peak_bytes / GIB:.1f} GiB"
        )


RECORDED = ("dtype", "placement", "tiled", "attention", "speed", "compiled", "quantized", "reuse")
PREDICTED = ("peak_bytes", "ram_bytes", "reasons")


def compiled_key(plan: Plan, gpu_name: str, torch_version: str | None) -> str:
    """Names the compiled code that a plan needs: what it was compiled for, and with."""
    size = f"{plan.frames}x{plan.height}x{plan.width}x{plan.batch}"
    kind = f"{plan.dtype}-{plan.quantized or 'plain'}-{plan.attention}"
    return f"{plan.model.checkpoint.name}-{size}-{kind}-{gpu_name}-{torch_version}"


def gpu_for(plan: Plan, machine: Machine) -> Gpu | None:
    """The GPU that a plan runs on; None for the CPU."""
    return next((gpu for gpu in machine.gpus if plan.device == f"cuda:{gpu.index}"), None)


CACHE_WARMUP_SHARE, CACHE_INTERVAL = 0.24, 4
"""Where steps are reused: the share computed at first, and after how many one is computed again.
Found with the embedded checkpoint on a CPU, four prompts, 13 frames, 50 steps of which 22 are
computed: 36 dB from exact in the mean; 28 dB where 8 come first and then each third is computed."""


def computed_steps(steps: int) -> list[int]:
    """Which steps (from 0) are computed where the others reuse them.

    The steps that decide a clip's layout, and then each fourth. The rule is that of diffusers'
    ``TaylorSeerCacheConfig``.
    """
    first = first_cached_step(steps)
    return [n for n in range(steps) if n < first or (n - first - 1) % CACHE_INTERVAL == 0]


def first_cached_step(steps: int) -> int:
    """How many steps are computed at first."""
    return max(1, round(CACHE_WARMUP_SHARE * steps))
