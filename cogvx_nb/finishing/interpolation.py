"""Frames between frames by the network of ``interpolation_network``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from ..errors import DoesNotFit, OutOfMemory
from ..pipeline.failures import is_out_of_memory
from ..text import format_bytes
from .interpolation_network import MULTIPLE, InterpolationNetwork
from .tiles import free_bytes, preferred_device

WEIGHTS = Path(__file__).resolve().parents[1] / "data" / "interpolation.safetensors"

VALUES = 150
"""At most so many values are in memory at once for each pixel."""


class Filler:
    """Makes frames between frames, see ``methods.Fill``.

    Args:
        device: by default the GPU if there is one.

    Raises:
        DoesNotFit: if there isn't memory enough.
    """

    def __init__(
        self, height: int, width: int, device: str | None = None, weights: Path = WEIGHTS
    ) -> None:
        self.device = device or preferred_device()
        needed, free = VALUES * 4 * height * width, free_bytes(self.device)
        if needed > free:
            raise DoesNotFit(
                f"interpolating {height:,} × {width:,} pixels takes about {format_bytes(needed)}, "
                f"and {format_bytes(free)} are free: choose the interpolation smooth"
            )
        network = InterpolationNetwork()
        network.load_state_dict({name: v.float() for name, v in load_file(weights).items()})
        self.network = network.eval().to(self.device, memory_format=torch.channels_last)
        self.size = height, width

    def __call__(
        self, frames: Sequence[np.ndarray], positions: Sequence[Fraction]
    ) -> Iterator[np.ndarray]:
        """
        Raises:
            OutOfMemory: if memory runs out all the same.
        """
        try:
            for position in positions:
                before = int(position)
                yield self.between(frames[before], frames[before + 1], float(position % 1))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                "memory ran out while frames were interpolated: choose the interpolation smooth"
            ) from None

    @torch.inference_mode()
    def between(self, first: np.ndarray, last: np.ndarray, time: float) -> np.ndarray:
        """The frame at a time between two, 0 … 1."""
        height, width = self.size
        on_gpu = self.device != "cpu"
        with (
            torch.autocast("cuda", torch.float16, enabled=on_gpu),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        ):
            made, _ = self.network(
                self._picture(first), self._picture(last), torch.tensor([time], device=self.device)
            )
        levels = (made[0, :, :height, :width].float().clamp(0, 1) * 255).round().byte()
        return levels.permute(1, 2, 0).cpu().numpy()

    def _picture(self, frame: np.ndarray) -> Tensor:
        """float (1, 3, …) in 0 … 1, its borders repeated up to whole ``MULTIPLE``."""
        height, width = self.size
        pixels = torch.from_numpy(frame.copy()).to(self.device).permute(2, 0, 1)[None].float() / 255
        more = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        return F.pad(pixels, more, mode="replicate")
