"""What is wanted: one frozen, valid request, with every adjustment made to it listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..checkpoints.registry import Checkpoint, Model
from ..errors import RequestError
from ..loras import given as given_loras
from ..loras.layers import UsedLora
from ..text import full_number
from . import extension, extension_fit, inputs, reading
from .attentions import check_attention
from .draws import draw_seeds, expand_prompts
from .field import FRAMES, PLAN
from .fields import FIELDS, SEEDS, TEMPLATED, complete_values, names_deciding
from .fit import Adjustment, fit_frames, fit_size, is_trained, steps_notes
from .guidance import Guiding, parse_interval
from .schedulers import AUTO, GUIDING, guiding_of, used_scheduler
from .several_gpus import parse_gpus
from .step_prompts import texts_by_step, texts_together

if TYPE_CHECKING:
    from ..media.given import Given


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """A video that is wanted, as it will be run; made by ``make_request``."""

    prompt: str
    negative_prompt: str
    frames: int  # one of the checkpoint's counts
    steps: int
    height: int  # pixels, a multiple of 16
    width: int
    guidance: float
    seed: int  # as drawn, where a random one was asked for
    fps: int  # frames a second of the video
    model: Model
    guidance_schedule: str = FIELDS["guidance_schedule"].default
    guidance_interval: str = FIELDS["guidance_interval"].default
    scheduler: str = FIELDS["scheduler"].default
    variation_seed: int = FIELDS["variation_seed"].default
    variation_strength: float = FIELDS["variation_strength"].default  # 0 … 1
    image: str = FIELDS["image"].default  # of pictures and clips the name under which it is kept
    last_image: str = FIELDS["last_image"].default
    video: str = FIELDS["video"].default
    extend: str = FIELDS["extend"].default  # its frames come before those of ``frames``
    strength: float = FIELDS["strength"].default  # share of the steps that a clip is changed by
    video_start: float = FIELDS["video_start"].default  # seconds
    fit: str = FIELDS["fit"].default
    image_scale: str = FIELDS["image_scale"].default
    lora: str = FIELDS["lora"].default  # names each file by its content
    speed: str = FIELDS["speed"].default
    attention: str = FIELDS["attention"].default
    gpus: str = FIELDS["gpus"].default
    fallback: str = FIELDS["fallback"].default
    asked: dict[str, object] = field(default_factory=dict)  # the values as they were given
    adjustments: tuple[Adjustment, ...] = ()
    notes: tuple[str, ...] = ()  # what the user should know, though nothing was changed
    allowed: tuple[str, ...] = ()  # names of the ``allow_…`` permissions that it needed
    enriched_from: str = ""  # the prompt as typed, where a chat model made ``prompt`` of it
    # As typed, by field, where the seed made another text of wildcards.
    templates: dict[str, str] = field(default_factory=dict)
    input_names: dict[str, str] = field(default_factory=dict)  # names of the files, by field
    loras: tuple[UsedLora, ...] = ()  # those of ``lora``, as they were found
    source_frames: int = 0  # of ``extend``, at ``fps``
    pieces: tuple[int, ...] = ()  # frames of each clip that it is made of; empty if one of all

    def __str__(self) -> str:
        size = f"{self.frames} frames of {self.height} × {self.width} at {self.fps} fps"
        guidance = full_number(self.guidance)
        lines = [f"{size}, {self.steps} steps, guidance {guidance}, seed {self.seed}"]
        if self.variation_strength:
            strength = full_number(self.variation_strength)
            lines[0] += f" varied by {strength} towards seed {self.variation_seed}"
        if self.guiding.limited:
            lines[0] = lines[0].replace(", seed", f" in {self.guidance_interval}, seed", 1)
        if self.scheduler != AUTO:
            lines[0] += f", scheduler {self.scheduler}"
        lines += [f"{name}: {file}" for name, file in self.input_names.items()]
        lines += [f"lora: {one}" for one in self.loras]
        lines += [f"adjusted: {change}" for change in self.adjustments]
        return "\n".join(lines + [f"note: {note}" for note in self.notes])

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was changed, and what else the user should know."""
        return (*map(str, self.adjustments), *self.notes)

    @property
    def seeds(self) -> dict[str, int]:
        """The seeds, as drawn, by the names of their fields."""
        return {name: getattr(self, name) for name in SEEDS}

    @property
    def texts(self) -> dict[str, str]:
        """The texts that the seed made of wildcards, or that had none, by field."""
        return {name: getattr(self, name) for name in TEMPLATED}

    @property
    def task(self) -> str:
        """What it is made from: one of ``registry.TASKS``."""
        return inputs.task_of(self.model.checkpoint, inputs.given_names(self.settings))

    @property
    def done_steps(self) -> int:
        """The steps that are done: fewer than ``steps`` where a clip is changed by a part."""
        return inputs.done_steps(self.task, self.steps, self.strength)

    @property
    def texts_by_step(self) -> dict[int, tuple[str, ...]]:
        """The texts that are read, by the first of the done steps (from 0) that they are for: of
        the prompt, and with guidance of the negative prompt before it."""
        fields = ("negative_prompt", "prompt") if self.guidance > 1 else ("prompt",)
        return texts_together(
            *(texts_by_step(getattr(self, name), self.done_steps, name) for name in fields)
        )

    @property
    def clip_frames(self) -> int:
        """Frames of the longest clip that is made at once, which a plan is for."""
        return max(self.pieces, default=self.frames)

    @property
    def all_frames(self) -> int:
        """Frames of the video, those that it goes on from included; at most, since blurred ones at
        the end of these are made again."""
        return self.source_frames + self.frames

    @property
    def guiding(self) -> Guiding:
        """Its guidance at each step."""
        return guiding_of(self.model.checkpoint, {name: getattr(self, name) for name in GUIDING})

    @property
    def encoded_frames(self) -> int:
        """Frames that the VAE encodes before the first step, each picture by itself."""
        return inputs.encoded_frames(
            self.model.checkpoint, inputs.given_names(self.settings), self.clip_frames
        )

    @property
    def settings(self) -> dict[str, object]:
        """The values that decide the frames, without the checkpoint."""
        return {name: getattr(self, name) for name in (*names_deciding(FRAMES), "fps")}


