"""Measure the image-to-video model and print JSON: ``python evaluate_i2v.py``.

For English and Chinese, for 13, 25 and 49 frames, and with the first picture or the first and the
last: how near the video's first and last frames are to the pictures, whether it moves as the
prompt says, and how well the shape is kept; and without a picture, whether the video shows what the
prompt says. Held-out combinations, diffusers' own loop with the default settings.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import prompts
import scenes
import torch
import world
from diffusers import (
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)

from cogvx_nb.pipeline.vae import decode_latents

HERE = Path(__file__).parent
PICTURES = ("first", "first and last", "none")


class Pictured(CogVideoXImageToVideoPipeline):
    """diffusers' pipeline, with a last picture too where ``last`` is one, or with none."""

    last: torch.Tensor | None = None
    pictured = True

    def prepare_latents(self, image, batch_size=1, *args, **kwargs):
        made, condition = super().prepare_latents(image, batch_size, *args, **kwargs)
        if self.last is not None:
            lasts = self.vae.encode(self.last.unsqueeze(2)).latent_dist.mode()
            condition[:, -1] = lasts[:, :, 0] * self.vae.config.scaling_factor
        return made, condition * self.pictured


def load(text: Path, folder: Path, device: str) -> Pictured:
    """The image-to-video transformer with the other parts of the text-to-video model."""
    parts = CogVideoXPipeline.from_pretrained(text, transformer=None).components
    parts["transformer"] = CogVideoXTransformer3DModel.from_pretrained(
        folder / "transformer", torch_dtype=torch.float32
    )
    parts["scheduler"] = CogVideoXDPMScheduler.from_config(parts["scheduler"].config)
    pipe = Pictured(**parts).to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def held_out(language: str, frames: int, count: int) -> list[tuple[str, scenes.Scene]]:
    """(prompt, clip) of held-out combinations; the prompt says all of it."""
    rng = random.Random(f"held out {language} {frames}")
    chosen = [world.HELD_OUT[i % len(world.HELD_OUT)] for i in range(count)]
    return [(prompts.write(a, language, rng), scenes.scene(a, frames, rng)) for a in chosen]


@torch.no_grad()
def make(pipe: Pictured, asked: list[str], clips: torch.Tensor, which: str, seed: int):
    """Videos, uint8 (batch, frames, height, width, 3), and the pictures given, (batch, 2, …).

    Args:
        clips: the clips to be made, of which only the first and the last frame are shown.
    """
    frames = clips.shape[1]
    given = clips[:, [0, -1]].add(1).mul(127.5).round().clamp(0, 255)
    pipe.pictured = which != "none"
    pipe.last = given[:, 1] / 127.5 - 1 if which == "first and last" else None
    latents = pipe(
        image=given[:, 0] / 255,
        prompt=asked,
        num_frames=frames,
        num_inference_steps=50,
        guidance_scale=6.0,
        use_dynamic_cfg=True,
        generator=[torch.Generator("cpu").manual_seed(seed + i) for i in range(len(asked))],
        max_sequence_length=pipe.transformer.config.max_text_seq_length,
        output_type="latent",
    ).frames
    made = [decode_latents(pipe.vae, part, frames) for part in latents.split(10)]
    videos = torch.cat(made).mul(255).round().byte().cpu().numpy()
    return videos, given.byte().permute(0, 1, 3, 4, 2).cpu().numpy()


@torch.no_grad()
def reconstructed(vae, given: np.ndarray) -> float:
    """Mean PSNR in dB of pictures that are only encoded and decoded: what can be reached."""
    pictures = torch.from_numpy(given).to(vae.device).permute(0, 3, 1, 2)[:, :, None] / 127.5 - 1
    made = vae.decode(vae.encode(pictures).latent_dist.mode()).sample[:, :, 0]
    again = world.to_uint8(made.permute(0, 2, 3, 1))
    return round(float(np.mean(list(map(scenes.psnr, again, given)))), 1)


