"""What is left to chance: seeds, and the texts that a seed makes of wildcards."""

from __future__ import annotations

import random

from ..errors import RequestError
from .fields import DRAWN_BELOW, FIELDS, RANDOM_SEED, SEEDS, TEMPLATED
from .wildcard_syntax import is_template
from .wildcards import expand


def draw_seeds(values: dict[str, object]) -> dict[str, int]:
    """The seeds to use, by the names of their fields: as asked for, or drawn."""
    draw = random.SystemRandom()  # not of a state that a notebook may have set
    return {
        name: draw.randrange(DRAWN_BELOW) if values[name] == RANDOM_SEED else values[name]
        for name in SEEDS
    }


def expand_prompts(values: dict[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """The prompts as the seed makes them of wildcards, and as typed where that is another one.

    Args:
        values: of fields; a seed of -1 is drawn in them where wildcards need it.

    Returns:
        (texts, templates), each by the names of fields.

    Raises:
        RequestError: with the field, and what of it can't be read or made.
    """
    typed = {name: values[name] for name in TEMPLATED}
    if any(map(is_template, typed.values())):
        values |= draw_seeds(values)
    texts = {name: expand_field(name, text, values["seed"]) for name, text in typed.items()}
    return texts, {name: text for name, text in typed.items() if text != texts[name]}


def expand_field(name: str, template: str, seed: int) -> str:
    """The text that a seed makes of what is typed into a field; see ``wildcards.expand``."""
    try:
        text = expand(template, seed)
    except RequestError as error:
        raise RequestError(name, error.value, error.remedy) from error
    return FIELDS[name].check(text)