def make_request(
    model: Model,
    prompt: str,
    *,
    enriched_from: str = "",
    templates: Mapping[str, str] | None = None,
    coming: Given | None = None,
    **values: object,
) -> VideoRequest:
    """Validate what is wanted, once, and fit it to the checkpoint.

    Frames and size are fitted to what the checkpoint was trained for (``fit``); each change is
    listed in ``adjustments``. A seed of -1 is drawn here: each call with it makes another request,
    whose ``asked`` keeps the -1. Wildcards in the prompts become the texts that the seed decides.

    Args:
        enriched_from: the prompt as typed, if a chat model made ``prompt`` of it.
        templates: what the prompts were made of before, by field; their braces are then text.
        coming: the clip to extend, where it isn't made yet: the request can be judged, not run.
        **values: other fields of ``fields.FIELDS``; the rest have their defaults. ``model`` and
            ``enrich`` are for ``workflow.prepare_request``.

    Raises:
        RequestError: with the value and the remedy.
        PromptUnknown: if more than half of the prompt is unknown to the tokenizer.
    """
    checkpoint = model.checkpoint
    replace(FIELDS["negative_prompt"], name="enriched_from").check(enriched_from)
    asked = _checked_values(checkpoint, {"prompt": prompt, **values})
    seeds = draw_seeds(asked)
    texts, templates = expand_prompts(asked | seeds) if templates is None else ({}, templates)
    asked |= texts
    later = {extension.FIELD: coming} if coming else {}
    task = inputs.task_of(checkpoint, (*inputs.given_names(asked), *later))  # before files are read
    given = inputs.read_inputs(asked) | later
    loras = given_loras.read_loras(asked["lora"], checkpoint)
    frames, size, source, changes = _fit(model, asked, given)
    _refuse_changes(asked, changes)
    steps = inputs.done_steps(task, asked["steps"], asked["strength"])
    notes, allowed = _notes(model, asked, steps, given, size)
    kept = {name: asked[name] for name in names_deciding(FRAMES, PLAN)} | seeds
    files = {name: file.value for name, file in given.items()}
    # Where a file was is nobody's business: videos are given away.
    asked |= {name: inputs.named_value(file.value, file.name) for name, file in given.items()}
    asked["lora"] = files["lora"] = given_loras.kept_text(loras)
    return VideoRequest(
        **kept | files | {"frames": frames, "height": size[0], "width": size[1]},
        fps=checkpoint.fps,
        model=model,
        asked=asked,
        adjustments=tuple(changes),
        notes=notes + tuple(given_loras.lora_notes(loras)),
        allowed=allowed,
        enriched_from=enriched_from,
        templates=dict(templates),
        input_names={name: file.name for name, file in given.items()},
        loras=loras,
        source_frames=source,
        pieces=extension.pieces(checkpoint, frames) if source else (),
    )


