"""A grid before its first video: its requests, their cost, and the layout of its sheets."""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace

from ..checkpoints import store
from ..checkpoints.registry import Model
from ..errors import CogvxError, ModelError, RequestError
from ..planning import inputs, planner, probe
from ..planning.fields import DRAWN_BELOW, FIELDS, RANDOM_SEED, SEEDS
from ..planning.plan import RECORDED
from ..planning.request import VideoRequest
from ..planning.schedulers import AUTO, used_guidance, used_scheduler
from ..results.sheet import SheetLayout, common_pace, plan_sheet
from ..results.source_prompt import request_from
from ..text import format_duration
from .grid_axis import EMPTY, PROMPT, WORDS, GridAxis, apply_axes
from .grid_loras import LORA, LORA_WEIGHT, effective_loras
from .grid_values import MOST
from .lora_rows import kept_loras
from .prediction import Prediction, cost_kind

SIDES = ("across", "down", "pages")

MOST_NOTES = 5
"""Notes on the requests of a grid that are shown."""

Predict = Callable[[VideoRequest], Prediction]
"""See ``Session.predict_request``."""


@dataclass(frozen=True, slots=True)
class GridPlan:
    """The requests of a grid: page by page, and row by row in a page."""

    axes: tuple[GridAxis, ...]  # one for each of ``SIDES``
    values: dict[str, object]  # of the request that it varies, by the names of ``FIELDS``
    requests: tuple[VideoRequest, ...]
    layouts: tuple[SheetLayout, ...]  # of each page
    seconds: tuple[float | None, ...]  # predicted, of each request; None where it is unknown

    @property
    def notes(self) -> tuple[str, ...]:
        """What one should know of the requests, each once."""
        found = dict.fromkeys(note for request in self.requests for note in request.remarks)
        return tuple(found)[:MOST_NOTES]

    def describe(self, there: Container[int] = ()) -> str:
        """Such as ``2 × 3 = 6 videos, 4 of them there, about 13 s``.

        Args:
            there: numbers of the cells whose videos need not be made.
        """
        left = [seconds for n, seconds in enumerate(self.seconds) if n not in there]
        made = len(self.seconds) - len(left)
        known = f", {made} of them there" if made else ""
        time = "" if None in left else f", about {format_duration(sum(left))}"
        return f"{describe_size(self.axes)}{known}{time}"


def describe_size(axes: Sequence[GridAxis]) -> str:
    """Such as ``2 × 3 = 6 videos``."""
    counts = [len(axis.values) for axis in axes if axis.name]
    product = f"{' × '.join(map(str, counts))} = " if len(counts) > 1 else ""
    return f"{product}{math.prod(counts)} videos"


def plan_grid(axes: Sequence[GridAxis], values: dict[str, object], predict: Predict) -> GridPlan:
    """Plan a grid whole: nothing of one that can't be made is begun.

    Args:
        axes: one to three: across, down, and one sheet for each value of the third.
        values: of the request that it varies, by the names of ``FIELDS``, with the checkpoint's
            name or folder as ``model``; ``enriched_from`` may be among them.

    Raises:
        CogvxError: with the cell or side that can't be, and the remedy.
    """
    axes = (*axes, *[EMPTY] * (len(SIDES) - len(axes)))
    _check_axes(axes)
    values = values | {name: drawn_seed(values[name]) for name in SEEDS if name in values}
    axes = tuple(
        replace(axis, values=tuple(map(drawn_seed, axis.values))) if axis.name in SEEDS else axis
        for axis in axes
    )
    find_model = functools.cache(store.locate_checkpoint)
    requests = tuple(_cell_request(axes, chosen, values, find_model) for chosen in cells(axes))
    _check_differences(axes, requests)
    axes, values = _kept_files(axes, values)
    seconds = _predict_seconds(requests, predict)
    return GridPlan(axes, values, requests, plan_layouts(axes, requests), seconds)


def _kept_files(
    axes: Sequence[GridAxis], values: dict[str, object]
) -> tuple[tuple[GridAxis, ...], dict[str, object]]:
    """Sides and values with the names under which the pictures and clips are kept."""
    varied = {axis.name for axis in axes}
    given = inputs.read_inputs({name: v for name, v in values.items() if name not in varied})
    files = {name: inputs.named_value(file.value, file.name) for name, file in given.items()}
    if values.get(LORA) and LORA not in varied:
        files[LORA] = kept_loras(str(values[LORA]))
    return tuple(axis.kept() for axis in axes), values | files


def cells(axes: Sequence[GridAxis]) -> list[tuple[object, ...]]:
    """The values (across, down, page) of each cell: page by page, and row by row."""
    across, down, pages = axes
    turned = itertools.product(pages.values, down.values, across.values)
    return [(x, y, page) for page, y, x in turned]


def request_of(
    values: dict[str, object], find_model: Callable[[str], Model] = store.locate_checkpoint
) -> VideoRequest:
    """The validated request of a cell's values.

    Raises:
        CogvxError: if it isn't valid, or its checkpoint isn't there.
    """
    values = dict(values)
    return request_from(find_model(values.pop("model")), values)


