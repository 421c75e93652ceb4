"""How a checkpoint reads the texts of a request: how far, and which words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import settings
from ..checkpoints import registry
from ..checkpoints.registry import Model
from ..errors import PromptUnknown
from . import prompt_tokens
from .prompt_tokens import Span, Tokens


def read_prompt(
    model: Model, prompt: str, allow_unknown: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(notes, allowed) for a prompt as the checkpoint's tokenizer reads it."""
    tokens, allowed = count_tokens(model, prompt), ()
    if tokens.unknown_share > 0.5:
        if not allow_unknown:
            first = name_words(model, tokens.unknown_words[:1])
            raise PromptUnknown(
                "prompt",
                prompt,
                f"most of it, such as {first}, is unknown to {model.name}; "
                f"{model.checkpoint.reads} (allow_unknown runs it anyway)",
            )
        allowed = ("allow_unknown",)
    return _reading_notes(model, "prompt", prompt) + cannot_draw(model, prompt), allowed


def cannot_draw(model: Model, prompt: str) -> tuple[str, ...]:
    """A sentence for each thing that a prompt asks for in words that a demonstration checkpoint
    knows, and that it can't draw."""
    demonstration = model.checkpoint.demonstration
    return tuple(demonstration.cannot(prompt)) if demonstration else ()


def read_negative_prompt(model: Model, text: str, guidance: float) -> tuple[str, ...]:
    """Notes on what of a negative prompt can't act."""
    if not text.strip():
        return ()
    if guidance <= 1:
        return (f"the negative prompt has no effect at guidance {guidance:g}: raise it above 1",)
    return _reading_notes(model, "negative prompt", text)


def _reading_notes(model: Model, kind: str, text: str) -> tuple[str, ...]:
    """What a checkpoint doesn't read of a text of that kind: unknown words, and the end."""
    tokens, notes = count_tokens(model, text), ()
    words = name_words(model, tokens.unknown_words)
    if tokens.unknown_share == 1:
        notes += (f"the {kind} has no effect, all of it is unknown to {model.name}: {words}",)
    elif tokens.unknown:
        notes += (f"unknown to {model.name} and ignored in the {kind}: {words}",)
    if tokens.cut:
        notes += (
            f"the {kind} has {tokens.count} tokens and {model.name} reads {tokens.limit}; this "
            f"end of it has no effect: {tokens.cut[:60]!r}{'…' * (len(tokens.cut) > 60)}",
        )
    return notes


def count_tokens(model: Model, text: str) -> Tokens:
    """Count the tokens of a prompt with the checkpoint's tokenizer.

    Raises:
        ModelCorrupt: if the tokenizer can't be loaded.
    """
    return prompt_tokens.count_tokens(_tokenizer_folder(model), model.checkpoint.text_tokens, text)


def read_spans(model: Model, text: str) -> tuple[Span, ...]:
    """The tokens of a text as places in it, by the checkpoint's tokenizer.

    Raises:
        ModelCorrupt: if the tokenizer can't be loaded.
    """
    return prompt_tokens.read_spans(_tokenizer_folder(model), model.checkpoint.text_tokens, text)


def name_words(model: Model, words: Sequence[str]) -> str:
    """Unknown words for a person, the first few, with the nearest that the checkpoint knows.

    Raises:
        ModelCorrupt: if the tokenizer can't be loaded.
    """
    return prompt_tokens.name_words(_tokenizer_folder(model), words)


def load_tokenizer(model: Model):
    """The tokenizer of a checkpoint; for random weights the embedded checkpoint's.

    Raises:
        ModelCorrupt: if it can't be loaded.
    """
    return prompt_tokens.load_tokenizer(_tokenizer_folder(model))


def _tokenizer_folder(model: Model) -> Path:
    if model.folder is None:
        return settings.models_dir() / registry.TINY.name
    return model.part("tokenizer").parent
