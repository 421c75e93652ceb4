"""What benchmarks say: a row in a line, what changed between two, how much faster one is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .bench_file import BASELINES, STAGES

FULL_STEPS = 50
"""Denoising steps of a video as it is compared with other people's: the family's default."""


def described(row: dict) -> str:
    """A row in a line: the median of each stage and how far the repeats lie apart."""
    if row["error"]:
        return f"failed: {row['error']}"
    stages = ", ".join(f"{name} {row['seconds'][name]['median']:.2f} s" for name in STAGES)
    peak = f", {row['reserved_bytes'] / 2**30:.1f} GiB" if row["reserved_bytes"] else ""
    step = row["step_seconds"]
    pace = f"{step['median']:.3f} s a step (± {step['spread']:.0%})"
    return f"{manner(row)}: {pace}, {stages}{peak}"


def manner(row: dict) -> str:
    """How a row was made: its speed, and what the plan did for it."""
    if row["error"]:
        return f"{row['speed']}, {row['placement']}"
    used = row["plan"]
    flags = ("tiled", "compiled")
    done = [row["speed"], used["placement"], *(name for name in flags if used[name])]
    return ", ".join([*done, *filter(None, [used["quantized"], "reuse" * used["reuse"]])])


def kinds(report: dict) -> str:
    """What was measured, a line each: all that is the same whenever it is measured again."""
    return "\n".join(
        f"{row['model']}, {row['frames']} frames × {row['steps']} steps: {manner(row)}"
        for row in report["rows"]
    )


def compare(before: dict, after: dict) -> list[str]:
    """What changed from one report to another by more than the repeats of both lie apart."""
    known = {_kind(row): row for row in before["rows"] if not row["error"]}
    changes = []
    if before["fingerprint"] != after["fingerprint"]:
        changes.append("the machines or their versions differ")
    for row in after["rows"]:
        old = known.get(_kind(row))
        if old is None or row["error"]:
            continue
        name = f"{row['model']}, {row['frames']} frames, {row['speed']}, {row['placement']}"
        changes += [f"{name}: {change}" for change in _changes(old, row)]
    return changes


def full_seconds(row: dict) -> float:
    """Seconds of a video of ``FULL_STEPS``: measured, or reckoned from one of other steps."""
    return row["video_seconds"]["median"] + _more_seconds(row)


def full_stages(row: dict) -> dict[str, float]:
    """Seconds of each stage of such a video."""
    found = {name: row["seconds"][name]["median"] for name in STAGES}
    return found | {"denoise": found["denoise"] + _more_seconds(row)}


def ratios(rows: Sequence[dict], baseline: str) -> list[dict]:
    """How many times as fast as a baseline each other row of the same size is.

    Returns:
        For each row ``model, frames, manner, step, video, whole, tiled`` and ``memory``: the
        baseline's seconds over the row's for a step, a video of ``FULL_STEPS``, a decode whole and
        in tiles; the row's reserved bytes over the baseline's. None where one isn't known.
    """
    beside = {_size(r): r for r in rows if r["speed"] == baseline and not r["error"]}
    found = []
    for row in rows:
        base = beside.get(_size(row))
        if base is None or row["error"] or row["speed"] == baseline:
            continue
        found.append(
            {
                "model": row["model"],
                "frames": row["frames"],
                "manner": manner(row),
                "step": _over(_step(base), _step(row)),
                "video": _over(full_seconds(base), full_seconds(row)),
                "whole": _over(_decode(base, "whole"), _decode(row, "whole")),
                "tiled": _over(_decode(base, "tiled"), _decode(row, "tiled")),
                "memory": _over(row["reserved_bytes"], base["reserved_bytes"]),
            }
        )
    return found


def failed(report: dict) -> bool:
    """Whether a row of the workbench's own failed; a baseline may, on a card too small for it."""
    return any(row["error"] and row["speed"] not in BASELINES for row in report["rows"])


def _changes(old: dict, row: dict) -> Iterator[str]:
    pairs = {name: (old["seconds"][name], row["seconds"][name]) for name in STAGES}
    pairs["a step"] = (old["step_seconds"], row["step_seconds"])
    for name, (a, b) in pairs.items():
        ratio = b["median"] / a["median"] if a["median"] else 1.0
        if abs(ratio - 1) > a["spread"] + b["spread"]:
            yield f"{name} {a['median']:.3f} → {b['median']:.3f} s ({ratio:.2f} ×)"


def _more_seconds(row: dict) -> float:
    return (FULL_STEPS - row["steps"]) * row["step_seconds"]["median"]


def _kind(row: dict) -> tuple:
    names = ("model", "frames", "steps", "height", "width", "speed", "placement")
    return tuple(row[name] for name in names)


def _size(row: dict) -> tuple:
    return tuple(row[name] for name in ("model", "frames", "height", "width"))


def _step(row: dict) -> float:
    return row["step_seconds"]["median"]


def _decode(row: dict, name: str) -> float | None:
    found = (row["vae"] or {}).get(name)
    return found["median"] if found else None


def _over(a: float | None, b: float | None) -> float | None:
    return a / b if a and b else None
