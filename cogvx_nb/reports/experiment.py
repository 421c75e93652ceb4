"""A sweep read from disk for reports: its runs, what varies, and the axes of its contact sheet."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import RequestError
from ..planning.inputs import shown_value
from ..sweep import dataframe
from ..sweep.folder import FAILED, MARKER, RUNS, TRACEBACK, SweepFolder, sweep_names
from ..text import plain_line

STATES = ("done", "failed", "waiting")


@dataclass(frozen=True, slots=True)
class RunView:
    """A run of a sweep."""

    id: str  # also the name of its folder
    varied: dict[str, object]  # its values of the parameters that vary
    row: dict = field(repr=False)  # see dataframe.sweep_rows
    folder: Path | None = None  # its output; None while it waits
    traceback: str = field(default="", repr=False)  # of a failed run
    # Parameters whose strings are shown quoted, because another run has the same text as a number.
    ambiguous: frozenset[str] = frozenset()

    @property
    def state(self) -> str:
        """One of ``STATES``."""
        return self.row["state"]

    @property
    def error(self) -> str:
        return str(self.row["error"])

    @property
    def video(self) -> Path | None:
        return Path(self.row["video"]) if self.row["video"] else None

    @property
    def group(self) -> int:
        """Number of its group of near-duplicates, from 1; 0 for none."""
        return int(self.row["alike"])

    def number(self, column: str) -> float | None:
        """A numeric column; None where it is missing or not finite."""
        value = self.row.get(column)
        known = isinstance(value, int | float) and math.isfinite(value)
        return float(value) if known else None

    def value(self, name: str) -> str:
        """A parameter's value in one line; empty if this run has none."""
        if name not in self.varied:
            return ""
        value = self.varied[name]
        return plain_line(repr(value) if name in self.ambiguous else value)


@dataclass(frozen=True, slots=True)
class SweepView:
    """A sweep as it is on disk."""

    name: str
    root: Path  # its folder
    notebook: str  # file name of the notebook that it runs
    varying: tuple[str, ...]  # parameters that vary
    shared: dict[str, object]  # parameters with one value in all runs that ended
    runs: tuple[RunView, ...]  # in the order of the sweep

    def __str__(self) -> str:
        counts = Counter(run.state for run in self.runs)
        states = ", ".join(f"{counts[state]} {state}" for state in STATES)
        runs = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        varying = ", ".join(self.varying) or "nothing"
        return f"{self.name}: {runs} of {self.notebook}: {states}; varies: {varying}"

    @property
    def shown(self) -> list[RunView]:
        """Runs with a video."""
        return [run for run in self.runs if run.video]

    def values(self, name: str) -> list[str]:
        """Distinct values of a parameter, in the order of the runs."""
        return list(dict.fromkeys(run.value(name) for run in self.runs))


def latest_sweep() -> str:
    """The sweep that was started last; empty if there is none."""
    roots = [SweepFolder(name).root for name in sweep_names()]
    return max(roots, key=lambda root: (root / RUNS).stat().st_mtime).name if roots else ""


def read_sweep(name: str) -> SweepView:
    """Read a sweep from its files; videos without measures are measured.

    Raises:
        ResultError: if there is no such sweep.
        CogvxError: if videos have to be measured and OpenCV is missing.
    """
    folder = SweepFolder(name)
    listed = folder.listed_runs()
    rows = dataframe.sweep_rows(folder, listed)
    ambiguous = _ambiguous_parameters(listed.values())
    runs = tuple(
        _run_view(folder, run_id, varied, row, ambiguous)
        for (run_id, varied), row in zip(listed.items(), rows, strict=True)
    )
    varying = tuple(dict.fromkeys(key for run in runs for key in run.varied))
    notebook = _read_json(folder.root / RUNS).get("notebook", "")
    return SweepView(name, folder.root, str(notebook), varying, _shared_parameters(runs), runs)


def choose_axes(view: SweepView, rows: str = "", columns: str = "") -> tuple[str, str]:
    """The two parameters of a contact sheet: (down, across); empty if too few vary.

    By default the two with the most distinct pairs of values, the one with more values down. Two
    parameters that always change together, such as a prompt and its name, are not chosen.

    Args:
        rows, columns: names of parameters; empty to choose.

    Raises:
        RequestError: if a name isn't a parameter that varies, or both are the same.
    """
    for side, name in (("rows", rows), ("columns", columns)):
        if name and name not in view.varying:
            raise RequestError(side, name, f"varies: {', '.join(view.varying) or 'nothing'}")
    if rows and rows == columns:
        raise RequestError("columns", columns, "name another one than for rows")
    downs, acrosses = (([name] if name else view.varying) for name in (rows, columns))
    pairs = [(down, across) for down in downs for across in acrosses if down != across]
    if not pairs:
        return rows, columns
    best = max(pairs, key=lambda pair: _axis_score(view, *pair))
    automatic = not (rows or columns)
    together = _distinct_pairs(view, *best) == len(view.values(best[0]))
    return ("", "") if automatic and together else best


def _axis_score(view: SweepView, down: str, across: str) -> tuple:
    """Order of preference: many distinct pairs, few empty cells, taller than wide, texts down."""
    height, width = len(view.values(down)), len(view.values(across))
    text = all(isinstance(run.varied.get(down), str) for run in view.runs)
    return _distinct_pairs(view, down, across), -height * width, height - width, text


def _distinct_pairs(view: SweepView, *names: str) -> int:
    return len({tuple(run.value(name) for name in names) for run in view.runs})


def _run_view(
    folder: SweepFolder, run_id: str, varied: dict, row: dict, ambiguous: frozenset[str]
) -> RunView:
    if row["state"] == "waiting":
        return RunView(run_id, varied, row, ambiguous=ambiguous)
    failed = row["state"] == "failed"
    run_folder = folder.root / FAILED / run_id if failed else folder.root / run_id
    traceback = _read_text(run_folder / TRACEBACK) if failed else ""
    return RunView(run_id, varied, row, run_folder, traceback, ambiguous)


def _ambiguous_parameters(varied: Iterable[dict[str, object]]) -> frozenset[str]:
    """Parameters with a string and another value that are written alike, such as 1 and '1'."""
    kinds: dict[tuple[str, str], set[bool]] = {}
    for values in varied:
        for name, value in values.items():
            kinds.setdefault((name, plain_line(value)), set()).add(isinstance(value, str))
    return frozenset(name for (name, _), texts in kinds.items() if len(texts) > 1)


def _shared_parameters(runs: tuple[RunView, ...]) -> dict[str, object]:
    """Parameters that don't vary and have one value in the markers of all runs that ended."""
    given = [_read_json(run.folder / MARKER).get("parameters") for run in runs if run.folder]
    first, *others = [parameters for parameters in given if isinstance(parameters, dict)] or [{}]
    return {
        name: shown_value(name, value)
        for name, value in first.items()
        if all(name in other and repr(other[name]) == repr(value) for other in others)
        and not any(name in run.varied for run in runs)
    }


def _read_json(path: Path) -> dict:
    value = None
    with contextlib.suppress(OSError, ValueError):  # removed meanwhile, or damaged
        value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}


def _read_text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""
