"""Whether a clip goes on as it was: clips of the small world, extended both ways, judged by pixels.

``python benchmarks/extension.py --out folder`` draws clips of 49 frames whose shape has room to
move on, extends each by 48 frames with the weights for text and with those for an image, and prints
a JSON line for each kind: the share of prompts whose new frames show the colour, shape, motion and
background that the prompt names, and whose seam has no jump. The folder gets a strip of each clip.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "models" / "cogvideox-tiny"))

import prompts
import torch
import world

from cogvx_nb.checkpoints import store
from cogvx_nb.pipeline import generate, hold, loader
from cogvx_nb.planning import planner, request
from cogvx_nb.planning.probe import probe_machine
from cogvx_nb.results import video

FRAMES, NEW, FPS = 49, 48, 8
NAMES = ("colour", "shape", "motion", "background")

LEAST_STEP = 0.5
"""Of 255: below this a change of a frame's brightness is the rounding of the mp4."""

MOST_JUMP = 4.0
"""Pixels that the shape's centre may move at the seam: paths of the training have up to 3 a
frame."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["tiny", "tiny-i2v"])
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--new", type=int, default=NEW, help="frames that are added")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--lead", type=float, nargs="+", default=[hold.LEAD])
    parser.add_argument("--out", type=Path, help="folder for strips")
    options = parser.parse_args()
    for name in options.models:
        for lead in options.lead:
            hold.LEAD = lead
            print(json.dumps(measured(name, lead, options)), flush=True)


def measured(name: str, lead: float, options: argparse.Namespace) -> dict:
    """The figures of one way."""
    model, start, rows = store.locate_checkpoint(name), time.time(), []
    with tempfile.TemporaryDirectory() as folder:
        for number, (prompt, said, clip) in enumerate(clips(options.prompts)):
            path = Path(folder) / f"{number}.mp4"
            video.encode_video(clip, path, FPS, "")
            asked = request.make_request(
                model, prompt, extend=str(path), frames=options.new, steps=options.steps
            )
            plan = planner.plan_request(asked, probe_machine())
            made = generate.generate_frames(asked, loader.load_pipeline(plan)).frames
            rows.append(judge(made, len(made) - options.new, said))
            wrong = [key for key, right in rows[-1].items() if right is False]
            print(number, prompt, ("wrong: " + ", ".join(wrong)) * bool(wrong), file=sys.stderr)
            if options.out:
                save_strip(options.out / f"{name}-{lead:g}-{number}.png", made)
    shares = {key: float(np.mean([row[key] for row in rows])) for key in (*NAMES, "bright", "near")}
    shares["right"] = float(np.mean([all(row[key] for key in shares) for row in rows]))
    found = {key: round(share, 3) for key, share in shares.items()}
    return {"model": name, "lead": lead, "prompts": len(rows), **found} | {
        "seconds": round(time.time() - start)
    }


def clips(count: int):
    """(prompt, what it says, frames) of shapes that have gone half of their way."""
    rng = random.Random("extension")
    chosen = list(world.HELD_OUT)
    rng.shuffle(chosen)
    for said in (chosen * (1 + count // len(chosen)))[:count]:
        frames = world.draw([said], half_way(said.motion, rng)[None])[0]
        yield prompts.write(said, "en", rng), said, world.to_uint8(frames.permute(0, 2, 3, 1))


def half_way(motion: str, rng: random.Random) -> torch.Tensor:
    """Where a shape is, (frames, 3) of x, y and radius, with room for as much again."""
    time_ = torch.linspace(0, 1, FRAMES)
    radius, end = {"growing": (9.5, 13.0), "shrinking": (25.0, 19.0)}.get(motion, (15.0, 15.0))
    dx, dy = world.DIRECTIONS.get(motion, (0, 0))
    path = 34 if dx else 22
    middle = world.WIDTH / 2, world.HEIGHT / 2
    spare = (rng.uniform(-15, 15) * (not dx), rng.uniform(-6, 6) * (not dy) * bool(dx))
    x, y = (m + s - d * path for m, s, d in zip(middle, spare, (dx, dy), strict=True))
    return torch.stack(
        [x + dx * path * time_, y + dy * path * time_, radius + (end - radius) * time_], dim=1
    )


def judge(frames: np.ndarray, seam: int, said: world.Attributes) -> dict[str, bool]:
    """What is right: the new frames as a clip of their own, and the step to their first."""
    shown = world.measure(frames[seam:])
    steps = np.abs(np.diff(frames.mean(axis=(1, 2, 3))))
    found = {name: getattr(shown, name) == getattr(said, name) for name in NAMES}
    near = [centre(frame) for frame in frames[seam - 1 : seam + 1]]
    return found | {
        "bright": bool(steps[seam - 1] <= 2 * max(np.median(steps), LEAST_STEP)),
        "near": bool(np.linalg.norm(near[1] - near[0]) <= MOST_JUMP),
    }


def centre(frame: np.ndarray) -> np.ndarray:
    """(x, y) of what differs from the background."""
    pixels = frame.astype(np.float32)
    away = np.linalg.norm(pixels - np.median(pixels.reshape(-1, 3), axis=0), axis=-1)
    ys, xs = np.nonzero(away > 0.5 * np.quantile(away, 0.995))
    return np.array([xs.mean(), ys.mean()])


def save_strip(path: Path, frames: np.ndarray, count: int = 13) -> None:
    """A picture of frames of a clip side by side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = np.linspace(0, len(frames) - 1, count).round().astype(int)
    Image.fromarray(np.concatenate(list(frames[shown]), axis=1)).save(path)


if __name__ == "__main__":
    main()