def drawn_seed(seed: int) -> int:
    """A seed; a drawn one for ``RANDOM_SEED``, once for all cells of a grid."""
    return random.SystemRandom().randrange(DRAWN_BELOW) if seed == RANDOM_SEED else seed


def plan_layouts(
    axes: Sequence[GridAxis], requests: Sequence[VideoRequest]
) -> tuple[SheetLayout, ...]:
    """The layout of each page's sheet.

    Raises:
        OutputError: if no sheet of these videos can be encoded.
    """
    across, down, _ = axes
    size = len(across.values) * len(down.values)
    layouts = []
    for start in range(0, len(requests), size):
        part = requests[start : start + size]
        frames, _ = common_pace([r.frames for r in part], [r.fps for r in part])
        picture = part[0].height, part[0].width
        layouts.append(plan_sheet(across.labels, down.labels, picture, frames))
    return tuple(layouts)


def _check_axes(axes: Sequence[GridAxis]) -> None:
    count = math.prod(len(axis.values) for axis in axes)
    if not 2 <= count <= MOST:
        raise RequestError("grid", count, f"make it of 2 to {MOST} videos")
    seen = set()
    for axis in axes:
        key = (axis.name, axis.replaces)
        if axis.name and key in seen:
            others = {WORDS: "other words", LORA_WEIGHT: "another LoRA"}
            other = others.get(axis.name, "another field")
            raise RequestError("grid", axis.title, f"vary {other} along the other side")
        seen.add(key)


def _cell_request(axes, chosen, values: dict, find_model) -> VideoRequest:
    names = [axis.name for axis in axes]
    cell = apply_axes(axes, chosen, values)
    try:
        request = request_of(cell, find_model)
        for change in request.adjustments:
            if change.field in names:  # else its label would be wrong
                raise RequestError(change.field, change.asked, change.reason)
        return request
    except CogvxError as error:
        parts = {WORDS: PROMPT, LORA_WEIGHT: LORA}
        known = {*filter(None, names), *(parts[name] for name in names if name in parts)}
        if isinstance(error, ModelError) or getattr(error, "field", "") in known:
            raise  # it names the value itself
        shown = map(inputs.shown_value, names, chosen)
        position = ", ".join(str(value) for value in shown if value != "")
        raise RequestError("grid", position, str(error)) from error


def _check_differences(axes: Sequence[GridAxis], requests: Sequence[VideoRequest]) -> None:
    """Raise for a value that makes the same videos as another one of its side."""
    signatures = dict(zip(_numbers(axes), map(_signature, requests), strict=True))
    for side, axis in enumerate(axes):
        groups: dict[tuple, list[int]] = {}
        for number in range(len(axis.values)):
            of_value = tuple(s for place, s in signatures.items() if place[side] == number)
            groups.setdefault(of_value, []).append(number)
        same = next((group for group in groups.values() if len(group) > 1), None)
        if same is not None:
            first, second = (
                inputs.shown_value(axis.name, axis.values[number]) for number in same[:2]
            )
            remedy = f"makes the same video as {first!r} here: leave it out"
            if len(groups) == 1:
                remedy = f"makes no difference to {first!r} here: vary another field"
            raise RequestError(axis.title, second, remedy)


def _numbers(axes: Sequence[GridAxis]) -> list[tuple[int, ...]]:
    """(number across, down, of the page) of each cell, in the order of ``cells``."""
    return cells([GridAxis(axis.name, tuple(range(len(axis.values)))) for axis in axes])


def _signature(request: VideoRequest) -> tuple:
    """What decides a video and how it is made; equal where two requests come to the same."""
    settings = dict(request.settings)
    if settings["guidance"] <= 1:
        off = {"guidance": 1, "negative_prompt": "", "guidance_interval": ""}
        settings |= off | {"guidance_schedule": AUTO}
    if settings["variation_strength"] == 0:
        settings |= {"variation_seed": 0}
    for name, field in FIELDS.items():
        if field.tunes and not any(settings[tuned] for tuned in field.tunes):
            settings[name] = field.default  # what it tunes isn't given
    settings[LORA] = effective_loras(settings[LORA])
    checkpoint, scheduler = request.model.checkpoint, request.scheduler
    settings["scheduler"] = used_scheduler(checkpoint, scheduler).name
    schedule = used_guidance(checkpoint, scheduler, settings["guidance_schedule"])
    settings["guidance_schedule"] = schedule
    plan = planner.plan_request(request, probe.probe_machine())
    planned = tuple(getattr(plan, name) for name in (*RECORDED, "device") if name != "speed")
    return (str(request.model.folder or request.model.name), *settings.values(), *planned)


def _predict_seconds(
    requests: Sequence[VideoRequest], predict: Predict
) -> tuple[float | None, ...]:
    known: dict[tuple, float | None] = {}
    seconds = []
    for request in requests:
        key = cost_kind(request)
        if key not in known:
            known[key] = predict(request).seconds
        seconds.append(known[key])
    return tuple(seconds)
