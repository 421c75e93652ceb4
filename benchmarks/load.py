"""Time from a checkpoint's files in the page cache to weights on the GPU, in several ways.

``python benchmarks/load.py --out load.json`` writes a transformer of CogVideoX-5b with random
weights to ``--folder``, and loads it as the workbench does: read by diffusers, then moved to the
GPU. Prints a JSON line for each way of moving it, the median of ``--repeats`` loads after one that
doesn't count, the device synchronised: ``to`` of torch; the same for each parameter in a thread of
several; and copied by such threads through pinned RAM, piece by piece. Every way is checked to give
the same weights.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from cogvx_nb import files
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.pipeline import components, optimization, transfer, weights


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", default="CogVideoX-5b", help="random weights")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--folder", type=Path, help="where it is written (default: temporary)")
    parser.add_argument("--blocks", type=int, help="only the first of so many (default: all)")
    parser.add_argument("--threads", type=int, nargs="+", default=(2, 4, 8, 16))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    ways = {"to": move}
    for count in options.threads:
        ways[f"{count} threads"] = functools.partial(move_by_threads, count=count)
        if options.device != "cpu":
            pinned = functools.partial(transfer.move_component, threads=count)
            ways[f"{count} threads, pinned"] = pinned
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        load, total = written(options, Path(folder))
        for name, way in ways.items():
            try:
                rows.append({"way": name} | measure(load, way, options, total))
            except Exception as error:  # the other rows are worth having
                rows.append({"way": name, "error": f"{type(error).__name__}: {error}"[:300]})
            print(json.dumps(rows[-1]), flush=True)
            if options.out:
                files.write_whole(options.out, json.dumps(rows, indent=1).encode())


def written(options, folder: Path):
    """What loads a transformer from files to the CPU, and the sums of its parameters."""
    checkpoint = registry.get_checkpoint(options.checkpoint)
    dtype = getattr(torch, checkpoint.gpu_dtype)
    model = store.random_model(checkpoint)
    part = components.make_part("transformer", model, dtype, options.device)
    if options.blocks is not None:
        del part.transformer_blocks[options.blocks :]
    part.register_to_config(num_layers=len(part.transformer_blocks))
    part.save_pretrained(folder / "transformer")
    model = replace(model, folder=folder)
    return functools.partial(weights.load_component, "transformer", model, dtype), sums(part)


def measure(load, way, options, total: list[float]) -> dict:
    read, moved = [], []
    for _ in range(options.repeats + 1):
        start = time.perf_counter()
        part = load()
        read.append(time.perf_counter() - start)
        start = time.perf_counter()
        way(part, options.device)
        optimization.synchronize(options.device)
        moved.append(time.perf_counter() - start)
        right = sums(part) == total
        size = sum(one.nbytes for one in part.parameters())
        del part
        optimization.free_memory()
    seconds = statistics.median(moved[1:])
    row = {"gib": round(size / 2**30, 2), "read_seconds": round(statistics.median(read[1:]), 3)}
    row |= {"move_seconds": round(seconds, 3), "gb_per_second": round(size / seconds / 1e9, 1)}
    return row | {"equal": right}


def sums(part: torch.nn.Module) -> list[float]:
    return [one.double().sum().item() for one in part.parameters()]


def move(part: torch.nn.Module, device: str) -> None:
    part.to(device)


def move_by_threads(part: torch.nn.Module, device: str, count: int) -> None:
    """Each parameter by one of so many threads."""

    def move_one(parameter: torch.nn.Parameter) -> None:
        parameter.data = parameter.data.to(device)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        list(pool.map(move_one, part.parameters()))
    part.to(device)  # buffers


if __name__ == "__main__":
    main()
