"""The fields of a request, as widgets, with what the checkpoint makes of them while one types."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from html import escape

import ipywidgets as widgets

from ..checkpoints import store
from ..checkpoints.registry import Checkpoint
from ..checkpoints.store import Model
from ..errors import CogvxError, DoesNotFit, RequestError
from ..planning import enrich, request
from ..planning.fields import MAX_SEED
from ..planning.plan import SPEEDS
from ..planning.request import VideoRequest
from ..text import GIB, format_duration
from .controls import (
    WIDE,
    after_typing,
    bold_html,
    button,
    choice_field,
    control_row,
    html_lines,
    html_note,
    number_field,
    text_area,
)
from .session import Prediction

MODES = ("quick", "standard", "best")
"""Names of a checkpoint's frame counts, from few to many."""

SPEED_NOTES = {"exact": "", "fast": ", 8-bit products", "turbo": ", approximate"}

SIDE_BY_SIDE = {"flex_flow": "row wrap", "align_items": "flex-end"}

NUMBERS = ("steps", "guidance", "height", "width", "seed")

Predict = Callable[[Model, int, int, str], Prediction]
"""(model, frames, steps, speed) → time and memory; see ``Session.predict``."""


class Form(widgets.VBox):
    """Every field of a request.

    Args:
        model: the checkpoint to begin with; the others that are here can be chosen.
        predict: see ``Predict``.
        **values: of a request, to begin with; see ``request.make_request``.
    """

    def __init__(self, model: Model, predict: Predict, **values) -> None:
        self._predict = predict
        self._models = {found.name: found for found in (*store.available_checkpoints(), model)}
        self._build_prompt(values)
        self._build_numbers(model, values)
        self._build_advanced(values)
        seed = control_row(self.seed, self.dice, self.lock)
        prompt = [self.prompt, self.tokens, control_row(self.enrich, self.enriching), self.typed]
        modes = widgets.HBox([self.frames, self.predictions], layout=SIDE_BY_SIDE)
        which = control_row(self.model_name, self.speed)
        super().__init__([which, *prompt, modes, seed, self.unfold, self.advanced])
        self._observe()
        self.show_tokens()
        self.show_predictions()

    @property
    def model(self) -> Model:
        return self._models[self.model_name.value]

    @property
    def values(self) -> dict[str, object]:
        """Keywords for ``request.make_request``, as they stand in the fields."""
        fields = {name: getattr(self, name).value for name in NUMBERS}
        return fields | {
            "prompt": self.prompt.value,
            "negative_prompt": self.negative.value,
            "frames": self.frames.value,
            "enriched_from": self.typed.value,
            "speed": self.speed.value,
            "allow_unknown": self.unknown.value,
            "allow_untrained_size": self.untrained.value,
        }

    def request(self, **changes) -> VideoRequest:
        """The request in the fields, with some values changed.

        Raises:
            CogvxError: if it isn't valid; see ``request.make_request``.
        """
        return request.make_request(self.model, **self.values | changes)

    def load(self, kept: dict) -> str:
        """Take a sidecar's settings into the fields.

        Returns:
            What could not be taken over, in a line; else empty.
        """
        wanted, name = kept["request"], kept["checkpoint"]["name"]
        if name in self._models:
            self.model_name.value = name
        self.typed.value = kept.get("enriched_from", "")
        self.prompt.value, self.negative.value = wanted["prompt"], wanted["negative_prompt"]
        self.frames.value = request.nearest(wanted["frames"], self.model.checkpoint.frames)
        self.speed.value = kept["plan"].get("speed", "exact")
        for field in NUMBERS:
            getattr(self, field).value = wanted[field]
        self.unknown.value = "allow_unknown" in kept["allowed"]
        self.untrained.value = "allow_untrained_size" in kept["allowed"]
        return "" if name in self._models else f"{name} is not here: {self.model.name} stays"

    def roll(self) -> None:
        """Another seed, at random."""
        self.seed.value = random.SystemRandom().randrange(2**31)

    def show_tokens(self) -> None:
        """Say under the prompt what the checkpoint's tokenizer makes of it."""
        self.tokens.value = token_note(self.model, self.prompt.value)

    def show_predictions(self) -> None:
        """Say beside each mode how long it takes and what memory it needs."""
        counts = self.model.checkpoint.frames
        notes = [self._prediction_note(count) for count in counts]
        # Not in the modes' own labels: new ones would be drawn anew under somebody's hand.
        self.predictions.value = (
            f"<div style='line-height:20px;padding-left:1em'>{html_lines(notes)}</div>"
        )

    def _prediction_note(self, frames: int) -> str:
        try:
            prediction = self._predict(self.model, frames, self.steps.value, self.speed.value)
        except DoesNotFit:
            return "does not fit here"
        except RequestError as error:
            return str(error)
        memory = f"{prediction.peak_bytes / GIB:.1f} GiB"
        if prediction.seconds is None:
            return f"time known after the first, {memory}"
        return f"about {format_duration(prediction.seconds)}, {memory}"

    # --- building ---------------------------------------------------------------------------------

    def _build_prompt(self, values: dict) -> None:
        self.prompt = text_area("Prompt", values.get("prompt", ""), "prompt")
        self.tokens = html_note(name="tokens")
        self.typed = text_area("As typed", values.get("enriched_from", ""), "typed")
        ask = after_typing(self._enrich)
        tip = "let a chat model translate and expand the prompt"
        self.enrich = button("Enrich", "magic", tip, ask)
        self.enriching = html_note(name="enriching")

    def _build_numbers(self, model: Model, values: dict) -> None:
        known, whole = model.checkpoint, widgets.BoundedIntText
        self.model_name = choice_field("Model", self._models, model.name)
        speeds = [(f"{name}{SPEED_NOTES[name]}", name) for name in SPEEDS]
        self.speed = choice_field("Speed", speeds, values.get("speed", "exact"))
        frames = request.nearest(values.get("frames", 13), known.frames)
        self.frames = widgets.RadioButtons(
            options=_modes(known), value=frames, description="Mode", layout={"width": "auto"}
        ).add_class("cogvx-mode")
        self.predictions = html_note(name="predictions")
        self.seed = number_field(whole, "Seed", values.get("seed", 42), 0, MAX_SEED)
        self.dice = button("New seed", "random", "another seed, at random", self.roll)
        self.lock = widgets.ToggleButton(
            value=True, description="Keep seed", icon="lock", tooltip="off: each video a new seed"
        )
        self.steps = number_field(whole, "Steps", values.get("steps", 50), 1, 1000)
        guidance = values.get("guidance", 6.0)
        self.guidance = number_field(widgets.BoundedFloatText, "Guidance", guidance, 0, 100, 0.5)
        self.height = number_field(
            whole, "Height", values.get("height") or known.height, 16, 4096, 16
        )
        self.width = number_field(whole, "Width", values.get("width") or known.width, 16, 4096, 16)

    def _build_advanced(self, values: dict) -> None:
        self.negative = text_area("Negative prompt", values.get("negative_prompt", ""), "negative")
        self.unknown = _permission("Allow unknown prompts", "unknown", values)
        self.untrained = _permission("Allow other sizes", "untrained_size", values)
        numbers = control_row(self.steps, self.guidance, self.height, self.width)
        folded = [self.negative, numbers, self.unknown, self.untrained]
        self.advanced = widgets.VBox(folded, layout={"display": "none"})
        # An accordion can't be opened with the keyboard.
        self.unfold = widgets.ToggleButton(
            description="Advanced", icon="sliders", tooltip="negative prompt, steps, guidance, size"
        ).add_class("cogvx-advanced")

    def _observe(self) -> None:
        self.prompt.observe(lambda change: self.show_tokens(), "value")
        for field in (self.steps, self.speed):
            field.observe(lambda change: self.show_predictions(), "value")
        self.model_name.observe(lambda change: self._on_model(), "value")
        self.unfold.observe(lambda change: self._show_advanced(), "value")
        self.typed.observe(lambda change: self._show_typed(), "value")
        self._show_typed()
        self._offer_enriching()

    # --- what happens -----------------------------------------------------------------------------

    def _on_model(self) -> None:
        kept = self.frames.value  # new options choose the first
        self.frames.options = _modes(self.model.checkpoint)
        self.frames.value = request.nearest(kept, self.model.checkpoint.frames)
        self.height.value, self.width.value = (
            self.model.checkpoint.height,
            self.model.checkpoint.width,
        )
        self.show_tokens()
        self.show_predictions()
        self._offer_enriching()

    def _show_advanced(self) -> None:
        self.advanced.layout.display = None if self.unfold.value else "none"

    def _show_typed(self) -> None:
        self.typed.layout.display = None if self.typed.value else "none"

    def _offer_enriching(self) -> None:
        offered = enrich.is_configured() and self.model.checkpoint.enrichable
        self.enrich.layout.display = None if offered else "none"

    def _enrich(self) -> None:
        """Ask the chat model in a thread of its own: it may take a minute."""
        self.enrich.disabled, self.enriching.value = True, "asking the chat model…"
        threading.Thread(target=self._ask, name="cogvx enrich", daemon=True).start()

    def _ask(self) -> None:
        try:
            found = enrich.enrich_prompt(
                self.typed.value or self.prompt.value, self.model.checkpoint
            )
        except CogvxError as error:
            self.enriching.value = bold_html(error)
        else:
            self.typed.value, self.prompt.value = found.before, found.after
            self.enriching.value = (
                f"by {escape(found.model)}; both texts can be edited and are kept with the video"
            )
        finally:
            self.enrich.disabled = False


def token_note(model: Model, prompt: str) -> str:
    """What the checkpoint's tokenizer makes of a prompt, as HTML."""
    tokens = store.count_tokens(model, prompt)
    said = f"{tokens.count} of {tokens.limit} tokens"
    if tokens.unknown:
        said += f", {tokens.unknown} unknown to {escape(model.name)}"
    if tokens.cut:
        said += f"; this end has no effect: <s>{escape(tokens.cut)}</s>"
    if tokens.unknown_share > 0.5:
        ignored = f"{tokens.unknown_share:.0%} of it would be ignored: {model.checkpoint.reads}"
        said += f"<br>{bold_html(ignored)}"
    return said


def _modes(checkpoint: Checkpoint) -> list[tuple[str, int]]:
    return [
        (f"{name} · {count} frames", count)
        for name, count in zip(MODES, checkpoint.frames, strict=False)
    ]


def _permission(label: str, name: str, values: dict) -> widgets.Checkbox:
    made = widgets.Checkbox(
        value=values.get(f"allow_{name}", False), description=label, indent=False, layout=WIDE
    )
    return made.add_class(f"cogvx-{name.replace('_', '-')}")
