"""What the tensors of LoRA files are called by each trainer, and which layer each belongs to."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
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
    "lora_A.default.weight": DOWN,
    "lora_B.weight": UP,
    "lora_B.default.weight": UP,
    "lora_magnitude_vector": MAGNITUDE,
    "lora_magnitude_vector.weight": MAGNITUDE,
    "lora_magnitude_vector.default.weight": MAGNITUDE,
    "alpha": ALPHA,
}
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
    "text_encoder": "of a text encoder, which CogVideoX keeps frozen: leave it out",
    "lora_te": "of a text encoder, which CogVideoX keeps frozen: leave it out",
}
"""What is known and not read, by what its name holds, with the reason."""


def read_name(name: str, modules: Collection[str]) -> tuple[Part, Format] | None:
    """What the tensor of a name is; None if no format has such names.

    Args:
        modules: names of a transformer's layers, to tell dots from underscores where a format
            writes both alike. A layer that isn't among them is returned all the same.
    """
    bare = _without_prefix(name)
    for known in FORMATS:
        found = known.pattern.fullmatch(bare)
        if found and (kind := known.parts.get(found["part"])):
            return Part(_module(found, known, modules), kind), known
    return None


def _without_prefix(name: str) -> str:
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
