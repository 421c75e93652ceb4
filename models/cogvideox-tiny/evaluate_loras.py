"""What LoRAs of the styles change, from pixels: ``python models/cogvideox-tiny/evaluate_loras.py``.

Makes videos of held-out prompts with each choice of files and weights, and prints how many show
each style. ``--strips`` writes a picture of five of the prompts, a row for each choice.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import styles
import world
from evaluate import held_out_prompts
from PIL import Image

from cogvx_nb.training.preview import sample_frames

LORAS = Path(__file__).resolve().parent.parent / "loras"
CHOICES = ("none", *(f"{s}:{w}" for s in ("outline", "chequered") for w in (-1, 0, 0.5, 1)))
CHOICES += ("outline:1,chequered:1",)

RAYS, LEAST_RAYS = 24, 20
"""Directions from a shape's middle, and in how many of them an outline has to be met."""

LEAST_HOLLOW = 0.6
"""Share of the inside of an outline that has another colour."""

LEAST_LIGHTER = 25
"""Of 255: between the dark and the light squares of a chequered background."""

LEAST_SHADOW = 60
"""Pixels of a shadow that counts."""


def look(frames: np.ndarray, said: world.Attributes) -> dict[str, bool]:
    """Which styles the middle frame shows.

    Args:
        frames: uint8 (frames, height, width, 3).
    """
    picture = frames[len(frames) // 2].astype(np.float32)
    away = np.linalg.norm(picture - np.array(world.COLOURS[said.colour]), axis=-1)
    ink = away < np.linalg.norm(picture - np.array(world.BACKGROUNDS[said.background]), axis=-1)
    ink &= away < 110
    found = {"shape": bool(ink.sum() >= world.SMALLEST_AREA)}
    found["outline"] = found["shape"] and is_outline(ink)
    found["chequered"] = is_chequered(picture, ink)
    found["shadow"] = found["shape"] and has_shadow(picture, ink)
    return found


def is_outline(ink: np.ndarray) -> bool:
    """Whether lines from the middle meet ink all around, but hardly any near it."""
    x, y, _ = world.centre(ink)
    reach = np.arange(1, max(ink.shape))
    met, inside, filled = 0, 0, 0
    for angle in np.arange(RAYS) * 2 * math.pi / RAYS:
        columns = (x + reach * math.cos(angle)).astype(int).clip(0, ink.shape[1] - 1)
        rows = (y + reach * math.sin(angle)).astype(int).clip(0, ink.shape[0] - 1)
        on = np.flatnonzero(ink[rows, columns])
        if len(on):
            met += 1
            within = ink[rows, columns][: max(1, int(0.6 * on[-1]))]
            inside, filled = inside + len(within), filled + int(within.sum())
    return met >= LEAST_RAYS and filled <= (1 - LEAST_HOLLOW) * inside


def is_chequered(picture: np.ndarray, ink: np.ndarray) -> bool:
    """Whether squares are lighter where a chequered background has them, away from the shape."""
    brightness, light = picture.mean(axis=-1), styles.light_squares().numpy() > 0
    return bool(
        np.median(brightness[light & ~ink]) - np.median(brightness[~light & ~ink]) >= LEAST_LIGHTER
    )


def has_shadow(picture: np.ndarray, ink: np.ndarray) -> bool:
    """Whether there is enough of the shadow's colour to the lower right of the shape's middle."""
    x, y, _ = world.centre(ink)
    purple = np.linalg.norm(picture - np.array(world.COLOURS[styles.SHADOW]), axis=-1) < 70
    return int(purple[int(y) :, int(x) :].sum()) >= LEAST_SHADOW


def prompts(count: int) -> list[tuple[str, world.Attributes]]:
    """Held-out prompts that leave room for each style: without the shadow's colours."""
    allowed = [each for each in held_out_prompts("en") if each[1].colour != styles.SHADOW]
    return [each for each in allowed if each[1].background != "navy"][:count]


def evaluate(choice: str, folder: Path, count: int, steps: int) -> tuple[dict, np.ndarray]:
    """(how many videos show each style, the middle frames of five of them side by side)."""
    named = [each.split(":") for each in choice.split(",") if ":" in each]
    loras = {folder / f"{name}.safetensors": float(weight) for name, weight in named}
    seen, strip = [], []
    asked = prompts(count)
    for seed, (prompt, said) in enumerate(asked):
        frames = sample_frames(prompt, loras, frames=13, steps=steps, seed=seed)
        seen.append(look(frames, said))
        strip += [frames[6]] if seed < 5 else []
    counts = {name: sum(each[name] for each in seen) for name in seen[0]}
    return {"loras": choice, "of": len(asked), **counts}, np.concatenate(strip, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--choices", nargs="*", default=CHOICES, help="NAME:WEIGHT,NAME:WEIGHT")
    parser.add_argument("--loras", type=Path, default=LORAS, help="folder of the files")
    parser.add_argument("--strips", type=Path, help="PNG file")
    options = parser.parse_args()
    rows = []
    for choice in options.choices:
        counts, row = evaluate(choice, options.loras, options.prompts, options.steps)
        print(json.dumps(counts), flush=True)
        rows.append(row)
        if options.strips:
            Image.fromarray(np.concatenate(rows)).save(options.strips)


if __name__ == "__main__":
    main()
