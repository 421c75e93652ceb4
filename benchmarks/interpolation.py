"""Every other frame of clips, left out and made again: by a blend, ffmpeg, optical flow and ours.

``python benchmarks/interpolation.py CLIP.mp4 … --polygons 12 --out found.json --strips strips.png``
takes clips of 25 frames, such as those of the embedded checkpoint, and scenes of polygons, which
are of another kind than those that the network was trained on. Prints the mean PSNR of the missing
frames of each clip, then the means. ``blend`` is the mean of both neighbours, ``ffmpeg`` is the
product's ``smooth``, and ``flow`` is OpenCV's DIS (medium) both ways, each neighbour moved by half
of it, and their mean; ``flow ×2`` is the same of frames enlarged by Lanczos, averaged back, as the
network has them too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from cogvx_nb import files
from cogvx_nb.finishing import lanczos, smooth
from cogvx_nb.results import video

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models" / "interpolation"))

import polygons
from filler import Filler

FRAMES = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*", type=Path, help="mp4s of this workbench")
    parser.add_argument("--polygons", type=int, default=12, help="scenes of polygons")
    parser.add_argument("--weights", type=Path, required=True, help="as train.py wrote them")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--strips", type=Path, help="PNG file")
    options = parser.parse_args()
    rows, strips = [], []
    for kind, name, clip in clips(options):
        made, seconds = fill(clip, options.weights)
        row = {"kind": kind, "clip": name, "seconds": seconds}
        row["psnr"] = {way: psnr(frames, clip[1::2]) for way, frames in made.items()}
        rows.append(row)
        print(json.dumps(row), flush=True)
        strips.append(strip(clip, made))
    found = {"means": means(rows), "rows": rows}
    print(json.dumps(found["means"], indent=1))
    if options.out:
        files.write_whole(options.out, json.dumps(found, indent=1).encode())
    if options.strips:
        widest = max(picture.shape[1] for picture in strips)
        padded = [np.pad(s, ((0, 4), (0, widest - s.shape[1]), (0, 0))) for s in strips]
        Image.fromarray(np.concatenate(padded)).save(options.strips)


def clips(options: argparse.Namespace) -> Iterator[tuple[str, str, np.ndarray]]:
    """(kind, name, uint8 frames) of each clip."""
    for path in options.clips:
        with video.stream_frames(path) as stream:
            frames = np.stack(list(stream))
        yield "embedded checkpoint", path.stem, frames[: len(frames) - 1 + len(frames) % 2]
    if options.polygons:
        for seed in range(100, 100 + options.polygons):  # training measures others
            yield "polygons", str(seed), polygons.clip(seed, FRAMES).numpy()


def fill(clip: np.ndarray, weights: Path) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The missing frames by each way, uint8, and the seconds that they took."""
    kept = list(clip[::2])
    between = [Fraction(2 * place + 1, 2) for place in range(len(kept) - 1)]
    ours = Filler(*kept[0].shape[:2], weights)
    ways: dict[str, Callable] = {
        "blend": lambda: [blend(*pair) for pair in pairs(kept)],
        "ffmpeg": lambda: list(smooth.fill(kept, between)),
        "flow": lambda: [by_flow(*pair) for pair in pairs(kept)],
        "flow ×2": lambda: [by_flow_finer(*pair) for pair in pairs(kept)],
        "ours": lambda: list(ours(kept, between)),
    }
    made, seconds = {}, {}
    for name, way in ways.items():
        start = time.perf_counter()
        made[name] = np.stack(way())
        seconds[name] = round(time.perf_counter() - start, 3)
    return made, seconds


def pairs(frames: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return itertools.pairwise(frames)


def blend(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    return ((first.astype(np.float32) + last) / 2).round().astype(np.uint8)


def by_flow(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    finder = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, last)]
    there, back = finder.calc(*grey, None), finder.calc(*grey[::-1], None)
    return blend(moved(first, 0.5 * back), moved(last, 0.5 * there))


def by_flow_finer(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    height, width, _ = first.shape
    large = by_flow(*lanczos.enlarge_by(2)(iter([first, last])))
    return large.reshape(height, 2, width, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)


def moved(frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(
        frame, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def psnr(made: np.ndarray, wanted: np.ndarray) -> float:
    """Mean over frames in dB; equal ones count as 60."""
    errors = np.mean((made.astype(np.float64) - wanted) ** 2, axis=(1, 2, 3))
    decibels = -10 * np.log10(np.maximum(errors, 255**2 * 1e-6) / 255**2)
    return round(float(decibels.mean()), 2)


def means(rows: list[dict]) -> dict[str, dict[str, float]]:
    found = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row["psnr"] for row in rows if row["kind"] == kind]
        found[kind] = {way: round(float(np.mean([r[way] for r in own])), 2) for way in own[0]}
    return found


def strip(clip: np.ndarray, made: dict[str, np.ndarray]) -> np.ndarray:
    """The frame in the middle of the missing ones as it is, and by each way."""
    place = len(clip) // 4
    return np.concatenate([clip[1::2][place], *(frames[place] for frames in made.values())], axis=1)


if __name__ == "__main__":
    main()
