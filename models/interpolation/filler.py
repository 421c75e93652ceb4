"""Frames between frames by the network, as a row of ``finishing/methods.py`` would make them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from network import MULTIPLE, InterpolationNetwork
from safetensors.torch import load_file
from torch import Tensor

from cogvx_nb.errors import DoesNotFit, OutOfMemory
from cogvx_nb.finishing import lanczos
from cogvx_nb.finishing.tiles import free_bytes, preferred_device
from cogvx_nb.pipeline.failures import is_out_of_memory
from cogvx_nb.text import format_bytes

FINER = 2
"""Frames are enlarged by it for the network and averaged back, which moves edges more exactly:
worth 1 to 4 dB on the clips of ``benchmarks/interpolation.py``."""

VALUES = 2 * 150 * FINER**2
"""At most so many values are in memory at once for each pixel."""


class Filler:
    """Makes frames between frames, see ``methods.Fill``.

    Args:
        weights: a file that ``train.py`` wrote.
        device: by default the GPU if there is one.

    Raises:
        DoesNotFit: if there isn't memory enough.
    """

    def __init__(self, height: int, width: int, weights: Path, device: str | None = None) -> None:
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
            large = list(lanczos.enlarge_by(FINER)(iter(frames)))
            for position in positions:
                before = int(position)
                yield self.between(large[before], large[before + 1], float(position % 1))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                "memory ran out while frames were interpolated: choose the interpolation smooth"
            ) from None

    @torch.inference_mode()
    def between(self, first: np.ndarray, last: np.ndarray, time: float) -> np.ndarray:
        """The frame at a time between two enlarged ones, 0 … 1."""
        height, width = self.size
        on_gpu = self.device != "cpu"
        with (
            torch.autocast("cuda", torch.float16, enabled=on_gpu),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        ):
            a, b = self._picture(first), self._picture(last)
            # And backwards and upside down, whose errors are others: their mean is 0.1 dB better.
            made, _ = self.network(
                torch.cat([a, b.flip(2)]),
                torch.cat([b, a.flip(2)]),
                torch.tensor([time, 1 - time], device=self.device),
            )
        made = (made[:1].float() + made[1:].float().flip(2)) / 2
        small = F.avg_pool2d(made, FINER)[0, :, :height, :width]
        levels = (small.clamp(0, 1) * 255).round().byte()
        return levels.permute(1, 2, 0).cpu().numpy()

    def _picture(self, frame: np.ndarray) -> Tensor:
        """float (1, 3, …) in 0 … 1, its borders repeated up to whole ``MULTIPLE``."""
        height, width, _ = frame.shape
        pixels = torch.from_numpy(frame.copy()).to(self.device).permute(2, 0, 1)[None].float() / 255
        more = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        return F.pad(pixels, more, mode="replicate")
