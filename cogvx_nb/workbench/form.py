"""The fields of a request as widgets, with notes on tokens, time and memory while one types."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from html import escape

import ipywidgets as widgets

from ..checkpoints import store
from ..checkpoints.registry import Checkpoint, Model
from ..errors import CogvxError, DoesNotFit, RequestError
from ..planning import enrich, request
from ..planning.fields import CHECKS, FIELDS, FRAMES, PLAN, names_deciding
from ..planning.request import VideoRequest
from ..results.records import Sidecar
from ..text import GIB, format_duration
from .controls import (
    after_typing,
    bold_html,
    button,
    choice_field,
    control_row,
    field_input,
    html_lines,
    html_note,
    text_area,
)
from .jobs import Prediction

NAMES = names_deciding(FRAMES, PLAN, CHECKS)
"""Fields that ``make_request`` takes; ``model`` has its own list, ``enrich`` its button."""

MODES = ("quick", "standard", "best")
"""Names of a checkpoint's frame counts, in ascending order."""

LABELS = {"allow_untrained_size": "Allow other sizes", "allow_unknown": "Allow unknown prompts"}
"""Labels that are not the field's name."""

Predict = Callable[[Model, int, int, str, str], Prediction]
"""(model, frames, steps, speed, attention) → time and memory; see ``Session.predict``."""


class Form(widgets.VBox):
    """Every field of a request.

    Args:
        model: the initial checkpoint; all others on this machine can be selected.
        predict: see ``Predict``.
        **values: initial values of fields, and ``enriched_from``.

    Raises:
        RequestError: for a value that its field doesn't accept.
    """

    def __init__(self, model: Model, predict: Predict, **values) -> None:
        self._predict = predict
        self._models = {known.name: known for known in (*store.available_checkpoints(), model)}
        self._build_inputs(model)
        self._build_enrich()
        self._build_seed()
        self._build_advanced()
        self.tokens, self.predictions = html_note(name="tokens"), html_note(name="predictions")
        super().__init__(self._arranged())
        self._fill(_checked({name: values.get(name, FIELDS[name].default) for name in NAMES}))
        self.typed.value = values.get("enriched_from", "")
        self._observe()
        if FIELDS["enrich"].check(values.get("enrich", False)) and not self.typed.value:
            self._enrich(again=False)
        self.show_tokens()
        self.show_predictions()

    @property
    def model(self) -> Model:
        return self._models[self.inputs["model"].value]

    @property
    def values(self) -> dict[str, object]:
        """Keywords for ``request.make_request``; an empty text is the field's default."""
        values = {name: self.inputs[name].value for name in NAMES}
        values = {name: FIELDS[name].default if v == "" else v for name, v in values.items()}
        return values | {"enriched_from": self.typed.value}

    def request(self, **changes) -> VideoRequest:
        """The request in the fields, with some values changed.

        Raises:
            CogvxError: if it isn't valid; see ``request.make_request``.
        """
        return request.make_request(self.model, **self.values | changes)

    def load(self, sidecar: Sidecar) -> str:
        """Restore all fields from the settings of a result.

        Returns:
            What could not be restored, in one line, or an empty string.

        Raises:
            RequestError: for a recorded value that its field doesn't accept.
        """
        values, name = _checked(recorded_values(sidecar)), sidecar.checkpoint.name
        if name in self._models:
            self.inputs["model"].value = name
        self._fill(values)
        self.typed.value = sidecar.enriched_from
        return "" if name in self._models else f"{name} is not here: {self.model.name} stays"

    def roll_seed(self) -> None:
        """Set a random seed."""
        self.inputs["seed"].value = random.SystemRandom().randrange(2**31)

    def show_tokens(self) -> None:
        """Update the note on how the tokenizer reads the prompt."""
        self.tokens.value = token_note(self.model, self.inputs["prompt"].value)

    def show_predictions(self) -> None:
        """Update time and memory of each mode."""
        notes = [self._prediction_note(count) for count in self.model.checkpoint.frames]
        # Not in the modes' labels: changing those would redraw the buttons while they are used.
        self.predictions.value = (
            f"<div style='line-height:20px;padding-left:1em'>{html_lines(notes)}</div>"
        )

    def _prediction_note(self, frames: int) -> str:
        chosen = [self.inputs[name].value for name in ("steps", "speed", "attention")]
        try:
            prediction = self._predict(self.model, frames, *chosen)
        except DoesNotFit:
            return "does not fit here"
        except RequestError as error:
            return str(error)
        memory = f"{prediction.peak_bytes / GIB:.1f} GiB"
        if prediction.seconds is None:
            return f"time known after the first, {memory}"
        return f"about {format_duration(prediction.seconds)}, {memory}"

    # --- building ---------------------------------------------------------------------------------

    def _build_inputs(self, model: Model) -> None:
        """One widget for each field, by name."""
        self.inputs = {name: field_input(FIELDS[name], _label(name)) for name in NAMES}
        self.inputs["model"] = choice_field("Model", self._models, model.name, FIELDS["model"].help)
        self.inputs["frames"] = widgets.RadioButtons(
            options=_modes(model.checkpoint),
            description="Mode",
            layout={"width": "auto"},
            tooltip=FIELDS["frames"].help,
        ).add_class("cogvx-mode")

    def _build_enrich(self) -> None:
        self.typed = text_area("As typed", tooltip="the prompt before it was enriched")
        help_text = FIELDS["enrich"].help
        self.enrich = button("Enrich", "magic", help_text, after_typing(self._enrich))
        self.enriching = html_note(name="enriching")

    def _build_seed(self) -> None:
        self.dice = button("New seed", "random", "another seed, at random", self.roll_seed)
        self.lock = widgets.ToggleButton(
            value=True, description="Keep seed", icon="lock", tooltip="off: each video a new seed"
        )

    def _build_advanced(self) -> None:
        """The folded part; not an accordion, which can't be opened with the keyboard."""
        advanced = {name: self.inputs[name] for name in NAMES if FIELDS[name].advanced}
        texts = [field for field in advanced.values() if isinstance(field, widgets.Textarea)]
        checks = [field for field in advanced.values() if isinstance(field, widgets.Checkbox)]
        others = [field for field in advanced.values() if field not in (*texts, *checks)]
        self.advanced = widgets.VBox([*texts, control_row(*others), *checks])
        self.advanced.layout.display = "none"
        labels = ", ".join(_label(name).lower() for name in advanced)
        self.unfold = widgets.ToggleButton(description="Advanced", icon="sliders", tooltip=labels)
        self.unfold.add_class("cogvx-advanced")

    def _arranged(self) -> list[widgets.Widget]:
        """The fields that are always shown, in the order of the page, and the folded ones."""
        modes = widgets.HBox([self.inputs["frames"], self.predictions])
        modes.layout = {"flex_flow": "row wrap", "align_items": "flex-end"}
        return [
            control_row(self.inputs["model"], self.inputs["speed"]),
            self.inputs["prompt"],
            self.tokens,
            control_row(self.enrich, self.enriching),
            self.typed,
            modes,
            control_row(self.inputs["seed"], self.dice, self.lock),
            self.unfold,
            self.advanced,
        ]

    def _observe(self) -> None:
        self.inputs["prompt"].observe(lambda change: self.show_tokens(), "value")
        for name in ("steps", "speed", "attention"):
            self.inputs[name].observe(lambda change: self.show_predictions(), "value")
        self.inputs["model"].observe(lambda change: self._on_model(), "value")
        self.unfold.observe(lambda change: self._show_advanced(), "value")
        self.typed.observe(lambda change: self._show_typed(), "value")
        self._show_typed()
        self._offer_enriching()

    # --- what happens -----------------------------------------------------------------------------

    def _fill(self, values: Mapping[str, object]) -> None:
        """Set the inputs; None is the checkpoint's own value."""
        checkpoint = self.model.checkpoint
        for name, value in values.items():
            if name == "frames":
                value = request.nearest(value, checkpoint.frames)
            self.inputs[name].value = getattr(checkpoint, name) if value is None else value

    def _on_model(self) -> None:
        frames, checkpoint = self.inputs["frames"].value, self.model.checkpoint
        self.inputs["frames"].options = _modes(checkpoint)  # this selects the first
        self._fill({"frames": frames, "height": None, "width": None})
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

    def _enrich(self, again: bool = True) -> None:
        """Ask the chat model in a thread: it may take a minute."""
        self.enrich.disabled, self.enriching.value = True, "asking the chat model…"
        threading.Thread(
            target=self._ask_chat_model, args=(again,), name="cogvx enrich", daemon=True
        ).start()

    def _ask_chat_model(self, again: bool) -> None:
        prompt = self.typed.value or self.inputs["prompt"].value
        try:
            enriched = enrich.enrich_prompt(prompt, self.model.checkpoint, again=again)
        except CogvxError as error:
            self.enriching.value = bold_html(error)
        else:
            self.typed.value, self.inputs["prompt"].value = enriched.before, enriched.after
            self.enriching.value = (
                f"by {escape(enriched.model)}; both texts can be edited and are kept with the video"
            )
        finally:
            self.enrich.disabled = False


