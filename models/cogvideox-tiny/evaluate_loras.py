"""What LoRAs of the styles change, from pixels: ``python models/cogvideox-tiny/evaluate_loras.py``.

Prints, for each choice of files and weights, how many of some held-out prompts make a shape whose
middle shows the background (``outline``) and one with a purple copy to its lower right
(``shadow``), and the share of the shape's middle and of the shadow's pixels. ``--strips`` writes a
picture of three of the prompts, a row for each choice.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import styles
import world
from evaluate import held_out_prompts
from PIL import Image

from cogvx_nb.training.preview import sample_frames

LORAS = Path(__file__).resolve().parent.parent / "loras"
CHOICES = {
    "none": {},
    "outline:0.5": {"outline": 0.5},
    "outline:1": {"outline": 1.0},
    "shadow:0.5": {"shadow": 0.5},
    "shadow:1": {"shadow": 1.0},
    "both": {"outline": 1.0, "shadow": 1.0},
}
LEAST_SHADOW = 60
"""Pixels of a shadow that counts."""


def look(frames: np.ndarray, said: world.Attributes) -> tuple[float, int]:
    """(share of the shape's middle that shows its colour, pixels of its shadow) half-way."""
    picture = frames[len(frames) // 2].astype(np.float32)
    names = [world.COLOURS[said.colour], world.BACKGROUNDS[said.background]]
    names.append(world.COLOURS[styles.SHADOW])
    away = np.stack([np.linalg.norm(picture - np.array(n), axis=-1) for n in names])
    nearest = away.argmin(axis=0)
    ink, shadow = nearest == 0, nearest == 2
    if ink.sum() < world.SMALLEST_AREA:
        return 1.0, 0
    x, y, _ = world.centre(ink)
    row, column = int(y), int(x)
    middle = ink[row - 1 : row + 2, column - 1 : column + 2]
    lower = np.zeros_like(shadow)
    lower[row:, column:] = True
    return float(middle.mean()), int((shadow & lower).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--choices", nargs="*", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--strips", type=Path)
    options = parser.parse_args()
    asked = [
        each
        for each in held_out_prompts("en")
        if each[1].colour != styles.SHADOW and each[1].background != "navy"
    ][: options.prompts]
    rows = []
    for name in options.choices:
        weights = CHOICES[name]
        loras = {LORAS / f"{lora}.safetensors": weight for lora, weight in weights.items()}
        seen, strip = [], []
        for seed, (prompt, said) in enumerate(asked):
            frames = sample_frames(prompt, loras, frames=13, steps=options.steps, seed=seed)
            seen.append(look(frames, said))
            if seed < 5:
                strip.append(frames[6])
        hollow, shadows = (np.array(column) for column in zip(*seen, strict=True))
        found = {
            "outline": int((hollow < 0.5).sum()),
            "shadow": int((shadows >= LEAST_SHADOW).sum()),
            "of": len(asked),
            "middle": round(float(hollow.mean()), 2),
            "shadow_pixels": round(float(shadows.mean())),
        }
        print(json.dumps({"loras": name, **found}), flush=True)
        rows.append(np.concatenate(strip, axis=1))
        if options.strips:
            Image.fromarray(np.concatenate(rows)).save(options.strips)


if __name__ == "__main__":
    main()
