"""Measure the checkpoint and print JSON: ``python evaluate.py``.

For English and Chinese and for 13, 25 and 49 frames: the share of videos, made with the default
settings from prompts of held-out combinations, whose pixels show the background, colour, motion and
shape that the prompt names. And how well the VAE reconstructs held-out clips. With ``--speed`` the
same of a speed profile, and with ``--beside`` how far its videos lie from those of another.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import prompts
import torch
import world

from cogvx_nb.checkpoints import store
from cogvx_nb.pipeline import generate, loader
from cogvx_nb.pipeline.vae import decode_latents
from cogvx_nb.planning import planner, probe, request, speedups
from cogvx_nb.planning.plan import Plan

NAMES = ("background", "colour", "motion", "shape")


def held_out_prompts(language: str, count: int | None = None) -> list[tuple[str, world.Attributes]]:
    """(prompt, what it says) for held-out combinations, all of them unless ``count`` is given."""
    rng = random.Random(f"held out {language}")
    chosen = list(world.HELD_OUT)
    rng.shuffle(chosen)
    return [(prompts.write(a, language, rng), a) for a in chosen[:count]]


@torch.no_grad()
def reconstruction(vae, frames: int, clips: int) -> float:
    """Mean PSNR in dB of held-out clips, encoded and decoded."""
    rng = random.Random(frames)
    found = []
    for attributes in rng.sample(world.HELD_OUT, clips):
        clip = world.clip(attributes, frames, seed=rng.randrange(10**6))
        video = torch.from_numpy(clip).to(vae.device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        latents = vae.encode(video.to(vae.dtype)).latent_dist.mode().permute(0, 2, 1, 3, 4)
        made = decode_latents(vae, latents * vae.config.scaling_factor, frames)[0].cpu().numpy()
        found.append(-10 * np.log10(np.mean((made - clip / 255) ** 2)))
    return float(np.mean(found))


@torch.no_grad()
def make(loaded, batch: list[str], frames: int, seeds: list[int], tokens: int) -> list[np.ndarray]:
    """Videos of a batch of prompts with the default settings, uint8 (frames, height, width, 3).

    One prompt is made as the workbench makes it; several at once by the pipeline of diffusers.
    """
    if len(batch) == 1 and tokens == loaded.plan.model.checkpoint.text_tokens:
        return [make_one(loaded, batch[0], frames, seeds[0])]
    loaded.prepare()
    latents = loaded.pipe(
        prompt=batch,
        num_frames=frames,
        num_inference_steps=50,
        guidance_scale=6.0,
        use_dynamic_cfg=loaded.plan.model.checkpoint.dynamic_cfg,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        max_sequence_length=tokens,
        output_type="latent",
    ).frames
    videos = [decode_latents(loaded.pipe.vae, one[None], frames)[0] for one in latents]
    return [video.mul(255).round().byte().cpu().numpy() for video in videos]


def make_one(loaded, prompt: str, frames: int, seed: int) -> np.ndarray:
    """The same of one prompt, with all that the plan has."""
    plan = loaded.plan
    asked = request.make_request(
        plan.model, prompt, frames=frames, seed=seed, steps=50, speed=plan.speed
    )
    loaded.apply(planner.with_frames(plan, frames))
    return generate.generate_frames(asked, loaded).frames


def fidelity(
    loaded, language: str, frames: int, count: int | None, batch: int, tokens: int, kept: dict
) -> dict:
    """Share of videos that show each attribute, 0 … 1, with the number of prompts.

    Args:
        kept: takes the videos, by language and frames.
    """
    asked = held_out_prompts(language, count)
    right = {name: [] for name in NAMES}
    videos = kept.setdefault(f"{language}{frames}", [])
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        seeds = list(range(start, start + len(part)))
        for (_, said), video in zip(
            part, make(loaded, [prompt for prompt, _ in part], frames, seeds, tokens), strict=True
        ):
            videos.append(video)
            shown = world.measure(video)
            for name in NAMES:
                right[name].append(getattr(shown, name) == getattr(said, name))
        print(f"{language} {frames} {start + len(part)}/{len(asked)}", file=sys.stderr, flush=True)
    shares = {name: round(float(np.mean(values)), 4) for name, values in right.items()}
    return {"prompts": len(asked), **shares}


def planned(model, speed: str, dtype: str | None) -> Plan:
    """A speed's plan with 8-bit products: int8 on a CPU. On a GPU all that it has for a larger
    checkpoint in bfloat16, unless ``dtype`` is another."""
    machine = probe.probe_machine()
    if machine.gpus and (speed != "exact" or dtype == "bfloat16"):
        model = replace(model, checkpoint=replace(model.checkpoint, gpu_dtype="bfloat16"))
    asked = request.make_request(model, "a red circle", speed=speed)
    fitted = planner.plan_request(asked, machine, videos=1000)
    if dtype:
        fitted = replace(fitted, dtype=dtype)
    if speed != "exact" and fitted.device == "cpu":
        fitted = replace(fitted, quantized="int8")
    return fitted


def beside(kept: dict, others) -> dict[str, float]:
    """Median PSNR in dB of each video beside its like."""
    found = {}
    for name, videos in kept.items():
        pairs = zip(np.stack(videos).astype(np.float32), others[name], strict=True)
        errors = [max(float(np.mean((a - b) ** 2)), 1e-3) for a, b in pairs]
        found[name] = round(float(np.median(10 * np.log10(255**2 / np.array(errors)))), 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(Path(__file__).parent))
    parser.add_argument("--prompts", type=int, help="a language; by default all held-out ones")
    parser.add_argument("--batch", type=int, default=1, help="prompts at once")
    parser.add_argument("--clips", type=int, default=16, help="for the VAE, of each length")
    parser.add_argument("--tokens", type=int, help="length prompts are padded to")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(world.FRAMES))
    parser.add_argument("--languages", nargs="+", default=["en", "zh"])
    parser.add_argument("--speed", choices=speedups.SPEEDS, default="exact")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="of exact, on a GPU")
    parser.add_argument("--keep", type=Path, help="npz file for the videos")
    parser.add_argument("--beside", type=Path, help="such a file, to compare with")
    options = parser.parse_args()
    if options.speed != "exact" and (options.batch > 1 or options.tokens):
        parser.error("--batch and --tokens are for exact: leave them out")
    model = store.locate_checkpoint(options.model)
    loaded = loader.load_pipeline(planned(model, options.speed, options.dtype))
    tokens, start = options.tokens or model.checkpoint.text_tokens, time.time()
    found = {"plan": str(loaded.plan), "vae_psnr_db": {}}
    found["fidelity"] = {language: {} for language in options.languages}
    kept = {}
    for frames in options.lengths:
        psnr = reconstruction(loaded.pipe.vae, frames, options.clips)
        found["vae_psnr_db"][frames] = round(psnr, 2)
        for language, table in found["fidelity"].items():
            table[frames] = fidelity(
                loaded, language, frames, options.prompts, options.batch, tokens, kept
            )
    if options.keep:
        np.savez_compressed(options.keep, **kept)
    if options.beside:
        found["psnr_beside_db"] = beside(kept, np.load(options.beside))
    found |= {"device": loaded.plan.device, "tokens": tokens, "seconds": round(time.time() - start)}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
