"""What the tensors of LoRA files are called by each trainer, and which layer each belongs to."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .modules import BLOCKS

DOWN, UP, ALPHA, MAGNITUDE = "down", "up", "alpha", "magnitude"
"""Parts of a layer: its change is ``UP @ DOWN``, times ``ALPHA`` over the rank; with ``MAGNITUDE``
(DoRA, arXiv 2402.09353) the changed weight's rows get those norms."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a tensor is."""

    module: str  # of the transformer, as diffusers names it; "" where nothing is known of it
    kind: str  # DOWN, UP, ALPHA or MAGNITUDE
    adapter: str = ""  # that peft names in it


@dataclass(frozen=True, slots=True)
class Format:
    """How a trainer names its tensors."""

    title: str
    pattern: re.Pattern  # with a group ``layer``, and ``index`` where one layer has several
    parts: dict[str, str]  # kind of a tensor by the end of its name
    unscaled: bool = False  # its alpha is always 1
    layers: dict[str, str] | None = None  # names of a block's layers that aren't those of diffusers


PREFIXES = (
    "base_model.model.transformer.",
    "base_model.model.",
    "transformer.",
    "model.diffusion_model.",
    "diffusion_model.",
    "",
)
"""In front of a layer's name; the longest that fits goes."""

PEFT = {
    "lora_A.weight": DOWN,
    "lora_B.weight": UP,
    "lora_magnitude_vector": MAGNITUDE,
    "lora_magnitude_vector.weight": MAGNITUDE,
    "alpha": ALPHA,
}
ADAPTER = re.compile(r"(lora_A|lora_B|lora_magnitude_vector)\.([^.]+)\.weight")
"""An end of peft's names with the name of an adapter, ``default`` where none was given."""

LONGEST = 300
"""Characters of a tensor's name that is looked at; those of CogVideoX have at most 100."""

OLDER = {
    "lora.down.weight": DOWN,
    "lora.up.weight": UP,
    "lora_down.weight": DOWN,
    "lora_up.weight": UP,
    "dora_scale": MAGNITUDE,
    "alpha": ALPHA,
}
SAT = {"matrix_A": DOWN, "matrix_B": UP}

COMFYUI_LAYERS = {
    "q": "attn1.to_q",
    "k": "attn1.to_k",
    "v": "attn1.to_v",
    "attn_out": "attn1.to_out.0",
    "ff_proj": "ff.net.0.proj",
    "ff_out": "ff.net.2",
}
"""Of ComfyUI's own implementation (comfy/ldm/cogvideo)."""

SAT_LAYERS = {
    "attention.query_key_value.0": "attn1.to_q",
    "attention.query_key_value.1": "attn1.to_k",
    "attention.query_key_value.2": "attn1.to_v",
    "attention.dense.0": "attn1.to_out.0",
}
"""Of the authors' SAT code, which trains the projections of a block as parts of one layer."""

FORMATS = (
    Format(
        "SAT",
        re.compile(
            r".*\blayers\.(?P<layer>\d+\.attention\.\w+)\.(?P<part>matrix_[AB])\.(?P<index>\d)"
        ),
        SAT,
        unscaled=True,
        layers=SAT_LAYERS,
    ),
    Format(
        "ComfyUI's own names",
        re.compile(r"blocks\.(?P<layer>\d+\.\w+)\.(?P<part>lora_.*|alpha|dora_scale)"),
        PEFT | OLDER,
        layers=COMFYUI_LAYERS,
    ),
    Format(
        "kohya, VideoX-Fun",
        re.compile(r"lora_unet_{1,2}(?P<layer>\w+)\.(?P<part>.+)"),
        PEFT | OLDER,
    ),
    Format(
        "diffusers, peft", re.compile(r"(?P<layer>.+?)\.(?P<part>lora_[AB].*|lora_mag.*)"), PEFT
    ),
    Format("old diffusers", re.compile(r"(?P<layer>.+?)\.(?P<part>lora.*|dora_scale)"), OLDER),
    Format("an alpha", re.compile(r"(?P<layer>.+)\.(?P<part>alpha)"), {"alpha": ALPHA}),
)
"""In the order in which they are tried."""

