"""A sweep's folder: what is done in it, what failed, and new runs put there whole or not at all.

::

    outputs/sweeps/<name>/
    ├── <run id>/           a run that is done: notebook.ipynb, its results, and run.json
    ├── failed/<run id>/    the last attempt at one that failed: also traceback.txt
    ├── .running/           runs under way, one folder for each attempt
    ├── .runs.json          all runs of the sweep as it was last started
    └── .notebook-….ipynb   the notebook that they execute
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import statistics
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .. import settings
from ..errors import ResultError, SpecError
from ..files import (
    fingerprint,
    fsync,
    fsync_folder,
    is_unchanged,
    rename_in_notebook,
    translate_errors,
    write_whole,
)
from ..notebooks.notebook import NotebookTemplate
from ..results import result
from .lock import Share
from .runs import VIDEO, SweepRun
from .spec import NAME

NOTEBOOK, MARKER, TRACEBACK = "notebook.ipynb", "run.json", "traceback.txt"
FAILED, RUNNING, RUNS = "failed", ".running", ".runs.json"
REPLACED = ".replaced-"

LATEST = 20
"""Runs whose time says how long the rest will take."""


@dataclass(frozen=True, slots=True)
class SweepStatus:
    """How a sweep stands.

    Attributes:
        total: runs.
        done: ids of those that are done, by their markers; a start looks at their files too.
        running: ids of runs that were begun and haven't ended, or whose driver was killed.
        failed: why runs failed, by id.
        seconds: of the latest runs that were done, on average; None where there are none.
    """

    total: int
    done: frozenset[str]
    running: tuple[str, ...]
    failed: dict[str, str]
    seconds: float | None


class SweepFolder:
    """A sweep's runs on disk, which are the truth about it.

    Args:
        name: of the sweep.

    Raises:
        SpecError: if no folder can have that name.
    """

    def __init__(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise SpecError(f"{name!r} is no name of a sweep")
        self.root = settings.outputs_dir() / "sweeps" / name

    def prepare(self, book: NotebookTemplate, runs: list[SweepRun]) -> Path:
        """Write down what will be run; returns the notebook that the runs execute."""
        listed = {run.id: run.varied for run in runs}
        path = self.root / f".notebook-{hashlib.sha256(book.content).hexdigest()[:12]}.ipynb"
        with translate_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            write_whole(path, book.content)
            write_whole(self.root / RUNS, _json({"notebook": book.path.name, "runs": listed}))
        return path

    def tidy(self, part: Share) -> None:
        """Drop what a driver of a share left under way, and put back what it had set aside."""
        for aside in self.root.glob(f"{REPLACED}*"):
            home = self.root / aside.name.removeprefix(REPLACED)
            if home.name in part:
                shutil.rmtree(aside, ignore_errors=True) if home.exists() else aside.rename(home)
        for work in (self.root / RUNNING).glob("*"):
            if work.name.split("-")[0] in part:
                shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(OSError):  # another share's runs are in there, or there is none
            (self.root / RUNNING).rmdir()

    def listed(self) -> dict[str, dict[str, object]]:
        """What varies in each run of the sweep as it was last started, by id.

        Raises:
            ResultError: if no such sweep was started.
        """
        try:
            return json.loads((self.root / RUNS).read_text(encoding="utf-8"))["runs"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            known = ", ".join(sweep_names()) or "none"
            raise ResultError(f"no sweep {self.root.name!r} here; known: {known}") from error

    def stand(self) -> SweepStatus:
        """How the sweep stands, from the files alone.

        Raises:
            ResultError: if no such sweep was started.
        """
        listed = self.listed()
        done = {name: self.root / name / MARKER for name in listed}
        ended = {}
        for name, path in done.items():
            with contextlib.suppress(OSError):  # not done, or set aside at this moment
                ended[name] = path.stat().st_mtime
        latest = sorted(ended, key=ended.get)[-LATEST:]
        underway = {path.name.split("-")[0] for path in (self.root / RUNNING).glob("*")}
        failed = {name: self.failure(name) for name in listed if name not in ended}
        return SweepStatus(
            total=len(listed),
            done=frozenset(ended),
            running=tuple(sorted(underway & set(listed))),
            failed={name: error for name, error in failed.items() if error},
            seconds=statistics.mean(_seconds(done[name]) for name in latest) if latest else None,
        )

    def is_done(self, run_id: str, expected: dict | None = None) -> bool:
        """Whether a run's files are there as they were when it ended.

        Args:
            expected: see ``Run``.
        """
        folder = self.root / run_id
        try:
            kept = json.loads((folder / MARKER).read_text(encoding="utf-8"))
            if kept["id"] != run_id or not all(
                is_unchanged(folder / name, one) for name, one in kept["files"].items()
            ):
                return False
            _check_video(folder, expected)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ResultError):
            return False
        return True

    def workspace(self, run_id: str, attempt: int) -> Path:
        """A new folder for an attempt; its name is nobody else's."""
        folder = self.root / RUNNING / f"{run_id}-{os.getpid()}-{attempt}"
        with translate_errors(self.root):
            folder.mkdir(parents=True)
        return folder

    def publish(self, run: SweepRun, work: Path, kept: dict) -> Path:
        """Make an attempt's folder the run's, as the last act; returns it.

        Args:
            kept: what the marker says beside identity and files.

        Raises:
            ResultError: if the result isn't what was asked for.
            DiskFull, OutputError: if it can't be written.
        """
        home = self.root / run.id
        with translate_errors(home):
            _check_video(work, run.expected)
            rename_in_notebook(work / NOTEBOOK, work, home)
            files = {}
            for path in sorted(path for path in work.rglob("*") if path.is_file()):
                with contextlib.suppress(PermissionError):  # a file that may only be read
                    fsync(path)
                files[path.relative_to(work).as_posix()] = fingerprint(path)
            marker = {"id": run.id, "parameters": run.parameters, **kept, "files": files}
            write_whole(work / MARKER, _json(marker))
            aside = self.root / f"{REPLACED}{run.id}"
            if home.exists():
                shutil.rmtree(aside, ignore_errors=True)
                home.rename(aside)
            work.rename(home)
            fsync_folder(self.root)
            shutil.rmtree(aside, ignore_errors=True)
            shutil.rmtree(self.root / FAILED / run.id, ignore_errors=True)
        return home

    def keep_failure(self, run: SweepRun, work: Path, kept: dict, traceback: str) -> Path:
        """Keep an attempt that failed, in place of an earlier one; returns its folder."""
        home = self.root / FAILED / run.id
        with translate_errors(home):
            if (work / NOTEBOOK).exists():
                rename_in_notebook(work / NOTEBOOK, work, home)
            (work / TRACEBACK).write_text(traceback, encoding="utf-8", errors="replace")
            marker = {"id": run.id, "parameters": run.parameters, **kept}
            write_whole(work / MARKER, _json(marker))
            home.parent.mkdir(exist_ok=True)
            shutil.rmtree(home, ignore_errors=True)
            work.rename(home)
        return home

    def drop(self, work: Path) -> None:
        """Forget an attempt."""
        shutil.rmtree(work, ignore_errors=True)

    def marker(self, run_id: str) -> dict | None:
        """What is kept of a run that is done; None if it isn't, or that can't be read."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            kept = json.loads((self.root / run_id / MARKER).read_text(encoding="utf-8"))
            if kept["id"] == run_id:
                return kept
        return None

    def failure(self, run_id: str) -> str:
        """Why a run failed, in a line; empty if it didn't."""
        try:
            marker = self.root / FAILED / run_id / MARKER
            return str(json.loads(marker.read_text(encoding="utf-8"))["error"])
        except OSError:
            return ""
        except (ValueError, LookupError, TypeError):
            return f"unknown: {marker} can't be read"


def sweep_names() -> list[str]:
    """The sweeps that were started here."""
    return sorted(path.parent.name for path in settings.outputs_dir().glob(f"sweeps/*/{RUNS}"))


def timestamp() -> str:
    """Now, as markers and sidecars say it."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _json(content: dict) -> bytes:
    """Names of files may hold bytes that are no text: they become escapes."""
    return json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")


def _seconds(marker: Path) -> float:
    try:
        return float(json.loads(marker.read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):  # gone by now, or not ours
        return 0.0


def _check_video(folder: Path, expected: dict | None) -> None:
    """Raise ResultError unless a folder holds the video that was asked for, if one was."""
    if expected is None:
        return
    found = result.read_result(folder / VIDEO).settings
    if not (folder / VIDEO).with_suffix(".json").is_file():
        raise ResultError(f"{VIDEO} has no sidecar")
    if found.get("request") != expected["request"]:
        raise ResultError(f"{VIDEO} shows something else than was asked for")
    if found.get("checkpoint", {}).get("sha256") != expected["sha256"]:
        raise ResultError(f"{VIDEO} was made with another checkpoint than was asked for")
