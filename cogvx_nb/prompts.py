"""What a checkpoint's tokenizer makes of a prompt, without loading the model."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from . import checkpoints, settings
from .errors import ModelCorrupt
from .weights import Model, read_json


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt as a tokenizer sees it.

    Attributes:
        count: tokens, end token included.
        limit: most tokens that the checkpoint reads, end token included.
        unknown: how many of them the tokenizer doesn't know.
        unknown_share: part of the prompt that the model can't see, 0 … 1: by tokens or by
            characters, whichever is more (T5 makes one token of a whole unknown sentence).
        cut: the end of the prompt that is beyond the limit and has no effect; empty if it fits.
    """

    count: int
    limit: int
    unknown: int
    unknown_share: float
    cut: str


def count(model: Model, text: str) -> Tokens:
    """Count a prompt's tokens with the checkpoint's own tokenizer.

    Raises:
        ModelCorrupt: if the tokenizer can't be loaded.
    """
    return _count(_folder(model), model.checkpoint.text_tokens, text)


@functools.lru_cache(maxsize=256)  # sweeps ask for a prompt by the thousand
def _count(folder: Path, limit: int, text: str) -> Tokens:
    tokenizer = _load_tokenizer(folder)
    encoded = tokenizer(text, return_offsets_mapping=True, verbose=False)
    spans = list(zip(encoded.input_ids, encoded.offset_mapping, strict=True))
    lengths = {True: [], False: []}
    for token, (start, end) in spans:
        characters = len(text[start:end].strip())
        if characters:  # neither the end token nor a bare space
            lengths[token == tokenizer.unk_token_id].append(characters)
    unknown, known = lengths[True], lengths[False]
    cut_at = spans[limit - 1][1][0] if len(spans) > limit else len(text)
    return Tokens(
        count=len(spans),
        limit=limit,
        unknown=len(unknown),
        unknown_share=max(_share(len(unknown), len(known)), _share(sum(unknown), sum(known))),
        cut=text[cut_at:].strip(),
    )


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part else 0.0


def load_tokenizer(model: Model):
    """The checkpoint's tokenizer, of the class that its ``model_index.json`` names.

    Random weights come without one, and take the embedded checkpoint's.

    Raises:
        ModelCorrupt: if it can't be loaded.
    """
    return _load_tokenizer(_folder(model))


def _folder(model: Model) -> Path:
    return model.folder or settings.models_dir() / checkpoints.TINY.name


@functools.lru_cache(maxsize=4)
def _load_tokenizer(folder):
    import transformers

    library, name = read_json(folder / "model_index.json").get("tokenizer", ("transformers", ""))
    if library != "transformers" or not hasattr(transformers, name):
        raise ModelCorrupt(f"{folder / 'model_index.json'} names no known tokenizer: {name!r}")
    try:
        return getattr(transformers, name).from_pretrained(folder / "tokenizer")
    except Exception as error:  # the library raises whatever its parsers do
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelCorrupt(f"{folder / 'tokenizer'} can't be loaded: {reason}") from error
