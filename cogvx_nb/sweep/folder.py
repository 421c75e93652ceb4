"""A sweep's folder: which runs are done, which failed, and publishing a run whole or not at all.

::

    outputs/sweeps/<name>/
    ├── <run id>/           a run that is done: notebook.ipynb, its results, and run.json
    ├── failed/<run id>/    the last attempt at a run that failed: also traceback.txt
    ├── .running/           runs in progress, a folder for each attempt
    ├── .runs.json          all runs of the sweep as it was last started
    └── .notebook-….ipynb   the notebook that they execute
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import statistics
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from .. import settings
from ..errors import ResultError, SpecError
from ..files import fsync_folder, rename_in_notebook, translate_errors, write_whole
from ..hashing import is_unchanged
from ..notebooks.template import NotebookTemplate
from . import workplace
from .lock import Share
from .workplace import MARKER, NOTEBOOK, TRACEBACK, delete_tree

NAME = re.compile(r"\w[\w.-]{0,59}")
"""Name of a sweep; its at most 240 bytes of UTF-8 fit the name of a folder."""

FAILED, RUNNING, RUNS = "failed", ".running", ".runs.json"
REPLACED = ".replaced-"

VIDEO = "video.mp4"
"""What a run writes into its folder, if its notebook makes videos."""

LATEST = 20
"""Number of latest runs whose mean time predicts the rest."""


class VideoCheck(Protocol):
    """What a run's video must show; ``expected.ExpectedVideo``."""

    def check_file(self, path: Path) -> None:
        """Raise ResultError unless an mp4 is the video that was asked for."""


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One execution of a sweep's notebook."""

    id: str  # hash of what decides its result; names its folder
    number: int  # of its row, from 1
    parameters: dict[str, object]  # of the notebook
    varied: dict[str, object]  # those parameters that differ between runs
    expected: VideoCheck | None = field(default=None, repr=False)  # None: it makes no video
    seconds: float | None = None  # predicted, with the model loaded; None if unknown
    peak_bytes: int | None = None  # predicted peak of device memory; None if unknown
    disk_bytes: int = 0  # predicted
    notes: tuple[str, ...] = ()  # those of its request
    inputs: dict[str, str] = field(default_factory=dict)  # what files are kept as, by their paths


@dataclass(frozen=True, slots=True)
class SweepStatus:
    """Progress of a sweep, read from its folder."""

    total: int  # number of runs
    done: frozenset[str]  # ids, by their markers; starting the sweep also checks their files
    running: tuple[str, ...]  # ids with an attempt in progress, or left by a killed driver
    failed: dict[str, str]  # the error of each run that failed, by id
    seconds: float | None  # mean time of the latest runs that are done; None if there are none


