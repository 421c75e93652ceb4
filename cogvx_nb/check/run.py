"""Whether a model can run on this machine: rows of pass, warn and fail, each with its remedy.

Packages that may be broken, such as torch and diffusers, are imported in subprocesses; a probe that
fails becomes a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from .. import settings, text
from ..checkpoints import download, manifest, registry, store
from ..checkpoints.registry import Checkpoint, Model
from ..errors import CogvxError, DoesNotFit
from ..planning import model_choice, planner
from ..planning.machine import ITEM_BYTES, Machine
from . import environment, gpu, report
from .gpu import fitting_frames
from .report import FAIL, PASS, WARN, GpuVerdict, Report, Row


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model that would run."""

    checkpoint: Checkpoint | None  # None if the name is unknown
    model: Model | None  # None if it is missing or damaged
    note: str  # why this model, or why there is none
    named: bool  # whether the user named it; else it was chosen

    @property
    def bad(self) -> str:
        """Status of problems with the GPU. The embedded model runs on the CPU too."""
        return FAIL if self.named and self.checkpoint is not registry.TINY else WARN


def choose_model(asked: str, machine: Machine) -> ModelChoice:
    """The model of a name or folder; for ``auto`` the one that a request would take."""
    named = asked.strip().lower() != "auto"
    try:
        model, note = model_choice.find_model(asked, lambda: machine)
        return ModelChoice(model.checkpoint, model, note, named)
    except (CogvxError, OSError, RuntimeError, ValueError) as error:  # ~nobody is a RuntimeError
        known = registry.find_checkpoint(asked) if named else registry.TINY
        return ModelChoice(known, None, str(error), named)


def model_row(asked: str, job: ModelChoice, deep: bool) -> Row:
    """Whether the model that would run is there and whole."""
    if job.model is None:
        needed = f"{_shown(asked)}, whole"
        known = job.checkpoint
        fix = (
            _repair_command(known, settings.models_dir() / known.name)
            if known
            else "name one of those"
        )
        return Row("model", FAIL, job.note, needed, fix)
    row = _folder_row("model", job.model.folder, deep, FAIL)
    note = f"; auto takes {job.note}" if job.note else ""
    return replace(row, found=f"{job.checkpoint.name}: {row.found}{note}")


def checkpoint_rows(job: ModelChoice, deep: bool) -> list[Row]:
    """The other checkpoints in the models folder, and unfinished downloads."""
    models, rows = settings.models_dir(), []
    taken = (
        job.model.folder if job.model else models / job.checkpoint.name if job.checkpoint else None
    )
    for folder in _subfolders(models):
        if folder.name[0] != "." and folder != taken:
            rows.append(_folder_row(f"checkpoint {folder.name}", folder, deep, WARN))
    for folder in _subfolders(models / manifest.UNFINISHED):
        state = f"{folder_bytes(folder) / 1e9:.1f} GB fetched, not finished"
        fix = f"cogvx download {folder.name} goes on with it; or delete {folder}"
        rows.append(Row(f"download {folder.name}", WARN, state, "", fix))
    return rows


def _folder_row(name: str, folder: Path, deep: bool, bad: str) -> Row:
    """Whether a checkpoint is whole, by its manifest and the headers of its weights.

    Args:
        bad: status if it isn't.
    """
    known = registry.find_checkpoint(folder.name)
    try:
        listed = manifest.read_manifest(folder)
        wrong = manifest.find_problems(folder, listed, deep) if listed else []
        if wrong:
            first = f"{wrong[0].path} {wrong[0].detail}"
            more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            return Row(name, bad, first + more, "every file whole", _repair_command(known, folder))
        if listed and listed.shares:
            state = f"{len(listed.files)} files whole by size, the others are {listed.shares}'s"
            return Row(name, PASS, state, "every file whole")
        model = store.locate_checkpoint(str(folder))
    except (CogvxError, OSError) as error:
        return Row(name, bad, str(error), "every file whole", _repair_command(known, folder))
    if listed is None:
        state = "complete by its headers, but not verified"
        fix = store.download_command(model.checkpoint)
        return Row(name, WARN, state, f"a {manifest.NAME}", f"{fix}, which checks every file")
    by = ("size and SHA-256" if deep else "size") + listed.remark
    needed = "every file whole" if deep else "every file whole (--deep: by SHA-256 too)"
    return Row(name, PASS, f"{len(listed.files)} files whole by {by}", needed)


def _repair_command(known: Checkpoint | None, folder: Path) -> str:
    """The command that repairs or fetches a checkpoint."""
    if known is None or folder.parent != settings.models_dir():
        return "fetch or copy it there again"
    if not known.is_embedded and (folder / manifest.NAME).is_file():
        return f"cogvx verify --repair {known.name}"
    return store.download_command(known)


def plan_row(machine: Machine, job: ModelChoice) -> Row:
    """The plan of a request without options."""
    if job.checkpoint is None:
        return Row("plan", FAIL, "none without a model that runs", "", "name another --model")
    frames = job.checkpoint.frames[0]
    try:
        fitted = planner.predict_plan(job.model or job.checkpoint, machine, frames)
    except DoesNotFit as error:
        return Row("plan", FAIL, str(error), f"memory for {frames} frames", "--model tiny")
    return Row("plan", PASS, str(fitted), f"memory for {frames} frames")


