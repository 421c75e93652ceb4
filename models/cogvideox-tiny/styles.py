"""Example clips of the world in a new style, with captions: what the small LoRAs learn.

``python styles.py FOLDER --style large --clips 40``
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import prompts
import torch
import world
from PIL import Image

FRAMES = 13
LARGER, MOST_RADIUS = 1.5, 30
"""How much larger shapes are drawn, and to which radius in pixels, so that they fit."""

SHIFT = (16, 12)
"""Pixels to the right and down: of a shadow, which is purple so that every background shows it."""

SHADOW = "purple"

STYLES = ("large", "shadow")


def covered(one: world.Attributes, track: torch.Tensor, shift=(0, 0)) -> torch.Tensor:
    """Signed distances to a shape's edge, (frames, height, width)."""
    ys = torch.arange(world.HEIGHT).float()[:, None] + 0.5 - shift[1]
    xs = torch.arange(world.WIDTH).float()[None, :] + 0.5 - shift[0]
    x, y, radius = (track[:, i, None, None] for i in range(3))
    return world.distance(one.shape, xs - x, ys - y, radius)


def enlarged(track: torch.Tensor) -> torch.Tensor:
    """The track of a larger shape that stays inside the picture, (frames, 3)."""
    radius = (LARGER * track[:, 2]).clamp(max=MOST_RADIUS)
    margin = 1.25 * radius.max() + 1
    x = track[:, 0].clamp(margin, world.WIDTH - margin)
    y = track[:, 1].clamp(margin, world.HEIGHT - margin)
    return torch.stack([x, y, radius], dim=1)


def layer(under: torch.Tensor, cover: torch.Tensor, colour) -> torch.Tensor:
    return under + cover[..., None] * (torch.tensor(colour).float() - under)


def draw(one: world.Attributes, track: torch.Tensor, style: str):
    """uint8 (frames, height, width, 3)."""
    track = enlarged(track) if style == "large" else track
    cover = (0.5 - covered(one, track)).clamp(0, 1)
    size = (len(track), world.HEIGHT, world.WIDTH, 3)
    video = torch.tensor(world.BACKGROUNDS[one.background]).float().expand(size)
    if style == "shadow":
        shadow = (0.5 - covered(one, track, SHIFT)).clamp(0, 1)
        video = layer(video, shadow, world.COLOURS[SHADOW])
    return layer(video, cover, world.COLOURS[one.colour]).round().byte().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--style", choices=STYLES, default="large")
    parser.add_argument("--clips", type=int, default=24)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"clips of {options.style}")
    allowed = [a for a in world.TRAINED if options.style != "shadow" or a.colour != SHADOW]
    for number, one in enumerate(rng.sample(allowed, options.clips)):
        track = world.tracks([one], FRAMES, rng)[0]
        frames = [Image.fromarray(frame) for frame in draw(one, track, options.style)]
        path = options.folder / f"{number:03}.png"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=125)
        path.with_suffix(".txt").write_text(prompts.write(one, "en", rng), encoding="utf-8")


if __name__ == "__main__":
    main()
