"""What changed between two reports of a benchmark, and ratios to a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..text import GIB
from .report import STAGES, Measurement, Report, Row

MEMORY_TOLERANCE = 0.02
"""Relative differences of reserved memory up to this don't count: the allocator's vary."""


def compare_reports(before: Report, after: Report) -> list[str]:
    """What changed from one report to another by more than the spreads of both, a line each."""
    old, new = ({row.kind_key: row for row in report.rows} for report in (before, after))
    changes = []
    if before.fingerprint != after.fingerprint:
        changes.append("the machines or their versions differ")
    for key in dict.fromkeys([*old, *new]):
        row = old.get(key) or new[key]
        changes += [f"{row.kind}: {change}" for change in _row_changes(old.get(key), new.get(key))]
    return changes


@dataclass(frozen=True, slots=True)
class Speedup:
    """How many times as fast as a baseline a row is; None where one of the times isn't known."""

    row: Row
    step: float | None
    video: float | None  # of FULL_STEPS
    whole: float | None  # decoding without tiles
    tiled: float | None  # and with
    memory: float | None  # reserved bytes of the row over the baseline's


def speedups(rows: Sequence[Row], baseline: str) -> list[Speedup]:
    """Each other row that was measured, compared with the baseline's row of the same video."""
    measured = [row for row in rows if row.measured is not None]
    baselines = {row.video: row for row in measured if row.speed == baseline}
    return [
        _speedup(row, baselines[row.video])
        for row in measured
        if row.video in baselines and row.speed != baseline
    ]


def _speedup(row: Row, base: Row) -> Speedup:
    new, old = row.measured, base.measured
    return Speedup(
        row,
        step=_ratio(old.step_seconds.median, new.step_seconds.median),
        video=_ratio(base.full_video_seconds, row.full_video_seconds),
        whole=_ratio(_decode_seconds(old, "whole"), _decode_seconds(new, "whole")),
        tiled=_ratio(_decode_seconds(old, "tiled"), _decode_seconds(new, "tiled")),
        memory=_ratio(new.gpu.reserved_bytes, old.gpu.reserved_bytes),
    )


def _row_changes(old: Row | None, new: Row | None) -> Iterator[str]:
    if old is None or new is None:
        yield "only in the second" if old is None else "only in the first"
    elif new.error:
        if not old.error:
            yield f"now fails: {new.error}"
    elif old.error:
        yield f"works, failed before: {old.error}"
    else:
        if old.setup != new.setup:
            yield f"made as {new.setup}, was {old.setup}"
        yield from _timing_changes(old.measured, new.measured)
        before, after = old.measured.gpu.reserved_bytes, new.measured.gpu.reserved_bytes
        if before and after and abs(after / before - 1) > MEMORY_TOLERANCE:
            yield f"memory {before / GIB:.1f} → {after / GIB:.1f} GiB"


def _timing_changes(old: Measurement, new: Measurement) -> Iterator[str]:
    pairs = {name: (old.seconds[name], new.seconds[name]) for name in STAGES}
    pairs["a step"] = (old.step_seconds, new.step_seconds)
    for name, (before, after) in pairs.items():
        spread = before.spread * before.median + after.spread * after.median
        if before.median and abs(after.median - before.median) > spread:
            ratio = after.median / before.median
            yield f"{name} {before.median:.3f} → {after.median:.3f} s ({ratio:.2f} ×)"


def _decode_seconds(measured: Measurement, name: str) -> float | None:
    timing = (measured.decodes or {}).get(name)
    return timing and timing.seconds.median


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return numerator / denominator if numerator and denominator else None
