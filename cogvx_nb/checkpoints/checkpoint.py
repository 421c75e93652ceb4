"""What a checkpoint is, and a model on this machine. Nothing here reads a disk or a GPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .demonstration import Demonstration

SIZE_MULTIPLE = 16
"""Height and width are multiples of this: the VAE downsamples by 8, the patches by 2."""

MAX_STEPS = 1000
"""``num_train_timesteps`` of the schedulers."""


ARCHITECTURE_KEYS = (
    "num_layers",
    "num_attention_heads",
    "attention_head_dim",
    "sample_height",
    "sample_width",
)
"""Keys of the transformer's ``config.json`` whose values are ``Checkpoint.architecture``."""

LATENT_CHANNELS = 16
"""Channels of a latent frame, the same for the whole family."""

TILE = (144, 0)
"""Tile of a tiled VAE: 144 pixels high, and as wide as the clip (0). Tiles overlap by 1/6 of their
height and 1/5 of their width, so height / 8 must be divisible by 6 and width / 8 by 5, or they
don't cover the clip. As wide as the clip, they overlap vertically only and decode 1.2 times its
area; the 240 × 360 of diffusers decode 2.3 times that of 480 × 720."""


STORED = {"text_encoder": 2, "transformer": 2, "vae": 4}
"""Bytes per parameter in the hubs' files: the 5B's VAE is float32, the rest 16 bits."""

MOST_FRAMES = 961
"""Of a video, by windows: two minutes at 8 frames a second. Its frames take 0.93 GiB of RAM at
480 × 720."""

MODES = ("quick", "standard", "best")
"""Names of a checkpoint's frame counts, in ascending order."""


TEXT, IMAGE, FRAMES, CLIP, CONTROL, EXTEND = TASKS = (
    "text",
    "image",
    "frames",
    "clip",
    "control",
    "extend",
)
"""What a video is made from: text alone, a first image, a first and a last one, a clip to change,
a clip to follow, or a clip to go on from."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes in pixels that a checkpoint was trained at, upright or not; multiples of 16."""

    short: range  # of the shorter side
    long: range

    def __contains__(self, size: tuple[int, int]) -> bool:
        return min(size) in self.short and max(size) in self.long

    def __str__(self) -> str:
        sides = (
            f"{side[0]} … {side[-1]}" if len(side) > 1 else str(side[0])
            for side in (self.short, self.long)
        )
        return " × ".join(sides)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One member of the CogVideoX family."""

    name: str  # also of its folder in ``models/``
    aliases: tuple[str, ...]  # other names that it can be asked for by, lower case
    architecture: tuple[int, int, int, int, int]  # see ``ARCHITECTURE_KEYS``
    height: int  # native size in pixels
    width: int
    frames: tuple[int, ...]  # frame counts of ``MODES``
    frame_range: range  # those that it was made for; ``frames`` may hold others
    fps: int  # frames per second of its training clips
    gpu_dtype: str  # that it was trained in; GPUs without bfloat16 take float16 for it
    cpu_dtype: str
    scheduler: str  # class name in diffusers
    timestep_spacing: str  # of the scheduler
    dynamic_cfg: bool  # whether the guidance scale varies over the steps, as the authors do it
    rotary_embeddings: bool  # ``use_rotary_positional_embeddings`` of the transformer
    vae_scaling_factor: float
    text_tokens: int  # longest prompt, end token included
    decode_steps: float  # time of a decode, in denoising steps
    vae_channels: int  # of the VAE's blocks at full size, which set the memory of a decode
    tile: tuple[int, int]  # height and width in pixels of the tiles of a tiled VAE; see ``TILE``
    parameters: dict[str, int]  # number of parameters of each component with weights, about
    modelscope: str  # hub ids; empty for the embedded one
    huggingface: str
    licence: str
    licence_note: str  # what it means, in a line
    reads: str  # what its prompts may be written in, for error messages
    enrichable: bool = True  # whether a chat model's long English prompts suit it
    tasks: tuple[str, ...] = (TEXT, CLIP, EXTEND)  # what it can start from
    sizes: Sizes | None = None  # those that it was trained at; None for its native one only
    snr_shift_scale: float = 1.0  # of the scheduler
    input_noise: float = 0.0  # standard deviation of the noise on known pixels in its training
    shares: str = ""  # name of the checkpoint whose other parts it runs with
    in_channels: int = LATENT_CHANNELS  # of the transformer; more with an image or a clip beside
    patch_frames: int = 1  # latent frames that a patch spans
    learned_positions: bool = False  # whether the transformer has learned them
    offset: bool = False  # whether the transformer has an offset embedding
    demonstration: Demonstration | None = None  # what a checkpoint of few things can draw
    stored: dict[str, int] = field(default_factory=lambda: STORED)  # see ``STORED``

    @property
    def stored_bytes(self) -> int:
        """Bytes of its weights on a hub, about."""
        return sum(self.stored[part] * count for part, count in self.parameters.items())

    @property
    def frame_counts(self) -> tuple[int, ...]:
        """All frame counts that it makes, ascending."""
        return tuple(sorted({*self.frames, *self.frame_range}))

    @property
    def window_counts(self) -> range:
        """Those above that it makes of text alone, by overlapping windows; none if it can't."""
        step, most = self.frame_range.step, MOST_FRAMES if TEXT in self.tasks else 0
        return range(self.frame_range[-1] + step, most + 1, step)

    @property
    def frame_rule(self) -> str:
        """The same in words."""
        counts = self.frame_range
        extra = "".join(f", or {count}" for count in self.frames if count not in counts)
        rule = f"{counts.step} N + {counts.start % counts.step}"
        return f"{rule} from {counts.start} to {counts[-1]}{extra}"

    @property
    def is_masked(self) -> bool:
        """Whether its transformer sees a mask, and a clip with the unknown pixels left out."""
        return self.in_channels % LATENT_CHANNELS == 1

    @property
    def is_embedded(self) -> bool:
        """Whether it ships with the repository."""
        return not (self.modelscope or self.huggingface)

    @property
    def kind(self) -> tuple:
        """What tells its transformer from those of others, in their files."""
        inputs = (self.in_channels, self.patch_frames, self.learned_positions, self.offset)
        return (*self.architecture[:3], *inputs)


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint on this machine, or random weights of its shapes."""

    checkpoint: Checkpoint
    folder: Path | None  # None for random weights
    bytes: dict[str, int]  # stored bytes of each component with weights
    parameters: dict[str, int]  # number of parameters of each component with weights
    shared: Path | None = None  # folder of the checkpoint whose other parts it runs with

    def part(self, name: str) -> Path:
        """Folder of a component, the tokenizer or the scheduler; not for random weights."""
        own = self.folder / name
        return own if self.shared is None or own.is_dir() else self.shared / name

    @property
    def name(self) -> str:
        """Name for messages and records; random weights are marked."""
        return self.checkpoint.name if self.folder else f"{self.checkpoint.name} (random weights)"
