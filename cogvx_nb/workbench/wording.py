"""Errors as sentences for the page: with the label of the field, and what can be allowed."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import CogvxError, PromptUnknown, RequestError
from ..planning.field import CHECKS, PROMPT
from ..planning.fields import FIELDS, names_deciding
from ..text import plain_line

LABELS = {
    "allow_untrained_size": "Allow other sizes",
    "allow_unknown": "Allow unknown prompts",
    "extend": "Go on from",
    "frames": "Length",
    "lora": "LoRA",
    "video": "Clip",
    "video_start": "Clip from second",
}
"""Labels that are not the field's name."""

MOST_SHOWN = 40
"""Characters of a value in a sentence."""

VERBS = ("is ", "are ", "has ", "must ", "holds ", "takes ")
"""How remedies begin that follow the value without a colon."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """Something that the page says."""

    text: str
    field: str = ""  # the name of the field that it is about
    permission: str = ""  # the ``allow_…`` field with which it is done anyway
    model: str = ""  # the checkpoint here with which it can be done


def label_of(name: str) -> str:
    """What a field is called on the page."""
    return LABELS.get(name) or name.replace("_", " ").capitalize()


def explain_error(error: CogvxError) -> Sentence:
    """An error as the page shows it."""
    if not isinstance(error, RequestError):
        return Sentence(plain_line(" ".join(str(error).split())))
    name = error.field if error.field in FIELDS else ""
    permission = "allow_unknown" if isinstance(error, PromptUnknown) else ""
    permission = permission or _named_permission(error.remedy)
    remedy = use_labels(error.remedy)
    value = plain_line(str(error.value).strip()) if error.value is not None else ""
    subject = label_of(error.field)
    told = FIELDS[name].section != PROMPT if name else True  # a prompt stands above the sentence
    if value and told and len(value) <= MOST_SHOWN:
        subject = f"{subject} {value}"
    joint = " " if remedy.startswith(VERBS) else ": "
    return Sentence(plain_line(f"{subject}{joint}{remedy}"), name, permission)


def use_labels(text: str) -> str:
    """A message with the labels of permissions in place of their names."""
    for name in names_deciding(CHECKS):
        text = text.replace(f" ({name} runs it anyway)", "").replace(name, f"“{label_of(name)}”")
    return text


def _named_permission(text: str) -> str:
    named = (name for name in names_deciding(CHECKS) if name.startswith("allow_") and name in text)
    return next(named, "")
