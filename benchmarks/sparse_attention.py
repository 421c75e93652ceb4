"""Time of attention that leaves out blocks of tokens, what it keeps, and its distance from all.

``python benchmarks/sparse_attention.py --out sparse.json`` takes the shapes of CogVideoX-5b at 49
frames with guidance and prints a JSON line for each thing as it is measured, milliseconds as the
median of ``--repeats`` with the device synchronised:

- ``kernel``: FlashAttention 4 by blocks beside a dense mask of torch's, on a few tokens;
- ``attention``: all of it, making a mask, and attention by masks, of random tokens and of tokens
  that are alike where they are near in space and time, at each of ``--shares``; and by masks drawn
  at random;
- ``step``: a step of the transformer with random weights, compiled, in ``--quantized`` products:
  whole, and sparse at each of ``--step-shares`` with a new mask and with one that was made before.
  Its attention is nearly uniform, so a share of it is the same share of the blocks.

A part that fails is a line with its error; what would begin after ``--seconds`` is left out. Where
there is no FlashAttention 4 the reference is timed instead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from cogvx_nb import files
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.pipeline import (
    attention,
    compilation,
    components,
    denoise,
    optimization,
    quantization,
    sparse_attention,
)
from cogvx_nb.pipeline.block_masks import block_lists, kept_blocks
from cogvx_nb.pipeline.condition import from_text, padding_of
from cogvx_nb.pipeline.positions import rotary_positions
from cogvx_nb.pipeline.token_order import compact_order
from cogvx_nb.planning.speedups import FLASH4, SDPA


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", default="CogVideoX-5b", help="random weights")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--shares", type=float, nargs="+", default=(0.98, 0.95, 0.9, 0.7, 0.5))
    parser.add_argument("--step-shares", type=float, nargs="+", default=(1, 0.5, 0.3))
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--quantized", default="fp8", choices=("", "fp8", "int8"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=75)
    parser.add_argument("--eager", action="store_true", help="don't compile the blocks")
    parser.add_argument("--out", type=Path, help="JSON file, written after each line")
    rows, options = [], parser.parse_args()
    for row in measure(options):
        rows.append(row)
        print(json.dumps(row), flush=True)
        if options.out:
            files.write_whole(options.out, json.dumps(rows, indent=1).encode())


@torch.no_grad()
def measure(options) -> Iterator[dict]:
    """Yield the rows: what they were measured with, and those of each part."""
    begin, checkpoint = time.perf_counter(), registry.get_checkpoint(options.checkpoint)
    name = "CPU" if options.device == "cpu" else torch.cuda.get_device_name(options.device)
    blocks = str(sparse_attention.kernel_blocks())
    yield {"device": name, "torch": torch.__version__, "frames": options.frames, "blocks": blocks}
    for part in options.parts:
        try:
            for row in PARTS[part](options, checkpoint):
                yield {"part": part} | row
                if time.perf_counter() - begin > options.seconds:
                    yield {"part": part, "left out": f"{options.seconds:g} s have passed"}
                    return
        except Exception as error:  # the other rows are worth having
            yield {"part": part, "error": f"{type(error).__name__}: {error}"[:400]}


def kernel_rows(options, checkpoint) -> Iterator[dict]:
    """The kernel beside the reference, where the last blocks are full and where they are not."""
    blocks = sparse_attention.kernel_blocks()
    for count in (1536, 1500, 1300):
        tokens = [draw((2, count, 4, 64), options, seed) for seed in range(3)]
        for share in (1, 0.6, 0.3):
            kept = random_mask(tokens[0], blocks, share)
            ours = by_blocks(*tokens, kept)
            expected = sparse_attention.reference_by_blocks(*tokens, kept, blocks)
            yield {
                "tokens": count,
                "kept": share_of(kept),
                "of_reference": distance(ours, expected),
            }


def attention_rows(options, checkpoint) -> Iterator[dict]:
    """One layer's attention, of random and of smooth tokens."""
    blocks, text = sparse_attention.kernel_blocks(), checkpoint.text_tokens
    for kind, make in (("random", random_tokens), ("smooth", smooth_tokens)):
        tokens = make(options, checkpoint)
        whole, spent = timed(
            lambda tokens=tokens: sparse_attention.dense_attention(*tokens), options
        )
        yield {"tokens": kind, "shape": list(whole.shape), "dense_ms": spent}
        for share in options.shares:
            kept, spent = timed(
                lambda tokens=tokens, share=share: kept_blocks(*tokens[:2], blocks, text, share),
                options,
            )
            lists = timed(lambda kept=kept: block_lists(kept), options)[1]
            row = {"tokens": kind, "share": share, "kept": share_of(kept), "mask_ms": spent}
            yield row | {"lists_ms": lists} | sparse_row(tokens, kept, whole, options)
    for share in (1, 0.7, 0.5, 0.3):
        kept = random_mask(tokens[0], blocks, share)
        row = {"tokens": "smooth", "mask": "random", "kept": share_of(kept)}
        yield row | sparse_row(tokens, kept, whole, options)


