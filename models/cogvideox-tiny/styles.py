"""Example clips of the world in a new style, with captions: what the small LoRAs learn.

``python styles.py FOLDER --style outline --clips 40``
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
STROKE = 5
"""Pixels: width of an outline."""

SHIFT = (16, 12)
"""Pixels to the right and down: of a shadow, which is purple so that every background shows it."""

SHADOW = "purple"

TILE, LIGHTER = 24, 70
"""Of a chequered background: pixels of a square's side (three latents), and how much lighter every
second square is, of 255."""

STYLES = ("outline", "chequered", "shadow")


def covered(one: world.Attributes, track: torch.Tensor, shift=(0, 0)) -> torch.Tensor:
    """Signed distances to a shape's edge, (frames, height, width)."""
    ys = torch.arange(world.HEIGHT).float()[:, None] + 0.5 - shift[1]
    xs = torch.arange(world.WIDTH).float()[None, :] + 0.5 - shift[0]
    x, y, radius = (track[:, i, None, None] for i in range(3))
    return world.distance(one.shape, xs - x, ys - y, radius)


def light_squares() -> torch.Tensor:
    """1 where a chequered background is lighter, float (height, width)."""
    rows = torch.arange(world.HEIGHT)[:, None] // TILE
    columns = torch.arange(world.WIDTH)[None, :] // TILE
    return ((rows + columns) % 2).float()


def layer(under: torch.Tensor, cover: torch.Tensor, colour) -> torch.Tensor:
    return under + cover[..., None] * (torch.tensor(colour).float() - under)


def draw(one: world.Attributes, track: torch.Tensor, style: str):
    """uint8 (frames, height, width, 3)."""
    edge = covered(one, track)
    cover = (0.5 - edge).clamp(0, 1)
    size = (len(track), world.HEIGHT, world.WIDTH, 3)
    video = torch.tensor(world.BACKGROUNDS[one.background]).float().expand(size)
    if style == "outline":
        cover = torch.minimum(cover, (0.5 + edge + STROKE).clamp(0, 1))
    elif style == "chequered":
        video = (video + LIGHTER * light_squares()[..., None]).clamp(max=255)
    else:
        shadow = (0.5 - covered(one, track, SHIFT)).clamp(0, 1)
        video = layer(video, shadow, world.COLOURS[SHADOW])
    return layer(video, cover, world.COLOURS[one.colour]).round().byte().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--style", choices=STYLES, default="outline")
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
