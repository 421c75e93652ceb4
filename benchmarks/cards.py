"""What a plan promises for smaller cards, and what comes of it: one GPU, its memory capped.

``python benchmarks/cards.py`` lets torch's allocator have what a card of 8, 12, 16 or 24 GB really
leaves, plans CogVideoX-5b with random weights at each number of frames, and goes the whole road
from text to mp4. A line of JSON each: predicted and measured peak (what the allocator reserved) and
seconds. Denoising takes ``--steps`` steps and is predicted for as many; the plan is the one that a
video of 50 steps gets.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from cogvx_nb.checkpoints import registry, store
from cogvx_nb.planning import machine, plan, planner, request, timing

CARDS = {"80 GB": 79.0, "24 GB": 22.8, "16 GB": 15.0, "12 GB": 11.2, "8 GB": 7.2, "5 GiB": 5.0}
"""GiB that torch can have of each."""

PROMPT = "a red circle moving right on a black background"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--frames", type=int, nargs="+", default=[13, 25, 49])
    parser.add_argument("--cards", nargs="+", default=list(CARDS), choices=CARDS)
    parser.add_argument("--speed", default="exact")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("COGVX_OUTPUTS_DIR", folder)
        for card in options.cards:
            for frames in options.frames:
                row = measure(card, frames, options.steps, options.speed, Path(folder))
                print(json.dumps(row), flush=True)


def measure(card: str, frames: int, steps: int, speed: str, folder: Path) -> dict:
    """A video on a card; or why there is none."""
    import torch

    from cogvx_nb.pipeline import generate, loader, optimization
    from cogvx_nb.results import result

    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, CARDS[card] * 2**30 / total))
    model = store.random_model(registry.COGVIDEOX_5B)
    wanted = request.make_request(model, PROMPT, frames=frames, speed=speed)
    row = {"card": card, "frames": frames, "steps": steps}
    try:
        here = machine.probe_machine()
        fitted = planner.plan_request(wanted, here)
        optimization.free_memory()
        torch.cuda.reset_peak_memory_stats()
        loaded = loader.load_pipeline(fitted)
        loading = torch.cuda.max_memory_reserved()
        short = replace(wanted, steps=steps)
        # Compiling is apart, and so is a step that doesn't count.
        warm = generate.generate_frames(replace(wanted, steps=1), loaded)
        optimization.free_memory()
        torch.cuda.reset_peak_memory_stats()
        made = generate.generate_frames(short, loaded, reuse_text=False)
        start = time.perf_counter()
        result.save_result(made, folder / f"{card}-{frames}-{speed}.mp4".replace(" ", ""))
        writing = time.perf_counter() - start
    except Exception as error:
        return row | {"error": f"{type(error).__name__}: {error}"[:300]}
    gpu = plan.gpu_for(fitted, here)
    expected = timing.stage_seconds(fitted, gpu, steps, warm=True)
    stages = ("text", "denoise", "decode")
    predicted = sum(expected[name] for name in stages)
    measured = sum(made.seconds[name] for name in stages)
    peak = torch.cuda.max_memory_reserved()
    pinned = torch.cuda.host_memory_stats().get("allocated_bytes.current", 0)
    return row | {
        "plan": str(fitted),
        "stayed": made.plan.choices == fitted.choices,
        "predicted_gib": round(fitted.peak_bytes / 2**30, 2),
        "reserved_gib": round(peak / 2**30, 2),
        "allocated_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "loading_gib": round(loading / 2**30, 2),
        "ram_gib": round(fitted.ram_bytes / 2**30, 2),
        "pinned_gib": round(pinned / 2**30, 2),
        "ratio": round(fitted.peak_bytes / peak, 3),
        "predicted_seconds": {name: round(expected[name], 2) for name in stages},
        "seconds": {name: round(value, 2) for name, value in made.seconds.items()},
        "compile_seconds": round(warm.seconds.get("compile", 0.0), 1),
        "write_seconds": round(writing, 2),
        "time_ratio": round(predicted / measured, 3),
        "step_seconds": round(made.seconds["denoise"] / steps, 4),
    }


if __name__ == "__main__":
    main()