def _checked_values(checkpoint: Checkpoint, values: dict[str, object]) -> dict[str, object]:
    """The values of all fields that a request has, each by itself acceptable."""
    FIELDS["prompt"].check(values["prompt"])
    if "frames" in values:
        FIELDS["frames"].check(values["frames"], f"use {checkpoint.frame_rule}")
    asked = complete_values(values)
    check_attention(asked["attention"])
    parse_gpus(asked["gpus"])
    parse_interval(asked["guidance_interval"])
    del asked["model"], asked["enrich"]
    inputs.refuse_both(asked)
    return asked


def _fit(
    model: Model, asked: dict[str, object], given: dict[str, Given]
) -> tuple[int, tuple[int, int], int, list[Adjustment]]:
    """(frames, height and width, frames of a clip to go on from, changes to what was asked for)
    that a checkpoint makes."""
    if extended := given.get(extension.FIELD):
        frames, changes = extension_fit.fit_new_frames(model, asked["frames"])
        return frames, *extension_fit.fit_source(model, extended, asked, frames), changes
    frames, changes = fit_frames(model, asked["frames"], text_alone=not given)
    if "video" in given:
        frames, shortened = _shorten(model, given["video"], frames, asked["video_start"])
        changes += shortened
    size, size_changes = fit_size(model, asked, given.get("image") or given.get("video"))
    return frames, size, 0, changes + size_changes


def _notes(
    model: Model,
    asked: dict[str, object],
    steps: int,
    given: dict[str, Given],
    size: tuple[int, int],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(notes, names of permissions that are needed).

    Args:
        steps: that are done.
    """
    notes, allowed = reading.read_prompts(model, asked, steps)
    if not is_trained(model.checkpoint, size):
        allowed += ("allow_untrained_size",)
        notes += (f"{size[0]} × {size[1]} is outside the model's training",)
    notes += steps_notes(asked["steps"], used_scheduler(model.checkpoint, asked["scheduler"]))
    notes += inputs.idle_fields(asked) + inputs.guiding_notes(asked, steps)
    notes += inputs.reading_notes(given, *size, asked["fit"])
    return notes, allowed


def _refuse_changes(asked: dict[str, object], changes: list[Adjustment]) -> None:
    if asked["strict"] and changes:
        first = changes[0]
        raise RequestError(first.field, first.asked, f"{first.reason}; use {first.used}")


def _shorten(model: Model, clip: Given, frames: int, start: float) -> tuple[int, list[Adjustment]]:
    """The frames that a clip has for a video of so many."""
    used = inputs.clip_frames(clip, frames, model.checkpoint, start)
    if used == frames:
        return used, []
    reason = f"{clip.name} has no more at {model.checkpoint.fps} fps"
    return used, [Adjustment("frames", frames, used, reason)]
