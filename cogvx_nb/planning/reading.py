"""How a checkpoint reads the texts of a request: how far, and which words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .. import settings
from ..checkpoints import registry
from ..checkpoints.registry import MAX_STEPS, Model
from ..errors import PromptUnknown
from . import prompt_tokens, step_prompts
from .prompt_tokens import Span, Tokens


def read_prompts(
    model: Model, asked: Mapping[str, object], steps: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(notes, allowed) for both prompts of a request as the checkpoint's tokenizer reads them.

    Args:
        asked: values of its fields.
        steps: that are done.

    Raises:
        RequestError: for a change by steps that can't be read.
        PromptUnknown: if most of the prompt is unknown, unless allowed.
    """
    notes, allowed = _read_prompt(model, asked["prompt"], steps, asked["allow_unknown"])
    negative = asked["negative_prompt"], steps, asked["guidance"]
    return notes + _read_negative_prompt(model, *negative), allowed


def _read_prompt(
    model: Model, prompt: str, steps: int, allow_unknown: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    notes, allowed = step_prompts.notes(prompt, steps, "prompt"), ()
    for text in _texts(prompt, steps):
        found, needed = _read_text(model, prompt, text, allow_unknown)
        notes, allowed = notes + found, needed or allowed
    return tuple(dict.fromkeys(notes)), allowed


def _texts(prompt: str, steps: int, field: str = "prompt") -> list[str]:
    """What a prompt is for some of the steps."""
    return [one.text for one in step_prompts.texts_by_step(prompt, steps, field).values()]


def _read_text(
    model: Model, prompt: str, text: str, allow_unknown: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(notes, allowed) for what a prompt is for some of the steps."""
    tokens, allowed = count_tokens(model, text), ()
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
    return _reading_notes(model, "prompt", text) + cannot_draw(model, text), allowed


def cannot_draw(model: Model, prompt: str) -> tuple[str, ...]:
    """A sentence for each thing that a prompt asks for in words that a demonstration checkpoint
    knows, and that it can't draw."""
    demonstration = model.checkpoint.demonstration
    return tuple(demonstration.cannot(prompt)) if demonstration else ()


def _read_negative_prompt(
    model: Model, prompt: str, steps: int, guidance: float
) -> tuple[str, ...]:
    """Notes on what of a negative prompt can't act."""
    texts = _texts(prompt, steps, "negative_prompt")
    if not prompt.strip():
        return ()
    if guidance <= 1:
        return (f"the negative prompt has no effect at guidance {guidance:g}: raise it above 1",)
    notes = step_prompts.notes(prompt, steps, "negative prompt")
    for text in filter(str.strip, texts):
        notes += _reading_notes(model, "negative prompt", text)
    return tuple(dict.fromkeys(notes))


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
    """The tokens of a prompt as places in it, by the checkpoint's tokenizer; what a prompt that
    changes by steps has besides its texts belongs to none.

    Raises:
        RequestError: for a change by steps that can't be read.
        ModelCorrupt: if the tokenizer can't be loaded.
    """
    folder, limit = _tokenizer_folder(model), model.checkpoint.text_tokens
    found = [
        replace(span, start=one.places[span.start], end=one.places[span.end - 1] + 1)
        for one in step_prompts.texts_by_step(text, MAX_STEPS).values()
        for span in prompt_tokens.read_spans(folder, limit, one.text)
    ]
    spans: list[Span] = []
    for span in sorted(found, key=lambda span: (span.start, span.end)):
        if not spans or span.start >= spans[-1].end:  # not the same in another text
            spans.append(span)
    return tuple(spans)


def count_longest(model: Model, prompt: str) -> Tokens:
    """Count the tokens of the longest text that a prompt is for some of the steps.

    Raises:
        RequestError: for a change by steps that can't be read.
        ModelCorrupt: if the tokenizer can't be loaded.
    """
    counts = (count_tokens(model, text) for text in _texts(prompt, MAX_STEPS))
    return max(counts, key=lambda tokens: tokens.count)


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
