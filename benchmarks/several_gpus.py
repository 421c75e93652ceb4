"""One video on several GPUs: seconds of a step and of a video, and how near one GPU's it is.

``python benchmarks/several_gpus.py --out gpus.json`` takes CogVideoX-5b with random weights, on
which time doesn't depend. Prints a JSON line for each speed and number of GPUs: the median step of
``--steps`` but the first and its spread, the ratio to one GPU's, the relative distance of its clean
latents after the last step (‖a - b‖ / ‖b‖), whether a second video is equal bit by bit, and seconds
predicted. ``turbo`` is a whole video of 50 steps. Then how long a cancel takes in mid-step, and
what becomes of a video when another process fills a GPU's memory, before it and in the middle.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cogvx_nb import files
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.errors import Cancelled
from cogvx_nb.pipeline import generate, loader
from cogvx_nb.planning import planner
from cogvx_nb.planning.plan import Plan
from cogvx_nb.planning.probe import probe_machine
from cogvx_nb.planning.request import VideoRequest, make_request
from cogvx_nb.progress import PlanChanged, Step

PROMPT = "a red circle moving right on a black background"

FILL = """
import sys, time, torch
device = int(sys.argv[1])
free = torch.cuda.mem_get_info(device)[0]
kept = torch.empty(free - 2**28, dtype=torch.uint8, device=f"cuda:{device}")
print("filled", flush=True)
time.sleep(600)
"""
"""Takes all free memory of a GPU but 256 MiB."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoint", default="CogVideoX-5b", help="random weights but for embedded ones"
    )
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--gpus", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--speeds", nargs="*", default=["exact", "fast", "turbo"])
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--faults", action="store_true", help="cancel and fill memory too")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    checkpoint = registry.get_checkpoint(options.checkpoint)
    embedded = checkpoint.is_embedded
    model = store.locate_checkpoint(checkpoint.name) if embedded else store.random_model(checkpoint)
    rows = []

    def keep(row: dict) -> None:
        rows.append(row)
        print(json.dumps(row), flush=True)
        if options.out:
            names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
            found = {"devices": names or ["CPU"], "torch": torch.__version__, "rows": rows}
            files.write_whole(options.out, json.dumps(found, indent=1).encode())

    wanted = {"frames": options.frames, "attention": options.attention}
    for speed in options.speeds:
        alone = None
        for count in options.gpus:
            steps = 50 if speed == "turbo" else options.steps
            video = make_request(model, PROMPT, speed=speed, steps=steps, **wanted)
            row, latents = measure(video, count, alone)
            alone = alone or (row, latents)
            keep(row)
    if options.faults:
        video = make_request(model, PROMPT, steps=options.steps, **wanted)
        for count in options.gpus[1:]:
            keep(cancelled(video, count))
            for step in (0, 2):
                keep(filled(video, count, step))


def plan_for(video: VideoRequest, count: int) -> Plan:
    """A plan on so many GPUs; without GPUs on so many threads of the CPU."""
    if torch.cuda.is_available():
        return planner.plan_request(replace(video, gpus=str(count)), probe_machine(), videos=100)
    return replace(planner.plan_request(video, probe_machine()), peers=("cpu",) * (count - 1))


def measure(video: VideoRequest, count: int, alone: tuple | None) -> tuple[dict, torch.Tensor]:
    plan = plan_for(video, count)
    start = time.perf_counter()
    loaded = loader.load_pipeline(plan)
    load = time.perf_counter() - start
    warm = generate.generate_frames(replace(video, steps=min(video.steps, 20)), loaded)
    times, latents, seconds = [], [], []

    def on_event(event: object) -> None:
        if isinstance(event, Step):
            latents[:] = [event.latents]
            times.append(time.perf_counter())

    frames = []
    for _ in range(2):
        times.clear()
        made = generate.generate_frames(video, loaded, on_event)
        frames.append(made.frames)
        seconds.append(sum(made.seconds[name] for name in ("text", "denoise", "decode")))
    steps = [end - begin for begin, end in itertools.pairwise(times)]
    clean = latents[0].float().cpu()
    step = statistics.median(steps) if video.speed != "turbo" else made.seconds["denoise"]
    row = {
        "speed": video.speed,
        "gpus": len(loaded.plan.devices),
        "attention": loaded.plan.attention,
        "plan": str(loaded.plan),
        "load_seconds": round(load, 2),
        "compile_seconds": round(warm.seconds.get("compile", 0.0), 1),
        "denoise_seconds" if video.speed == "turbo" else "step_seconds": round(step, 4),
        "step_spread": round((max(steps) - min(steps)) / statistics.median(steps), 3),
        "video_seconds": round(min(seconds), 3),
        "decode_seconds": round(made.seconds["decode"], 3),
        "predicted_denoise": round(loaded.plan.seconds.get("denoise", 0.0), 3),
        "denoise_seconds_measured": round(made.seconds["denoise"], 3),
        "equal_again": bool(np.array_equal(*frames)),
        "gib": [gib(n) for n in range(torch.cuda.device_count())],
        "predicted_gib": [round(n / 2**30, 2) for n in (plan.peak_bytes, plan.peer_bytes)],
    }
    if alone is not None:
        before, reference = alone
        name = "denoise_seconds" if video.speed == "turbo" else "step_seconds"
        row["ratio"] = round(row[name] / before[name], 3)
        row["distance"] = float((clean - reference).norm() / reference.norm())
    return row, clean


def gib(device: int) -> float:
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return round(peak, 2)


def cancelled(video: VideoRequest, count: int) -> dict:
    """How long after a cancel in mid-step a video on several GPUs ends, and their work with it."""
    loaded, cancel, at = loader.load_pipeline(plan_for(video, count)), threading.Event(), []

    def stop() -> None:
        at.append(time.perf_counter())
        cancel.set()

    def on_event(event: object) -> None:
        if isinstance(event, Step) and event.step == 2:
            threading.Timer(0.2, stop).start()

    try:
        generate.generate_frames(video, loaded, on_event, cancel)
    except Cancelled:
        ended = time.perf_counter()
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)
        late = {"cancel": ended, "idle": time.perf_counter()}
        return {"gpus": count} | {f"{k}_ms": round(1000 * (t - at[0]), 1) for k, t in late.items()}
    return {"gpus": count, "cancel_ms": None, "idle_ms": None}


def filled(video: VideoRequest, count: int, step: int) -> dict:
    """What becomes of a video on several GPUs after another process took the second's memory.

    Args:
        step: after which it does so, from 1; 0 for before the video, nothing of it in memory.
    """
    if not torch.cuda.is_available():
        return {"filled": "no GPU"}
    loader.release_pipeline()
    loaded = loader.load_pipeline(plan_for(video, count))
    second = loaded.plan.peers[0].removeprefix("cuda:")
    others, plans = [], []

    def fill() -> None:
        command = [sys.executable, "-c", FILL, second]
        others.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        others[0].stdout.readline()

    def on_event(event: object) -> None:
        if isinstance(event, PlanChanged):
            plans.append(event.plan)
        if isinstance(event, Step) and event.step == step and not others:
            fill()

    if step == 0:
        fill()
    try:
        plan = generate.generate_frames(video, loaded, on_event).plan
    finally:
        for other in others:
            other.kill()
            other.wait()
    return {
        "gpus": count,
        "filled": f"cuda:{second}",
        "after_step": step,
        "changes": len(plans),
        "made_on": plan.devices,
        "reason": plan.reasons[-1],
    }


if __name__ == "__main__":
    main()