def _subfolders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob("*") if path.is_dir())


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


SHOWN = 80
"""Characters of a name of a model that is none."""

MOST_NAMED = 6
"""At most this many failed rows are named in the verdict."""


def run_check(
    model: str = "auto",
    deep: bool = False,
    online: bool = False,
    watch: Callable[[str], None] = lambda what: None,
) -> Report:
    """Check everything that generating a video needs.

    Args:
        model: a name, a folder, or ``auto``: the model that a request without one would take.
        deep: hash every file of every checkpoint; else only sizes are compared.
        online: check whether the hubs answer.
        watch: called with what is being checked, as it changes.
    """
    probed = report.run_probes(report.PROBES, watch)
    watch("the machine and its packages")
    driver = gpu.nvidia_smi()
    machine, ram_error = environment.probe_without_torch(probed["torch"])
    job = choose_model(model, machine)
    subject = registry.COGVIDEOX_5B if not job.named else job.checkpoint
    gpus = machine.gpus or (driver.gpus if driver else ())
    watch("the hubs, packages and checkpoints" if online else "packages and checkpoints")
    rows = [
        *_guarded("packages", environment.package_rows),
        *environment.import_rows(probed),
        *_guarded("driver", lambda: [gpu.driver_row(probed["torch"], driver, job.bad)]),
        *_guarded("GPU", lambda: gpu.gpu_rows(gpus, machine, subject)),
        *_guarded("RAM", lambda: [_ram_row(machine, ram_error, job)]),
        *_guarded("disk", lambda: _disk_rows(job)),
        *environment.tool_rows(probed),
        *_guarded("hubs", lambda: _hub_rows(job) if online else []),
        *_guarded("model", lambda: [model_row(model, job, deep)]),
        *_guarded("checkpoints", lambda: checkpoint_rows(job, deep)),
        *_guarded("plan", lambda: [plan_row(machine, job)]),
    ]
    verdicts = tuple(GpuVerdict(gpu, fitting_frames(gpu, machine, subject)[0]) for gpu in gpus)
    return _make_report(rows, verdicts, model, job, bool(machine.gpus))


def _shown(asked: str) -> str:
    """A name that was asked for, in one line that isn't too long for a table."""
    line = text.plain_line(asked)
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}..."


def _make_report(rows, verdicts, asked: str, job: ModelChoice, on_gpu: bool) -> Report:
    name = job.checkpoint.name if job.checkpoint else _shown(asked)
    failed = [row.name for row in rows if row.status == FAIL]
    if failed:
        more = f" and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
        verdict = f"not ready: {name} can't run here, fix {', '.join(failed[:MOST_NAMED])}{more}"
    else:
        verdict = f"ready: {name} can run here, on {'a GPU' if on_gpu else 'the CPU'}"
    return Report(tuple(rows), verdicts, name, verdict, not failed)


def _ram_row(machine: Machine, error: str, job: ModelChoice) -> Row:
    if job.checkpoint is None:
        return environment.ram_row(machine, error, 0, "")
    kind = job.checkpoint.gpu_dtype if machine.gpus else job.checkpoint.cpu_dtype
    counts, what = job.checkpoint.parameters, "weights"
    if machine.gpus:  # the transformer can be streamed from its files
        counts, what = {"text_encoder": counts["text_encoder"]}, "text encoder"
    needed = sum(counts.values()) * ITEM_BYTES[kind]
    what = f"{needed / text.GIB:.2f} GiB for the {what} of {job.checkpoint.name}"
    return environment.ram_row(machine, error, needed, what)


def _disk_rows(job: ModelChoice) -> list[Row]:
    models, room, needed, bad = settings.models_dir(), 0, "no more for models", WARN
    if job.checkpoint and not job.checkpoint.is_embedded and job.model is None:
        staging = models / manifest.UNFINISHED / job.checkpoint.name
        left = max(0, job.checkpoint.stored_bytes - folder_bytes(staging))
        room, bad = left + download.RESERVE, FAIL
        needed = f"{room / 1e9:.1f} GB more for {job.checkpoint.name}"
    outputs, least = settings.outputs_dir(), environment.OUTPUT_BYTES
    return [
        environment.disk_row("disk: models", models, room, needed, bad),
        environment.disk_row("disk: outputs", outputs, least, f"{least / 1e9:.0f} GB", FAIL),
    ]


def _hub_rows(job: ModelChoice) -> list[Row]:
    rows = environment.hub_rows()
    if job.model is None and all(row.status == WARN for row in rows):
        return [replace(row, status=FAIL) for row in rows]
    return rows


def _guarded(name: str, make: Callable[[], list[Row]]) -> list[Row]:
    """Rows, or one row with the reason why there are none."""
    try:
        return make()
    except Exception as error:  # a check must end with a table on any machine
        state = f"could not be checked: {text.error_line(error)}"
        return [Row(name, FAIL, state, "", "fix what it names, then check again")]
