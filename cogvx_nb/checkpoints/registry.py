"""Facts of each checkpoint of the family. Nothing here reads a disk or a GPU.

Sources: the model cards and ``config.json`` files of zai-org and alibaba-pai on Hugging Face, and
the model card of the embedded checkpoint, ``models/cogvideox-tiny/README.md``.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import RequestError, did_you_mean
from .checkpoint import (
    ARCHITECTURE_KEYS,
    CLIP,
    CONTROL,
    EXTEND,
    FRAMES,
    IMAGE,
    LATENT_CHANNELS,
    MAX_STEPS,
    MODES,
    SIZE_MULTIPLE,
    STORED,
    TEXT,
    TILE,
    Checkpoint,
    Model,
    Sizes,
)
from .demonstration import SHAPES

__all__ = [
    "ARCHITECTURE_KEYS",
    "CHECKPOINTS",
    "CLIP",
    "CONTROL",
    "EXTEND",
    "FRAMES",
    "IMAGE",
    "LATENT_CHANNELS",
    "MAX_STEPS",
    "MODES",
    "SIZE_MULTIPLE",
    "TEXT",
    "Checkpoint",
    "Model",
    "Sizes",
]

COGVIDEOX_5B = Checkpoint(
    name="CogVideoX-5b",
    aliases=("5b",),
    architecture=(42, 48, 64, 60, 90),
    height=480,
    width=720,
    frames=(13, 25, 49),
    frame_range=range(9, 50, 8),
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
    snr_shift_scale=3.0,
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
    frames=(17, 49, 81),
    frame_range=range(17, 162, 16),
    fps=16,
    text_tokens=224,  # of the authors' training configuration
    patch_frames=2,
    parameters=COGVIDEOX_5B.parameters | {"transformer": 5_570_676_352},
    stored=STORED | {"text_encoder": 4},
    modelscope="ZhipuAI/CogVideoX1.5-5B",
    huggingface="zai-org/CogVideoX1.5-5B",
)

TINY = Checkpoint(
    name="cogvideox-tiny",
    aliases=("tiny",),
    architecture=(6, 4, 64, 12, 18),
    height=96,
    width=144,
    frames=(13, 25, 49),
    frame_range=range(9, 50, 8),
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

TINY_I2V = replace(
    TINY,
    name="cogvideox-tiny-i2v",
    aliases=("tiny-i2v",),
    tasks=(TEXT, IMAGE, FRAMES, EXTEND),
    in_channels=32,
    parameters=TINY.parameters | {"transformer": 6_075_584},
    shares=TINY.name,
)


def _relative(
    base: Checkpoint, name: str, owners: tuple[str, str], transformer: int, **changed
) -> Checkpoint:
    """A checkpoint of another one's shapes whose transformer sees more than text.

    Args:
        owners: of the model on ModelScope, if it is there, and on Hugging Face.
        transformer: its number of parameters.
    """
    modelscope, huggingface = (f"{owner}/{name}" if owner else "" for owner in owners)
    return replace(
        base,
        name=name,
        aliases=(name.lower().removeprefix("cogvideox").removeprefix("-"),),
        parameters=base.parameters | {"transformer": transformer},
        modelscope=modelscope,
        huggingface=huggingface,
        **changed,
    )


ZAI, PAI = ("ZhipuAI", "zai-org"), ("PAI", "alibaba-pai")
PICTURE = {"in_channels": 32, "tasks": (IMAGE, EXTEND)}

COGVIDEOX_5B_I2V = _relative(
    COGVIDEOX_5B, "CogVideoX-5b-I2V", ZAI, 5_570_479_680, learned_positions=True, **PICTURE
)

COGVIDEOX_15_5B_I2V = _relative(
    COGVIDEOX_15_5B,
    "CogVideoX1.5-5B-I2V",
    ZAI,
    5_571_594_880,
    offset=True,
    sizes=Sizes(range(768, 769), range(768, 1361, SIZE_MULTIPLE)),
    **PICTURE,
)

INTERPOLATION = _relative(
    COGVIDEOX_5B_I2V,
    "CogvideoX-Interpolation",
    ("", "feizhengcong"),
    5_570_479_680,
    tasks=(FRAMES,),
    licence="none stated",
    licence_note="a fine-tune of CogVideoX-5b-I2V, whose licence is the CogVideoX License",
)

FUN = {"scheduler": "CogVideoXDDIMScheduler", "dynamic_cfg": False}
"""What VideoX-Fun runs its models with."""

FUN_SIZES = Sizes(range(256, 1025, SIZE_MULTIPLE), range(256, 1025, SIZE_MULTIPLE))
INPAINT = FUN | {"in_channels": 33, "tasks": (TEXT, IMAGE, FRAMES, EXTEND), "sizes": FUN_SIZES}
CONTROLLED = FUN | {"in_channels": 32, "tasks": (CONTROL,), "sizes": FUN_SIZES}
NATIVE = {"sizes": None}
"""Of the 2b models: VideoX-Fun stretches their table of positions to other sizes, and diffusers
makes another one (``CogVideoXPatchEmbed``)."""

FUN_15 = INPAINT | {
    "height": 384,
    "width": 672,
    "frames": (13, 45, 85),
    "frame_range": range(13, 86, 8),  # their latent frames make whole patches
    "fps": 8,
    "text_tokens": 226,  # ``max_sequence_length`` of VideoX-Fun's pipeline
    "stored": STORED | {"vae": 2},
}

CHECKPOINTS = (
    COGVIDEOX_5B,
    COGVIDEOX_2B,
    COGVIDEOX_5B_I2V,
    COGVIDEOX_15_5B,
    COGVIDEOX_15_5B_I2V,
    INTERPOLATION,
    _relative(COGVIDEOX_2B, "CogVideoX-Fun-V1.1-2b-InP", PAI, 1_693_914_432, **INPAINT | NATIVE),
    _relative(
        COGVIDEOX_5B,
        "CogVideoX-Fun-V1.1-5b-InP",
        PAI,
        5_570_491_968,
        input_noise=0.0563,  # ``noise_aug_strength`` of VideoX-Fun's pipeline
        **INPAINT,
    ),
    _relative(
        COGVIDEOX_2B, "CogVideoX-Fun-V1.1-2b-Control", PAI, 1_693_906_752, **CONTROLLED | NATIVE
    ),
    _relative(COGVIDEOX_5B, "CogVideoX-Fun-V1.1-5b-Control", PAI, 5_570_479_680, **CONTROLLED),
    _relative(COGVIDEOX_15_5B, "CogVideoX-Fun-V1.5-5b-InP", PAI, 5_571_094_144, **FUN_15),
    TINY,
    TINY_I2V,
)


def find_checkpoint(name: str) -> Checkpoint | None:
    """The checkpoint of a name or alias, in any case; None if there is none."""
    key = name.strip().lower()
    for checkpoint in CHECKPOINTS:
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
    for known in sorted(CHECKPOINTS, key=lambda known: known.name != name):
        if known.kind == kind:
            return known
    return None
