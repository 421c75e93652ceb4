"""Live previews of the running video: its predicted latents mapped to RGB, at little cost."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import files
from ..paths import read_json
from ..results.pictures import MAX_SIDE, fitted_size

PREVIEW_WIDTH = 180
"""Pixels."""

PREVIEW_SHARE = 0.01
"""Previews take at most this share of the denoising time."""

SHORTEST_PAUSE = 0.4
"""Seconds between previews, however cheap they are."""

COLOURS_FORMAT = 1

MOST_BYTES = 2**16
"""Of a stored map, which has 340 numbers."""

RIDGE = 1e-3
"""L2 penalty relative to latents of unit variance: a single plain clip would underdetermine it."""

PENALTY = np.diag([1.0] * 16 + [0.0])
"""The ridge penalises the weights of the 16 channels, not the constant."""

FADING = 0.98
"""Weight of a result relative to the next one, so that the fit follows the last fifty or so."""


@dataclass(frozen=True)
class ColourMap:
    """A linear map from latents to RGB, as the sums of a least-squares fit over results."""

    gram: np.ndarray  # (17, 17): sums of products of the 16 channels and a constant
    cross: np.ndarray  # (17, 3): sums of their products with RGB in 0 … 1

    @property
    def fitted(self) -> bool:
        return self.gram[-1, -1] > 0

    def frames(self, latents: np.ndarray) -> np.ndarray:
        """Map latents to pixels; to gray by the channels' mean before the first fit.

        Args:
            latents: float (latent frames, 16, height / 8, width / 8).

        Returns:
            uint8 (latent frames, height / 8, width / 8, 3), RGB.
        """
        cells = np.moveaxis(np.asarray(latents, np.float64), 1, -1)
        if self.fitted:
            weights = np.linalg.solve(self.gram + RIDGE * self.gram[-1, -1] * PENALTY, self.cross)
            rgb = cells @ weights[:-1] + weights[-1]
        else:
            gray = cells.mean(axis=-1, keepdims=True)
            spread = max(float(gray.std()), 1e-6)
            rgb = np.repeat(0.5 + 0.2 * (gray - gray.mean()) / spread, 3, axis=-1)
        return (rgb.clip(0, 1) * 255).round().astype(np.uint8)

    def learn(self, latents: np.ndarray, frames: np.ndarray) -> ColourMap:
        """The map that is also fitted to another decoded video.

        Args:
            latents: float (latent frames, 16, height / 8, width / 8), clean.
            frames: uint8 (4 · latent frames - 3, height, width, 3), RGB.
        """
        count, channels, height, width = latents.shape
        pixels = frames.reshape(len(frames), height, 8, width, 8, 3).mean(axis=(2, 4)) / 255
        # The first latent frame is one frame, each further one is four.
        later = pixels[1:].reshape(count - 1, 4, height, width, 3).mean(axis=1)
        colours = np.concatenate([pixels[:1], later]).reshape(-1, 3)
        cells = np.moveaxis(latents.astype(np.float64), 1, -1).reshape(-1, channels)
        cells = np.hstack([cells, np.ones((len(cells), 1))])
        gram, cross = cells.T @ cells / len(cells), cells.T @ colours / len(cells)
        return ColourMap(FADING * self.gram + gram, FADING * self.cross + cross)


NEUTRAL = ColourMap(np.zeros((17, 17)), np.zeros((17, 3)))


def preview_animation(frames: np.ndarray, fps: float) -> bytes:
    """Encode frames (frames, height, width, 3) as an endless WebP of ``PREVIEW_WIDTH``."""
    size = fitted_size(*frames.shape[1:3], MAX_SIDE, PREVIEW_WIDTH)
    pictures = [Image.fromarray(f).resize(size, Image.Resampling.BICUBIC) for f in frames]
    data = io.BytesIO()
    pictures[0].save(
        data,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps),
        loop=0,
        quality=70,
        method=0,
    )
    return data.getvalue()


def load_colours(path: Path) -> ColourMap:
    """A stored map; ``NEUTRAL`` if there is none, or it can't be read."""
    try:
        sums = read_json(path, MOST_BYTES)
        gram, cross = np.array(sums["gram"], float), np.array(sums["cross"], float)
        colours = ColourMap(gram.reshape(17, 17), cross.reshape(17, 3))
    except (OSError, ValueError, LookupError, TypeError):
        return NEUTRAL
    return colours if np.isfinite(gram).all() and np.isfinite(cross).all() else NEUTRAL


def store_colours(path: Path, colours: ColourMap) -> None:
    """Store a map, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sums = {"gram": colours.gram.tolist(), "cross": colours.cross.tolist()}
    content = json.dumps({"format": COLOURS_FORMAT, **sums}).encode()
    files.write_whole(path, content, sync=False)


class RateLimit:
    """Spaces previews so that they take at most ``PREVIEW_SHARE`` of the time."""

    def __init__(self) -> None:
        self._start, self._until, self._cost = 0.0, 0.0, None

    @property
    def active(self) -> bool:
        """Whether it is too early for another preview."""
        return time.monotonic() < self._until

    def begin(self) -> None:
        self._start, self._until = time.monotonic(), float("inf")

    def end(self) -> None:
        end = time.monotonic()
        if self._cost is None:
            self._cost = 0.0  # the first one includes imports: not representative
        else:
            self._cost = end - self._start
        self._until = end + max(SHORTEST_PAUSE, self._cost / PREVIEW_SHARE)
