"""The asked-for model and the other checkpoints that are here, as rows of a check."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from . import settings
from .check_report import FAIL, PASS, WARN, Row
from .checkpoints import download, manifest, registry, store
from .checkpoints.registry import Checkpoint
from .checkpoints.store import Model
from .errors import CogvxError, DoesNotFit
from .planning import planner
from .planning.machine import Machine


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for.

    Attributes:
        checkpoint: what would run; None where the name is unknown.
        model: where it is on this machine; None where it is missing or bad.
        note: why this one, or why there is none.
        named: whether somebody asked for this very model.
    """

    checkpoint: Checkpoint | None
    model: Model | None
    note: str
    named: bool

    @property
    def bad(self) -> str:
        """Status of what keeps it from a GPU: the embedded model runs on the CPU all the same."""
        return FAIL if self.named and self.checkpoint is not registry.TINY else WARN


def find_job(asked: str, here: Machine) -> Job:
    named = asked.strip().lower() != "auto"
    try:
        model, note = planner.find_model(asked, here)
        return Job(model.checkpoint, model, note, named)
    except (CogvxError, OSError, RuntimeError, ValueError) as error:  # ~nobody is a RuntimeError
        known = registry.by_name(asked) if named else registry.TINY
        return Job(known, None, str(error), named)


def model_row(asked: str, job: Job, deep: bool) -> Row:
    if job.model is None:
        found, needed = job.note, f"{asked}, whole"
        known = job.checkpoint
        fix = _mend(known, settings.models_dir() / known.name) if known else "name one of those"
        return Row("model", FAIL, found, needed, fix)
    if job.checkpoint.cannot_run:
        found = f"{job.checkpoint.name} can't be run here: {job.checkpoint.cannot_run}"
        return Row("model", FAIL, found, "", f"--model {registry.COGVIDEOX_5B.name}")
    row = _folder_row("model", job.model.folder, deep, FAIL)
    note = f"; auto takes {job.note}" if job.note else ""
    return replace(row, found=f"{job.checkpoint.name}: {row.found}{note}")


def checkpoint_rows(job: Job, deep: bool) -> list[Row]:
    """The other checkpoints that are here, and downloads that were not finished."""
    models, rows = settings.models_dir(), []
    taken = (
        job.model.folder if job.model else models / job.checkpoint.name if job.checkpoint else None
    )
    for folder in _folders(models):
        if folder.name[0] != "." and folder != taken:
            rows.append(_folder_row(f"checkpoint {folder.name}", folder, deep, WARN))
    for folder in _folders(models / download.UNFINISHED):
        found = f"{size(folder) / 1e9:.1f} GB of it here, not finished"
        fix = f"cogvx download {folder.name} goes on with it; or delete {folder}"
        rows.append(Row(f"download {folder.name}", WARN, found, "", fix))
    return rows


def _folder_row(name: str, folder: Path, deep: bool, bad: str) -> Row:
    """One checkpoint by its manifest, and by the headers of its weights.

    Args:
        bad: status of one that is not whole.
    """
    known = registry.by_name(folder.name)
    try:
        listed = manifest.read(folder)
        wrong = manifest.problems(folder, listed, deep) if listed else []
        if wrong:
            first = f"{wrong[0].path} {wrong[0].detail}"
            more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            return Row(name, bad, first + more, "every file whole", _mend(known, folder))
        model = store.locate(str(folder))
    except (CogvxError, OSError) as error:
        return Row(name, bad, str(error), "every file whole", _mend(known, folder))
    if listed is None:
        found = "complete by its headers, but not verified"
        fix = store.download_command(model.checkpoint)
        return Row(name, WARN, found, f"a {manifest.NAME}", f"{fix}, which checks every file")
    by = "size and SHA-256" if deep else "size"
    needed = "every file whole" if deep else "every file whole (--deep: by SHA-256 too)"
    return Row(name, PASS, f"{len(listed.files)} files whole by {by}", needed)


def _mend(known: Checkpoint | None, folder: Path) -> str:
    """The command that makes a checkpoint whole."""
    if known is None or folder.parent != settings.models_dir():
        return "fetch or copy it there again"
    if known.modelscope and (folder / manifest.NAME).is_file():
        return f"cogvx verify --repair {known.name}"
    return store.download_command(known)


def plan_row(here: Machine, job: Job) -> Row:
    if job.checkpoint is None or job.checkpoint.cannot_run:
        return Row("plan", FAIL, "none without a model that runs", "", "name another --model")
    frames = job.checkpoint.frames[0]
    try:
        fitted = planner.foresee(job.model or job.checkpoint, here, frames)
    except DoesNotFit as error:
        return Row("plan", FAIL, str(error), f"memory for {frames} frames", "--model tiny")
    return Row("plan", PASS, str(fitted), f"memory for {frames} frames")


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob("*") if path.is_dir())


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
