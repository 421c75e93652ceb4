"""Pictures and clips of a request: the task that they make, and whether a checkpoint does it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints import registry
from ..checkpoints.registry import CLIP, CONTROL, EXTEND, FRAMES, IMAGE, TEXT, Checkpoint
from ..errors import RequestError
from ..loras.entries import shown_loras
from ..media import kept
from ..paths import user_path
from ..text import plain_line
from . import extension
from .field import PICTURE
from .fields import FIELDS, INPUTS
from .guidance import parse_interval

if TYPE_CHECKING:
    from ..media.given import Given

INPUTS_OF = {
    TEXT: (),
    IMAGE: ("image",),
    FRAMES: ("image", "last_image"),
    CLIP: ("video",),
    CONTROL: ("video",),
    EXTEND: ("extend",),
}
"""Fields that are given for each task."""

TAKES = {
    TEXT: "text alone",
    IMAGE: "an image",
    FRAMES: "an image and a last_image",
    CLIP: "a video to change",
    CONTROL: "a video to follow",
    EXTEND: "a video to extend",
}
"""What each task starts from, for messages."""

MOST_NAME = 80
"""Characters of a file's name that are kept with what it is kept as."""


def read_inputs(values: Mapping[str, object]) -> dict[str, Given]:
    """The pictures and clips that a request names, by field; each is kept by its content.

    Raises:
        RequestError: for one that can't be used, with the remedy.
    """
    return {name: read_input(name, values[name]) for name in INPUTS if values.get(name)}


def absolute_name(field: str, value: str, folder: Path) -> str:
    """A path that a file of rows names, from any current directory; kept names stay. A clip to
    extend may be a result's name where there is no such file: see ``extension.find_source``.

    Raises:
        PathError: if the system can have no such file.
        RequestError: if several results have that name.
    """
    if not value or kept.is_kept_name(split_name(value)[0]):
        return value
    path = user_path(value, field, start=folder, folder=True)
    if field == extension.FIELD and not path.exists():
        found = Path(extension.find_source(value))
        return str(found if found.is_absolute() else path)
    return str(path)


def read_input(name: str, value: object) -> Given:
    """The picture or clip of a field; see ``read_inputs``."""
    from ..media import given  # late: ``cogvx check`` runs where no package is

    read = given.read_picture if FIELDS[name].media == PICTURE else given.read_clip
    value, known_as = split_name(FIELDS[name].check(value))
    value = extension.find_source(value) if name == extension.FIELD else value
    file = read(value, name)
    return replace(file, name=known_as) if known_as else file


def named_value(value: str, name: str) -> str:
    """A kept name with the name that people know the file by: a field's value that is the same
    file in any folder and process."""
    return f"{value}#{plain_line(name)[:MOST_NAME]}"


def split_name(value: str) -> tuple[str, str]:
    """(what names the file, the name that people know it by, or an empty text) of a field's
    value."""
    file, _, name = value.partition("#")
    if not kept.is_kept_name(file):
        return value, ""
    return file, plain_line(name).rpartition("/")[2][:MOST_NAME]


def shown_value(name: str, value: object) -> object:
    """A field's value as people read it: a picture or a clip that is kept, by its file's name;
    LoRAs without hashes."""
    if name == "lora" and isinstance(value, str):
        return shown_loras(value)
    return split_name(value)[1] or value if name in INPUTS and isinstance(value, str) else value


def given_names(values: Mapping[str, object]) -> tuple[str, ...]:
    """Names of the fields with a picture or a clip."""
    return tuple(name for name in INPUTS if values.get(name))


def tasks_with(names: Collection[str]) -> list[str]:
    """Tasks for which just those fields are given."""
    return [task for task, needed in INPUTS_OF.items() if set(needed) == set(names)]


def refuse_both(values: Mapping[str, object]) -> None:
    """Raise RequestError if a clip is given together with a picture or another clip."""
    image = values.get("image") or values.get("last_image")
    if values.get("video") and image:
        raise RequestError(
            "video", values["video"], "can't be given together with an image: leave one out"
        )
    if values.get("extend") and (image or values.get("video")):
        other = "an image" if image else "a video"
        raise RequestError(
            "extend", values["extend"], f"can't be given together with {other}: leave one out"
        )


