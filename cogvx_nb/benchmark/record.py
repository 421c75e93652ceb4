"""Benchmarks as JSON files: written, read, compared, and what their rows say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from .. import files, settings
from ..errors import OutputError, RequestError, ResultError

FORMAT = 2
"""1 had no speeds, ceilings or baselines."""

STAGES = ("text", "denoise", "decode", "write")
"""Of each video. Loading and compiling, which a video doesn't need again, are kept apart."""

BASELINES = {
    "stock": "diffusers' own pipeline and decoder, everything on the device, nothing compiled",
    "seed": "the script this workbench came from: float16, DDIM, whole models moved about, slicing",
}
"""What the workbench is measured beside; each is the speed of its rows."""


def parse_numbers(text: str) -> list[int]:
    """Whole numbers as people list them: ``13, 25``.

    Raises:
        RequestError: if one is none.
    """
    try:
        return [int(part) for part in parse_names(text)]
    except ValueError:
        raise RequestError("frames", text, "use numbers with commas, such as 13, 25") from None


def parse_names(text: str) -> list[str]:
    """Words as people list them, with commas; none of an empty text."""
    return [part.strip() for part in text.split(",") if part.strip()]


def benchmarks_folder() -> Path:
    """Where reports go."""
    return settings.outputs_dir() / "benchmarks"


def resolve_output_path(output: str | Path | None = None) -> Path:
    """Where a report will go, by default under a new name in ``outputs/benchmarks/``.

    Doors ask before the work, which can take hours. A page goes beside it, see ``resolve_page_path``.

    Raises:
        OutputError: if it is no ``.json``, or something is there already.
    """
    name = datetime.now().strftime("%Y-%m-%d-%H%M%S.json")
    path = Path(output).expanduser().absolute() if output else benchmarks_folder() / name
    _check_suffix(path, ".json")
    for taken in (path, path.with_suffix(".html")):
        if taken.exists():
            raise OutputError(f"{taken} exists: choose another name")
    return path


def resolve_page_path(output: str | Path | None, first: Path) -> Path:
    """Where the page of some reports will go, by default beside the first; one there is replaced.

    Raises:
        OutputError: if it is no ``.html``.
    """
    path = Path(output or first.with_suffix(".html")).expanduser().absolute()
    _check_suffix(path, ".html")
    return path


def write_page(text: str, path: Path) -> None:
    """Write a file whole, or not at all; one of that name is replaced.

    Raises:
        OutputError: if it can't be written.
    """
    with files.translate_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, text.encode())


def save_report(report: dict, path: Path) -> None:
    """Write a report as JSON.

    Raises:
        OutputError: if it can't be written.
    """
    write_page(json.dumps(report, indent=1, ensure_ascii=False), path)


