"""Time of a denoising step with diffusers' compiled blocks, and with the own ones.

``python benchmarks/block.py --out block.json`` takes the transformer of CogVideoX-5b in its true
shapes with random weights, on which time doesn't depend, and guidance. Prints a JSON line for each
way of computing its blocks at each of ``--frames``, in half precision and with fp8 products, as it
is measured: the median of ``--repeats`` steps after one that compiles, the device synchronised; how
far the velocity is from that of diffusers' eager blocks and of its compiled ones in the same
precision (‖a - b‖ / ‖b‖); the most that torch allocated beside the weights; and the milliseconds of
a step in matrix products, attention and all other kernels, with the longest of those. A way that
fails is a line with its error. Ways that would begin after ``--seconds`` are left out. On a CPU, or
with ``--eager``, it only shows that all give the same.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from cogvx_nb import files
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.errors import RequestError
from cogvx_nb.pipeline import (
    attention,
    block,
    compilation,
    components,
    denoise,
    optimization,
    quantization,
)
from cogvx_nb.pipeline.condition import from_text, padding_of
from cogvx_nb.pipeline.positions import rotary_positions
from cogvx_nb.planning.speedups import FLASH4, SDPA

STOCK = "diffusers"

WAYS = {STOCK: False, "joined tokens": True}
"""Values of ``Plan.joined_tokens`` by name."""

KERNELS = {
    "attention": re.compile("flash|fmha|sdpa|attention"),
    "products": re.compile("gemm|nvjet|cutlass|xmma|cublas|scaled_mm|splitk"),
}
"""Parts of the names of a GPU's kernels; the first that fits decides."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", default="CogVideoX-5b", help="random weights")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--frames", type=int, nargs="+", default=(49, 13))
    parser.add_argument("--blocks", type=int, help="only the first of so many (default: all)")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, metavar="NAME")
    parser.add_argument("--quantized", default="fp8", choices=("", "fp8", "int8"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=100)
    parser.add_argument("--eager", action="store_true", help="don't compile")
    parser.add_argument("--out", type=Path, help="JSON file, written after each line")
    options = parser.parse_args()
    rows = []
    for row in measure(options):
        rows.append(row)
        print(json.dumps(row), flush=True)
        if options.out:
            files.write_whole(options.out, json.dumps(rows, indent=1).encode())


def measure(options) -> Iterator[dict]:
    """Yield the rows: what they were measured with, and one for each way."""
    begin, checkpoint = time.perf_counter(), registry.get_checkpoint(options.checkpoint)
    on_gpu = options.device != "cpu"
    dtype = checkpoint.gpu_dtype if on_gpu else checkpoint.cpu_dtype
    model = store.random_model(checkpoint)
    transformer = components.make_part("transformer", model, getattr(torch, dtype), options.device)
    blocks = transformer.transformer_blocks
    if options.blocks is not None:
        del blocks[options.blocks :]
    if not blocks:
        raise SystemExit(f"--blocks {options.blocks} leaves none: use 1 or more")
    name = torch.cuda.get_device_name(options.device) if on_gpu else "CPU"
    attend = attention_here(options.device)
    head = {"device": name, "torch": torch.__version__, "dtype": dtype, "attention": attend}
    yield head | {"blocks": len(blocks)}
    for kind in dict.fromkeys(("", options.quantized)):
        quantization.quantize_transformer(transformer, kind, options.device)
        for frames in options.frames:
            step = stepper(transformer, checkpoint, frames, options.device)
            use(transformer, SDPA, False, eager=True)
            found = {"eager": step().cpu()}
            for way in options.ways:
                row = {"products": kind or dtype, "frames": frames, "way": way}
                if time.perf_counter() - begin > options.seconds:
                    yield row | {"left out": f"{options.seconds:g} s have passed"}
                    continue
                try:
                    use(transformer, attend, WAYS[way], options.eager, exact=not kind)
                    row |= run(step, way, found, options)
                except Exception as error:  # the other rows are worth having
                    row |= {"error": f"{type(error).__name__}: {error}"[:400]}
                yield row
                check_distance(row, attend)


def check_distance(row: dict, attend: str) -> None:
    """End where a step with another attention than the eager one gives exactly the same: then it
    computed none, and its seconds are of something else."""
    if attend != SDPA and row.get("of_eager") == 0:
        raise SystemExit(f"{row['way']}: equal to eager blocks with {attend}: nothing was measured")


def attention_here(device: str) -> str:
    """FlashAttention 4 where it is installed, else that of cuDNN; on a CPU torch's own."""
    if device == "cpu":
        return SDPA
    try:
        attention.check_attention_package("flash4")
    except RequestError:
        return "_native_cudnn"
    return FLASH4


def stepper(
    transformer: torch.nn.Module, checkpoint, frames: int, device: str
) -> Callable[[], torch.Tensor]:
    """A step of a clip of the checkpoint's size with guidance, from the same noise each time."""
    config, count = transformer.config, (frames - 1) // 4 + 1
    count += padding_of(count, config)
    size = checkpoint.height // 8, checkpoint.width // 8
    noise = torch.Generator().manual_seed(0)
    shapes = (
        (1, count, config.in_channels, *size),
        (2, checkpoint.text_tokens, config.text_embed_dim),
    )
    given = (
        *(torch.randn(shape, generator=noise).to(device, transformer.dtype) for shape in shapes),
        torch.tensor(500, device=device),
        rotary_positions(config, count, *size, device),
        from_text(count, config),
    )

    @torch.no_grad()
    def step() -> torch.Tensor:
        return denoise.predict(transformer, *given)

    return step


def use(
    transformer: torch.nn.Module, attend: str, joined: bool, eager: bool, exact: bool = True
) -> None:
    """Have a transformer's blocks computed in a way from now on."""
    for one in transformer.transformer_blocks:
        one.__dict__.pop("forward", None)
        if eager and joined:
            one.forward = block.compile_block(one, lambda function: function)
    if not eager:
        compilation.wrap_blocks(transformer, exact)
        compilation.enable_compiled(transformer, True, joined)
    attention.set_attention(transformer, attend, compiled=not eager or joined)


def run(step: Callable, way: str, found: dict[str, torch.Tensor], options) -> dict:
    """The figures of a way; its velocity is added to those that were found."""
    on_gpu = options.device != "cpu"
    timed = functools.partial(seconds, step, options.device)
    first, velocity = timed()
    row, found[way] = {"first_seconds": round(first, 2)}, velocity.cpu()
    row |= {
        f"of_{other}": distance(found[way], found[other])
        for other in ("eager", STOCK)
        if other in found and other != way
    }
    if on_gpu:
        before = torch.cuda.memory_allocated(options.device)
        torch.cuda.reset_peak_memory_stats(options.device)
    times = [timed()[0] for _ in range(options.repeats)]
    row |= {"seconds": round(statistics.median(times), 4)}
    row |= {"spread": round((max(times) - min(times)) / statistics.median(times), 3)}
    if on_gpu:
        peak = torch.cuda.max_memory_allocated(options.device)
        row |= {"gib": round((peak - before) / 2**30, 2)} | kernels(step)
    return row


def seconds(step: Callable, device: str) -> tuple[float, torch.Tensor]:
    """Of a step, and its velocity."""
    optimization.synchronize(device)
    start = time.perf_counter()
    velocity = step()
    optimization.synchronize(device)
    return time.perf_counter() - start, velocity


def kernels(step: Callable, longest: int = 8) -> dict:
    """Milliseconds of a step by kind of kernel, and the longest of the others."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    kinds, others, count = collections.Counter(), collections.Counter(), 0
    for event in profile.key_averages():
        spent = event.self_device_time_total / 1000
        fitting = (kind for kind, names in KERNELS.items() if names.search(event.key.lower()))
        kind = next(fitting, "other")
        kinds[kind] += spent
        if kind == "other":
            others[event.key[:60]] += spent
            count += event.count * bool(spent)
    top = {name: round(spent, 2) for name, spent in others.most_common(longest)}
    rounded = {kind: round(spent, 1) for kind, spent in kinds.items()}
    return {"milliseconds": rounded, "other_kernels": count, "longest_others": top}


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(f"{((a - b).norm() / b.norm()).item():.2g}")


if __name__ == "__main__":
    main()
