"""How this machine will make a request: pure arithmetic over the request and the machine.

A plan chooses device, precision, placement and VAE tiling. It never changes what was asked for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import checkpoints, weights
from .checkpoints import Checkpoint
from .errors import DoesNotFit, ModelError, ModelMissing
from .machine import Gpu, Machine
from .request import VideoRequest, nearest
from .weights import Model

GIB = 2**30

GPU_LADDER = (
    ("resident", False),
    ("model_offload", False),
    ("model_offload", True),
    ("streamed", True),
)
"""(placement, tiled VAE) from the fastest to the smallest. Tiling is an approximation, so moving
whole models comes before it."""

CPU_LADDER = (("resident", False), ("resident", True))

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

DENOISE_COPIES = 13
"""Activations of a step, in copies of the hidden states. Measured on an H100 with streamed weights
at 480 × 720: 3.2 GiB at 49 frames and 1.4 GiB at 13, of which 0.5 GiB are two blocks."""

DECODE_COPIES = 22
"""Activations of a VAE decode, in copies of eight frames at the width of the last blocks. Measured
on an H100: 14.5 GiB at 480 × 720, whatever the number of frames."""

TILED_SHARE = 3.8 / 14.5
"""What tiling leaves of that. Measured on an H100: 3.8 GiB for tiles of 240 × 360."""

CONTEXT_BYTES = GIB // 2
"""The CUDA context and libraries, outside torch's allocator."""

HEADROOM = 1.1
"""What the allocator reserves beyond what it allocates."""

STOCK = "stock"

