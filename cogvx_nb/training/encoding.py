"""Latents and embeddings of examples, each made once and kept on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .. import files
from ..checkpoints.registry import Model
from ..checkpoints.store import file_hashes
from ..pipeline.components import make_part
from ..pipeline.optimization import free_memory
from ..pipeline.vae import use_fast_vae
from ..planning.reading import load_tokenizer
from .examples import Example, check_example, read_pixels

PARTS = ("vae/", "text_encoder/", "tokenizer/")
"""Of a checkpoint that these depend on."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as the transformer is trained on it; float32, on the CPU."""

    mean: Tensor  # of its latents, (latent frames, 16, height / 8, width / 8), not scaled
    std: Tensor
    text: Tensor  # (tokens, width)


def encode_examples(
    examples: Sequence[Example],
    model: Model,
    frames: int,
    folder: Path,
    device: str,
    dtype: torch.dtype,
    check: Callable[[], None] = lambda: None,
) -> list[Encoded]:
    """Encode what the folder lacks; the text encoder and the VAE are loaded one after the other.

    Args:
        check: called before each example; may raise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{_key(e, model, frames, dtype)}.safetensors" for e in examples]
    kept = {path: found for path in paths if (found := _read(path)) is not None}
    missing = {p: e for p, e in zip(paths, examples, strict=True) if p not in kept}
    if missing:
        for example in missing.values():
            check()
            check_example(example, model.checkpoint, frames)
        texts = encode_texts({e.caption for e in missing.values()}, model, device, dtype)
        clips = _encode_clips(missing.values(), model, frames, device, dtype, check)
        for (path, example), latents in zip(missing.items(), clips, strict=True):
            kept[path] = Encoded(*latents, texts[example.caption])
            with files.translate_errors(path):  # each at once: a run that is cut short goes on
                files.write_whole(path, _content(kept[path]), sync=False)
    return [kept[path] for path in paths]


def _key(example: Example, model: Model, frames: int, dtype: torch.dtype) -> str:
    hashes = {k: v for k, v in file_hashes(model).items() if k.startswith(PARTS)}
    parts = [example.sha256, example.caption, frames, str(dtype), sorted(hashes.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _content(encoded: Encoded) -> bytes:
    return safetensors.torch.save(
        {name: getattr(encoded, name).contiguous() for name in ("mean", "std", "text")}
    )


def _read(path: Path) -> Encoded | None:
    with contextlib.suppress(OSError, SafetensorError, KeyError):
        found = safetensors.torch.load_file(path)
        return Encoded(found["mean"], found["std"], found["text"])
    return None


@torch.no_grad()
def _encode_clips(
    examples: Iterable[Example], model: Model, frames: int, device: str, dtype, check
) -> Iterator[tuple[Tensor, Tensor]]:
    """Mean and standard deviation of the latents of each."""
    vae = make_part("vae", model, dtype, device).to(device)
    if device != "cpu":
        use_fast_vae(vae)
    for example in examples:
        check()
        pixels = torch.from_numpy(read_pixels(example, model.checkpoint, frames)).to(device)
        pixels = (pixels.permute(3, 0, 1, 2)[None].float() / 127.5 - 1).to(dtype)
        latents = vae.encode(pixels).latent_dist
        both = (latents.mean, latents.std)
        yield tuple(each[0].permute(1, 0, 2, 3).float().cpu().clone() for each in both)
    del vae
    free_memory()


@torch.no_grad()
def encode_texts(captions, model: Model, device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Embeddings (tokens, width) of captions, as those of a video's prompt are padded."""
    tokenizer = load_tokenizer(model)
    encoder = make_part("text_encoder", model, dtype, device).to(device)
    found = {}
    for caption in sorted({*captions}):
        tokens = tokenizer(
            caption,
            padding="max_length",
            max_length=model.checkpoint.text_tokens,
            truncation=True,
            return_tensors="pt",
        )
        found[caption] = encoder(tokens.input_ids.to(device))[0][0].float().cpu().clone()
    del encoder
    free_memory()
    return found