def spread(values: list[float]) -> dict[str, float]:
    """Of PSNRs in dB."""
    found = {"mean": np.mean(values), "tenth": np.quantile(values, 0.1), "least": np.min(values)}
    return {name: round(float(value), 1) for name, value in found.items()} | {
        "share from 33": round(float(np.mean(np.array(values) >= 33)), 3)
    }


def judge(videos: np.ndarray, given: np.ndarray, asked: list[scenes.Scene], which: str) -> dict:
    """What has become of the videos: shares of 0 … 1, and PSNRs in dB."""
    if which == "none":
        shown = [world.measure(video) for video in videos]
        return {name: share(shown, asked, name) for name in ("background", "colour", "motion")}
    measured = list(map(scenes.measure, videos, asked))
    said = [one.attributes.motion for one in asked]
    right = [motion == one for (motion, _), one in zip(measured, said, strict=True)]
    found = {
        "motion": round(float(np.mean(right)), 3),
        "first_db": spread(list(map(scenes.psnr, videos[:, 0], given[:, 0]))),
        "kept_db": spread([db for _, db in measured]),
    }
    if which == "first and last":
        found["last_db"] = spread(list(map(scenes.psnr, videos[:, -1], given[:, 1])))
    return found


def share(shown: list[world.Attributes], asked: list[scenes.Scene], name: str) -> float:
    """How many videos show an attribute as asked for, 0 … 1."""
    right = [
        getattr(one, name) == getattr(scene.attributes, name)
        for one, scene in zip(shown, asked, strict=True)
    ]
    return round(float(np.mean(right)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, default=HERE, help="the text-to-video model")
    parser.add_argument("--model", type=Path, default=HERE.parent / "cogvideox-tiny-i2v")
    parser.add_argument("--clips", type=int, default=200, help="of each kind")
    parser.add_argument("--batch", type=int, default=1, help="clips at once")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(world.FRAMES))
    parser.add_argument("--languages", nargs="+", default=["en", "zh"])
    parser.add_argument("--pictures", choices=PICTURES, nargs="+", default=PICTURES)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--keep", type=Path, help="folder for pictures of some videos")
    options = parser.parse_args()
    pipe, start, found = load(options.text, options.model, options.device), time.time(), {}
    for frames in options.lengths:
        for language in options.languages:
            asked = held_out(language, frames, options.clips)
            for which in options.pictures:
                key = f"{which}, {language}, {frames} frames"
                found[key] = evaluated(pipe, asked, frames, which, options, key)
                print(key, json.dumps(found[key]), file=sys.stderr, flush=True)
    print(json.dumps(found | {"seconds": round(time.time() - start)}, indent=1))


def evaluated(pipe, asked, frames, which, options, key) -> dict:
    """The figures of one row."""
    videos, given = [], []
    for start in range(0, len(asked), options.batch):
        part = asked[start : start + options.batch]
        clips = scenes.draw([one for _, one in part], frames, options.device)
        made, pictures = make(pipe, [prompt for prompt, _ in part], clips, which, start)
        videos.append(made)
        given.append(pictures)
    videos, given = np.concatenate(videos), np.concatenate(given)
    found = judge(videos, given, [one for _, one in asked], which)
    if which == "first":
        found["vae_db"] = reconstructed(pipe.vae, given[:32, 0])
    if options.keep:
        strip(options.keep / f"{key.replace(', ', '-').replace(' ', '_')}.png", videos, given)
    return found


def strip(path: Path, videos: np.ndarray, given: np.ndarray) -> None:
    """A picture of a dozen clips, one a row: the pictures given on either side of six frames."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    shown = np.linspace(0, videos.shape[1] - 1, 6).round().astype(int)
    rows = [
        np.concatenate([g[0], *v[shown], g[1]], axis=1)
        for v, g in zip(videos[:12], given[:12], strict=True)
    ]
    Image.fromarray(np.concatenate(rows)).save(path)


if __name__ == "__main__":
    main()
