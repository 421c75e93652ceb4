"""Time and memory of VAE encodes: by diffusers, and by the faster encoder, whole and in tiles.

``python benchmarks/vae_encode.py --out encode.json`` takes the VAE of CogVideoX-5b in its true
shapes with random weights, on which neither depends, and encodes random pixels. Prints a JSON line
for each size, and writes them all to a file: medians of ``--repeats`` encodes after one that
doesn't count, the device synchronised; the most that torch allocated beside the weights; how far
the latents are from those of diffusers (‖a - b‖ / ‖b‖), and from those that diffusers makes of the
same weights in float32; and what was predicted. On a CPU, where videos are encoded by diffusers, it
only shows that both give the same.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import diffusers
import torch

from cogvx_nb import files
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.pipeline import components, optimization
from cogvx_nb.pipeline.failures import is_out_of_memory
from cogvx_nb.pipeline.vae import use_fast_vae
from cogvx_nb.planning import vae_cost
from cogvx_nb.planning.placements import NO_OFFLOAD
from cogvx_nb.planning.plan import Plan

SIZES = ("1x480x720", "13x480x720", "49x480x720", "1x768x1360", "81x768x1360")
STOCK, WHOLE, TILED = "diffusers", "whole", "tiled"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--checkpoint", default="CogVideoX-5b", help="random weights but for embedded ones"
    )
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="FRAMESxHEIGHTxWIDTH")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    plan = plan_for(options.checkpoint, options.device)
    stock, fast = vaes(plan)
    rows = []
    for size in options.sizes:
        frames, height, width = (int(number) for number in size.split("x"))
        sized = replace(plan, frames=frames, height=height, width=width)
        rows.append(measure(sized, stock, fast, options.repeats))
        print(json.dumps(rows[-1]), flush=True)
    if options.out:
        found = {"machine": machine(options.device), "dtype": plan.dtype, "rows": rows}
        files.write_whole(options.out, json.dumps(found, indent=1).encode())


def plan_for(name: str, device: str) -> Plan:
    """A plan for a checkpoint on a device, of no size yet."""
    checkpoint = registry.get_checkpoint(name)
    embedded = checkpoint.is_embedded
    model = store.locate_checkpoint(name) if embedded else store.random_model(checkpoint)
    dtype = checkpoint.cpu_dtype if device == "cpu" else checkpoint.gpu_dtype
    return Plan(model, device, dtype, NO_OFFLOAD, False, 1, 0, 0, True)


def vaes(plan: Plan) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The VAE of a plan's checkpoint on its device, as diffusers has it and the faster one."""
    stock = components.make_part("vae", plan.model, getattr(torch, plan.dtype), plan.device)
    stock = stock.to(plan.device)
    fast = copy.deepcopy(stock)
    use_fast_vae(fast)
    return stock, fast


def measure(plan: Plan, stock, fast, repeats: int) -> dict:
    """A row for one size."""
    row = {"frames": plan.frames, "height": plan.height, "width": plan.width}
    truth = in_float32(stock, plan)
    ways, latents = {STOCK: (stock, False), WHOLE: (fast, False), TILED: (fast, True)}, {}
    for name, (vae, tiled) in ways.items():
        chosen = replace(plan, tiled=tiled)
        vae.disable_tiling()
        if tiled:
            vae.enable_tiling(*plan.tile)
        try:
            row[name], latents[name] = encode(vae, chosen, repeats)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            row[name] = {"failed": "out of memory"}
            continue
        if name != STOCK:
            row[name]["predicted_gib"] = gib(vae_cost.encode_bytes(chosen, chosen.frames))
            seconds = vae_cost.encode_seconds(chosen, chosen.frames, 1.0)
            row[name]["predicted_h100_seconds"] = round(seconds, 4)
        row[name]["of_float32"] = distance(latents[name], truth)
        if name != STOCK and STOCK in latents:
            row[name]["distance"] = distance(latents[name], latents[STOCK])
            row[name]["time_ratio"] = round(row[name]["seconds"] / row[STOCK]["seconds"], 3)
    return row


def encode(vae, plan: Plan, repeats: int) -> tuple[dict, torch.Tensor]:
    """Figures of one way, and the latents: mean and logarithm of the variance."""
    on_gpu, times = plan.device != "cpu", []
    shape = (1, 3, plan.frames, plan.height, plan.width)
    optimization.free_memory()
    if on_gpu:
        before = torch.cuda.memory_allocated(plan.device)
    pixels = torch.rand(shape, generator=torch.Generator().manual_seed(0)).mul(2).sub(1)
    pixels = pixels.bfloat16().to(plan.device, vae.dtype)  # the same in every dtype
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.parameters.float().cpu()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(plan.device)
        for _ in range(repeats):
            optimization.synchronize(plan.device)
            start = time.perf_counter()
            vae.encode(pixels)
            optimization.synchronize(plan.device)
            times.append(time.perf_counter() - start)
    if not times:
        return {}, latents
    row = {"seconds": round(statistics.median(times), 4)}
    row["spread"] = round((max(times) - min(times)) / statistics.median(times), 3)
    if on_gpu:
        row["gib"] = gib(torch.cuda.max_memory_allocated(plan.device) - before)
    return row, latents


def in_float32(stock, plan: Plan) -> torch.Tensor | None:
    """The latents that the same weights make in float32; None without the memory for it."""
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return encode(copy.deepcopy(stock).float(), replace(plan, dtype="float32"), 0)[1]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None


def distance(a: torch.Tensor, b: torch.Tensor | None) -> float | None:
    if b is None:
        return None
    return float(f"{((a - b).norm() / b.norm()).item():.2g}")


def gib(count: float) -> float:
    return round(count / 2**30, 2)


def machine(device: str) -> dict:
    name = "CPU" if device == "cpu" else torch.cuda.get_device_name(device)
    return {"device": name, "torch": torch.__version__, "diffusers": diffusers.__version__}


if __name__ == "__main__":
    main()