PLACEMENTS = {
    "resident": "every model stays in memory",
    "model_offload": "one model at a time moves to the GPU",
    "streamed": "blocks of the models stream to the GPU as they are needed",
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
        attention: name of a backend of diffusers; ``stock`` is what its pipeline does by itself.
        frames, height, width, guided: the size of the work.
        peak_bytes: predicted peak on the device.
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
    peak_bytes: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        """Clips that a denoising step works on: with guidance, one with and one without prompt."""
        return 2 if self.guided else 1

    def tokens(self, frames: int) -> int:
        """Tokens that the transformer sees for a clip of so many frames, text included."""
        patch = checkpoints.SIZE_MULTIPLE
        patches = (self.height // patch) * (self.width // patch)
        return self.model.checkpoint.text_tokens + patches * ((frames - 1) // 4 + 1)

    @property
    def choices(self) -> dict[str, object]:
        """The part that a sidecar keeps, and that ``again`` takes back."""
        names = ("device", "dtype", "placement", "tiled", "attention", "peak_bytes", "reasons")
        return {name: value for name, value in asdict(self).items() if name in names}

    def __str__(self) -> str:
        tiles = ", tiled VAE" if self.tiled else ""
        return (
            f"{self.model.name} on {self.device} in {self.dtype}, {self.placement}{tiles}, "
            f"about {self.peak_bytes / GIB:.1f} GiB"
        )


def find_model(name: str, machine: Machine, frames: int = 13) -> tuple[Model, str]:
    """Find the checkpoint to run, and say why where the choice was ours.

    ``auto`` is CogVideoX-5b where it is complete and a plan for it fits a GPU, else the embedded.

    Returns:
        (model, note): the note is empty when a model was named.

    Raises:
        ModelError: if a named model is missing or not whole.
    """
    if name.strip().lower() != "auto":
        return weights.locate(name), ""
    wanted, embedded = checkpoints.COGVIDEOX_5B, checkpoints.TINY
    command = weights.download_command(wanted)
    try:
        model = weights.locate(wanted.name)
        if not machine.gpus:
            reason = f"there is no GPU here; name {wanted.name} to run it on the CPU"
        else:
            foresee(model, machine, nearest(frames, wanted.frames))
            return model, f"{wanted.name}, which fits the GPU here"
    except ModelMissing:
        reason = f"{wanted.name} is not on this machine; get it with: {command}"
    except (ModelError, DoesNotFit) as error:
        reason = str(error)
    return weights.locate(embedded.name), f"the small embedded {embedded.name}: {reason}"


def fit(request: VideoRequest, machine: Machine, attention: str = STOCK) -> Plan:
    """The fastest exact plan that fits, and where none is exact the fastest that is not.

    Args:
        attention: see ``Plan``; no choice of the plan's.

    Raises:
        DoesNotFit: with what would.
    """
    guided = request.guidance > 1
    size = (request.frames, request.height, request.width, guided)
    guess = _first_guess(request.model, machine, *size)
    return _fit(replace(guess, attention=attention), machine)


def foresee(model: Model | Checkpoint, machine: Machine, frames: int) -> Plan:
    """The plan for a video of a model's own size with guidance, before anything is asked for.

    Args:
        model: a checkpoint that is here, or one that is only known.

    Raises:
        DoesNotFit: with what would.
    """
    if isinstance(model, Checkpoint):
        model = Model(model, Path(model.name), {}, model.parameters)
    height, width = model.checkpoint.height, model.checkpoint.width
    return _fit(_first_guess(model, machine, frames, height, width, True), machine)


def again(request: VideoRequest, machine: Machine, choices: dict) -> Plan:
    """The plan that a sidecar records, to make its video again; ``fit`` where it can't be had."""
    plan = fit(request, machine)
    if choices.get("device", "cpu").split(":")[0] != plan.device.split(":")[0]:
        return plan
    names = ("dtype", "placement", "tiled", "attention")
    kept = {name: choices[name] for name in names if name in choices}
    return _predicted(replace(plan, **kept, reasons=("as it was made before",)))


def placed(plan: Plan, placement: str) -> Plan:
    """The same plan on a placement that was asked for.

    Raises:
        DoesNotFit: if its device has no such placement.
    """
    for name, tiled in _ladder(plan):
        if name == placement:
            changed = replace(plan, placement=name, tiled=tiled, reasons=("as asked for",))
            return _predicted(changed)
    raise DoesNotFit(f"{placement} is no placement for {plan.device}: use resident")


def step_down(plan: Plan) -> Plan | None:
    """The next smaller plan for the same request, or None after the smallest."""
    ladder = _ladder(plan)
    rung = ladder.index((plan.placement, plan.tiled)) + 1
    if rung == len(ladder):
        return None
    placement, tiled = ladder[rung]
    reason = f"memory ran out as {plan.placement}{' with tiles' if plan.tiled else ''}"
    stepped = replace(plan, placement=placement, tiled=tiled, reasons=(*plan.reasons, reason))
    return _predicted(stepped)


def _first_guess(
    model: Model, machine: Machine, frames: int, height: int, width: int, guided: bool
) -> Plan:
    checkpoint = model.checkpoint
    gpu = _best_gpu(machine)
    if gpu is None:
        device, dtype, reason = "cpu", checkpoint.cpu_dtype, "no GPU here"
    else:
        device, dtype, reason = f"cuda:{gpu.index}", checkpoint.gpu_dtype, gpu.name
        if dtype == "bfloat16" and not gpu.bf16:
            dtype, reason = "float16", f"{gpu.name} has no fast bfloat16"
    size = {"frames": frames, "height": height, "width": width, "guided": guided}
    return Plan(model, device, dtype, "resident", False, **size, reasons=(reason,))


def _fit(guess: Plan, machine: Machine) -> Plan:
    gpu = _best_gpu(machine)
    stored = sum(_weights(guess).values())
    free, where = machine.ram_free_bytes, "RAM"
    if gpu is not None:
        free, where = gpu.free_bytes, f"GPU memory ({gpu.name})"
        if stored > machine.ram_free_bytes:
            free, where = 0, "RAM to load it through"
    tried = []
    for placement, tiled in _ladder(guess):
        plan = _predicted(replace(guess, placement=placement, tiled=tiled))
        if plan.peak_bytes <= free:
            return replace(plan, reasons=(*plan.reasons, PLACEMENTS[placement]))
        tried.append(plan.peak_bytes)
    needed = stored if where.startswith("RAM to") else min(tried)
    found = machine.ram_free_bytes if where.startswith("RAM") else free
    name = guess.model.name
    fewer = f"{guess.model.checkpoint.frames[0]} frames, " if guess.frames > 13 else ""
    raise DoesNotFit(
        f"{name} at {guess.frames} frames needs {needed / GIB:.1f} GiB of {where} and "
        f"{found / GIB:.1f} GiB are free: try {fewer}a larger machine, or --model tiny"
    )


def _predicted(plan: Plan) -> Plan:
    """The plan with its predicted peak, in bytes on its device."""
    checkpoint = plan.model.checkpoint
    layers, heads, head_width, _, _ = checkpoint.architecture
    item = ITEM_BYTES[plan.dtype]
    parts = _weights(plan)
    tokens = plan.tokens(plan.frames)
    denoise = DENOISE_COPIES * tokens * heads * head_width * plan.batch * item
    decode = DECODE_COPIES * plan.height * plan.width * 8 * checkpoint.vae_channels * item
    if plan.tiled:
        decode = int(decode * TILED_SHARE)
    if plan.placement == "resident":
        peak = sum(parts.values()) + max(denoise, decode)
    elif plan.placement == "model_offload":
        peak = max(parts["text_encoder"], parts["transformer"] + denoise, parts["vae"] + decode)
    else:
        block = parts["transformer"] // layers
        peak = parts["vae"] + max(2 * block + denoise, decode)
    extra = CONTEXT_BYTES if plan.device != "cpu" else 0
    return replace(plan, peak_bytes=int(peak * HEADROOM) + extra)


def _weights(plan: Plan) -> dict[str, int]:
    """Bytes of each component in the plan's precision."""
    item = ITEM_BYTES[plan.dtype]
    return {part: count * item for part, count in plan.model.parameters.items()}


def _ladder(plan: Plan) -> tuple[tuple[str, bool], ...]:
    return CPU_LADDER if plan.device == "cpu" else GPU_LADDER


def _best_gpu(machine: Machine) -> Gpu | None:
    return max(machine.gpus, key=lambda gpu: gpu.free_bytes, default=None)
