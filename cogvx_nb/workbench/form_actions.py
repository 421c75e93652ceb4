"""Actions on the form: what is typed, what it would cost, and the settings of a result."""

from __future__ import annotations

import contextlib
import random
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace

from ..checkpoints.registry import Model
from ..errors import CogvxError, DoesNotFit
from ..loras.given import read_loras
from ..planning import enrich, extension
from ..planning.draws import expand_prompts
from ..planning.extension_fit import fit_new_frames
from ..planning.fields import FIELDS
from ..planning.fit import fit_frames
from ..planning.inputs import done_steps, encoded_frames, given_names, task_of
from ..planning.schedulers import GUIDING, guiding_of
from ..planning.speedups import SPEEDS
from ..results.measured_fidelity import fidelity_label, fidelity_sentence
from ..results.result import read_result
from ..results.source_prompt import with_source_prompt
from .actions import Action, Named, NoArguments, Reply
from .desk import Desk
from .draft import reads_files
from .lora_rows import able_models
from .wording import explain_error, use_labels


@dataclass(frozen=True, slots=True)
class Values:
    """Values of fields, by name; ``model`` is a checkpoint's name."""

    values: dict[str, object] = field(default_factory=dict)


def edit_form(desk: Desk, arguments: Values) -> Reply | Future[Reply]:
    """Take what is typed: the fields that were changed since the page sent or got them last.

    Replies with ``problem``, why it can't be made, or None; ``notes`` on what is adjusted; and the
    form's ``state``, which may have been changed elsewhere.
    """
    desk.edit(arguments.values)
    if reads_files(desk.form.values):
        return desk.in_background(lambda: Reply(_check_form(desk) | desk.form.state()))
    return Reply(_check_form(desk) | desk.form.state())


def _check_form(desk: Desk) -> dict[str, object]:
    try:
        if not str(with_source_prompt(desk.form.values)[0]["prompt"]).strip():
            desk.form.read_inputs()
            return {"problem": None, "notes": []}
        request = desk.form.request()
    except CogvxError as error:
        told = explain_error(error)
        if told.field == "model":
            told = replace(told, model=next(iter(desk.form.able_models()), ""))
        elif told.field == "lora":
            able = able_models(str(desk.form.values["lora"]), desk.form.models)
            told = replace(told, model=next(iter(able), ""))
        return {"problem": asdict(told), "notes": []}
    # Of what is given they stand beside it: see ``input_actions.preview``.
    beside = tuple(f"{name}: " for name in request.input_names)
    notes = [note for note in request.remarks if not note.startswith(beside)]
    return {"problem": None, "notes": [use_labels(note) for note in notes]}


def predict_costs(desk: Desk, arguments: NoArguments) -> Reply:
    """Predicted time and memory of each speed, for each mode's length and the chosen one.

    Replies with a list of rows ``{"frames", "speed", "seconds", "bytes", "problem", "note",
    "distance", "fidelity"}``: ``frames`` as asked for, and the rest of what that is fitted to;
    ``seconds`` is None where nothing is known of the GPU, ``problem`` empty where it fits,
    ``note`` says what the speed does without here. ``distance`` and ``fidelity`` say in a few
    words and in a sentence how far such videos lie from those of ``exact``, where
    ``cogvx bench --fidelity`` measured it here; else they are empty.
    """
    values, model = desk.form.filled, desk.form.model
    with contextlib.suppress(CogvxError):  # it is said elsewhere
        task = task_of(model.checkpoint, given_names(values))
        strength = FIELDS["strength"].check(values["strength"])
        values["steps"] = done_steps(task, FIELDS["steps"].check(values["steps"]), strength)
    # The first one imports torch.
    return desk.in_background(lambda: Reply(_cost_rows(desk, model, values)))


def _cost_rows(desk: Desk, model: Model, values: dict[str, object]) -> list[dict[str, object]]:
    rows, loras, guiding = [], (), None
    counts, given = set(model.checkpoint.frames), given_names(values)
    with contextlib.suppress(CogvxError):  # it is said elsewhere, too
        asked = {name: FIELDS[name].check(values[name]) for name in GUIDING}
        guiding = guiding_of(model.checkpoint, asked)
    with contextlib.suppress(CogvxError):  # it is said elsewhere, too
        loras = read_loras(str(values["lora"]), model.checkpoint)
    with contextlib.suppress(CogvxError):  # it is said elsewhere, too
        counts.add(FIELDS["frames"].check(values["frames"]))
    for frames in sorted(counts):
        clips = (fit_frames(model, frames, text_alone=not given)[0],)
        if extension.FIELD in given:
            clips = extension.pieces(model.checkpoint, fit_new_frames(model, frames)[0])
        for speed in SPEEDS:
            row = {
                "frames": frames,
                "speed": speed,
                "seconds": None,
                "bytes": 0,
                "problem": "",
                "note": "",
                "distance": "",
                "fidelity": "",
            }
            try:
                predicted = desk.session.predict(
                    model,
                    max(clips),
                    values["steps"],
                    speed,
                    values["attention"],
                    encoded_frames(model.checkpoint, given, max(clips)),
                    loras,
                    str(values["gpus"]),
                    guiding,
                    len(clips),
                )
            except DoesNotFit as error:
                row["problem"] = f"would not fit: {use_labels(str(error))}"
            except CogvxError as error:
                row["problem"] = explain_error(error).text
            else:
                row |= {"seconds": predicted.seconds, "bytes": predicted.peak_bytes}
                row["note"] = predicted.note
                if beside := predicted.fidelity:
                    row["distance"] = fidelity_label(beside)
                    row["fidelity"] = fidelity_sentence(beside)
            rows.append(row)
    return rows


def load_result(desk: Desk, arguments: Named) -> Reply:
    """Take over the settings of a result; replies with the form's ``state``, and a note."""
    result = read_result(desk.path_of(arguments.path))
    note = desk.form.load(result.settings)
    desk.save_soon()
    return Reply(desk.form.state() | {"note": note or result.note})


def roll_seed(desk: Desk, arguments: NoArguments) -> Reply:
    """A random seed."""
    return Reply(random.SystemRandom().randrange(2**31))


def enrich_prompt(desk: Desk, arguments: NoArguments) -> Reply:
    """Let the chat model rewrite the prompt, in a thread: it may take a minute."""
    model = desk.form.model.checkpoint
    values = desk.form.filled
    typed = {"prompt": str(values["prompt"]), "negative_prompt": ""}
    prompt = str(values["enriched_from"] or expand_prompts(values | typed)[0]["prompt"])

    def ask() -> Reply:
        enriched = enrich.enrich_prompt(prompt, model, again=True)
        return Reply(asdict(enriched))

    return desk.in_background(ask)


ACTIONS = {
    "form.edit": Action(Values, edit_form),
    "form.predict": Action(NoArguments, predict_costs),
    "form.load": Action(Named, load_result),
    "form.seed": Action(NoArguments, roll_seed),
    "form.enrich": Action(NoArguments, enrich_prompt),
}
