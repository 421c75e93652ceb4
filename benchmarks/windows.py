"""Memory and time of clips by overlapping windows, over those of a clip that is made at once.

``python benchmarks/windows.py --out windows.json`` takes CogVideoX-5b with random weights, on which
neither depends, at 49 and at 193 frames. Prints a JSON line for each number of frames: peak bytes
of the GPU, allocated and reserved, in denoising and in the decode, the median step and its share of
a frame, seconds of the decode, the process's peak of RAM, the plan and what it predicted; from the
second on also ratios to the first, and whether a second video is equal bit by bit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from cogvx_nb import files
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.pipeline import generate, loader
from cogvx_nb.planning import planner
from cogvx_nb.planning.probe import probe_machine
from cogvx_nb.planning.request import VideoRequest, make_request
from cogvx_nb.progress import StageStarted, Step

PROMPT = "a red circle moving right on a black background"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoint", default="CogVideoX-5b", help="random weights but for embedded ones"
    )
    parser.add_argument("--frames", nargs="+", type=int, default=[49, 193])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--size", nargs=2, type=int, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--speed", default="exact")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    checkpoint = registry.get_checkpoint(options.checkpoint)
    embedded = checkpoint.is_embedded
    model = store.locate_checkpoint(checkpoint.name) if embedded else store.random_model(checkpoint)
    wanted = {"steps": options.steps, "speed": options.speed}
    if options.size:
        wanted |= dict(zip(("height", "width"), options.size, strict=True))
        wanted["allow_untrained_size"] = True
    rows = []
    for frames in options.frames:
        row = measure(make_request(model, PROMPT, frames=frames, **wanted))
        if rows:
            row |= ratios(row, rows[0])
        rows.append(row)
        print(json.dumps(row), flush=True)
        if options.out:
            device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
            found = {"device": device, "torch": torch.__version__, "rows": rows}
            files.write_whole(options.out, json.dumps(found, indent=1).encode())


def measure(video: VideoRequest) -> dict:
    plan = planner.plan_request(video, probe_machine(), videos=100)
    loaded, peaks, moments = loader.load_pipeline(plan), {}, []
    first = generate.generate_frames(video, loaded)  # compiles

    def on_event(event: object) -> None:
        if isinstance(event, StageStarted):
            reset(peaks, event.stage)
        elif isinstance(event, Step):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            moments.append(time.perf_counter())

    made = generate.generate_frames(video, loaded, on_event)
    reset(peaks, "")
    step = statistics.median(end - begin for begin, end in itertools.pairwise(moments))
    return {
        "frames": video.frames,
        "size": [video.height, video.width],
        "windows": len(plan.windows),
        "plan": str(loaded.plan),
        "predicted_gib": round(plan.peak_bytes / 2**30, 2),
        "predicted_denoise": round(plan.seconds.get("denoise", 0.0), 2),
        "denoise_gib": peaks.get("denoise"),
        "decode_gib": peaks.get("decode"),
        "step_seconds": round(step, 4),
        "step_ms_a_frame": round(1000 * step / video.frames, 3),
        "denoise_seconds": round(made.seconds["denoise"], 3),
        "decode_seconds": round(made.seconds["decode"], 3),
        "ram_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "equal_again": bool(np.array_equal(first.frames, made.frames)),
    }


def reset(peaks: dict, stage: str) -> None:
    """Note the peak of the stage that ends, (allocated, reserved) GiB, and begin the next."""
    if not torch.cuda.is_available():
        return
    torch.cuda.synchronize()
    if before := peaks.pop("now", ""):
        found = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        peaks[before] = [round(each / 2**30, 3) for each in found]
    torch.cuda.reset_peak_memory_stats()
    peaks["now"] = stage


def ratios(row: dict, first: dict) -> dict:
    """Of a longer clip over the first one."""
    found = {"a_frame_ratio": round(row["step_ms_a_frame"] / first["step_ms_a_frame"], 3)}
    for stage in ("denoise_gib", "decode_gib"):
        if row[stage]:
            found[f"{stage}_ratio"] = round(row[stage][0] / first[stage][0], 3)
    return found


if __name__ == "__main__":
    main()
