"""The panel of notebook 03: prompt, settings, queue, progress, preview and result."""

from __future__ import annotations

import random
from html import escape

import ipywidgets as widgets

from . import display, machine, plan, prompts, request, settings, video
from .errors import CogvxError
from .jobs import DONE, FAILED, Job
from .request import MAX_SEED
from .studio import Previewed, Studio, studio
from .weights import Model

MODES = ("quick", "standard", "best")
"""Names of a checkpoint's frame counts, from few to many."""

WIDE = {"width": "98%"}
NARROW = {"width": "14em"}
"""Layouts; not made into widgets here, for a headless notebook imports this too."""


class Panel(widgets.VBox):
    """Fields of a request, a queue of them, and what comes of it.

    Args:
        model: the checkpoint to make videos with.
        where: the studio whose queue it shows.
        **values: of a request, to begin with; see ``request.make``.
    """

    def __init__(self, model: Model, where: Studio, **values) -> None:
        self.model, self._studio = model, where
        self._build_fields(values)
        self._build_work()
        super().__init__([*self._form, self._work])
        self.add_class("cogvx-panel")
        self._count_tokens()
        self._predict()
        self._show_queue()
        if where.finished:
            self._show_finished(where.finished[-1])
        self.stop = where.listen(self._on_change)

    # --- fields -----------------------------------------------------------------------------------

    def _build_fields(self, values: dict) -> None:
        checkpoint = self.model.checkpoint
        self.prompt = _text("Prompt", values.get("prompt", ""), "cogvx-prompt")
        self.tokens = widgets.HTML().add_class("cogvx-tokens")
        negative = values.get("negative_prompt", "")
        self.negative = _text("Negative prompt", negative, "cogvx-negative")
        frames = request.nearest(values.get("frames", 13), checkpoint.frames)
        options = [
            (f"{name} · {count} frames", count)
            for name, count in zip(MODES, checkpoint.frames, strict=False)
        ]
        self.frames = widgets.ToggleButtons(
            options=options, value=frames, description="Mode", tooltips=[o[0] for o in options]
        ).add_class("cogvx-mode")
        self.frames.style.button_width = "14em"
        self.prediction = widgets.HTML().add_class("cogvx-prediction")
        self.seed = _number(widgets.BoundedIntText, "Seed", values.get("seed", 42), 0, MAX_SEED)
        self.seed.add_class("cogvx-seed")
        self.dice = _button("New seed", "random", "another seed, at random", self._roll)
        self.lock = widgets.ToggleButton(
            value=True, description="Keep seed", icon="lock", tooltip="off: each video a new seed"
        )
        self.steps = _number(widgets.BoundedIntText, "Steps", values.get("steps", 50), 1, 1000)
        self.guidance = _number(
            widgets.BoundedFloatText, "Guidance", values.get("guidance", 6.0), 0, 100
        )
        self.height = _number(
            widgets.BoundedIntText, "Height", values.get("height") or checkpoint.height, 16, 4096
        )
        self.width = _number(
            widgets.BoundedIntText, "Width", values.get("width") or checkpoint.width, 16, 4096
        )
        numbers = _row(self.steps, self.guidance, self.height, self.width)
        folded = widgets.VBox([self.negative, numbers])
        advanced = widgets.Accordion([folded], titles=("Advanced",))
        self.prompt.observe(lambda change: self._count_tokens(), "value")
        self.frames.observe(lambda change: self._predict(), "value")
        seed = _row(self.seed, self.dice, self.lock)
        self._form = [self.prompt, self.tokens, self.frames, self.prediction, seed, advanced]

    def _count_tokens(self) -> None:
        self.tokens.value = token_note(self.model, self.prompt.value)

    def _predict(self) -> None:
        self.prediction.value = escape(self._studio.predict(self.model, self.frames.value))

    def _roll(self) -> None:
        self.seed.value = random.SystemRandom().randrange(2**31)

    def load(self, kept: dict) -> None:
        """Take a sidecar's settings into the fields."""
        wanted = kept["request"]
        self.prompt.value, self.negative.value = wanted["prompt"], wanted["negative_prompt"]
        self.frames.value = request.nearest(wanted["frames"], self.model.checkpoint.frames)
        for name in ("steps", "guidance", "seed", "height", "width"):
            getattr(self, name).value = wanted[name]

    # --- work -------------------------------------------------------------------------------------

    def _build_work(self) -> None:
        self.generate = _button("Generate", "play", "put this into the queue", self._submit)
        self.generate.button_style = "primary"
        self.cancel = _button("Cancel", "stop", "stop the running one", self._cancel)
        self.clear = _button("Empty queue", "trash", "take all waiting out", self._clear)
        self.message = widgets.HTML().add_class("cogvx-message")
        self.queue = widgets.VBox().add_class("cogvx-queue")
        self.progress = widgets.FloatProgress(min=0, max=1, layout=WIDE)
        self.progress.add_class("cogvx-progress")
        self.stage = widgets.HTML().add_class("cogvx-stage")
        self.preview = widgets.Image(
            format="webp", layout={"width": "270px", "visibility": "hidden"}
        ).add_class("cogvx-preview")
        self.result = widgets.VBox().add_class("cogvx-result")
        buttons = _row(self.generate, self.cancel, self.clear)
        bar = [self.progress, self.stage, self.preview]
        self._work = widgets.VBox([buttons, self.message, *bar, self.queue, self.result])

    def _submit(self) -> None:
        try:
            wanted = request.make(
                self.model,
                self.prompt.value,
                self.negative.value,
                self.frames.value,
                self.steps.value,
                self.height.value,
                self.width.value,
                self.guidance.value,
                self.seed.value,
            )
        except CogvxError as error:
            self.message.value = f"<b>{escape(str(error))}</b>"
            return
        self.message.value = "<br>".join(escape(line) for line in str(wanted).splitlines()[1:])
        self._studio.queue.submit(wanted)
        if not self.lock.value:
            self._roll()

    def _cancel(self) -> None:
        if job := self._studio.queue.running:
            self._studio.queue.cancel(job)

    def _clear(self) -> None:
        self._studio.queue.clear()

    # --- what happens -----------------------------------------------------------------------------

    def _on_change(self, job: Job, event) -> None:
        if isinstance(event, Previewed):
            self._show_preview(event.data)
        elif event is None:
            self._show_queue()
            if job.state in (DONE, FAILED):
                self._show_finished(job)
        else:
            self._show_stage()

    def _show_stage(self) -> None:
        job = self._studio.queue.running
        if job is None:
            self.stage.value, self.progress.value = "", 0
            self.preview.layout.visibility = "hidden"
            return
        part = job.step / job.steps if job.steps else 0
        left = f", step {job.step} of {job.steps}, {job.seconds_left:.0f} s left" if part else ""
        notes = "".join(f"<br>{escape(note)}" for note in job.notes)
        self.progress.value = part
        self.stage.value = f"{escape(job.stage or 'load')}{left}{notes}"

    def _show_preview(self, data: bytes) -> None:
        self.preview.value = data
        self.preview.layout.visibility = "visible"

    def _show_queue(self) -> None:
        running, waiting = self._studio.queue.running, self._studio.queue.waiting
        self.cancel.disabled, self.clear.disabled = running is None, not waiting
        rows = [widgets.HTML(f"<b>running</b> {_title(running)}")] if running else []
        self.queue.children = rows + [self._waiting_row(job) for job in waiting]
        if running and self._studio.preview:
            self._show_preview(self._studio.preview)
        self._show_stage()

    def _waiting_row(self, job: Job) -> widgets.HBox:
        queue = self._studio.queue
        return _row(
            _button("", "arrow-up", "earlier", lambda: queue.move(job, -1)),
            _button("", "arrow-down", "later", lambda: queue.move(job, 1)),
            _button("", "times", "take it out", lambda: queue.cancel(job)),
            widgets.HTML(f"waiting {_title(job)}"),
        )

    def _show_finished(self, job: Job) -> None:
        if job.state == FAILED:
            text = widgets.HTML(f"<b>{_title(job)} failed: {escape(job.error)}</b>")
            self.result.children = [text]
        elif job.state == DONE:
            self.result.children = self._finished(job)
        self._predict()

    def _finished(self, job: Job) -> list[widgets.Widget]:
        kept = job.result.settings
        stages = ", ".join(f"{name} {value:.1f} s" for name, value in kept["seconds"].items())
        lines = [str(job.result.path), stages, *map(str, job.request.adjustments), *job.notes]
        player = widgets.Video.from_file(job.result.path, autoplay=True, loop=True)
        player.layout.width = "432px"
        player.add_class("cogvx-video")
        strip = widgets.Image(value=display.strip(video.decode(job.result.path)).data, layout=WIDE)
        return [
            widgets.HTML(f"<b>{_title(job)}</b><br>{'<br>'.join(map(escape, lines))}"),
            player,
            strip,
            _row(
                _button("Again, another seed", "refresh", "", lambda: self._again(kept)),
                _button("Load these settings", "upload", "", lambda: self.load(kept)),
            ),
        ]

    def _again(self, kept: dict) -> None:
        self.load(kept)
        self._roll()
        self._submit()


