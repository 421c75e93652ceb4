"""A sweep to be looked at: its runs as they stand, what varies, and which two to show it by."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import RequestError
from ..sweep import dataframe, folder
from ..sweep.folder import FAILED, MARKER, RUNS, TRACEBACK, SweepFolder
from ..text import plain_value

STATES = ("done", "failed", "waiting")


@dataclass(frozen=True, slots=True)
class RunView:
    """A run of a sweep.

    Attributes:
        id: of the run, and the name of its folder.
        varied: what sets it apart, by parameter.
        row: see ``dataframe.sweep_dataframe``.
        folder: what it left; None of one that waits.
        traceback: of one that failed.
        quoted: names of parameters whose texts are quoted, for other runs have a number, say, that
            is spelt like one of them.
    """

    id: str
    varied: dict[str, object]
    row: dict = field(repr=False)
    folder: Path | None = None
    traceback: str = field(default="", repr=False)
    quoted: frozenset[str] = frozenset()

    @property
    def state(self) -> str:
        return self.row["state"]

    @property
    def error(self) -> str:
        return str(self.row["error"])

    @property
    def video(self) -> Path | None:
        return Path(self.row["video"]) if self.row["video"] else None

    @property
    def group(self) -> int:
        """Of near-duplicates, from 1; 0 where it is like no other."""
        return int(self.row["alike"])

    def number(self, column: str) -> float | None:
        """What was measured; None where nobody knows."""
        found = self.row.get(column)
        known = isinstance(found, int | float) and math.isfinite(found)
        return float(found) if known else None

    def value(self, name: str) -> str:
        """A parameter's value in a line; empty where this run wasn't given one."""
        if name not in self.varied:
            return ""
        value = self.varied[name]
        return plain_value(repr(value) if name in self.quoted else value)


@dataclass(frozen=True, slots=True)
class SweepView:
    """A sweep as it stands on disk.

    Attributes:
        name: of the sweep.
        root: its folder.
        notebook: file name of what it runs.
        varying: names of the parameters that vary.
        shared: what all runs were given that have ended.
        runs: all of them, in their order.
    """

    name: str
    root: Path
    notebook: str
    varying: tuple[str, ...]
    shared: dict[str, object]
    runs: tuple[RunView, ...]

    def __str__(self) -> str:
        counts = Counter(run.state for run in self.runs)
        told = ", ".join(f"{counts[state]} {state}" for state in STATES)
        runs = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        varying = ", ".join(self.varying) or "nothing"
        return f"{self.name}: {runs} of {self.notebook}: {told}; varies: {varying}"

    @property
    def shown(self) -> list[RunView]:
        """Runs with a video."""
        return [run for run in self.runs if run.video]

    def values(self, name: str) -> list[str]:
        """What a parameter takes in the runs, each once, in their order."""
        return list(dict.fromkeys(run.value(name) for run in self.runs))


def latest_sweep() -> str:
    """The sweep that was started last; empty if none was."""
    roots = [SweepFolder(name).root for name in folder.sweep_names()]
    return max(roots, key=lambda root: (root / RUNS).stat().st_mtime).name if roots else ""


def read_sweep(name: str) -> SweepView:
    """A sweep from its files alone; videos that weren't measured before are measured now.

    Raises:
        ResultError: if no such sweep was started.
        CogvxError: if it has videos, and OpenCV is missing.
    """
    folder = SweepFolder(name)
    listed = folder.listed()
    rows = dataframe.sweep_rows(folder, listed)
    alike = _ambiguous_parameters(listed.values())
    pairs = zip(listed.items(), rows, strict=True)
    runs = tuple(_run_view(folder, *one, row, alike) for one, row in pairs)
    varying = tuple(dict.fromkeys(key for run in runs for key in run.varied))
    notebook = _json(folder.root / RUNS).get("notebook", "")
    return SweepView(name, folder.root, str(notebook), varying, _shared(runs), runs)


def choose_axes(found: SweepView, rows: str = "", columns: str = "") -> tuple[str, str]:
    """The two parameters of a contact sheet: (down, across); empty where too few vary.

    Left open, they are the two that make the most different pairs, with the one of more values
    down: not a prompt and its name, which always change together.

    Args:
        rows, columns: names; empty to have them chosen.

    Raises:
        RequestError: if there is no such parameter that varies, or both are the same.
    """
    for side, name in (("rows", rows), ("columns", columns)):
        if name and name not in found.varying:
            raise RequestError(side, name, f"varies: {', '.join(found.varying) or 'nothing'}")
    if rows and rows == columns:
        raise RequestError("columns", columns, "name another one than for rows")
    downs, acrosses = (([name] if name else found.varying) for name in (rows, columns))
    pairs = [(down, across) for down in downs for across in acrosses if down != across]
    if not pairs:
        return rows, columns
    best = max(pairs, key=lambda pair: _axis_score(found, *pair))
    chosen = not (rows or columns)
    together = _pairs(found, *best) == len(found.values(best[0]))
    return ("", "") if chosen and together else best


def _axis_score(found: SweepView, down: str, across: str) -> tuple:
    """How many pairs of values there are; how few cells stay empty; how well they are turned."""
    long, wide = len(found.values(down)), len(found.values(across))
    text = all(isinstance(run.varied.get(down), str) for run in found.runs)
    return _pairs(found, down, across), -long * wide, long - wide, text


def _pairs(found: SweepView, *names: str) -> int:
    return len({tuple(run.value(name) for name in names) for run in found.runs})


def _run_view(
    folder: SweepFolder, run_id: str, varied: dict, row: dict, quoted: frozenset[str]
) -> RunView:
    if row["state"] == "waiting":
        return RunView(run_id, varied, row, quoted=quoted)
    failed = row["state"] == "failed"
    home = folder.root / FAILED / run_id if failed else folder.root / run_id
    return RunView(run_id, varied, row, home, _text(home / TRACEBACK) if failed else "", quoted)


def _ambiguous_parameters(varied: Iterable[dict[str, object]]) -> frozenset[str]:
    """Names of parameters with a text and something else that are spelt alike, as 1 and '1' are."""
    kinds: dict[tuple[str, str], set[bool]] = {}
    for values in varied:
        for name, value in values.items():
            kinds.setdefault((name, plain_value(value)), set()).add(isinstance(value, str))
    return frozenset(name for (name, _), texts in kinds.items() if len(texts) > 1)


def _shared(runs: tuple[RunView, ...]) -> dict[str, object]:
    """Parameters that all runs were given alike, of those that have ended."""
    given = [_json(run.folder / MARKER).get("parameters") for run in runs if run.folder]
    given = [one for one in given if isinstance(one, dict)]
    first, *others = given or [{}]
    told = {name: repr(value) for name, value in first.items()}
    return {
        name: first[name]
        for name, value in told.items()
        if all(name in one and repr(one[name]) == value for one in others)
        and not any(name in run.varied for run in runs)
    }


def _json(path: Path) -> dict:
    found = None
    with contextlib.suppress(OSError, ValueError):  # gone by now, or damaged
        found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""