class SweepFolder:
    """The runs of a sweep on disk; nothing else records its progress.

    Raises:
        SpecError: if ``name`` can't be the name of a folder.
    """

    def __init__(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise SpecError(f"{name!r} is no name of a sweep")
        self.root = settings.outputs_dir() / "sweeps" / name
        self._own: dict[Path, bytes] = {}

    def prepare(self, book: NotebookTemplate, runs: list[SweepRun]) -> Path:
        """Record the runs of a sweep; returns the copy of the notebook that they execute."""
        listed = {run.id: run.varied for run in runs}
        inputs = {path: kept for run in runs for path, kept in run.inputs.items()}
        path = self.root / f".notebook-{hashlib.sha256(book.content).hexdigest()[:12]}.ipynb"
        self._own = {
            path: book.content,
            self.root / RUNS: _json({"notebook": book.path.name, "runs": listed, "inputs": inputs}),
        }
        self.restore()
        return path

    def restore(self) -> None:
        """Write the files of ``prepare`` where they aren't: a run may have removed them."""
        with translate_errors(self.root):
            for path, content in self._own.items():
                workplace.write_if_changed(path, content)

    def clean_up(self, part: Share) -> None:
        """Delete attempts that a share's last driver left, and restore results it had set aside."""
        for aside in self.root.glob(f"{REPLACED}*"):
            home = self.root / aside.name.removeprefix(REPLACED)
            if home.name in part:
                delete_tree(aside) if home.exists() else aside.rename(home)
        for work in (self.root / RUNNING).glob("*"):
            if part.count == 1 or work.name.split("-")[0] in part:  # a run may have renamed its own
                delete_tree(work)
        with contextlib.suppress(OSError):  # runs of other shares are in it, or there is none
            (self.root / RUNNING).rmdir()

    def listed_runs(self) -> dict[str, dict[str, object]]:
        """Varied parameters of each run of the sweep as it was last started, by id.

        Raises:
            ResultError: if no such sweep was started.
        """
        try:
            return json.loads((self.root / RUNS).read_text(encoding="utf-8"))["runs"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            known = ", ".join(sweep_names()) or "none"
            raise ResultError(f"no sweep {self.root.name!r} here; known: {known}") from error

    def recorded_inputs(self) -> dict[str, str]:
        """What the files that the sweep named when it was last started are kept as, by path."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            recorded = json.loads((self.root / RUNS).read_text(encoding="utf-8"))["inputs"]
            return {str(path): str(kept) for path, kept in recorded.items()}
        return {}

    def status(self) -> SweepStatus:
        """Progress of the sweep, from the files alone.

        Raises:
            ResultError: if no such sweep was started.
        """
        listed = self.listed_runs()
        markers = {run_id: self.root / run_id / MARKER for run_id in listed}
        ended = {}
        for run_id, path in markers.items():
            with contextlib.suppress(OSError):  # not done, or set aside at this moment
                ended[run_id] = path.stat().st_mtime
        latest = sorted(ended, key=ended.get)[-LATEST:]
        running = {path.name.split("-")[0] for path in (self.root / RUNNING).glob("*")}
        failed = {run_id: self.failure_line(run_id) for run_id in listed if run_id not in ended}
        times = [_marker_seconds(markers[run_id]) for run_id in latest]
        return SweepStatus(
            total=len(listed),
            done=frozenset(ended),
            running=tuple(sorted(running & set(listed))),
            failed={run_id: error for run_id, error in failed.items() if error},
            seconds=statistics.mean(times) if times else None,
        )

    def is_done(self, run_id: str, expected: VideoCheck | None = None) -> bool:
        """Whether a run is done, its files are unchanged, and its video is the expected one."""
        folder = self.root / run_id
        try:
            marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
            if marker["id"] != run_id or not all(
                is_unchanged(folder / name, recorded) for name, recorded in marker["files"].items()
            ):
                return False
            if expected is not None:
                expected.check_file(folder / VIDEO)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ResultError):
            return False
        return True

    def workspace(self, run_id: str, attempt: int) -> Path:
        """Make the folder of an attempt; no other process uses the same name."""
        folder = self.root / RUNNING / f"{run_id}-{os.getpid()}-{attempt}"
        with translate_errors(self.root):
            workplace.make_folder(self.root / RUNNING)
            folder.mkdir()
        return folder

    def publish(self, run: SweepRun, work: Path, record: dict) -> Path:
        """Rename an attempt's folder to that of its run, as the last step; returns it.

        Args:
            record: further entries of the marker.

        Raises:
            ResultError: if the video isn't the expected one.
            DiskFull, OutputError: if it can't be written.
        """
        home = self.root / run.id
        with translate_errors(home):
            if run.expected is not None:
                run.expected.check_file(work / VIDEO)
            rename_in_notebook(work / NOTEBOOK, work, home)
            files = workplace.record_files(work)
            marker = {"id": run.id, "parameters": run.parameters, **record, "files": files}
            write_whole(work / MARKER, _json(marker))
            aside = self.root / f"{REPLACED}{run.id}"
            if home.exists():
                delete_tree(aside)
                home.rename(aside)
            work.rename(home)
            fsync_folder(self.root)
            delete_tree(aside)
            delete_tree(self.root / FAILED / run.id)
        return home

    def keep_failure(self, run: SweepRun, work: Path, record: dict, traceback: str) -> Path:
        """Keep an attempt that failed in place of an earlier one; returns its folder."""
        home = self.root / FAILED / run.id
        with translate_errors(home):
            workplace.make_usable(work)
            if (work / NOTEBOOK).exists():
                rename_in_notebook(work / NOTEBOOK, work, home)
            (work / TRACEBACK).write_text(traceback, encoding="utf-8", errors="replace")
            marker = {"id": run.id, "parameters": run.parameters, **record}
            write_whole(work / MARKER, _json(marker))
            workplace.make_folder(home.parent)
            delete_tree(home)
            work.rename(home)
        return home

    def discard(self, work: Path) -> None:
        """Delete an attempt."""
        delete_tree(work)

    def read_marker(self, run_id: str) -> dict | None:
        """The marker of a run that is done; None if it isn't, or the marker can't be read."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            marker = json.loads((self.root / run_id / MARKER).read_text(encoding="utf-8"))
            if marker["id"] == run_id:
                return marker
        return None

    def failure_line(self, run_id: str) -> str:
        """Why a run failed, in one line; empty if it didn't."""
        try:
            marker = self.root / FAILED / run_id / MARKER
            return str(json.loads(marker.read_text(encoding="utf-8"))["error"])
        except OSError:
            return ""
        except (ValueError, LookupError, TypeError):
            return f"unknown: {marker} can't be read"


def sweep_names() -> list[str]:
    """Names of the sweeps that were started in this outputs folder."""
    return sorted(path.parent.name for path in settings.outputs_dir().glob(f"sweeps/*/{RUNS}"))


def timestamp() -> str:
    """The current local time in ISO 8601, as markers and sidecars record it."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _json(content: dict) -> bytes:
    """JSON in UTF-8; names of files may hold undecodable bytes, which are escaped."""
    return json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")


def _marker_seconds(marker: Path) -> float:
    try:
        return float(json.loads(marker.read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):  # deleted meanwhile, or damaged
        return 0.0