def task_of(checkpoint: Checkpoint, names: Collection[str]) -> str:
    """The task that a checkpoint does with what is given.

    Args:
        names: of the fields with a picture or a clip.

    Raises:
        RequestError: if it does none, with those that do.
    """
    tasks = tasks_with(names)
    if not tasks:
        if set(names) == {"last_image"}:
            raise RequestError("image", "", "is missing: a last_image needs an image before it")
        if "extend" in names:
            raise RequestError("extend", "", "can't be given together with others: leave them out")
        raise RequestError("video", "", "can't be given together with an image: leave one out")
    for task in tasks:
        if task in checkpoint.tasks:
            return task
    wanted = tasks[0]
    able = [known.name for known in registry.CHECKPOINTS if wanted in known.tasks]
    *most, last = [TAKES[task] for task in checkpoint.tasks]
    takes = f"{', '.join(most)} or {last}" if most else last
    raise RequestError(
        "model",
        checkpoint.name,
        f"takes {takes}, not {TAKES[wanted]}: use {', '.join(able)}",
    )


def done_steps(task: str, steps: int, strength: float) -> int:
    """The steps that are done of so many: a clip is changed by the last of them, at least one."""
    return max(1, min(int(steps * strength), steps)) if task == CLIP else steps


def encoded_frames(checkpoint: Checkpoint, names: Collection[str], frames: int) -> int:
    """Frames that the VAE encodes before the first step: each picture by itself, but where the
    model sees a whole clip of known and unknown frames.

    Args:
        names: of the fields with a picture or a clip.
        frames: of the clip that is made.
    """
    whole = "video" in names or (names and checkpoint.is_masked)
    if extension.FIELD in names and not whole:
        return extension.overlap(checkpoint)
    return frames if whole else len(names)


def idle_fields(asked: Mapping[str, object]) -> tuple[str, ...]:
    """A note for each value that has no effect, since what it tunes isn't given."""
    return tuple(
        f"{name} has no effect without {' or '.join(field.tunes)}"
        for name, field in FIELDS.items()
        if field.tunes and asked[name] != field.default
        if not any(asked[tuned] for tuned in field.tunes)
    )


def guiding_notes(asked: Mapping[str, object], steps: int) -> tuple[str, ...]:
    """A note where guidance is given that no step has.

    Args:
        asked: values of a request's fields.
        steps: that are done.
    """
    named = {name: asked[name] for name in ("guidance_schedule", "guidance_interval")}
    if asked["guidance"] <= 1:
        given = [name for name, value in named.items() if value != FIELDS[name].default]
        return tuple(f"{name} has no effect at guidance {asked['guidance']:g}" for name in given)
    interval = parse_interval(str(asked["guidance_interval"]))
    first, end = (round(share * steps) for share in interval)
    if first < end:
        return ()
    between = f"no step of {steps} lies between {interval[0]:g} and {interval[1]:g}"
    return (f"guidance_interval: {between}, so there is no guidance",)


def reading_notes(given: Mapping[str, Given], height: int, width: int, fit: str) -> tuple[str, ...]:
    """What reading and fitting changes of each picture and clip, for a person."""
    from ..media import pixels  # late, too

    notes = ()
    for name, file in given.items():
        fitted = pixels.fit_note(file, height, width, fit)
        notes += tuple(f"{name}: {note}" for note in (*file.notes, fitted) if note)
    return notes


def clip_frames(clip: Given, frames: int, checkpoint: Checkpoint, start: float) -> int:
    """The frames that a clip has for a video of so many: those, or fewer that the checkpoint makes.

    Raises:
        RequestError: if it has too few for any.
    """
    from ..media import pixels  # late, too

    available = pixels.frames_available(clip, checkpoint.fps, start)
    if available >= frames:
        return frames
    counts = [count for count in checkpoint.frame_counts if count <= available]
    if not counts:
        least = min(checkpoint.frame_counts)
        after = f" after {start:g} s" if start else ""
        raise RequestError(
            "video",
            clip.name,
            f"has {available} frames at {checkpoint.fps} fps{after} and {checkpoint.name} makes at "
            f"least {least}: use a longer clip",
        )
    return max(counts)
