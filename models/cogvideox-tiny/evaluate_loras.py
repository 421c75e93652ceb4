"""What LoRAs of the styles change, from pixels: ``python models/cogvideox-tiny/evaluate_loras.py``.

Makes videos of held-out prompts with each choice of files and weights, and prints how many show the
prompt's shape and a shadow, and how many pixels each has (medians). ``--strips`` writes a picture
of five of the prompts, a row for each choice.
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
CHOICES = ("none", *(f"{s}:{w}" for s in ("large", "shadow") for w in (-1, 0.5, 1)))
CHOICES += ("large:1,shadow:1",)

LEAST_SHADOW = 60
"""Pixels of a shadow that counts."""


def look(frames: np.ndarray, said: world.Attributes) -> tuple[int, int]:
    """(pixels of the shape, pixels of a shadow to the lower right of its middle) half-way.

    Args:
        frames: uint8 (frames, height, width, 3).
    """
    picture = frames[len(frames) // 2].astype(np.float32)
    colours = [world.COLOURS[said.colour], world.BACKGROUNDS[said.background]]
    colours.append(world.COLOURS[styles.SHADOW])
    away = np.stack([np.linalg.norm(picture - np.array(colour), axis=-1) for colour in colours])
    ink, purple = (away.argmin(axis=0) == which for which in (0, 2))
    if ink.sum() < world.SMALLEST_AREA:
        return 0, 0
    x, y, area = world.centre(ink)
    return int(area), int(purple[int(y) :, int(x) :].sum())


def prompts(count: int) -> list[tuple[str, world.Attributes]]:
    """Held-out prompts in which a shadow can be told from the rest."""
    allowed = [each for each in held_out_prompts("en") if each[1].colour != styles.SHADOW]
    return [each for each in allowed if each[1].background != "navy"][:count]


def evaluate(choice: str, folder: Path, count: int, steps: int) -> tuple[dict, np.ndarray]:
    """(counts and medians of pixels, the middle frames of five videos side by side)."""
    named = [each.split(":") for each in choice.split(",") if ":" in each]
    loras = {folder / f"{name}.safetensors": float(weight) for name, weight in named}
    seen, strip = [], []
    asked = prompts(count)
    for seed, (prompt, said) in enumerate(asked):
        frames = sample_frames(prompt, loras, frames=13, steps=steps, seed=seed)
        seen.append(look(frames, said))
        strip += [frames[6]] if seed < 5 else []
    area, shadow = np.array(seen).T
    counts = {
        "shapes": int((area > 0).sum()),
        "area": float(np.median(area[area > 0])) if area.any() else 0.0,
        "shadows": int((shadow >= LEAST_SHADOW).sum()),
        "shadow": float(np.median(shadow)),
    }
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
