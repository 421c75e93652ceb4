"""A plan: how a request will be run. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace

from ..checkpoints.registry import SIZE_MULTIPLE, Model
from ..loras.layers import UsedLora
from ..text import GIB
from .guidance import Guiding
from .machine import Gpu, Machine
from .placements import PLACEMENTS, Placement
from .speed_up import SpeedUp, StepCost
from .speedups import JOINED, SDPA, SPARSE, SPEED_UPS
from .step_cache import APART
from .windows import window_frames, windows_of


@dataclass(frozen=True, slots=True)
class Plan:
    """How a request will be run."""

    model: Model
    device: str  # "cpu" or "cuda:N"
    dtype: str  # name of the torch dtype of the weights
    placement: str  # one of PLACEMENTS
    tiled: bool  # the VAE decodes in tiles, an approximation
    frames: int
    height: int
    width: int
    guided: bool  # classifier-free guidance: two clips in a step
    guiding: Guiding | None = None  # None: as the checkpoint's videos are by default
    loras: tuple[UsedLora, ...] = ()  # merged into the transformer's weights
    encoded_frames: int = 0  # of pictures and clips, by the VAE before the first step
    attention: str = SDPA  # or flash4, or the name of a backend of diffusers
    speed: str = "exact"  # one of SPEEDS, as requested
    compiled: bool = False  # the transformer's blocks are compiled
    joined_tokens: bool = False  # compiled blocks have text and clip tokens in one tensor
    quantized: str = ""  # format of 8-bit weights: fp8, int8 or int8_weights; else empty
    peers: tuple[str, ...] = ()  # other GPUs that share a step, each with a transformer
    sparse_attention: bool = False  # blocks of tokens leave out others; needs flash4 on a GPU
    step_cache: str = ""  # what steps compute: one of step_cache.SCHEDULES
    idle_guidance: bool = False  # where guidance does nothing the prompt's clip is computed alone
    peak_bytes: int = 0  # predicted peak of the device; of a GPU what torch's allocator reserves
    peer_bytes: int = 0  # predicted peak of each of the other GPUs
    ram_bytes: int = 0  # predicted need of RAM
    ram_room_bytes: int = 0  # RAM that it may take; 0 where that is unknown
    seconds: dict[str, float] = field(default_factory=dict, hash=False)  # predicted, of each stage
    reasons: tuple[str, ...] = ()  # for a person

    @property
    def offload(self) -> Placement:
        return PLACEMENTS[self.placement]

    @property
    def speed_ups(self) -> list[SpeedUp]:
        """Those that are on."""
        return [row for row in SPEED_UPS.values() if getattr(self, row.field) in row.values]

    @property
    def step_cost(self) -> StepCost:
        """Of a denoising step, with the speed-ups that are on."""
        changes = {}
        for speed_up in self.speed_ups:
            changes |= speed_up.cost
        return StepCost(**changes)

    @property
    def batch(self) -> int:
        """Clips in a denoising step: with guidance one with the prompt and one without."""
        return 2 if self.guided else 1

    @property
    def batches(self) -> tuple[int, ...]:
        """All numbers of clips in a step that blocks are compiled for: with a step cache the
        prompt's clip alone too. Where guidance is idle, in some two steps, that isn't worth it."""
        alone = self.step_cache in APART or (self.guiding is not None and self.guiding.limited)
        return (2, 1) if self.guided and alone else (self.batch,)

    @property
    def block_batches(self) -> tuple[int, ...]:
        """The same of a device's blocks."""
        return tuple(-(-count // self.halves) for count in self.batches)

    @property
    def idle_dtype(self) -> str:
        """Precision by which guidance is idle; empty where it is computed all the same."""
        return self.dtype if self.idle_guidance else ""

    @property
    def devices(self) -> tuple[str, ...]:
        """All that share a step."""
        return self.device, *self.peers

    @property
    def halves(self) -> int:
        """2 where the clips of guidance are computed apart, else 1."""
        return 2 if self.guided and len(self.devices) % 2 == 0 else 1

    @property
    def parts(self) -> int:
        """Devices that share the rows of a clip's latents."""
        return len(self.devices) // self.halves

    @property
    def decoding(self) -> int:
        """Devices that decode the video, each as many rows of the latents: one or two, since four
        wait longer for each other than they save (1.8 s for 1.1 s of one H200, at 49 frames)."""
        whole = not self.tiled and len(self.windows) == 1
        return 2 if self.peers and whole and self.height // 8 % 2 == 0 else 1

    @property
    def windows(self) -> tuple[range, ...]:
        """Latent frames that the transformer sees at once, one after the other in each step."""
        return windows_of(self.model.checkpoint, self.frames)

    @property
    def window_frames(self) -> int:
        """Frames of each of them."""
        return window_frames(self.model.checkpoint, self.frames)

    def tokens(self, frames: int) -> int:
        """Tokens that the transformer sees for a clip of so many frames, text included."""
        checkpoint = self.model.checkpoint
        rows = -(-((frames - 1) // 4 + 1) // checkpoint.patch_frames)  # padded to whole patches
        patches = (self.height // SIZE_MULTIPLE) * (self.width // SIZE_MULTIPLE)
        return checkpoint.text_tokens + patches * rows

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width in pixels of the tiles of a tiled VAE; see ``registry.TILE``."""
        height, width = self.model.checkpoint.tile
        return height, width or -(-self.width // 40) * 40

    @property
    def choices(self) -> dict[str, object]:
        """The part that a sidecar records, and that ``planner.replay_plan`` takes back."""
        return {name: getattr(self, name) for name in (*RECORDED, "device", *PREDICTED)}

    @property
    def approximations(self) -> list[str]:
        """What changes the video by more than rounding, for a person."""
        notes = [row.note.format(getattr(self, row.field)) for row in self.speed_ups if row.note]
        return ["the VAE decodes in tiles"] * self.tiled + notes

    def __str__(self) -> str:
        labels = [row.label.format(getattr(self, row.field)) for row in self.speed_ups if row.label]
        parts = ", ".join([self.placement, *["tiled VAE"] * self.tiled, *labels])
        memory = f"about {self.peak_bytes / GIB:.1f} GiB"
        return f"{self.model.name} on {', '.join(self.devices)} in {self.dtype}, {parts}, {memory}"

    def without(self, name: str) -> Plan:
        """The plan without a speed-up, and without those that need it or are slow without it."""
        off = [row.field for row in self.speed_ups if name in (row.name, *row.implies, *row.needs)]
        return replace(self, **{name: SWITCHED_OFF[name] for name in off})


CHOSEN = (
    *("tiled", "attention", "speed", "compiled", "quantized", "step_cache", "idle_guidance"),
    *("peers", SPARSE, JOINED),
)
RECORDED = ("dtype", "placement", *CHOSEN)
PREDICTED = ("peak_bytes", "ram_bytes", "reasons")

SWITCHED_OFF = {row.name: row.default for row in fields(Plan) if row.name in CHOSEN}
SWITCHED_OFF["tiled"] = False


def placements_by_memory(plan: Plan) -> Iterator[tuple[str, bool]]:
    """(placement, tiled VAE) of the plan's device from the largest on it to the smallest.

    Tiling is an approximation, so it comes after everything without.
    """
    on_cpu = plan.device == "cpu"
    names = [row.name for row in PLACEMENTS.values() if not (on_cpu and row.offloads)]
    return ((name, tiled) for tiled in (False, True) for name in names)


def drop_incompatible(plan: Plan) -> Plan:
    """The plan without the speed-ups that its placement excludes, and with those that the others
    need on a GPU."""
    for speed_up in plan.speed_ups:
        if speed_up.placement and not getattr(plan.offload, speed_up.placement):
            plan = plan.without(speed_up.name)
    # No GPU has all tokens at once; or masks, which are kept for some steps, are of other windows.
    if plan.parts > 1 or len(plan.windows) > 1:
        plan = plan.without(SPARSE)
    quantized = SPEED_UPS["quantized"] in plan.speed_ups
    if quantized or not plan.compiled:  # with 8-bit products it saves nothing
        plan = plan.without(JOINED)
    if not plan.offload.splits:
        plan = replace(plan, peers=())
    if plan.compiled and quantized:
        # Eager blocks with 8-bit products are slow, and compiling for one clip costs more.
        plan = plan.without("idle_guidance")
    if plan.device == "cpu":
        return plan
    implied = {name for speed_up in plan.speed_ups for name in speed_up.implies}
    return replace(plan, **{SPEED_UPS[name].field: True for name in implied})


def compiled_key(plan: Plan, gpu_name: str, torch_version: str | None) -> str:
    """Identifies the compiled code that a plan needs: what it was compiled for, and with."""
    size = f"{plan.window_frames}x{plan.height}x{plan.width}x{'+'.join(map(str, plan.batches))}"
    attention = "stock" if plan.attention == SDPA else plan.attention  # as in lists on disk
    if plan.peers:
        size = f"{size}-{len(plan.devices)}gpus"
    attention += "-sparse" * plan.sparse_attention
    kind = f"{plan.dtype}-{plan.quantized or 'plain'}-{attention}"
    kind += "-joined" * plan.joined_tokens
    return f"{plan.model.checkpoint.name}-{size}-{kind}-{gpu_name}-{torch_version}"


def gpu_for(plan: Plan, machine: Machine) -> Gpu | None:
    """The GPU that a plan runs on; None for the CPU."""
    return next((gpu for gpu in machine.gpus if plan.device == f"cuda:{gpu.index}"), None)


def fits(plan: Plan, machine: Machine) -> bool:
    """Whether a plan's predicted memory is free."""
    if (gpu := gpu_for(plan, machine)) is None:
        return plan.peak_bytes <= machine.ram_free_bytes
    peers = [one for one in machine.gpus if f"cuda:{one.index}" in plan.peers]
    if len(peers) < len(plan.peers) or any(plan.peer_bytes > one.room_bytes for one in peers):
        return False
    return plan.peak_bytes <= gpu.room_bytes and plan.ram_bytes <= plan.ram_room_bytes
