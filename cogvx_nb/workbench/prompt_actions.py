"""What the page asks about prompts: how they are read, earlier ones, words and styles."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..checkpoints.registry import Model
from ..errors import RequestError
from ..planning import styles
from ..planning.draws import expand_field
from ..planning.reading import count_longest, read_spans
from ..planning.styles import Style
from ..planning.wildcard_syntax import is_template, without_picks
from . import prompt_history
from .actions import Action, NoArguments, Reply

if TYPE_CHECKING:
    from .desk import Desk

MOST_SHOWN = 100
"""Earlier prompts that are answered at once."""

_ready: set[str] = set()
"""Names of the checkpoints whose tokenizers are loaded."""


@dataclass(frozen=True, slots=True)
class ReadText:
    """A text as it is typed: a prompt or a negative one."""

    text: str
    field: str = "prompt"


@dataclass(frozen=True, slots=True)
class ChosenWord:
    """A word to click, and the prompt that it goes into."""

    text: str
    group: str
    word: str


@dataclass(frozen=True, slots=True)
class Search:
    """Words that earlier prompts must have."""

    search: str = ""


@dataclass(frozen=True, slots=True)
class Prompts:
    """A prompt and its negative one."""

    prompt: str
    negative_prompt: str = ""


@dataclass(frozen=True, slots=True)
class NamedStyle:
    """The name of a style, and texts of it or for it."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


def read_prompt(desk: Desk, asked: ReadText) -> Reply | Future[Reply]:
    """How the chosen checkpoint reads a text; see ``reading``."""
    model = desk.form.model
    seed = desk.form.filled["seed"]
    if model.name in _ready:
        return Reply(reading(model, asked.text, seed, asked.field))

    def load_and_read() -> Reply:
        reply = Reply(reading(model, asked.text, seed, asked.field))
        _ready.add(model.name)
        return reply

    return desk.in_background(load_and_read)  # the first use imports transformers


def reading(model: Model, text: str, seed: object = 0, field: str = "prompt") -> dict[str, object]:
    """How a checkpoint reads a text.

    Args:
        seed: by which its wildcards become the text that is counted; of a seed that is drawn, or
            isn't one, that of seed 0.
        field: that it is typed into.

    Returns:
        ``spans``: a list of [start, end, kind, nearest known word], see ``prompt_tokens.Span``;
        ``count`` and ``limit`` of tokens, of the longest of its texts where it changes by steps,
        and both in words as ``summary``.
    """
    try:
        counted = text
        if is_template(text):
            counted = expand_field(field, text, max(seed, 0) if isinstance(seed, int) else 0)
            text = without_picks(text)
        spans, tokens = read_spans(model, text), count_longest(model, counted)
    except RequestError as error:  # it is being typed
        return {"spans": [], "count": 0, "limit": 1, "summary": str(error)}
    return {
        "spans": [[span.start, span.end, span.kind, span.near] for span in spans],
        "count": tokens.count,
        "limit": tokens.limit,
        "summary": f"{tokens.count} of {tokens.limit} tokens",
    }


def list_words(desk: Desk, asked: NoArguments) -> Reply:
    """What a demonstration checkpoint can draw: a sentence and groups of words; else nothing."""
    demonstration = desk.form.model.checkpoint.demonstration
    if demonstration is None:
        return Reply({"sentence": "", "groups": []})
    groups = [{"name": group.name, "words": list(group.words)} for group in demonstration.groups]
    return Reply({"sentence": demonstration.sentence, "groups": groups})


def choose_word(desk: Desk, asked: ChosenWord) -> Reply:
    """The text with a word of a group in it."""
    demonstration = desk.form.model.checkpoint.demonstration
    try:
        if demonstration is None:
            raise ValueError(f"is no word of {desk.form.model.name}")
        return Reply({"text": demonstration.with_word(asked.text, asked.group, asked.word)})
    except ValueError as error:
        raise RequestError("word", asked.word, str(error)) from error


def find_prompts(desk: Desk, asked: Search) -> Reply:
    """Earlier prompts, newest first."""
    found = prompt_history.read_prompts(asked.search)
    shown = [asdict(past) for past in found[:MOST_SHOWN]]
    return Reply({"prompts": shown, "count": len(found)})


def forget_prompt(desk: Desk, asked: Prompts) -> Reply:
    """Delete an earlier prompt."""
    prompt_history.forget_prompt(asked.prompt, asked.negative_prompt)
    return Reply()


def list_styles(desk: Desk, asked: NoArguments) -> Reply:
    """All styles that do something: other programs' files have some as headings."""
    return _styles_reply(styles.read_styles())


def save_style(desk: Desk, asked: NamedStyle) -> Reply:
    """Save a style; returns all of them."""
    style = Style(asked.name.strip(), asked.prompt, asked.negative_prompt)
    if not (style.prompt.strip() or style.negative_prompt.strip()):
        raise RequestError("style", style.name, "is empty: write a prompt first")
    return _styles_reply(styles.save_style(style))


def delete_style(desk: Desk, asked: NamedStyle) -> Reply:
    """Delete a style; returns those that are left."""
    return _styles_reply(styles.delete_style(asked.name))


def apply_style(desk: Desk, asked: NamedStyle) -> Reply:
    """The prompts that a style makes of these."""
    prompt, negative = styles.find_style(asked.name).apply(asked.prompt, asked.negative_prompt)
    return Reply({"prompt": prompt, "negative_prompt": negative})


def _styles_reply(found: tuple[Style, ...]) -> Reply:
    shown = [asdict(style) for style in found if style.prompt or style.negative_prompt]
    return Reply({"styles": shown})


ACTIONS = {
    "prompt.read": Action(ReadText, read_prompt),
    "prompt.words": Action(NoArguments, list_words),
    "prompt.choose": Action(ChosenWord, choose_word),
    "prompt.history": Action(Search, find_prompts),
    "prompt.forget": Action(Prompts, forget_prompt),
    "styles.list": Action(NoArguments, list_styles),
    "styles.save": Action(NamedStyle, save_style),
    "styles.delete": Action(NamedStyle, delete_style),
    "styles.apply": Action(NamedStyle, apply_style),
}
