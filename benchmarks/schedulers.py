"""How well the embedded checkpoint follows prompts with each scheduler.

``python benchmarks/schedulers.py`` makes short videos of held-out English prompts with every
scheduler, at constant guidance and with the wave of the authors, in several numbers of steps, and
measures by their pixels what they show. Prints JSON lines: the share of videos whose background,
colour, motion and shape are those of the prompt, and of those with all four.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "models" / "cogvideox-tiny"))
import evaluate
import numpy as np
import torch
import world

from cogvx_nb.checkpoints import store
from cogvx_nb.pipeline import condition, denoise, loader, schedulers
from cogvx_nb.pipeline.noise import Noise
from cogvx_nb.pipeline.vae import decode_latents
from cogvx_nb.planning import planner, probe, request
from cogvx_nb.planning.guidance import constant, wave
from cogvx_nb.planning.schedulers import SCHEDULERS

FRAMES = 13
GUIDANCE = {"constant": constant, "wave": wave}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 8])
    parser.add_argument("--schedulers", nargs="+", choices=SCHEDULERS, default=list(SCHEDULERS))
    parser.add_argument("--guidance", nargs="+", choices=GUIDANCE, default=list(GUIDANCE))
    options = parser.parse_args()
    model = store.locate_checkpoint("tiny")
    asked = [
        (request.make_request(model, prompt, frames=FRAMES, seed=seed), said)
        for seed, (prompt, said) in enumerate(evaluate.held_out_prompts("en", options.prompts))
    ]
    loaded = loader.load_pipeline(planner.plan_request(asked[0][0], probe.probe_machine()))
    for steps in options.steps:
        for name in options.schedulers:
            for guidance in options.guidance:
                row = {"scheduler": name, "guidance": guidance, "steps": steps}
                shown = [(world.measure(made(loaded, v, **row)), said) for v, said in asked]
                print(json.dumps(row | shares(shown)), flush=True)


@torch.no_grad()
def made(loaded, video, scheduler: str, guidance: str, steps: int) -> np.ndarray:
    """The uint8 frames of a request, but for these."""
    pipe = loaded.pipe
    latent_frames = (video.frames - 1) // 4 + 1
    latents = denoise.denoise(
        pipe.transformer,
        schedulers.choose(pipe.scheduler, scheduler),
        loaded.encode(video)[0],
        (latent_frames, video.height // 8, video.width // 8),
        steps,
        GUIDANCE[guidance](video.guidance),
        condition.from_text(latent_frames, pipe.transformer.config),
        Noise(video.seed),
    )
    return decode_latents(pipe.vae, latents, video.frames)[0].mul(255).round().byte().cpu().numpy()


def shares(shown) -> dict[str, float]:
    """The share of videos, 0 … 1, that show each attribute as said."""
    right = np.array(
        [[getattr(seen, n) == getattr(said, n) for n in evaluate.NAMES] for seen, said in shown]
    )
    found = dict(zip(evaluate.NAMES, right.mean(axis=0), strict=True)) | {
        "all": right.all(axis=1).mean()
    }
    return {"prompts": len(shown)} | {name: round(float(share), 3) for name, share in found.items()}


if __name__ == "__main__":
    main()
