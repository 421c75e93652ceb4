"""What is wanted: one frozen, valid request, with every adjustment made to it listed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Integral, Real

from ..checkpoints import store
from ..checkpoints.registry import MAX_STEPS, SIZE_MULTIPLE
from ..checkpoints.store import Model
from ..errors import ModelError, PromptUnknown, RequestError

MAX_SEED = 2**53 - 1
"""A browser's number field can hold no more."""

MAX_PROMPT = 2000
"""Characters. The 5B reads 226 tokens, some 1,000 characters; the mp4 carries the prompt too."""


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A value that was changed to one that the checkpoint supports."""

    field: str
    asked: object
    used: object
    reason: str

    def __str__(self) -> str:
        return f"{self.field} {self.asked} → {self.used}: {self.reason}"


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """A video that is wanted, as it will be run. Build it with ``make_request``.

    Attributes:
        prompt, negative_prompt: what to show, and what not to.
        frames: number of frames, one of the checkpoint's.
        steps: denoising steps, 1 … 1000.
        height, width: pixels, multiples of 16.
        guidance: classifier-free guidance scale, at least 0; 1 and below is off.
        seed: 0 … 2⁵³ - 1.
        fps: frames a second of the video.
        model: the checkpoint to run.
        asked: the values as they were given.
        adjustments: what was changed to make the request fit the checkpoint.
        notes: what the user should know, though nothing was changed.
        allowed: names of the ``allow_…`` permissions that this request needed.
        enriched_from: the prompt as typed, where a chat model made ``prompt`` of it; else empty.
    """

    prompt: str
    negative_prompt: str
    frames: int
    steps: int
    height: int
    width: int
    guidance: float
    seed: int
    fps: int
    model: Model
    asked: dict[str, object] = field(default_factory=dict)
    adjustments: tuple[Adjustment, ...] = ()
    notes: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    enriched_from: str = ""

    def __str__(self) -> str:
        size = f"{self.frames} frames of {self.height} × {self.width} at {self.fps} fps"
        lines = [f"{size}, {self.steps} steps, guidance {self.guidance:g}, seed {self.seed}"]
        lines += [f"adjusted: {change}" for change in self.adjustments]
        return "\n".join(lines + [f"note: {note}" for note in self.notes])

    @property
    def settings(self) -> dict[str, object]:
        """The values that decide the video, the checkpoint apart."""
        names = ("prompt", "negative_prompt", "frames", "steps", "height", "width", "guidance")
        return {name: getattr(self, name) for name in (*names, "seed", "fps")}


def make_request(
    model: Model,
    prompt: str,
    negative_prompt: str = "",
    frames: int = 13,
    steps: int = 50,
    height: int | None = None,
    width: int | None = None,
    guidance: float = 6.0,
    seed: int = 42,
    *,
    strict: bool = False,
    allow_unknown: bool = False,
    allow_untrained_size: bool = False,
    enriched_from: str = "",
) -> VideoRequest:
    """Validate what is wanted, once, and fit it to the checkpoint.

    Frames snap to the nearest count that the checkpoint supports and sizes to its native one (ties
    down); each change is listed in ``adjustments``.

    Args:
        height, width: pixels; the checkpoint's native size when not given.
        strict: refuse instead of adjusting.
        allow_unknown: accept a prompt that the tokenizer mostly doesn't know.
        allow_untrained_size: accept any multiple of 16 as a size, not only the native one.
        enriched_from: the prompt as typed, if a chat model made ``prompt`` of it.

    Raises:
        RequestError: with the value and the remedy.
        ModelError: if this workbench can't run the checkpoint.
        PromptUnknown: if more than half of the prompt is unknown to the tokenizer.
    """
    asked = {k: v for k, v in locals().items() if k in VideoRequest.__dataclass_fields__}
    del asked["model"], asked["enriched_from"]
    if model.checkpoint.cannot_run:
        raise ModelError(f"{model.name} can't be run here: {model.checkpoint.cannot_run}")
    _check_text("prompt", prompt)
    _check_text("negative_prompt", negative_prompt, blank=True)
    _check_text("enriched_from", enriched_from, blank=True)
    _check_number("frames", frames, 1, 10_000, hint=f"use one of {_frame_counts(model)}")
    _check_number("steps", steps, 1, MAX_STEPS)
    _check_number("seed", seed, 0, MAX_SEED)
    _check_number("guidance", guidance, 0, 100, whole=False)
    used_frames, changes = _fit_frames(model, int(frames))
    used_height, used_width, size_changes = _fit_size(model, height, width, allow_untrained_size)
    changes += size_changes
    if strict and changes:
        first = changes[0]
        raise RequestError(first.field, first.asked, f"{first.reason}; use {first.used}")
    notes, allowed = _read_prompt(model, prompt, allow_unknown)
    if (used_height, used_width) != (model.checkpoint.height, model.checkpoint.width):
        allowed += ("allow_untrained_size",)
        notes += (f"{used_height} × {used_width} is outside the model's training",)
    if MAX_STEPS % int(steps):
        notes += (
            f"{steps} steps do not divide {MAX_STEPS}, so the last step leaves some noise: "
            f"{_nearest_divisor(int(steps))} steps end cleanly",
        )
    return VideoRequest(
        prompt=prompt,
        negative_prompt=negative_prompt,
        frames=used_frames,
        steps=int(steps),
        height=used_height,
        width=used_width,
        guidance=float(guidance),
        seed=int(seed),
        fps=model.checkpoint.fps,
        model=model,
        asked=asked,
        adjustments=tuple(changes),
        notes=notes,
        allowed=allowed,
        enriched_from=enriched_from,
    )


def nearest(value: int, choices: tuple[int, ...]) -> int:
    """The choice nearest to ``value``, the lower one of two equally near."""
    return min(choices, key=lambda choice: (abs(choice - value), choice))


def _fit_frames(model: Model, frames: int) -> tuple[int, list[Adjustment]]:
    used = nearest(frames, model.checkpoint.frames)
    if used == frames:
        return used, []
    reason = f"{model.name} makes {_frame_counts(model)} frames"
    return used, [Adjustment("frames", frames, used, reason)]


def _fit_size(
    model: Model, height: int | None, width: int | None, untrained: bool
) -> tuple[int, int, list[Adjustment]]:
    native = {"height": model.checkpoint.height, "width": model.checkpoint.width}
    asked = {"height": height, "width": width}
    used, changes = {}, []
    for name, value in asked.items():
        if value is None:
            used[name] = native[name]
            continue
        _check_number(name, value, SIZE_MULTIPLE, 4096)
        if untrained:
            below = int(value) // SIZE_MULTIPLE * SIZE_MULTIPLE
            used[name] = nearest(int(value), (below, below + SIZE_MULTIPLE))
            reason = f"the model works in multiples of {SIZE_MULTIPLE} pixels"
        else:
            used[name] = native[name]
            reason = (
                f"{model.name} was trained at {native['height']} × {native['width']}; other "
                f"multiples of {SIZE_MULTIPLE} only with allow_untrained_size"
            )
            if int(value) % SIZE_MULTIPLE:
                reason = f"not a multiple of {SIZE_MULTIPLE}, and {reason}"
        if used[name] != value:
            changes.append(Adjustment(name, value, used[name], reason))
    return used["height"], used["width"], changes


def _read_prompt(
    model: Model, prompt: str, allow_unknown: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(notes, allowed) for a prompt as the checkpoint's tokenizer reads it."""
    tokens = store.count_tokens(model, prompt)
    notes: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    if tokens.unknown_share > 0.5:
        if not allow_unknown:
            raise PromptUnknown(
                "prompt",
                prompt,
                f"{tokens.unknown_share:.0%} of it is unknown to {model.name} and would be "
                f"ignored; {model.checkpoint.reads} (allow_unknown runs it anyway)",
            )
        allowed = ("allow_unknown",)
    if tokens.unknown:
        notes += (f"{tokens.unknown} of the prompt's tokens are unknown to {model.name}",)
    if tokens.cut:
        notes += (
            f"the prompt has {tokens.count} tokens of {tokens.limit}; this end of it has no "
            f"effect: {tokens.cut!r}",
        )
    return notes, allowed


def _check_text(name: str, value: object, blank: bool = False) -> None:
    if not isinstance(value, str):
        raise RequestError(name, value, "must be text")
    if not blank and not value.strip():
        raise RequestError(name, value, "is empty; describe what the video should show")
    if len(value) > MAX_PROMPT:
        raise RequestError(name, value, f"has {len(value)} characters; at most {MAX_PROMPT}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RequestError(name, value, "is not valid Unicode text") from error


def _check_number(
    name: str, value: object, least: int, most: int, whole: bool = True, hint: str = ""
) -> None:
    kind = Integral if whole else Real
    if isinstance(value, bool) or not isinstance(value, kind):
        raise RequestError(name, value, f"must be a {'whole ' if whole else ''}number")
    if not math.isfinite(value) or not least <= value <= most:
        raise RequestError(name, value, hint or f"must be between {least} and {most}")


def _frame_counts(model: Model) -> str:
    return " / ".join(str(frames) for frames in model.checkpoint.frames)


def _nearest_divisor(steps: int) -> int:
    divisors = tuple(n for n in range(1, MAX_STEPS + 1) if MAX_STEPS % n == 0)
    return nearest(steps, divisors)
