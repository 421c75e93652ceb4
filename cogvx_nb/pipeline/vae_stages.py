"""What the VAE does for a video: it encodes what that starts from, and decodes its latents."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
import torch

from ..errors import BadFrames
from ..planning.request import VideoRequest
from ..progress import Listener, PlanChanged
from ..results.video import is_black
from .condition import Condition
from .conditioning import Encoder
from .loader import Loaded, fallback_plan
from .optimization import free_memory
from .vae import decode_latents, decode_to_ram

BAD_FRAMES_REMEDY = (
    "try another seed, fetch the checkpoint again, or use a GPU with bfloat16 if this is float16"
)

T = TypeVar("T")


def encode_inputs(encoder: Encoder, loaded: Loaded, emit: Listener) -> Condition:
    """The condition of a request's pictures or clip; also in tiles where memory runs out."""
    pipe, first = loaded.pipe, encoder.noise.state

    def encode() -> Condition:
        encoder.noise.state = first
        return encoder.condition()

    made = _tiled_where_memory_is_short(encode, loaded, emit)
    pipe.maybe_free_model_hooks()  # the VAE would stay on the GPU beside the transformer
    return made


def decode_frames(
    request: VideoRequest, loaded: Loaded, latents: torch.Tensor, emit: Listener
) -> Iterable[torch.Tensor]:
    """float32 frames (frames, height, width, 3) in 0 … 1; of a clip of several windows one batch
    after the other, in RAM.

    Where memory runs out the latents are decoded in tiles, an approximation: hours of denoising
    would be lost otherwise.
    """
    decode = decode_latents if len(loaded.plan.windows) == 1 else decode_to_ram
    work = functools.partial(decode, loaded.pipe.vae, latents, request.frames)
    return _tiled_where_memory_is_short(work, loaded, emit)


def checked_frames(video: Iterable[torch.Tensor]) -> np.ndarray:
    """uint8 frames of the parts of a decoded clip.

    Raises:
        BadFrames: if they hold NaN or are all black.
    """
    made = []
    for part in video:
        if not torch.isfinite(part).all():
            raise BadFrames(f"the frames hold NaN: {BAD_FRAMES_REMEDY}")
        made.append(part.mul(255).round_().to(torch.uint8).cpu().numpy())
    frames = np.concatenate(made) if len(made) > 1 else made[0]
    if is_black(frames):
        raise BadFrames(f"all frames are black: {BAD_FRAMES_REMEDY}")
    return frames


def _tiled_where_memory_is_short(work: Callable[[], T], loaded: Loaded, emit: Listener) -> T:
    """What some work of the VAE returns, done on fewer GPUs or in tiles where one fails or memory
    runs out."""
    while True:
        try:
            return work()
        except Exception as error:
            plan = fallback_plan(error, loaded.plan, "decode")
            if plan is None:
                raise
        free_memory()
        loaded.apply(plan)
        emit(PlanChanged(loaded.plan))
