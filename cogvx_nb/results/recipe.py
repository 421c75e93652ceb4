"""What makes a result again, to be copied: a command line and a notebook cell."""

from __future__ import annotations

import shlex

from ..checkpoints import registry
from ..errors import RequestError, ResultError
from ..planning.field import CHECKS, FRAMES, PLAN
from ..planning.fields import FIELDS, names_deciding
from ..planning.inputs import named_value
from .records import RecordedFinish, Sidecar, used_inputs

ALWAYS = ("prompt", "model", "frames", "steps", "seed")
"""Fields that a recipe names even where they have their defaults."""


def recipe_values(sidecar: Sidecar) -> dict[str, object]:
    """The values of ``FIELDS`` that make a result again, without those that are the default anyway.

    A prompt that a chat model wrote is given as it wrote it, a drawn seed as it was drawn, and
    pictures and clips by what they are kept as in the outputs folder, which works in any folder.
    """
    known = registry.find_checkpoint(sidecar.checkpoint.name)
    values: dict[str, object] = {"model": known.name if known else sidecar.checkpoint.folder}
    for name in names_deciding(FRAMES):
        values[name] = getattr(sidecar.request, name)
    values |= {used.field: named_value(used.value, used.name) for used in used_inputs(sidecar)}
    for name in names_deciding(PLAN):
        values[name] = _asked_value(sidecar, name)
    for name in names_deciding(CHECKS):
        values[name] = name in sidecar.allowed
    # Where several sizes were trained, what is left open follows the picture.
    fixed = known is not None and known.sizes is None
    native = {"height": known.height, "width": known.width} if fixed else {}
    return {
        name: values[name]
        for name, field in FIELDS.items()
        if name in values
        if name in ALWAYS or values[name] not in (field.default, native.get(name, field.default))
    }


def _asked_value(sidecar: Sidecar, name: str) -> object:
    """A value as it was asked for; the default where the sidecar has none that can be used."""
    field = FIELDS[name]
    try:
        return field.check(sidecar.asked.get(name, field.default))
    except RequestError:
        return field.default


def command_line(sidecar: Sidecar) -> str:
    """The ``cogvx generate`` command that makes a result again, for a POSIX shell.

    Raises:
        ResultError: if a text holds a NUL character, or for a storyboard.
    """
    if sidecar.finished:
        if "\0" in sidecar.finished.source:
            raise ResultError("the name of its source holds a NUL character")
        return shlex.join(["cogvx", "finish", *_finish_words(sidecar.finished)])
    _check_one_request(sidecar)
    words = ["cogvx", "generate"]
    for name, value in recipe_values(sidecar).items():
        flag = FIELDS[name].flag
        text = str(value)
        if "\0" in text:
            raise ResultError(f"{name} holds a NUL character, which no command line can")
        if value is True:
            words.append(flag)
        elif text.startswith("-"):
            words.append(f"{flag}={shlex.quote(text)}")
        else:
            words += [flag, shlex.quote(text)]
    return " ".join(words)


def _check_one_request(sidecar: Sidecar) -> None:
    """Refuse a storyboard, whose settings are those of its first piece."""
    if sidecar.pieces:
        rows = (
            f"a storyboard of {len(sidecar.pieces)} pieces is made by cogvx storyboard, of its rows"
        )
        raise ResultError(f"{rows}; cogvx reproduce joins its pieces again")


def finish_values(finished: RecordedFinish) -> dict[str, object]:
    """What makes a finished video again of its source, by the names of ``finishing.recipe``."""
    values: dict[str, object] = {}
    if finished.interpolation:
        values |= {"fps": finished.fps, "interpolation": finished.interpolation}
    if finished.upscaler:
        values |= {"scale": finished.scale, "upscaler": finished.upscaler}
    return values


def _finish_words(finished: RecordedFinish) -> list[str]:
    words = ["--", finished.source] if finished.source.startswith("-") else [finished.source]
    flags = [(f"--{name}", str(value)) for name, value in finish_values(finished).items()]
    return [word for pair in flags for word in pair] + words


def notebook_cell(sidecar: Sidecar) -> str:
    """A cell that makes a result again.

    Raises:
        ResultError: for a storyboard.
    """
    if finished := sidecar.finished:
        values = [repr(finished.source)]
        values += [f"{name}={value!r}" for name, value in finish_values(finished).items()]
        call = f"video = finish_result({', '.join(values)})"
        return "\n".join(["from cogvx_nb import finish_result", "", call])
    _check_one_request(sidecar)
    lines = [f"    {name}={value!r}," for name, value in recipe_values(sidecar).items()]
    return "\n".join(
        ["from cogvx_nb import generate_video", "", "video = generate_video(", *lines, ")"]
    )