def token_note(model: Model, prompt: str) -> str:
    """What the checkpoint's tokenizer makes of a prompt, as HTML."""
    tokens = prompts.count(model, prompt)
    note = f"{tokens.count} of {tokens.limit} tokens"
    if tokens.unknown:
        note += f", {tokens.unknown} unknown to {model.name}"
    if tokens.cut:
        note += f"; this end has no effect: <s>{escape(tokens.cut)}</s>"
    if tokens.unknown_share > 0.5:
        note += (
            f"<br><b>{tokens.unknown_share:.0%} of it would be ignored: "
            f"{escape(model.checkpoint.reads)}</b>"
        )
    return note


def show(model: str = "auto", **values) -> Panel:
    """A panel on this process's queue; whatever is running there goes on and is shown."""
    found, _ = plan.find_model(model, machine.probe(), values.get("frames", 13))
    return Panel(found, studio(), **values)


def take_over(model: str = "auto", **values) -> None:
    """In a live front end: show the panel, and end "run all" here. Headless it does nothing.

    The panel works on its own thread; the cells after it would block the kernel with another video.
    """
    if settings.live_ui():
        from IPython.display import display as show_now

        show_now(show(model, **values))
        raise PanelShown


class PanelShown(Exception):
    """Ends a run of all cells, in a line instead of a traceback."""

    def _render_traceback_(self) -> list[str]:
        return ["Run all ends here: the panel above takes over."]


def _title(job: Job) -> str:
    wanted = job.request
    return escape(f"{wanted.prompt[:80]} · {wanted.frames} frames · seed {wanted.seed}")


def _text(label: str, value: str, name: str) -> widgets.Textarea:
    area = widgets.Textarea(value=value, description=label, layout=WIDE, rows=3)
    area.style.description_width = "8em"
    return area.add_class(name)


def _number(kind: type, label: str, value: float, low: float, high: float) -> widgets.Widget:
    return kind(value=value, min=low, max=high, description=label, layout=NARROW)


def _button(label: str, icon: str, tooltip: str, act) -> widgets.Button:
    button = widgets.Button(description=label, icon=icon, tooltip=tooltip or label)
    button.layout.width = "auto" if label else "3em"
    button.on_click(lambda clicked: act())
    return button.add_class(f"cogvx-{(label or tooltip).split(',')[0].lower().replace(' ', '-')}")


def _row(*items: widgets.Widget) -> widgets.HBox:
    return widgets.HBox(items, layout={"flex_flow": "row wrap", "align_items": "center"})
