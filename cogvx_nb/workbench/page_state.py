"""What a page shows, as typed values; each becomes a trait as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from ..checkpoints import store
from ..checkpoints.registry import CHECKPOINTS, MODES, TEXT, Model
from ..loras.entries import shown_loras
from ..planning import enrich
from ..planning.field import INPUT, Field
from ..planning.fields import FIELDS, INPUTS, MAX_PROMPT
from ..planning.inputs import INPUTS_OF
from ..results.records import Sidecar
from ..results.result import Result
from ..text import format_bytes, full_number
from .draft import NAMES, input_names, recorded_values
from .jobs import Job
from .wording import label_of

CHOICE_LABELS = {"": "none"}
"""How choices are shown, where not by their own name."""


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A field of the form."""

    name: str
    label: str
    control: str  # file, loras, prompt, text, whole, number, slider, choice or check
    section: str  # of the form
    help: str
    default: object
    least: float | None = None
    most: float | None = None
    step: float | None = None
    choices: tuple[tuple[str, str], ...] = ()  # (value, label)
    media: str = ""  # picture or clip, where it names a file of one
    tunes: tuple[str, ...] = ()  # names of the fields of which one must be given for it to act


def field_rows() -> list[FieldRow]:
    """The fields of the form, in their order."""
    return [_field_row(FIELDS[name]) for name in NAMES]