def read_report(path: str | Path) -> dict:
    """A report that was saved.

    Raises:
        ResultError: if there is none.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ResultError(f"{path} is no benchmark: it isn't JSON") from error
    if not isinstance(found, dict) or not isinstance(found.get("rows"), list):
        raise ResultError(f"{path} is no benchmark of this workbench")
    if found.get("format") != FORMAT:
        raise ResultError(f"{path} has format {found.get('format')}, not {FORMAT}: measure again")
    return found


def _check_suffix(path: Path, end: str) -> None:
    if path.suffix.lower() != end:
        raise OutputError(f"output {path.name!r} must end in {end}")


def newest_report() -> Path:
    """The benchmark made last.

    Raises:
        ResultError: if there is none.
    """
    found = sorted(benchmarks_folder().glob("[!.]*.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ResultError(f"{benchmarks_folder()} holds no benchmark: make one with 'cogvx bench'")
    return found[-1]


MEMORY = 0.02
"""A difference that counts, as a part: what the allocator reserves varies a little."""

FULL_STEPS = 50
"""Denoising steps of a video as it is compared with other people's: the family's default."""


def describe_row(row: dict) -> str:
    """A row in a line: the median of each stage and how far the repeats lie apart."""
    if row["error"]:
        return f"failed: {row['error']}"
    stages = ", ".join(f"{name} {row['seconds'][name]['median']:.2f} s" for name in STAGES)
    peak = f", {row['reserved_bytes'] / 2**30:.1f} GiB" if row["reserved_bytes"] else ""
    step = row["step_seconds"]
    pace = f"{step['median']:.3f} s a step (± {step['spread']:.0%})"
    return f"{describe_setup(row)}: {pace}, {stages}{peak}"


def describe_setup(row: dict) -> str:
    """How a row was made: its speed, and what the plan did for it."""
    if row["error"]:
        return f"{row['speed']}, {row['placement']}"
    used = row["plan"]
    flags = ("tiled", "compiled")
    done = [row["speed"], used["placement"], *(name for name in flags if used[name])]
    attention = "" if used["attention"] == "stock" else used["attention"]
    parts = [used["quantized"], "reuse" * used["reuse"], attention]
    return ", ".join([*done, *filter(None, parts)])


def describe_kinds(report: dict) -> str:
    """What was measured, a line each: all that is the same whenever it is measured again."""
    return "\n".join(
        f"{row['model']}, {row['frames']} frames × {row['steps']} steps: {describe_setup(row)}"
        for row in report["rows"]
    )


def compare_reports(before: dict, after: dict) -> list[str]:
    """What changed from one report to another by more than the repeats of both lie apart."""
    old = {_row_key(row): row for row in before["rows"]}
    new = {_row_key(row): row for row in after["rows"]}
    changes = []
    if before["fingerprint"] != after["fingerprint"]:
        changes.append("the machines or their versions differ")
    for kind in dict.fromkeys([*old, *new]):
        changes += [
            f"{_row_title(kind)}: {change}" for change in _changes(old.get(kind), new.get(kind))
        ]
    return changes


def full_video_seconds(row: dict) -> float:
    """Seconds of a video of ``FULL_STEPS``: measured, or reckoned from one of other steps."""
    return row["video_seconds"]["median"] + _extrapolated_seconds(row)


def full_video_stages(row: dict) -> dict[str, float]:
    """Seconds of each stage of such a video."""
    found = {name: row["seconds"][name]["median"] for name in STAGES}
    return found | {"denoise": found["denoise"] + _extrapolated_seconds(row)}


def speedup_ratios(rows: Sequence[dict], baseline: str) -> list[dict]:
    """How many times as fast as a baseline each other row of the same size is.

    Returns:
        For each row ``model, frames, manner, step, video, whole, tiled`` and ``memory``: the
        baseline's seconds over the row's for a step, a video of ``FULL_STEPS``, a decode whole and
        in tiles; the row's reserved bytes over the baseline's. None where one isn't known.
    """
    beside = {_size_key(r): r for r in rows if r["speed"] == baseline and not r["error"]}
    found = []
    for row in rows:
        base = beside.get(_size_key(row))
        if base is None or row["error"] or row["speed"] == baseline:
            continue
        found.append(
            {
                "model": row["model"],
                "frames": row["frames"],
                "manner": describe_setup(row),
                "step": _ratio(_step_seconds(base), _step_seconds(row)),
                "video": _ratio(full_video_seconds(base), full_video_seconds(row)),
                "whole": _ratio(_decode_seconds(base, "whole"), _decode_seconds(row, "whole")),
                "tiled": _ratio(_decode_seconds(base, "tiled"), _decode_seconds(row, "tiled")),
                "memory": _ratio(row["reserved_bytes"], base["reserved_bytes"]),
            }
        )
    return found


def any_failed(report: dict) -> bool:
    """Whether a row of the workbench's own failed; a baseline may, on a card too small for it."""
    return any(row["error"] and row["speed"] not in BASELINES for row in report["rows"])


def _changes(old: dict | None, row: dict | None) -> Iterator[str]:
    if old is None or row is None:
        yield "only in the second" if old is None else "only in the first"
        return
    if old["error"] or row["error"]:
        if row["error"] and not old["error"]:
            yield f"now fails: {row['error']}"
        elif old["error"] and not row["error"]:
            yield f"works, failed before: {old['error']}"
        return
    if describe_setup(old) != describe_setup(row):
        yield f"made as {describe_setup(row)}, was {describe_setup(old)}"
    yield from _timing_changes(old, row)
    before, after = old["reserved_bytes"], row["reserved_bytes"]
    if before and after and abs(after / before - 1) > MEMORY:
        yield f"memory {before / 2**30:.1f} → {after / 2**30:.1f} GiB"


def _timing_changes(old: dict, row: dict) -> Iterator[str]:
    pairs = {name: (old["seconds"][name], row["seconds"][name]) for name in STAGES}
    pairs["a step"] = (old["step_seconds"], row["step_seconds"])
    for name, (a, b) in pairs.items():
        apart = a["spread"] * a["median"] + b["spread"] * b["median"]
        if a["median"] and abs(b["median"] - a["median"]) > apart:
            ratio = b["median"] / a["median"]
            yield f"{name} {a['median']:.3f} → {b['median']:.3f} s ({ratio:.2f} ×)"


def _extrapolated_seconds(row: dict) -> float:
    return (FULL_STEPS - row["steps"]) * row["step_seconds"]["median"]


def _row_key(row: dict) -> tuple:
    names = ("model", "frames", "steps", "height", "width", "speed", "placement")
    return tuple(row[name] for name in names)


def _row_title(kind: tuple) -> str:
    model, frames, steps, _, _, speed, placement = kind
    return f"{model}, {frames} frames × {steps} steps, {speed}, {placement}"


def _size_key(row: dict) -> tuple:
    return tuple(row[name] for name in ("model", "frames", "height", "width"))


def _step_seconds(row: dict) -> float:
    return row["step_seconds"]["median"]


def _decode_seconds(row: dict, name: str) -> float | None:
    found = (row["vae"] or {}).get(name)
    return found["median"] if found else None


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a and b else None
