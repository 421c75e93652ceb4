"""What LoRAs cost: seconds of loading and of a step, without and with two of them.

``python benchmarks/lora.py --out lora.json`` takes CogVideoX-5b with random weights, on which
neither depends, and two random LoRAs of rank 128 for all attention layers. Prints a JSON line for
each placement and speed, and writes them all to a file: medians of ``--repeats`` loads, each after
the pipeline was released, and of the steps of a video but the first; spreads over the median; and
ratios of with to without. The first load of each kind, which also reads files into the system's
cache, doesn't count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from cogvx_nb import files
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.checkpoints.registry import Checkpoint
from cogvx_nb.loras.modules import linear_shapes
from cogvx_nb.pipeline import generate, loader, optimization
from cogvx_nb.planning import planner, request
from cogvx_nb.planning.plan import Plan
from cogvx_nb.planning.probe import probe_machine
from cogvx_nb.planning.request import VideoRequest
from cogvx_nb.progress import Step

PROMPT = "a red circle moving right on a black background"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--checkpoint", default="CogVideoX-5b", help="random weights but for embedded ones"
    )
    parser.add_argument("--frames", type=int, default=13)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--placements", nargs="+", default=["auto"])
    parser.add_argument("--speeds", nargs="+", default=["exact"])
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    checkpoint = registry.get_checkpoint(options.checkpoint)
    embedded = checkpoint.is_embedded
    model = store.locate_checkpoint(checkpoint.name) if embedded else store.random_model(checkpoint)
    machine, rows = probe_machine(), []
    with tempfile.TemporaryDirectory() as folder:
        loras = [random_lora(checkpoint, options.rank, n, Path(folder)) for n in range(2)]
        wanted = {"frames": options.frames, "steps": options.steps}
        without = request.make_request(model, PROMPT, **wanted)
        merged = request.make_request(model, PROMPT, lora=loras, **wanted)
        for speed in options.speeds:
            for placement in options.placements:
                row = {"speed": speed, "placement": placement}
                for name, video in (("without", without), ("with", merged)):
                    timed = replace(video, speed=speed)
                    plan = planner.plan_request(timed, machine)
                    if placement != "auto":
                        plan = planner.with_placement(plan, placement, machine, timed.steps)
                    row[name] = measure(timed, plan, options.repeats)
                for figure in ("load_seconds", "step_seconds"):
                    ratio = row["with"][figure] / row["without"][figure]
                    row[f"{figure}_ratio"] = round(ratio, 3)
                rows.append(row)
                print(json.dumps(row), flush=True)
    loader.release_pipeline()
    if options.out:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        found = {"device": device, "torch": torch.__version__, "rank": options.rank, "rows": rows}
        files.write_whole(options.out, json.dumps(found, indent=1).encode())


def random_lora(checkpoint: Checkpoint, rank: int, number: int, folder: Path) -> str:
    """Write a LoRA for all attention layers, whose change is small; its path with a weight."""
    draw, content = torch.Generator().manual_seed(number), {}
    for module, (outputs, inputs) in linear_shapes(checkpoint).items():
        if ".attn1." in module:
            down = torch.randn(rank, inputs, generator=draw) / inputs**0.5
            up = torch.randn(outputs, rank, generator=draw) * 0.01 / rank**0.5
            content[f"transformer.{module}.lora_A.weight"] = down.bfloat16()
            content[f"transformer.{module}.lora_B.weight"] = up.bfloat16()
    path = folder / f"random-{number}.safetensors"
    save_file(content, path)
    return f"{path}:0.7"


def measure(video: VideoRequest, plan: Plan, repeats: int) -> dict[str, object]:
    """Figures of one plan."""
    loads, steps = [], []
    for number in range(repeats + 1):
        loader.release_pipeline()
        loaded = loader.load_pipeline(plan)
        loads += [loaded.seconds] if number else []
    times: list[float] = []

    def on_event(event: object) -> None:
        if isinstance(event, Step):
            optimization.synchronize(plan.device)
            times.append(time.perf_counter())

    for _ in range(repeats):
        times.clear()
        generate.generate_frames(video, loaded, on_event)
        steps += [end - start for start, end in itertools.pairwise(times)]
    return {
        "placement": loaded.plan.placement,
        "load_seconds": round(statistics.median(loads), 4),
        "load_spread": spread(loads),
        "step_seconds": round(statistics.median(steps), 5),
        "step_spread": spread(steps),
    }


def spread(values: list[float]) -> float:
    return round((max(values) - min(values)) / statistics.median(values), 3)


if __name__ == "__main__":
    main()