def _field_row(row: Field) -> FieldRow:
    """A field of a request as the form shows it, by its kind, bounds and choices."""
    kinds = {bool: "check", int: "whole", float: "number", str: "text"}
    control, smallest = "choice" if row.choices else kinds[row.kind], 0.05
    if row.media:
        control = "file"
    elif row.many:
        control = "loras"
    elif control == "number" and row.section == INPUT and row.most <= 1:
        control, smallest = "slider", 0.01
    elif control == "text" and row.most >= MAX_PROMPT:
        control = "prompt"
    least, most, step = None, None, None
    if row.kind in (int, float):
        least, most = row.least, row.most
        # Sizes are multiples of the smallest.
        step = max(row.least, 1) if row.kind is int else smallest if row.most <= 1 else 0.5
    choices = tuple((choice, CHOICE_LABELS.get(choice, choice)) for choice in row.choices)
    default = row.default
    return FieldRow(
        row.name, label_of(row.name), control, row.section, row.help, default, least, most, step,
        choices, row.media, row.tunes,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A checkpoint that can be chosen."""

    name: str
    modes: tuple[tuple[str, int, float], ...]  # (name, frames, seconds of video)
    counts: tuple[int, ...]  # of frames, all that it makes
    fps: int
    height: int
    width: int
    licence: str
    embedded: bool  # the small model that ships with the repository
    enrichable: bool
    takes: tuple[str, ...]  # names of the fields with pictures or clips that it can start from


def model_row(model: Model) -> ModelRow:
    """A checkpoint as the form shows it."""
    facts = model.checkpoint
    modes = zip(MODES, facts.frames, strict=False)
    return ModelRow(
        name=model.name,
        modes=tuple((name, count, round(count / facts.fps, 1)) for name, count in modes),
        counts=(*facts.frame_counts, *facts.window_counts),
        fps=facts.fps,
        height=facts.height,
        width=facts.width,
        licence=f"{facts.licence}: {facts.licence_note}",
        embedded=facts.is_embedded,
        enrichable=enrich.is_configured() and facts.enrichable,
        takes=tuple(n for n in INPUTS if any(n in INPUTS_OF[task] for task in facts.tasks)),
    )


@dataclass(frozen=True, slots=True)
class Setup:
    """What doesn't change while a page is open."""

    fields: list[FieldRow]
    models: list[ModelRow]
    missing: list[tuple[str, str, str]]  # (checkpoint, size, command that fetches it)


def describe_setup(models: list[Model]) -> Setup:
    """The form's fields, the checkpoints, and those that can be fetched."""
    known = {model.name for model in models}
    missing = [
        (row.name, format_bytes(row.stored_bytes), store.download_command(row))
        for row in CHECKPOINTS
        # The page offers the first of them for whatever is described.
        if row.name not in known and not row.is_embedded and TEXT in row.tasks
    ]
    return Setup(field_rows(), [model_row(model) for model in models], missing)


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job of the queue, or one that ended without a video."""

    id: str
    prompt: str
    frames: int
    steps: int
    seed: int
    speed: str
    model: str
    state: str  # see ``jobs``
    again: bool  # a result made again, to compare
    seconds: float | None  # predicted
    finish: str = ""  # what is made of a result, where it is finished
    pieces: int = 0  # of a storyboard
    notes: tuple[str, ...] = ()
    error: str = ""


def job_row(job: Job, seconds: float | None = None) -> JobRow:
    """A job as the page shows it."""
    settings = job.original.settings if job.original else None
    request = job.request or settings.request
    return JobRow(
        id=job.id,
        prompt=request.prompt,
        frames=request.frames if job.request else settings.shown.frames,
        steps=request.steps,
        seed=request.seed,
        speed=(job.request.speed if job.request else settings.plan.speed) or "",
        model=job.request.model.name if job.request else settings.checkpoint.name,
        state=job.state,
        again=job.compares,
        finish=str(job.finish or ""),
        pieces=len(job.board),
        seconds=seconds,
        notes=job.notes,
        error=job.error,
    )


@dataclass(frozen=True, slots=True)
class Jobs:
    """The queue."""

    running: JobRow | None = None
    waiting: list[JobRow] = field(default_factory=list)
    seconds: float | None = None  # predicted for all of them; None if it isn't known of one
    paused: bool = False  # whether no further job is started
    unfinished: tuple[str, ...] = ()  # lines about jobs of kernels that ended
    resumable: int = 0  # of those that can be put into the queue


@dataclass(frozen=True, slots=True)
class Progress:
    """The running job."""

    id: str = ""  # empty: nothing runs
    stage: str = ""
    step: int = 0
    steps: int = 0
    share: float = 0.0  # of the whole job, 0 … 1
    seconds_left: float | None = None  # of the whole job
    notes: tuple[str, ...] = ()
    pieces: tuple[str, ...] = ()  # how it stands with each piece of a storyboard


def running_progress(job: Job | None) -> Progress:
    """How far the running job is, if there is one."""
    if job is None:
        return Progress()
    return Progress(
        id=job.id,
        stage=job.stage or "load",
        step=job.step,
        steps=job.steps,
        share=round(job.share, 4),
        seconds_left=job.seconds_left,
        notes=job.notes,
        pieces=job.pieces,
    )


@dataclass(frozen=True, slots=True)
class RollRow:
    """An entry of the film roll."""

    path: str  # of the mp4, relative to the outputs folder
    prompt: str
    values: dict[str, object]  # of all fields of the request
    facts: tuple[tuple[str, str], ...]  # (name, value) of the main settings
    frames: int
    fps: int
    height: int
    width: int
    seed: int
    model: str
    made: str  # ISO 8601
    seconds: float  # of making it
    lines: tuple[str, ...] = ()  # adjustments, notes and approximations
    inputs: tuple[tuple[str, str, str], ...] = ()  # (field, its label, name of the file)


FACTS = ("frames", "steps", "guidance", "seed")
"""Fields of a request that are shown of each result."""

PLANNED_FACTS = ("speed", "attention", "placement", "device")
"""Fields of a plan that are; a CPU has one attention and one placement."""


def roll_row(path: str, result: Result) -> RollRow:
    """A result as the film roll and the stage show it."""
    sidecar = result.settings
    request, shown = sidecar.request, sidecar.shown
    stages = ", ".join(f"{name} {value:.1f} s" for name, value in sidecar.seconds.items())
    typed = (f"as typed: {sidecar.enriched_from}",) if sidecar.enriched_from else ()
    typed += (f"template: {sidecar.typed_templates}",) if sidecar.templates else ()
    changes = map(str, sidecar.adjustments)
    lines = (*typed, *changes, *sidecar.notes, *filter(None, [result.note]), stages, path)
    return RollRow(
        path=path,
        prompt=request.prompt,
        values=recorded_values(sidecar),
        facts=_facts(sidecar),
        frames=shown.frames,
        fps=shown.fps,
        height=shown.height,
        width=shown.width,
        seed=request.seed,
        model=sidecar.checkpoint.name,
        made=sidecar.made,
        seconds=round(sum(sidecar.seconds.values()), 1),
        lines=lines,
        inputs=input_rows(sidecar),
    )


def input_rows(sidecar: Sidecar) -> tuple[tuple[str, str, str], ...]:
    """(field, its label, name of the file) of each picture or clip that a result was made from."""
    names = input_names(sidecar)
    files = {name: getattr(sidecar.request, name) for name in INPUTS}
    return tuple(
        (name, label_of(name), names.get(kept, kept)) for name, kept in files.items() if kept
    )


def _facts(sidecar: Sidecar) -> tuple[tuple[str, str], ...]:
    request, plan = sidecar.request, sidecar.plan
    values = {name: getattr(request, name) for name in FACTS}
    values |= {"frames": sidecar.shown.frames, "finished": str(sidecar.finished or "")}
    values["size"] = f"{sidecar.shown.height} × {sidecar.shown.width}"
    names = ("speed", "device") if plan.device == "cpu" else PLANNED_FACTS
    values |= {name: getattr(plan, name) for name in names}
    values["lora"] = shown_loras(request.lora)
    shown = {label_of(name): value for name, value in values.items() if value not in (None, "")}
    return tuple(
        (label, value if isinstance(value, str) else full_number(value))
        for label, value in shown.items()
    )


def as_trait(value: object) -> dict:
    """A typed value as the JSON of a trait."""
    return asdict(value)
