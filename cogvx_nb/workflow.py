"""The one way from a request to a file.

Command line, notebook 03, workbench, sweeps and the benchmark all go through it: find the
checkpoint, validate, plan, load, generate, save. ``reproduction`` goes the other way.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from . import leftovers, settings
from .imports import importing
from .media.given import Given
from .planning import enrich, model_choice, planner, request
from .planning.draws import expand_prompts
from .planning.extension import FIELD
from .planning.fields import complete_values
from .planning.inputs import given_names
from .planning.plan import Plan
from .planning.probe import probe_machine
from .planning.request import VideoRequest
from .planning.requirements import missing_speed_ups
from .planning.styles import find_style
from .progress import CancelToken, Listener, Note, StageStarted
from .results import result, video
from .results.forecast import Paces, announce
from .results.generated import Generated
from .results.output import check_output, check_room
from .results.result import Result
from .results.source_prompt import with_notes, with_source_prompt


def generate_video(
    prompt: str = "",
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    on_event: Listener | None = None,
    cancel: CancelToken | None = None,
    **values: object,
) -> Result:
    """Make a video, from a prompt to an mp4 that carries its settings.

    Args:
        prompt: may be left out where ``extend`` names a result, whose prompt is used then.
        output: where; by default a new name in ``outputs/<date>/``.
        overwrite: replace a video of that name.
        on_event: called with each event of ``progress``, from this thread.
        cancel: takes effect at the next step or stage.
        **values: other fields of ``planning.fields.FIELDS``, such as ``frames``, ``steps`` or
            ``speed``; also by diffusers' names, such as ``num_inference_steps``; and ``styles``.

    Raises:
        CogvxError: with the value and the remedy; see ``errors``.
    """
    leftovers.begin(settings.outputs_dir())
    check_output(output, overwrite=overwrite)
    video.try_ffmpeg()
    prepared, model_note = prepare_request(prompt, on_event, **values)
    return make_video(
        prepared,
        output,
        overwrite=overwrite,
        on_event=on_event,
        cancel=cancel,
        model_note=model_note,
    )


def prepare_request(
    prompt: str = "",
    on_event: Listener | None = None,
    coming: Given | None = None,
    styles: Iterable[str] = (),
    **values: object,
) -> tuple[VideoRequest, str]:
    """Find the checkpoint, enrich the prompt where asked, and validate.

    Args:
        coming: see ``make_request``.
        styles: names of styles to put around the prompt, one after another.

    Returns:
        (request, note): the note says why this checkpoint, where ``model`` is ``auto``.

    Raises:
        CogvxError: with the value and the remedy.
    """
    emit = on_event or (lambda event: None)
    values, notes = with_source_prompt({"prompt": prompt, **values})
    values = complete_values(values)
    for style in styles:
        texts = find_style(style).apply(values["prompt"], values["negative_prompt"])
        values["prompt"], values["negative_prompt"] = texts
    name = values.pop("model")
    given = (*given_names(values), *([FIELD] if coming else []))
    model, model_note = model_choice.find_model(
        name, probe_machine, values["frames"], given, values["lora"]
    )
    enriched_from, templates = "", None
    if values["enrich"]:
        emit(StageStarted("enrich"))
        texts, templates = expand_prompts(values)
        enriched = enrich.enrich_prompt(texts["prompt"], model.checkpoint)
        emit(Note(f"prompt before: {enriched.before}"))
        emit(Note(f"prompt after ({enriched.model}): {enriched.after}"))
        values |= texts | {"prompt": enriched.after}
        enriched_from = enriched.before
    made = request.make_request(
        model, enriched_from=enriched_from, templates=templates, coming=coming, **values
    )
    return with_notes(made, notes), model_note


def make_video(
    prepared: VideoRequest,
    output: str | Path | None = None,
    *,
    plan: Plan | None = None,
    overwrite: bool = False,
    on_event: Listener | None = None,
    cancel: CancelToken | None = None,
    reuse_text: bool = True,
    model_note: str = "",
    paces: Paces | None = None,
) -> Result:
    """Make the video of a request that was prepared before, and write it.

    The arguments are those of ``make_frames``; it raises what that and ``save_result`` raise.
    """
    how = {"plan": plan, "reuse_text": reuse_text, "model_note": model_note, "paces": paces}
    generated = make_frames(
        prepared, output, overwrite=overwrite, on_event=on_event, cancel=cancel, **how
    )
    return result.save_result(generated, output, overwrite=overwrite, on_event=on_event)


def make_frames(
    prepared: VideoRequest,
    output: str | Path | None = None,
    *,
    plan: Plan | None = None,
    overwrite: bool = False,
    on_event: Listener | None = None,
    cancel: CancelToken | None = None,
    reuse_text: bool = True,
    model_note: str = "",
    paces: Paces | None = None,
) -> Generated:
    """Make the frames of a request that was prepared before, for ``save_result`` to write.

    Args:
        output, overwrite: where they will be written, which is tried first.
        plan: how; by default the fastest that fits.
        reuse_text: take a prompt's embedding from an earlier video, where there was one.
        paces: as for ``announce``.

    Raises:
        CogvxError: with the value and the remedy.
    """
    path = check_output(output, overwrite=overwrite)
    check_room(path, prepared.all_frames * prepared.height * prepared.width)
    video.try_ffmpeg()
    emit = on_event or (lambda event: None)
    plan = plan or planner.plan_request(prepared, probe_machine())
    if on_event is not None:
        emit(announce(prepared, plan, model_note, paces))
    if missing := missing_speed_ups(plan.speed, plan.speed_ups, plan.reasons):
        emit(Note(missing))
    emit(StageStarted("load"))
    with importing:  # of torch and diffusers, which is a part of loading
        from .pipeline import generate, loader

    loaded = loader.load_pipeline(plan)
    for note in loaded.notes:
        emit(Note(note))
    return generate.generate_frames(prepared, loaded, on_event, cancel, reuse_text=reuse_text)
