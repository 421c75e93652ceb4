"""Actions on the pictures and clips that a video starts from: given as files or taken from results,
shown as they are fitted, and shown beside what was made from them."""

from __future__ import annotations

import io
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from ..checkpoints.registry import Model
from ..errors import CogvxError, RequestError, ResultError
from ..files import temporary_folder
from ..media import pixels
from ..media.given import Given
from ..planning.field import PICTURE
from ..planning.fields import FIELDS, INPUTS
from ..planning.fit import fit_frames, fit_size
from ..planning.inputs import read_input
from ..results import video
from ..results.pictures import fitted_size
from ..results.result import read_result
from ..results.typed import OneOf
from .actions import Action, Reply
from .desk import Desk
from .draft import MOST_NAME
from .previews import preview_animation

PREVIEW_SIDES = 480, 720
"""Height and width in pixels that a preview fits into."""

THUMBNAIL_SIDES = 96, 144
"""The same of the picture beside a result."""

PREVIEW_FRAMES = 25
"""Of a moving preview: more would take as long to send as to look at."""

SHAPING = ("frames", "height", "width", "allow_untrained_size", "fit", "video_start")
"""Fields that decide what is used of a picture or a clip."""


# --- as they are fitted ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InputField:
    """A field of the form that names a picture or a clip."""

    field: Annotated[str, OneOf(INPUTS)]


def preview(desk: Desk, wanted: InputField) -> Future[Reply] | Reply:
    """What the form has for a field, as it will be fitted.

    Replies with its ``name`` and ``facts``, and a WebP that moves where it is a clip; with None
    where nothing is given.
    """
    values, names, model = desk.form.filled, dict(desk.form.names), desk.form.model
    if not values[wanted.field]:
        return Reply()

    def draw() -> Reply:
        checked = {name: FIELDS[name].check(values[name]) for name in SHAPING}
        given = read_input(wanted.field, values[wanted.field])
        image = read_input("image", values["image"]) if values["image"] else None
        shaping = image or (given if wanted.field == "video" else None)  # as of a request
        (height, width), _ = fit_size(model, checked, shaping)
        facts = [f"{given.height} × {given.width}", *_length(given), *given.notes]
        facts += filter(None, [pixels.fit_note(given, height, width, checked["fit"])])
        frames = _fitted(given, model, height, width, checked)
        shown = _webp(frames, model.checkpoint.fps, PREVIEW_SIDES)
        return Reply({"name": names.get(given.value, given.name), "facts": facts}, (shown,))

    return desk.in_background(draw)


def _fitted(
    given: Given, model: Model, height: int, width: int, values: dict[str, object]
) -> np.ndarray:
    """Its frames as the video starts from them, at most ``PREVIEW_FRAMES``."""
    fit, start = values["fit"], values["video_start"]
    if given.fps == 0:
        return pixels.picture_pixels(given.value, height, width, fit)
    fps = model.checkpoint.fps
    there = pixels.frames_available(given, fps, start)
    if there < 1:
        raise RequestError("video_start", start, f"is after the clip's {given.seconds:.1f} s")
    count = min(there, fit_frames(model, values["frames"])[0], PREVIEW_FRAMES)
    return pixels.clip_pixels(given.value, count, fps, height, width, fit, start)


def _length(given: Given) -> list[str]:
    if given.fps == 0:
        return []
    return [f"{given.seconds:.1f} s, {given.frames} frames"]


def _webp(frames: np.ndarray, fps: float, sides: tuple[int, int]) -> bytes:
    """Frames as a WebP of at most that size; it moves where they are several."""
    if len(frames) > 1:
        return preview_animation(frames, fps)
    size = fitted_size(*frames.shape[1:3], *sides)
    picture = Image.fromarray(frames[0])
    if size[0] < picture.width:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, "WEBP", quality=85)
    return data.getvalue()


# --- from results ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """What to use of a result."""

    path: str
    part: Annotated[str, OneOf(("first frame", "last frame", "clip"))]


def use_result(desk: Desk, wanted: Part) -> Future[Reply]:
    """Start from a frame of a result or from all of it; replies with the form's ``state``, and a
    note."""
    path = desk.path_of(wanted.path)
    return desk.in_background(_use_part, desk, path, wanted.part)


def _use_part(desk: Desk, path: Path, part: str) -> Reply:
    if part == "clip":
        return Reply(desk.take_file(path, path.name, "video"))
    frames = video.decode_video(path, 1 if part == "first frame" else None)
    name = f"{part} of {path.stem[:MOST_NAME]}.png"
    with temporary_folder() as folder:
        picture = folder / name
        Image.fromarray(frames[-1]).save(picture)
        return Reply(desk.take_file(picture, name, "image"))


@dataclass(frozen=True, slots=True)
class InputOf:
    """A picture or a clip that a result was made from."""

    path: str
    field: Annotated[str, OneOf(INPUTS)]


def input_thumbnail(desk: Desk, wanted: InputOf) -> Future[Reply]:
    """A small WebP of what a result was made from, as it was fitted; nothing where it is gone."""
    request = read_result(desk.path_of(wanted.path)).settings.request
    kept = getattr(request, wanted.field)
    size = request.height, request.width

    def draw() -> Reply:
        try:
            if not kept:
                raise ResultError(f"{wanted.path} was made without {wanted.field}")
            if FIELDS[wanted.field].media == PICTURE:
                frames = pixels.picture_pixels(kept, *size, request.fit)
            else:
                start = request.video_start
                frames = pixels.clip_pixels(kept, 1, request.fps, *size, request.fit, start)
        except CogvxError:
            return Reply(None, (b"",))
        return Reply(None, (_webp(frames, request.fps, THUMBNAIL_SIDES),))

    return desk.in_background(draw)


ACTIONS: dict[str, Action] = {
    "input.preview": Action(InputField, preview),
    "input.use": Action(Part, use_result),
    "input.thumbnail": Action(InputOf, input_thumbnail),
}
