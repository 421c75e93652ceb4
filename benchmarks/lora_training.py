"""Rate and memory of LoRA training: ``python benchmarks/lora_training.py --out training.json``.

CogVideoX-5b with random weights, on which neither depends, and clips of random pixels in true
shapes: clips and captions are encoded as for a real run, and then ``--steps`` steps are trained
after one that doesn't count. Prints a JSON line for each part: seconds (for a step the median, with
the spread over it), steps a minute, and the most that torch had allocated, the weights included.
Then the run is kept, taken up again by a new one, and a step of both is compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cogvx_nb import files
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.checkpoints.registry import Model
from cogvx_nb.pipeline.optimization import free_memory, synchronize
from cogvx_nb.training import trainer
from cogvx_nb.training.encoding import encode_examples
from cogvx_nb.training.examples import read_examples
from cogvx_nb.training.recipe import ATTENTION, Recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoint", default="CogVideoX-5b", help="random weights but for embedded ones"
    )
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    checkpoint = registry.get_checkpoint(options.checkpoint)
    embedded = checkpoint.is_embedded
    model = store.locate_checkpoint(checkpoint.name) if embedded else store.random_model(checkpoint)
    recipe = Recipe(options.rank, None, 1000, 2e-4, options.batch, options.frames, layers=ATTENTION)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(model, recipe, options.clips, options.steps, Path(folder)):
            print(json.dumps(row), flush=True)
            rows.append(row)
    if options.out:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        found = {"device": device, "torch": torch.__version__, "rows": rows}
        files.write_whole(options.out, json.dumps(found, indent=1).encode())


def measure(model: Model, recipe: Recipe, clips: int, steps: int, folder: Path):
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    dtype = trainer.training_dtype(model, device)
    write_clips(model, recipe.frames, clips, folder)
    examples, work = read_examples(folder), folder / "encoded"
    start = begin(device)
    encode_examples(examples, model, recipe.frames, work, device, dtype)
    yield {"part": "encoding", "clips": clips, **since(start, device)}
    start = begin(device)
    training = trainer.prepare(model, examples, recipe, work)
    yield {"part": "loading", **since(start, device)}
    training.advance()
    start, times = begin(device), []
    for _ in range(steps):
        before = time.perf_counter()
        training.advance()
        synchronize(device)
        times.append(time.perf_counter() - before)
    step = statistics.median(times)
    figures = since(start, device) | {
        "seconds": round(step, 4),
        "spread": round((max(times) - min(times)) / step, 3),
        "steps_a_minute": round(60 / step, 2),
    }
    shape = {name: getattr(recipe, name) for name in ("rank", "batch", "frames")}
    yield {"part": "step", **shape, "dtype": str(dtype).removeprefix("torch."), **figures}
    state = folder / "state.safetensors"
    start = begin(device)
    training.save(state, "key")
    saved = since(start, device)["seconds"]
    losses = [training.advance()]
    del training
    free_memory()
    again = trainer.prepare(model, examples, recipe, work)
    again.resume(state, "key")
    losses.append(again.advance())
    yield {"part": "resume", "save_seconds": saved, "loss": losses}


def write_clips(model: Model, frames: int, count: int, folder: Path) -> None:
    size = (frames, model.checkpoint.height, model.checkpoint.width, 3)
    milliseconds = 1000 / model.checkpoint.fps
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
        shown = [Image.fromarray(frame) for frame in pixels]
        path = folder / f"{number}.webp"
        shown[0].save(path, save_all=True, append_images=shown[1:], duration=milliseconds)
        path.with_suffix(".txt").write_text("a red circle moving right")


def begin(device: str) -> float:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
    synchronize(device)
    return time.perf_counter()


def since(start: float, device: str) -> dict[str, float]:
    synchronize(device)
    found = {"seconds": round(time.perf_counter() - start, 3)}
    if device != "cpu":
        found["gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return found


if __name__ == "__main__":
    main()