def sparse_row(tokens: list[Tensor], kept: Tensor, whole: Tensor, options) -> dict:
    """Time of attention by a mask, its lists made before, and its distance from all of it."""
    lists = block_lists(kept)
    ours, spent = timed(lambda: by_blocks(*tokens, kept, lists), options)
    return {"sparse_ms": spent, "of_dense": distance(ours, whole)}


def step_rows(options, checkpoint) -> Iterator[dict]:
    """A whole step, its attention whole and sparse."""
    on_gpu = options.device != "cpu"
    dtype = getattr(torch, checkpoint.gpu_dtype if on_gpu else checkpoint.cpu_dtype)
    transformer = components.make_part(
        "transformer", store.random_model(checkpoint), dtype, options.device
    )
    if on_gpu:
        quantization.quantize_transformer(transformer, options.quantized, options.device)
    compilation.wrap_blocks(transformer, exact=not options.quantized)
    compilation.enable_compiled(transformer, not options.eager)
    step, attend = stepper(transformer, checkpoint, options), FLASH4 if on_gpu else SDPA
    attention.set_attention(transformer, attend, not options.eager)
    first = time.perf_counter()
    step(500)
    first = time.perf_counter() - first
    whole, spent = timed(lambda: step(500), options)
    yield {"way": "whole", "first_s": round(first, 1), "ms": spent}
    attention.set_attention(transformer, attend, not options.eager, sparse=True)
    for share in options.step_shares:
        sparse = sparse_attention.SparseAttention(
            transformer, sparse_attention.kernel_blocks(), share=share
        )
        early = timed(lambda: step(900), options)[1]
        ours, made = timed(lambda sparse=sparse: (sparse.free(), step(500))[1], options)
        counts = sum(layer.calls for layer in sparse._layers), sparse.kept_share
        reused = timed(lambda: step(500), options)[1]
        calls = sum(layer.calls for layer in sparse._layers)
        kept = (sparse.kept_share * calls - counts[1] * counts[0]) / (calls - counts[0])
        sparse.remove()
        yield {
            "way": "sparse",
            "share": share,
            "kept": round(kept, 4),
            "early_ms": early,
            "new_mask_ms": made,
            "ms": reused,
            "of_whole": distance(ours, whole),
        }


PARTS = {"kernel": kernel_rows, "attention": attention_rows, "step": step_rows}


def stepper(transformer: torch.nn.Module, checkpoint, options) -> Callable[[int], Tensor]:
    """A step at a timestep, of the same noise each time."""
    config, count = transformer.config, (options.frames - 1) // 4 + 1
    count += padding_of(count, config)
    size = checkpoint.height // 8, checkpoint.width // 8
    latents = draw((1, count, config.in_channels, *size), options, 0, transformer.dtype)
    words = (2, checkpoint.text_tokens, config.text_embed_dim)
    text = draw(words, options, 1, transformer.dtype)
    rotary = rotary_positions(config, count, *size, options.device)
    start = from_text(count, config)

    def step(timestep: int) -> Tensor:
        at = torch.tensor(timestep, device=options.device)
        return denoise.predict(transformer, latents, text, at, rotary, start)

    return step