def recorded_values(sidecar: Sidecar) -> dict[str, object]:
    """The fields of a result: how its frames, plan and checks were asked for.

    Older sidecars don't record the plan's fields as asked; those are as planned.
    """
    values, content = {name: FIELDS[name].default for name in NAMES}, sidecar.as_json()
    for part in ("plan", "asked", "request"):
        values |= {name: content[part][name] for name in NAMES if name in content[part]}
    return values | dict.fromkeys(sidecar.allowed, True)


def token_note(model: Model, prompt: str) -> str:
    """How the checkpoint's tokenizer reads a prompt, as HTML."""
    try:
        _checked({"prompt": prompt})
    except RequestError as error:
        return bold_html(error)
    tokens = request.count_tokens(model, prompt)
    note = f"{tokens.count} of {tokens.limit} tokens"
    if tokens.unknown:
        unknown = escape(request.name_words(model, tokens.unknown_words))
        note += f", {tokens.unknown} unknown to {escape(model.name)}: {unknown}"
    if tokens.cut:
        note += f"; this end has no effect: <s>{escape(tokens.cut)}</s>"
    if tokens.unknown_share > 0.5:
        ignored = f"{tokens.unknown_share:.0%} of it would be ignored: {model.checkpoint.reads}"
        note += f"<br>{bold_html(ignored)}"
    return note


def _checked(values: Mapping[str, object]) -> dict[str, object]:
    """Values that their fields accept; the prompt may still be empty."""
    return {name: replace(FIELDS[name], required=False).check(v) for name, v in values.items()}


def _label(name: str) -> str:
    return LABELS.get(name) or name.replace("_", " ").capitalize()


def _modes(checkpoint: Checkpoint) -> list[tuple[str, int]]:
    return [
        (f"{name} · {count} frames", count)
        for name, count in zip(MODES, checkpoint.frames, strict=False)
    ]
