"""What is known of each checkpoint. Facts only: nothing here looks at a disk or a GPU.

Sources: the model cards and ``config.json`` files of zai-org/CogVideoX-5b, CogVideoX-2b and
CogVideoX1.5-5B, and the model card of the embedded checkpoint, ``models/cogvideox-tiny/README.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import RequestError

SIZE_MULTIPLE = 16
"""Height and width divide by this: the VAE shrinks by 8, the transformer's patches by 2."""

MAX_STEPS = 1000
"""Denoising steps the schedulers were trained on (``num_train_timesteps``)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One member of the CogVideoX family.

    Attributes:
        name: also the name of its folder in ``models/``.
        aliases: other names it answers to, lower case.
        architecture: (layers, heads, head width, sample height, sample width) of the transformer's
            config; recognises a copy under another name.
        height, width: native size in pixels.
        frames: the frame counts it is offered with.
        fps: frames a second of its training clips.
        gpu_dtype: what it was trained in; old GPUs fall back to float16.
        cpu_dtype: what it runs in without a GPU.
        scheduler: class name in diffusers.
        timestep_spacing: how the scheduler spreads its steps.
        dynamic_cfg: whether guidance varies over the steps as the authors do it.
        text_tokens: longest prompt, end token included.
        tile: height and width in pixels of the tiles of a tiled decode. They overlap by 1/6 and
            1/5, so height / 8 must divide by 6 and width / 8 by 5, or they don't add up. As wide
            as the clip they overlap one way only: 1.2 times its area in all, where diffusers' own
            240 × 360 have 2.3 times.
        decode_steps: time of a decode, in denoising steps. Measured: on an H100 for the 5B, on two
            cores for the embedded one.
        vae_channels: width of the VAE's blocks at full size, which sets the memory of a decode.
        parameters: number of parameters of each component with weights, about.
        modelscope, huggingface: hub ids; empty for the embedded one.
        licence, licence_note: name, and what it means in a line.
        reads: what its prompts may be written in, for error messages.
        enrichable: whether a chat model's long English prompts suit it.
        cannot_run: why this workbench can't run it, though it fetches and verifies it; empty for
            those that it runs.
    """

    name: str
    aliases: tuple[str, ...]
    architecture: tuple[int, int, int, int, int]
    height: int
    width: int
    frames: tuple[int, ...]
    fps: int
    gpu_dtype: str
    cpu_dtype: str
    scheduler: str
    timestep_spacing: str
    dynamic_cfg: bool
    text_tokens: int
    decode_steps: float
    vae_channels: int
    tile: tuple[int, int]
    parameters: dict[str, int]
    modelscope: str
    huggingface: str
    licence: str
    licence_note: str
    reads: str
    enrichable: bool = True
    cannot_run: str = ""


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
    text_tokens=226,
    decode_steps=1.5,
    vae_channels=128,
    tile=(144, 720),
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
    text_tokens=64,
    decode_steps=20,
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
)

CHECKPOINTS = (COGVIDEOX_5B, COGVIDEOX_2B, COGVIDEOX_15_5B, TINY)


def find_checkpoint(name: str) -> Checkpoint | None:
    """The checkpoint called ``name`` (any case, short forms too), or None."""
    wanted = name.strip().lower()
    for checkpoint in CHECKPOINTS:
        if wanted in (checkpoint.name.lower(), *checkpoint.aliases):
            return checkpoint
    return None


def get_checkpoint(name: str) -> Checkpoint:
    """The checkpoint called ``name``.

    Raises:
        RequestError: if there is none, with those that there are.
    """
    found = find_checkpoint(name)
    if found is None:
        raise RequestError("model", name, f"use one of {', '.join(c.name for c in CHECKPOINTS)}")
    return found


def checkpoint_of_config(config: dict) -> Checkpoint | None:
    """The checkpoint that a transformer's ``config.json`` belongs to, or None."""
    keys = ("num_layers", "num_attention_heads", "attention_head_dim", "sample_height")
    found = tuple(config.get(key) for key in (*keys, "sample_width"))
    return next((c for c in CHECKPOINTS if c.architecture == found), None)
