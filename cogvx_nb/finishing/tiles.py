"""Networks that enlarge pictures, run on frames one after another in tiles that fit the memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..errors import BadFrames, DoesNotFit, OutOfMemory
from ..pipeline.failures import is_out_of_memory
from ..planning import probe
from ..text import format_bytes

BLUR = 9
"""Side of the squares of input pixels whose mean colours are kept."""

MOST_BYTES = 2**31
"""Of a tile, beside the weights."""

WORKSPACE = 1.5
"""Memory that a network takes, to that of the values that are alive at once: what convolutions need
to work, and what the allocator can't hand out."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network that enlarges pictures.

    Attributes:
        module: float (1, 3, height, width) in 0 … 1 to ``scale`` times the size.
        values: for each pixel of its input at most so many are in memory at once.
        overlap: pixels around a tile that decide about it.
        half: whether it can compute in float16, which a GPU then does.
    """

    module: nn.Module
    scale: int
    values: float
    overlap: int
    half: bool = True


def preferred_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def free_bytes(device: str) -> int:
    """Memory of a device that torch could allocate; where the system doesn't say, enough.

    Unlike ``probe.cuda_gpus`` without what a loaded pipeline holds: enlarging doesn't release it.
    """
    if device == "cpu":
        return probe.ram_free_bytes(probe.process_limits()) or MOST_BYTES * 2
    free, total = torch.cuda.mem_get_info(device)
    used, share = torch.cuda.memory_allocated(device), torch.cuda.get_per_process_memory_fraction()
    return min(free + torch.cuda.memory_reserved(device), int(share * total)) - used


def tile_size(
    height: int, width: int, value_bytes: float, overlap: int, most: int = MOST_BYTES
) -> tuple[int, int]:
    """Height and width of equal tiles, as few as possible, that take at most ``most`` bytes each
    with what they overlap.

    Args:
        value_bytes: that a pixel of the input takes.

    Raises:
        DoesNotFit: if not even 16 × 16 pixels do.
    """
    pixels, best = most / value_bytes, None
    for rows in range(1, math.ceil(height / 16) + 1):
        tall = math.ceil(height / rows)
        wide = int(pixels / min(tall + 2 * overlap, height)) - 2 * overlap
        if wide + 2 * overlap >= width:
            wide = width
        if wide < min(16, width):
            continue
        columns = math.ceil(width / wide)
        work = rows * columns * (tall + 2 * overlap) * (math.ceil(width / columns) + 2 * overlap)
        if best is None or work < best[0]:
            best = work, tall, math.ceil(width / columns)
    if best is None:
        raise DoesNotFit(f"enlarging takes more than the {format_bytes(most)} that are free")
    return best[1:]


class Enlarger:
    """Enlarges frames, see ``methods.Enlarge``; one of them is on the device at a time.

    Args:
        tile: height and width of the tiles, which decide the last bits; by default what fits.

    Raises:
        DoesNotFit: if there isn't memory enough.
    """

    def __init__(
        self,
        network: Network,
        height: int,
        width: int,
        device: str | None = None,
        tile: tuple[int, int] | None = None,
    ):
        self.device = device or preferred_device()
        self.dtype = torch.float16 if network.half and self.device != "cpu" else torch.float32
        self.network, self.size = network, (height, width)
        self.overlap = network.overlap + BLUR // 2 + 1
        try:
            self.module = network.module.eval().to(
                self.device, self.dtype, memory_format=torch.channels_last
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise DoesNotFit("memory is too small for the network: use lanczos") from None
        self.tile = tile or self._fitting_tile()

    def _fitting_tile(self) -> tuple[int, int]:
        """The largest tiles that fit; on a GPU they are tried, since what is predicted to fit may
        not: others use it too.

        Raises:
            DoesNotFit: if none do.
        """
        (height, width), scale = self.size, self.network.scale
        each = self.network.values * self.dtype.itemsize * WORKSPACE
        # The whole output is there beside a tile, in bytes and in pieces of the dtype.
        output = 2 * 3 * height * width * scale**2
        most = min(MOST_BYTES, free_bytes(self.device) - output)
        while True:
            tile = tile_size(height, width, each, self.overlap, most)
            if self.device == "cpu" or self.fits(tile):
                return tile
            most //= 2

    @torch.inference_mode()
    def fits(self, tile: tuple[int, int]) -> bool:
        """Whether memory is enough for a tile of that size, found by enlarging a black one."""
        sides = [min(a + 2 * self.overlap, b) for a, b in zip(tile, self.size, strict=True)]
        try:
            self._run(torch.zeros(*sides, 3, dtype=torch.uint8, device=self.device))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if self.device != "cpu":
                torch.cuda.empty_cache()
            return False
        return True

    def __call__(self, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """
        Raises:
            OutOfMemory: if memory runs out all the same.
            BadFrames: if the network gives NaN.
        """
        for frame in frames:
            try:
                yield self.enlarge(frame)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                raise OutOfMemory(
                    f"memory ran out while frames of {self.size[0]} × {self.size[1]} were "
                    "enlarged: choose a smaller scale, or the upscaler lanczos"
                ) from None

    @torch.inference_mode()
    def enlarge(self, frame: np.ndarray) -> np.ndarray:
        """uint8 (height, width, 3) to ``scale`` times the size."""
        (height, width), (tall, wide) = self.size, self.tile
        scale, overlap = self.network.scale, self.overlap
        picture = torch.from_numpy(frame.copy()).to(self.device)
        made = picture.new_empty(height * scale, width * scale, 3)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            for top in range(0, height, tall):
                for left in range(0, width, wide):
                    bottom, right = min(top + tall, height), min(left + wide, width)
                    above, before = max(top - overlap, 0), max(left - overlap, 0)
                    part = picture[above : bottom + overlap, before : right + overlap]
                    large = self._run(part)
                    y, x = (top - above) * scale, (left - before) * scale
                    inner = large[y : y + (bottom - top) * scale, x : x + (right - left) * scale]
                    made[top * scale : bottom * scale, left * scale : right * scale] = inner
        return made.cpu().numpy()

    def _run(self, part: torch.Tensor) -> torch.Tensor:
        pixels = part.permute(2, 0, 1)[None].to(self.dtype, memory_format=torch.channels_last)
        pixels = pixels / 255
        large = self.module(pixels)
        if not torch.isfinite(large).all():
            raise BadFrames("the network that enlarges gave NaN: use another upscaler")
        large += F.interpolate(
            self._lost_colour(pixels, large), scale_factor=self.network.scale, mode="bilinear"
        )
        return (large[0].permute(1, 2, 0).float().clamp_(0, 1) * 255).round_().byte()

    def _lost_colour(self, pixels: torch.Tensor, large: torch.Tensor) -> torch.Tensor:
        """By how much areas became darker or of another colour, which these networks do, more in
        one frame than in the next."""
        change = pixels - F.avg_pool2d(large, self.network.scale)
        around = F.pad(change, (BLUR // 2,) * 4, mode="replicate")
        return F.avg_pool2d(around, BLUR, 1)