def grid(options, checkpoint) -> tuple[int, int, int]:
    """Patches of the clip: frames, rows, columns."""
    rows = -(-((options.frames - 1) // 4 + 1) // checkpoint.patch_frames)
    return rows, checkpoint.height // 16, checkpoint.width // 16


def random_tokens(options, checkpoint) -> list[Tensor]:
    """Query, key and value without any order."""
    frames, height, width = grid(options, checkpoint)
    _, heads, head_width, _, _ = checkpoint.architecture
    count = checkpoint.text_tokens + frames * height * width
    return [draw((2, count, heads, head_width), options, seed) for seed in range(3)]


def smooth_tokens(options, checkpoint) -> list[Tensor]:
    """Those of a clip that changes slowly in space and time, with positions, in compact order."""
    sizes = grid(options, checkpoint)
    _, heads, head_width, _, _ = checkpoint.architecture
    order = compact_order(*sizes, sparse_attention.kernel_blocks().queries).to(options.device)
    frequencies = 1e4 ** -torch.linspace(0, 1, head_width // 2, device=options.device)
    place = torch.stack(torch.unravel_index(order, sizes), 1).sum(1)
    angles = (place[:, None] * frequencies).repeat_interleave(2, 1)
    parts = []
    for seed in range(3):
        coarse = [max(2, size // 4) for size in sizes]
        low = draw((2, heads * head_width, *coarse), options, seed, torch.float32)
        clip = torch.nn.functional.interpolate(low, sizes, mode="trilinear").flatten(2).mT
        clip = clip.unflatten(2, (heads, head_width))[:, order]
        clip = torch.nn.functional.layer_norm(
            clip + 0.3 * draw(clip.shape, options, 9), [head_width]
        )
        if seed < 2:
            clip = attention.apply_rotary(clip * 2, angles.cos(), angles.sin())
        text = draw((2, checkpoint.text_tokens, heads, head_width), options, seed + 3)
        parts.append(torch.cat([text, clip.to(text.dtype)], 1))
    return parts


def draw(shape: tuple[int, ...], options, seed: int, dtype: torch.dtype | None = None) -> Tensor:
    """Normal noise; in bfloat16 on a GPU."""
    noise = torch.Generator(options.device).manual_seed(seed)
    dtype = dtype or (torch.float32 if options.device == "cpu" else torch.bfloat16)
    return torch.randn(shape, generator=noise, device=options.device, dtype=dtype)


def random_mask(query: Tensor, blocks, share: float) -> Tensor:
    """A mask of blocks that keeps about a share of them, and one in each row."""
    whole = kept_blocks(query, query, blocks, 0, share=1)
    noise = torch.Generator(query.device).manual_seed(0)
    drawn = torch.rand(whole.shape, generator=noise, device=query.device)
    return (drawn < share) | (drawn == drawn.amin(-1, keepdim=True))


def by_blocks(query: Tensor, key: Tensor, value: Tensor, kept: Tensor, lists=None) -> Tensor:
    blocks = sparse_attention.kernel_blocks()
    if query.is_cuda:
        lists = lists or block_lists(kept)
        return sparse_attention.flash4_by_blocks(query, key, value, *lists, blocks)
    return sparse_attention.reference_by_blocks(query, key, value, kept, blocks)


def timed(call: Callable[[], object], options) -> tuple:
    """What a call returns, and its median milliseconds after one to begin with."""
    result, spent = call(), []
    for _ in range(options.repeats):
        optimization.synchronize(options.device)
        start = time.perf_counter()
        result = call()
        optimization.synchronize(options.device)
        spent.append(1000 * (time.perf_counter() - start))
    return result, round(statistics.median(spent), 3)


def share_of(kept: Tensor) -> float:
    return round(kept.float().mean().item(), 4)


def distance(a: Tensor, b: Tensor) -> float:
    return float(f"{((a - b).float().norm() / b.float().norm()).item():.2g}")


if __name__ == "__main__":
    main()
