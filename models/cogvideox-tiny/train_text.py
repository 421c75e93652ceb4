"""Tokenizer and text encoder, which first learns to name what a prompt says."""

from __future__ import annotations

import random
from pathlib import Path

import prompts
import torch
import torch.nn.functional as F
import world
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from training import LONG_TEXT_TOKENS, TEXT_TOKENS, Clock, adam, descend, learning_rate, sample
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

SPECIAL = ["<pad>", "</s>", "<unk>"]
TEXT_ENCODER = {
    "d_model": 128,
    "d_ff": 256,
    "num_layers": 2,
    "num_heads": 4,
    "d_kv": 32,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.0,
}


def make_tokenizer(seed: int = 0) -> PreTrainedTokenizerFast:
    """Words of English and characters of Chinese, as the prompts use them, and common ones."""
    splitter = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.BertNormalizer(lowercase=True, strip_accents=False)]
    )
    pieces = pre_tokenizers.BertPreTokenizer()
    rng = random.Random(seed)
    found = {*prompts.COMMON_WORDS, *prompts.COMMON_CHARACTERS, *prompts.PUNCTUATION}
    texts = [
        prompts.write(prompts.forget(attributes, rng), language, rng)
        for attributes in world.EVERYTHING * 20
        for language in ("en", "zh")
    ]
    for text in [*texts, *found]:
        normal = splitter.normalize_str(text)
        found |= {piece for piece, _ in pieces.pre_tokenize_str(normal)}
    words = SPECIAL + sorted(word for word in found if word == splitter.normalize_str(word).strip())
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = splitter, pieces
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=LONG_TEXT_TOKENS,
    )


def targets(attributes: list[world.Attributes]) -> list[torch.Tensor]:
    """Class numbers of each attribute; the last class is "not said"."""
    columns = zip(*((a.colour, a.shape, a.motion, a.background) for a in attributes), strict=True)
    tables = [list(t) for t in (world.COLOURS, world.SHAPES, world.MOTIONS, world.BACKGROUNDS)]
    return [
        torch.tensor([table.index(v) if v else len(table) for v in column])
        for table, column in zip(tables, columns, strict=True)
    ]


def embed(encoder: T5EncoderModel, ids: torch.Tensor) -> torch.Tensor:
    """Embeddings as the pipeline makes them, that is without a mask over the padding."""
    return encoder(ids)[0]


def train_text(out: Path, minutes: float, device: str, batch: int) -> None:
    """Tokenizer, and a text encoder that can already tell what a prompt says."""
    tokenizer = make_tokenizer()
    config = T5Config(vocab_size=len(tokenizer), **TEXT_ENCODER)
    encoder = T5EncoderModel(config).to(device)
    classes = [len(t) + 1 for t in (world.COLOURS, world.SHAPES, world.MOTIONS, world.BACKGROUNDS)]
    head = torch.nn.Linear(config.d_model, sum(classes)).to(device)
    both = torch.nn.ModuleList([encoder, head])
    optimizer = adam([(both, 2e-3)], device)
    rng, clock = random.Random(1), Clock(minutes)
    for step in clock.steps():
        said = [prompts.forget(a, rng) for a in sample(batch, rng)]
        texts = [prompts.write(a, rng.choice(("en", "zh")), rng) for a in said]
        length = LONG_TEXT_TOKENS if rng.random() < 1 / 8 else TEXT_TOKENS
        ids = tokenizer(texts, padding="max_length", max_length=length, return_tensors="pt")
        pooled = embed(encoder, ids.input_ids.to(device)).amax(dim=1)
        logits = head(pooled).split(classes, dim=1)
        wanted = [t.to(device) for t in targets(said)]
        loss = sum(F.cross_entropy(a, b) for a, b in zip(logits, wanted, strict=True))
        descend(loss, optimizer, both, learning_rate(step, clock.progress, 1.0))
        if step % 50 == 0:
            right = [
                (a.argmax(1) == b).float().mean().item()
                for a, b in zip(logits, wanted, strict=True)
            ]
            print(f"text {step} loss {loss.item():.3f} right {min(right):.3f}", flush=True)
    tokenizer.save_pretrained(out / "tokenizer")
    encoder.save_pretrained(out / "text_encoder")
