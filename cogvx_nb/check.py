"""Whether a model can run on this machine: rows of pass, warn and fail, each with its remedy.

Nothing that may be broken is imported here: torch, diffusers and the like are tried in processes of
their own, and a probe that fails is a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from . import attempts, check_gpu, check_machine, check_models, check_packages, settings, text
from .check_models import Job
from .check_report import FAIL, WARN, GpuVerdict, Report, Row
from .checkpoints import download, registry
from .planning import memory
from .planning.machine import Machine

STORED_BYTES = {"text_encoder": 2, "transformer": 2, "vae": 4}
"""Bytes a parameter takes on the hubs: the 5B's VAE is stored in float32, the rest in 16 bits."""

NAMED = 6
"""Failed rows that the verdict names; a bare environment has twenty."""


def run(model: str = "auto", deep: bool = False, online: bool = False) -> Report:
    """Look at everything that a video needs.

    Args:
        model: a name, a folder, or ``auto``: what a request without a model would take.
        deep: hash every file of every checkpoint, not only compare sizes.
        online: ask whether the hubs answer.
    """
    tried = attempts.run(attempts.TRIES)
    driver = check_gpu.nvidia_smi()
    here, ram_error = check_machine.look(tried["torch"])
    job = check_models.find_job(model, here)
    subject = registry.COGVIDEOX_5B if not job.named else job.checkpoint
    gpus = here.gpus or (driver.gpus if driver else ())
    rows = [
        *_guarded("packages", check_packages.rows),
        *check_packages.import_rows(tried),
        *_guarded("driver", lambda: [check_gpu.driver_row(tried["torch"], driver, job.bad)]),
        *_guarded("GPU", lambda: check_gpu.rows(gpus, here, subject)),
        *_guarded("RAM", lambda: [_ram_row(here, ram_error, job)]),
        *_guarded("disk", lambda: _disk_rows(job)),
        *check_packages.tool_rows(tried),
        *_guarded("hubs", lambda: _hub_rows(job) if online else []),
        *_guarded("model", lambda: [check_models.model_row(model, job, deep)]),
        *_guarded("checkpoints", lambda: check_models.checkpoint_rows(job, deep)),
        *_guarded("plan", lambda: [check_models.plan_row(here, job)]),
    ]
    verdicts = tuple(GpuVerdict(gpu, check_gpu.frames_on(gpu, here, subject)[0]) for gpu in gpus)
    return _report(rows, verdicts, model, job, bool(here.gpus))


def _report(rows, verdicts, asked: str, job: Job, on_gpu: bool) -> Report:
    name = job.checkpoint.name if job.checkpoint else asked
    failed = [row.name for row in rows if row.status == FAIL]
    if failed:
        more = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        verdict = f"not ready: {name} can't run here, mend {', '.join(failed[:NAMED])}{more}"
    else:
        verdict = f"ready: {name} can run here, on {'a GPU' if on_gpu else 'the CPU'}"
    return Report(tuple(rows), verdicts, name, verdict, not failed)


def _ram_row(here: Machine, error: str, job: Job) -> Row:
    if job.checkpoint is None:
        return check_machine.ram_row(here, error, 0, "")
    kind = job.checkpoint.gpu_dtype if here.gpus else job.checkpoint.cpu_dtype
    counts, what = job.checkpoint.parameters, "weights"
    if here.gpus:  # the transformer can stream from its files
        counts, what = {"text_encoder": counts["text_encoder"]}, "text encoder"
    needed = sum(counts.values()) * memory.ITEM_BYTES[kind]
    what = f"{needed / text.GIB:.2f} GiB for the {what} of {job.checkpoint.name}"
    return check_machine.ram_row(here, error, needed, what)


def _disk_rows(job: Job) -> list[Row]:
    models, room, needed, bad = settings.models_dir(), 0, "no more for models", WARN
    if job.checkpoint and job.checkpoint.modelscope and job.model is None:
        stored = sum(STORED_BYTES[part] * n for part, n in job.checkpoint.parameters.items())
        staging = models / download.UNFINISHED / job.checkpoint.name
        room, bad = max(0, stored - check_models.size(staging)) + download.RESERVE, FAIL
        needed = f"{room / 1e9:.1f} GB more for {job.checkpoint.name}"
    outputs, least = settings.outputs_dir(), check_machine.OUTPUT_BYTES
    return [
        check_machine.disk_row("disk: models", models, room, needed, bad),
        check_machine.disk_row("disk: outputs", outputs, least, f"{least / 1e9:.0f} GB", FAIL),
    ]


def _hub_rows(job: Job) -> list[Row]:
    rows = check_machine.hub_rows()
    if job.model is None and all(row.status == WARN for row in rows):
        return [replace(row, status=FAIL) for row in rows]
    return rows


def _guarded(name: str, make: Callable[[], list[Row]]) -> list[Row]:
    """Rows, or the row that says why there are none."""
    try:
        return make()
    except Exception as error:  # a check must end with a table on any machine
        found = f"could not be looked at: {text.one_line(error)}"
        return [Row(name, FAIL, found, "", "mend what it names, then check again")]
