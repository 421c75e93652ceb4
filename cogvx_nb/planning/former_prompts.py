"""Prompts in sidecars and kept jobs of any version, as they are read today. No torch."""

from __future__ import annotations

from . import step_prompts, wildcard_syntax
from .fields import MAX_PROMPT, TEMPLATED


def escape_former_prompts(content: dict, request: str, rows: str) -> dict:
    """A file from before wildcards, whose braces were all text, or from before those of negative
    prompts; and from before prompts could change by steps, whose brackets were text.

    Args:
        content: JSON of any kind.
        request: key of the values of a request.
        rows: key of a list of more with a ``prompt``, such as pieces of a storyboard.

    Returns:
        The content with such texts escaped, and with ``templates``.
    """
    made = content.get(request)
    if not isinstance(made, dict) or "templates" in content:
        return content
    known = {"prompt"} if "template" in content else set()
    brackets = not known and "guidance_schedule" not in made  # a little later than changes by steps
    typed = content.get("template")
    former = {request: _escaped(made, known, brackets)}
    former["templates"] = {"prompt": typed} if typed else {}
    if isinstance(found := content.get(rows), list):
        former[rows] = [
            _escaped(one, known, brackets) if isinstance(one, dict) else one for one in found
        ]
    return content | former


def _escaped(values: dict, known: set[str], brackets: bool) -> dict:
    """Values whose prompts mean their text.

    Args:
        known: names of fields that had wildcards already.
        brackets: whether those were text too.
    """
    texts = {
        name: text
        for name in TEMPLATED
        if isinstance(text := values.get(name), str)
        and len(text) <= MAX_PROMPT  # others aren't of a request
    }
    if brackets:
        texts = {name: step_prompts.escape(text) for name, text in texts.items()}
    return values | {
        name: text if name in known else wildcard_syntax.escape(text)
        for name, text in texts.items()
    }
