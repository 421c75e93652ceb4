"""Facts of each checkpoint of the family. Nothing here reads a disk or a GPU.

Sources: the model cards and ``config.json`` files of zai-org and alibaba-pai on Hugging Face, and
the model card of the embedded checkpoint, ``models/cogvideox-tiny/README.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import RequestError, did_you_mean
from .demonstration import SHAPES, Demonstration

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

TILE = (144, 720)
"""Tile of a tiled decode for the native 480 × 720. Tiles overlap by 1/6 of their height and 1/5 of
their width, so height / 8 must be divisible by 6 and width / 8 by 5, or they don't cover the clip.
As wide as the clip, they overlap vertically only and decode 1.2 times its area; the 240 × 360 of
diffusers decode 2.3 times."""


MODES = ("quick", "standard", "best")
"""Names of a checkpoint's frame counts, in ascending order."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One member of the CogVideoX family."""

    name: str  # also of its folder in ``models/``
    aliases: tuple[str, ...]  # other names that it can be asked for by, lower case
    architecture: tuple[int, int, int, int, int]  # see ``ARCHITECTURE_KEYS``
    height: int  # native size in pixels
    width: int
    frames: tuple[int, ...]  # frame counts that it is offered with
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
    tile: tuple[int, int]  # height and width in pixels of the tiles of a tiled decode; see ``TILE``
    parameters: dict[str, int]  # number of parameters of each component with weights, about
    modelscope: str  # hub ids; empty for the embedded one
    huggingface: str
    licence: str
    licence_note: str  # what it means, in a line
    reads: str  # what its prompts may be written in, for error messages
    enrichable: bool = True  # whether a chat model's long English prompts suit it
    in_channels: int = LATENT_CHANNELS  # of the transformer; more with an image or a clip beside
    patch_frames: int = 1  # latent frames that a patch spans
    learned_positions: bool = False  # whether the transformer has learned them
    offset: bool = False  # whether the transformer has an offset embedding
    demonstration: Demonstration | None = None  # what a checkpoint of few things can draw
    cannot_run: str = ""  # why it is only fetched and verified here; empty for those that run

    @property
    def kind(self) -> tuple:
        """What tells its transformer from those of others, in their files."""
        inputs = (self.in_channels, self.patch_frames, self.learned_positions, self.offset)
        return (*self.architecture[:3], *inputs)


COGVIDEOX_5B = Checkpoint(
    name="CogVideoX-5b",
    aliases=("5b",),
    architecture=(42, 48, 64, 60, 90),
    height=480,
    width=720,
    frames=(13, 25, 49),
    fps=8,
    gpu_dtype="bfloat16",
    cpu_dtype="bfloat16",
    scheduler="CogVideoXDPMScheduler",
    timestep_spacing="trailing",
    dynamic_cfg=True,
    rotary_embeddings=True,
    vae_scaling_factor=0.7,
    text_tokens=226,
    decode_steps=1.5,  # measured on an H100
    vae_channels=128,
    tile=TILE,
    parameters={
        "text_encoder": 4_762_310_656,
        "transformer": 5_570_283_072,
        "vae": 215_583_907,
    },
    modelscope="ZhipuAI/CogVideoX-5b",
    huggingface="zai-org/CogVideoX-5b",
    licence="CogVideoX License",
    licence_note="free for research; commercial use needs registration with the authors",
    reads="it reads English only, so translate the prompt into a detailed English one",
)

COGVIDEOX_2B = replace(
    COGVIDEOX_5B,
    name="CogVideoX-2b",
    aliases=("2b",),
    architecture=(30, 30, 64, 60, 90),
    gpu_dtype="float16",
    cpu_dtype="float32",
    scheduler="CogVideoXDDIMScheduler",
    dynamic_cfg=False,
    rotary_embeddings=False,
    vae_scaling_factor=1.15258426,
    parameters=COGVIDEOX_5B.parameters | {"transformer": 1_693_783_872},
    modelscope="ZhipuAI/CogVideoX-2b",
    huggingface="zai-org/CogVideoX-2b",
    licence="Apache-2.0",
    licence_note="free for any use",
)

COGVIDEOX_15_5B = replace(
    COGVIDEOX_5B,
    name="CogVideoX1.5-5B",
    aliases=("1.5-5b", "1.5"),
    architecture=(42, 48, 64, 300, 300),
    height=768,
    width=1360,
    frames=(81,),
    fps=16,
    patch_frames=2,
    parameters=COGVIDEOX_5B.parameters | {"transformer": 5_570_676_352},
    modelscope="ZhipuAI/CogVideoX1.5-5B",
    huggingface="zai-org/CogVideoX1.5-5B",
    cannot_run="its patches span two latent frames, which this workbench doesn't decode",
)

