"""Predicted memory and time of smaller GPUs against measured ones, on one GPU with capped memory.

``python benchmarks/cards.py`` limits torch's allocator to what a GPU of 8, 12, 16 or 24 GB leaves,
plans a checkpoint with random weights at each number of frames, and makes a video from text (and a
made-up picture or clip, where the checkpoint needs one) to mp4.
Prints JSON lines: predicted and measured peak (reserved by the allocator) and seconds. Denoising
takes ``--steps`` steps and is predicted for as many; the plan is that of a video of 50 steps.
``frames_sha256`` is equal where two placements made the same frames.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from cogvx_nb.benchmark import inputs
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.planning import cost, plan, planner, probe, request
from cogvx_nb.planning.machine import Machine

CARDS = {"80 GB": 79.0, "24 GB": 22.8, "16 GB": 15.0, "12 GB": 11.2, "8 GB": 7.2, "5 GiB": 5.0}
"""GiB that each leaves for torch."""

PROMPT = "a red circle moving right on a black background"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=registry.COGVIDEOX_5B.name)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--frames", type=int, nargs="+", help="(default: those of the model)")
    parser.add_argument("--cards", nargs="+", default=list(CARDS), choices=CARDS)
    parser.add_argument("--speed", default="exact")
    parser.add_argument("--placement", default="", help="instead of the fastest that fits")
    parser.add_argument("--quantized", default="", help="format of 8-bit weights, on any card")
    options = parser.parse_args()
    checkpoint = registry.get_checkpoint(options.model)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("COGVX_OUTPUTS_DIR", folder)
        for card in options.cards:
            for frames in options.frames or checkpoint.frames:
                ways = options.placement, options.quantized
                row = measure(
                    checkpoint, card, frames, options.steps, options.speed, Path(folder), *ways
                )
                print(json.dumps(row), flush=True)


def measure(
    checkpoint: registry.Checkpoint,
    card: str,
    frames: int,
    steps: int,
    speed: str,
    folder: Path,
    placement: str = "",
    quantized: str = "",
) -> dict:
    """A row for one GPU and number of frames; or the error."""
    import torch

    from cogvx_nb.pipeline import generate, loader, optimization
    from cogvx_nb.results import result
    from cogvx_nb.results.video import frame_hash

    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, CARDS[card] * 2**30 / total))
    model = store.random_model(checkpoint)
    given = inputs.task_values(checkpoint.tasks[0], checkpoint, frames, folder)
    video = request.make_request(model, PROMPT, frames=frames, speed=speed, **given)
    row = {"model": checkpoint.name, "card": card, "frames": frames, "steps": steps}
    try:
        probed = probe.probe_machine()
        planned = plan_as_asked(video, probed, placement, quantized)
        optimization.free_memory()
        torch.cuda.reset_peak_memory_stats()
        loaded = loader.load_pipeline(planned)
        loading = torch.cuda.max_memory_reserved()
        short = replace(video, steps=steps)
        # Not measured: compiling, and a first step.
        warm = generate.generate_frames(replace(video, steps=1), loaded)
        optimization.free_memory()
        torch.cuda.reset_peak_memory_stats()
        generated = generate.generate_frames(short, loaded, reuse_text=False)
        start = time.perf_counter()
        result.save_result(generated, folder / f"{card}-{frames}-{speed}.mp4".replace(" ", ""))
        writing = time.perf_counter() - start
    except Exception as error:
        return row | {"error": f"{type(error).__name__}: {error}"[:300]}
    gpu = plan.gpu_for(planned, probed)
    expected = cost.stage_seconds(planned, gpu, steps, warm=True)
    stages = ("text", "denoise", "decode")
    predicted = sum(expected[name] for name in stages)
    measured = sum(generated.seconds[name] for name in stages)
    peak = torch.cuda.max_memory_reserved()
    pinned = torch.cuda.host_memory_stats().get("allocated_bytes.current", 0)
    return row | {
        "plan": str(planned),
        "stayed": generated.plan.choices == planned.choices,
        "predicted_gib": round(planned.peak_bytes / 2**30, 2),
        "reserved_gib": round(peak / 2**30, 2),
        "allocated_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "loading_gib": round(loading / 2**30, 2),
        "ram_gib": round(planned.ram_bytes / 2**30, 2),
        "pinned_gib": round(pinned / 2**30, 2),
        "ratio": round(planned.peak_bytes / peak, 3),
        "predicted_seconds": {name: round(expected[name], 2) for name in stages},
        "seconds": {name: round(value, 2) for name, value in generated.seconds.items()},
        "compile_seconds": round(warm.seconds.get("compile", 0.0), 1),
        "write_seconds": round(writing, 2),
        "time_ratio": round(predicted / measured, 3),
        "step_seconds": round(generated.seconds["denoise"] / steps, 4),
        "frames_sha256": frame_hash(generated.frames),
    }


def plan_as_asked(
    video: request.VideoRequest, machine: Machine, placement: str, quantized: str
) -> plan.Plan:
    """The plan of a request, or its like with a named placement or format of 8-bit weights."""
    planned = planner.plan_request(video, machine)
    if not placement and not quantized:
        return planned
    planned = replace(planned, quantized=quantized or planned.quantized)
    return planner.with_placement(planned, placement or planned.placement, machine)


if __name__ == "__main__":
    main()