REFUSED = {
    "lokr_": "LoKr, which isn't read: extract a plain LoRA of it",
    "hada_": "LoHa, which isn't read: extract a plain LoRA of it",
    "lora_mid": "a core between the two matrices, which isn't read: extract a plain LoRA of it",
    "lora_embedding": "of an embedding, which no LoRA of CogVideoX changes: train it without",
    "text_encoder": "of a text encoder, which CogVideoX keeps frozen: leave it out",
    "lora_te": "of a text encoder, which CogVideoX keeps frozen: leave it out",
}
"""What is known and not read, by what its name holds, with the reason."""

ENDINGS = {
    ".bias": "a bias, which isn't merged: train it with peft's bias='none' and lora_bias=False",
    ".diff": "a whole difference of weights, which isn't read: extract a plain LoRA of it",
    ".diff_b": "a difference of biases, which isn't read: extract a plain LoRA of it",
}
"""The same by how a name ends."""

FAMILIES = {
    r"(double_blocks|single_blocks|single_transformer_blocks)[._]": "FLUX or HunyuanVideo",
    r"joint_transformer_blocks[._]": "Stable Diffusion 3",
    r"blocks[._]\d+[._](self_attn|cross_attn)[._]": "Wan",
    r"(down_blocks|up_blocks|mid_block|input_blocks|output_blocks)[._]": "Stable Diffusion",
    r"transformer_blocks[._]\d+[._]attn1[._]add_[qkv]_proj": "Mochi",
    r"transformer_blocks[._]\d+[._]attn2[._]": "LTX-Video",
    r"transformer_blocks[._]\d+[._]attn[._]": "Qwen-Image, FLUX or Stable Diffusion 3",
}
"""Other models by parts of their layers' names, as diffusers and their authors' code have them."""


def refusal(name: str) -> str:
    """Why a tensor of a name isn't read, to follow the name; empty if it isn't known."""
    for held, reason in REFUSED.items():
        if held in name:
            return reason
    return next((reason for end, reason in ENDINGS.items() if name.endswith(end)), "")


def other_model(names: Iterable[str]) -> str:
    """The model that a LoRA seems to be for by its names; empty if it can't be told."""
    for name in names:
        for pattern, model in FAMILIES.items():
            if re.search(pattern, name[:LONGEST]):
                return model
    return ""


def read_name(name: str, modules: Collection[str]) -> tuple[Part, Format] | None:
    """What the tensor of a name is; None if no format has such names.

    Args:
        modules: names of a transformer's layers, to tell dots from underscores where a format
            writes both alike. A layer that isn't among them is returned all the same.
    """
    if len(name) > LONGEST:
        return None
    bare = without_prefix(name)
    for known in FORMATS:
        if not (found := known.pattern.fullmatch(bare)):
            continue
        part, adapter = found["part"], ""
        if known.parts.keys() >= PEFT.keys() and (named := ADAPTER.fullmatch(part)):
            part, adapter = f"{named[1]}.weight", named[2]
        if kind := known.parts.get(part):
            return Part(_module(found, known, modules), kind, adapter), known
    return None


def without_prefix(name: str) -> str:
    """A layer's or tensor's name without what a trainer writes in front of it."""
    return next(name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix))


def _module(found: re.Match, known: Format, modules: Collection[str]) -> str:
    layer = found["layer"]
    if known.layers is None:
        return _dotted(tuple(modules)).get(layer.strip("_"), layer)
    number, _, rest = layer.partition(".")
    if "index" in found.groupdict():
        rest = f"{rest}.{found['index']}"
    return f"{BLOCKS}.{number}.{known.layers.get(rest, rest)}"


@functools.lru_cache(maxsize=16)
def _dotted(modules: tuple[str, ...]) -> dict[str, str]:
    """Names of layers by how they are with underscores for dots."""
    return {module.replace(".", "_"): module for module in modules}
