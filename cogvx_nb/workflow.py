"""The one way from a request to a file, and from a file to the same video again.

Command line, notebook 03, workbench, sweeps, ``reproduce`` and the benchmark all go through it:
find the checkpoint, validate, plan, load, generate, save.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from . import leftovers, settings
from .checkpoints import registry, store
from .errors import ModelError, PathError
from .planning import enrich, planner, request
from .planning.fields import FIELDS, complete_values
from .planning.plan import Plan
from .planning.probe import probe_machine
from .planning.request import VideoRequest
from .planning.speedups import missing_speed_ups
from .progress import CancelToken, Listener, Note, Planned, StageStarted
from .results import result, video
from .results.records import RecordedCheckpoint, Sidecar
from .results.result import Generated, Result


def generate_video(
    prompt: str,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    on_event: Listener | None = None,
    cancel: CancelToken | None = None,
    **values: object,
) -> Result:
    """Make a video, from a prompt to an mp4 that carries its settings.

    Args:
        output: where; by default a new name in ``outputs/<date>/``.
        overwrite: replace a video of that name.
        on_event: called with each event of ``progress``, from this thread.
        cancel: takes effect at the next step or stage.
        **values: other fields of ``planning.fields.FIELDS``, such as ``frames``, ``steps`` or
            ``speed``; also by diffusers' names, such as ``num_inference_steps``.

    Raises:
        CogvxError: with the value and the remedy; see ``errors``.
    """
    leftovers.begin(settings.outputs_dir())
    result.check_output(output, overwrite=overwrite)
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
    prompt: str, on_event: Listener | None = None, **values: object
) -> tuple[VideoRequest, str]:
    """Find the checkpoint, enrich the prompt where asked, and validate.

    Returns:
        (request, note): the note says why this checkpoint, where ``model`` is ``auto``.

    Raises:
        CogvxError: with the value and the remedy.
    """
    emit = on_event or (lambda event: None)
    values = complete_values({"prompt": prompt, **values})
    name = values.pop("model")
    model, model_note = planner.find_model(name, probe_machine(), values["frames"])
    enriched_from = ""
    if values["enrich"]:
        emit(StageStarted("enrich"))
        enriched = enrich.enrich_prompt(prompt, model.checkpoint)
        emit(Note(f"prompt before: {enriched.before}"))
        emit(Note(f"prompt after ({enriched.model}): {enriched.after}"))
        values["prompt"], enriched_from = enriched.after, enriched.before
    return request.make_request(model, enriched_from=enriched_from, **values), model_note


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
) -> Result:
    """Make the video of a request that was prepared before.

    Args:
        plan: how; by default the fastest that fits.
        reuse_text: take a prompt's embedding from an earlier video, where there was one.

    Raises:
        CogvxError: with the value and the remedy.
    """
    from .pipeline import generate, loader

    result.check_output(output, overwrite=overwrite)
    emit = on_event or (lambda event: None)
    plan = plan or planner.plan_request(prepared, probe_machine())
    emit(Planned(prepared, plan, model_note))
    if missing := missing_speed_ups(plan.speed, plan.speed_ups, plan.reasons):
        emit(Note(missing))
    emit(StageStarted("load"))
    generated = generate.generate_frames(
        prepared, loader.load_pipeline(plan), on_event, cancel, reuse_text=reuse_text
    )
    return result.save_result(generated, output, overwrite=overwrite, on_event=on_event)


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A result made again."""

    original: Result
    generated: Generated  # the new frames
    identical: bool  # whether they are the same, bit by bit
    psnr: float  # decibels between the new frames and the original mp4's, which is compressed
    differences: tuple[str, ...]  # in versions, machine, checkpoint files or plan

    def __str__(self) -> str:
        path = self.original.path
        if self.identical:
            count = len(self.generated.frames)
            return f"identical: all {count} frames of {path} came out the same"
        reasons = self.differences or ("nothing that was recorded differs",)
        return "\n  ".join([f"not identical: {self.psnr:.1f} dB from {path}", *reasons])


def reproduce(
    original: Result, on_event: Listener | None = None, cancel: CancelToken | None = None
) -> Reproduction:
    """Run a result's request once more, on its plan where this machine can.

    Args:
        on_event, cancel: as for ``generate.generate_frames``.

    Raises:
        ModelError: if its checkpoint is not on this machine, or not whole.
        CogvxError: whatever making a video can raise.
    """
    from .pipeline import generate, loader

    recorded, content = request_of(original.settings), original.sidecar_json()
    loaded = loader.load_pipeline(planner.replay_plan(recorded, probe_machine(), content["plan"]))
    with _cpu_threads(original.settings.machine.threads):
        generated = generate.generate_frames(recorded, loaded, on_event, cancel)
    sidecar = result.describe_video(generated)
    return Reproduction(
        original=original,
        generated=generated,
        identical=sidecar.frame_hash == original.frame_hash,
        psnr=_psnr(generated.frames, video.decode_video(original.path)),
        differences=_differences(content, sidecar.as_json()),
    )


def request_of(sidecar: Sidecar) -> VideoRequest:
    """The request that a sidecar records; its prompt is never enriched a second time.

    Raises:
        ModelError: if its checkpoint is not on this machine, or not whole.
        RequestError: if it is no longer valid.
    """
    values = {n: value for n, value in asdict(sidecar.request).items() if n in FIELDS}
    permitted = dict.fromkeys(sidecar.allowed, True)
    return request.make_request(
        _recorded_model(sidecar.checkpoint),
        **values | permitted,
        enriched_from=sidecar.enriched_from,
    )


def _recorded_model(checkpoint: RecordedCheckpoint) -> registry.Model:
    """The checkpoint that has the recorded files, or else the one of that name."""
    models = []
    for name in filter(None, (checkpoint.folder, checkpoint.name)):
        try:
            model = store.locate_checkpoint(name)
        except (ModelError, PathError) as error:  # it is gone, or not whole any more
            missing = error
            continue
        if store.file_hashes(model) == checkpoint.sha256:
            return model
        models.append(model)
    if not models:
        raise missing
    return models[-1]


def _differences(then: dict, now: dict) -> tuple[str, ...]:
    differences = []
    for part in ("versions", "machine", "plan"):
        ignored = ("reasons", "peak_bytes", "ram_bytes")
        for name in (then[part].keys() | now[part].keys()) - set(ignored):
            before, after = then[part].get(name), now[part].get(name)
            if before != after:
                differences.append(f"{part} {name}: {before} then, {after} now")
    before, after = then["checkpoint"]["sha256"], now["checkpoint"]["sha256"]
    changed = sorted(f for f in before.keys() | after.keys() if before.get(f) != after.get(f))
    differences += [f"checkpoint file {name} differs" for name in changed]
    return tuple(sorted(differences))


@contextlib.contextmanager
def _cpu_threads(count: int | None) -> Iterator[None]:
    """torch computes with so many CPU threads: their number can change the last bit."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(count or threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _psnr(frames: np.ndarray, others: np.ndarray) -> float:
    """Decibels between two uint8 clips of one shape; NaN for different shapes."""
    if frames.shape != others.shape:
        return float("nan")
    error = np.mean((frames.astype(np.float32) - others.astype(np.float32)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")
