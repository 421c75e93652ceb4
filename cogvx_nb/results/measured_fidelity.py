"""The fidelity that benchmarks of this machine measured, found for a plan and put into words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import settings
from ..paths import read_json
from ..planning.machine import Machine
from ..planning.plan import SWITCHED_OFF, Plan
from ..planning.speedups import SPEED_UPS
from .fidelity import FidelityRow, device_name, read_rows


def benchmarks_folder() -> Path:
    """Where benchmarks are written by default."""
    return settings.outputs_dir() / "benchmarks"


class MeasuredFidelity:
    """The rows of all benchmarks in a folder; each file is read again when it changes."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._read: dict[tuple[str, int, int], tuple[FidelityRow, ...]] = {}

    def find(self, plan: Plan, steps: int, machine: Machine) -> FidelityRow | None:
        """How far videos of a plan lie from those of ``exact``: the newest row of its checkpoint
        and device whose plan has the same approximations; one of as many steps and frames if
        there is one. None for a plan with LoRAs, and where nothing was measured.
        """
        device = device_name(plan, machine)
        fitting = [
            row
            for row in self._rows()
            if (row.model, row.device, row.speed) == (plan.model.name, device, plan.speed)
            and row.clips
            and not (row.lora or plan.loras or row.is_reference)
            and _approximations(row.plan) == _approximations(plan.choices)
        ]
        wanted = (steps, plan.frames)
        closest = [[row.steps == wanted[0], row.frames == wanted[1]] for row in fitting]
        return max(zip(closest, range(len(fitting)), fitting, strict=True), default=[None])[-1]

    def _rows(self) -> list[FidelityRow]:
        """Those of the oldest file first."""
        known, read = self._read, {}
        for path, key in _files(self._folder or benchmarks_folder()):
            read[key] = known[key] if key in known else _rows_of(path)
        self._read = read
        return [row for rows in read.values() for row in rows]


def _files(folder: Path) -> list[tuple[Path, tuple[str, int, int]]]:
    """Benchmarks, the oldest first, each with what changes when it is written again."""
    found = []
    for path in folder.glob("[!.]*.json"):
        try:
            status = path.stat()
        except OSError:  # deleted meanwhile
            continue
        found.append((path, (path.name, status.st_mtime_ns, status.st_size)))
    return sorted(found, key=lambda one: one[1][1])


def _rows_of(path: Path) -> tuple[FidelityRow, ...]:
    """Rows of a file; none of one that is no benchmark: any may lie there."""
    try:
        return read_rows(read_json(path), strips=False)
    except (OSError, ValueError):
        return ()


def _approximations(choices: Mapping[str, object]) -> dict[str, object]:
    """The choices of a plan that change frames by more than rounding; off where a file is older
    than they are."""
    rows = [row for row in SPEED_UPS.values() if not row.exact]
    found = {row.field: SWITCHED_OFF[row.field] for row in rows}
    for row in rows:  # an attention may be exact too
        if (value := choices.get(row.field)) in row.values:
            found[row.field] = row.name if row.name == "step_cache" else value  # by prompt
    return {"tiled": choices.get("tiled", SWITCHED_OFF["tiled"]), **found}


def fidelity_label(row: FidelityRow) -> str:
    """The measured distance in a few words, such as ``37 dB from exact``."""
    if row.identical:
        return "identical to exact"
    return f"{row.median('psnr'):.0f} dB from exact"


def fidelity_sentence(row: FidelityRow) -> str:
    """The same with what was measured."""
    count = len(row.clips)
    clips = f"{count} video{'s' * (count != 1)} of {row.length}"
    return f"{fidelity_label(row)}, measured here on {clips} (PSNR of the same seed)"
