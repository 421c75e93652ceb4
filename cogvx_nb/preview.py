"""Small RGB frames straight from latents, through a linear map fitted to decoded results.

The map is linear: colours from the 16 channels of a latent cell, and a constant. Fitted by least
squares to decoded videos averaged over each cell, it shows position, shape and colour for a
thousandth of a decode's work.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH = 180
"""Pixels of a preview's width."""

FORMAT = 1


@dataclass(frozen=True)
class ColourMap:
    """A map from latents to RGB, as the sums of a least-squares fit over many results.

    Attributes:
        gram: (17, 17), products of the cells' channels with each other; the last is constant.
        cross: (17, 3), their products with the colours, 0 … 1.
    """

    gram: np.ndarray
    cross: np.ndarray

    @property
    def fitted(self) -> bool:
        return self.gram[-1, -1] > 0

    def frames(self, latents: np.ndarray) -> np.ndarray:
        """uint8 (latent frames, height / 8, width / 8, 3) of latents (latent frames, 16, …).

        Gray by the channels' mean until there was something to fit to.
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
        """The map that also comes near to another decoded video.

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

RIDGE = 1e-3
"""Pull of the weights to zero, beside latents of unit variance: a single plain clip fixes few."""

PENALTY = np.diag([1.0] * 16 + [0.0])
"""The constant is free."""

FADING = 0.98
"""What a result counts after the next one: some fifty are remembered."""


def animation(frames: np.ndarray, fps: float) -> bytes:
    """An endless WebP of small frames, (frames, height, width, 3), enlarged to ``WIDTH``."""
    size = (WIDTH, round(WIDTH * frames.shape[1] / frames.shape[2]))
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


def load(path: Path) -> ColourMap:
    """A map that was stored; the neutral one where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_text())
        gram, cross = np.array(found["gram"], float), np.array(found["cross"], float)
        return ColourMap(gram.reshape(17, 17), cross.reshape(17, 3))
    except (OSError, ValueError, KeyError, TypeError):
        return NEUTRAL


def store(path: Path, colours: ColourMap) -> None:
    """Store a map, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    sums = {"gram": colours.gram.tolist(), "cross": colours.cross.tolist()}
    temporary.write_text(json.dumps({"format": FORMAT, **sums}))
    temporary.replace(path)