TINY = Checkpoint(
    name="cogvideox-tiny",
    aliases=("tiny",),
    architecture=(6, 4, 64, 12, 18),
    height=96,
    width=144,
    frames=(13, 25, 49),
    fps=8,
    gpu_dtype="float32",
    cpu_dtype="float32",
    scheduler="CogVideoXDPMScheduler",
    timestep_spacing="trailing",
    dynamic_cfg=True,
    rotary_embeddings=True,
    vae_scaling_factor=1.0,
    text_tokens=64,
    decode_steps=20,  # measured on two cores of a CPU
    vae_channels=24,
    tile=(48, 80),
    parameters={"text_encoder": 406_912, "transformer": 6_059_200, "vae": 4_971_451},
    modelscope="",
    huggingface="",
    licence="Apache-2.0",
    licence_note="free for any use",
    reads="it knows one coloured shape moving on a plain background, such as 'a red circle moving "
    "right on a black background', or the same in Chinese",
    enrichable=False,
    demonstration=SHAPES,
)

CHECKPOINTS = (COGVIDEOX_5B, COGVIDEOX_2B, COGVIDEOX_15_5B, TINY)


def _relative(base: Checkpoint, name: str, owners: tuple[str, str], parameters: int, **changed):
    """A checkpoint of another one's shapes whose transformer sees more than text.

    Args:
        owners: of the model on ModelScope and on Hugging Face.
        parameters: of the transformer.
    """
    modelscope, huggingface = (f"{owner}/{name}" for owner in owners)
    return replace(
        base,
        name=name,
        aliases=(name.lower().removeprefix("cogvideox").removeprefix("-"),),
        parameters=base.parameters | {"transformer": parameters},
        modelscope=modelscope,
        huggingface=huggingface,
        **changed,
    )


ZAI, PAI = ("ZhipuAI", "zai-org"), ("PAI", "alibaba-pai")
IMAGE = {"in_channels": 32, "cannot_run": "it starts from an image, which it can't be given here"}
INPAINT = {"in_channels": 33, "cannot_run": "it fills in clips, which it can't be given here"}
CONTROL = {"in_channels": 32, "cannot_run": "it follows a clip, which it can't be given here"}
FUN = "CogVideoX-Fun-V1."
LEARNED = IMAGE | {"learned_positions": True}
OFFSET = IMAGE | {"offset": True}

RELATIVES = (
    _relative(COGVIDEOX_5B, "CogVideoX-5b-I2V", ZAI, 5_570_479_680, **LEARNED),
    _relative(COGVIDEOX_15_5B, "CogVideoX1.5-5B-I2V", ZAI, 5_571_594_880, **OFFSET),
    _relative(COGVIDEOX_2B, f"{FUN}1-2b-InP", PAI, 1_693_914_432, **INPAINT),
    _relative(COGVIDEOX_5B, f"{FUN}1-5b-InP", PAI, 5_570_491_968, **INPAINT),
    _relative(COGVIDEOX_2B, f"{FUN}1-2b-Control", PAI, 1_693_906_752, **CONTROL),
    _relative(COGVIDEOX_5B, f"{FUN}1-5b-Control", PAI, 5_570_479_680, **CONTROL),
    _relative(COGVIDEOX_15_5B, f"{FUN}5-5b-InP", PAI, 5_571_094_144, **INPAINT),
)
"""Those that are recognised, fetched and verified, and refused by what they are."""


def find_checkpoint(name: str) -> Checkpoint | None:
    """The checkpoint of a name or alias, in any case; None if there is none."""
    key = name.strip().lower()
    for checkpoint in (*CHECKPOINTS, *RELATIVES):
        if key in (checkpoint.name.lower(), *checkpoint.aliases):
            return checkpoint
    return None


def get_checkpoint(name: str) -> Checkpoint:
    """The checkpoint of a name or alias.

    Raises:
        RequestError: if there is none, with those that there are.
    """
    checkpoint = find_checkpoint(name)
    if checkpoint is None:
        names = [known.name for known in CHECKPOINTS]
        hint = did_you_mean(name, names)
        raise RequestError("model", name, f"use one of {', '.join(names)}{hint}")
    return checkpoint


def checkpoint_of_config(config: dict, name: str = "") -> Checkpoint | None:
    """The checkpoint that files belong to, under whatever name they are stored.

    Args:
        config: ``config.json`` of the transformer, which decides the shapes of its weights.
        name: of the folder, which decides among checkpoints that are alike in all of this.
    """
    kind = (
        *(config.get(key) for key in ARCHITECTURE_KEYS[:3]),
        config.get("in_channels", LATENT_CHANNELS),
        config.get("patch_size_t") or 1,
        bool(config.get("use_learned_positional_embeddings")),
        config.get("ofs_embed_dim") is not None,
    )
    for known in sorted((*CHECKPOINTS, *RELATIVES), key=lambda known: known.name != name):
        if known.kind == kind:
            return known
    return None


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
