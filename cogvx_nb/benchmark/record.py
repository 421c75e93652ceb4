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


def numbers(text: str) -> list[int]:
    """Whole numbers as people list them: ``13, 25``.

    Raises:
        RequestError: if one is none.
    """
    try:
        return [int(part) for part in names(text)]
    except ValueError:
        raise RequestError("frames", text, "use numbers with commas, such as 13, 25") from None


def names(text: str) -> list[str]:
    """Words as people list them, with commas; none of an empty text."""
    return [part.strip() for part in text.split(",") if part.strip()]


def folder() -> Path:
    """Where reports go."""
    return settings.outputs_dir() / "benchmarks"


def place(output: str | Path | None = None) -> Path:
    """Where a report will go, by default under a new name in ``outputs/benchmarks/``.

    Doors ask before the work, which can take hours. A page goes beside it, see ``page_place``.

    Raises:
        OutputError: if it is no ``.json``, or something is there already.
    """
    name = datetime.now().strftime("%Y-%m-%d-%H%M%S.json")
    path = Path(output).expanduser().absolute() if output else folder() / name
    _check_end(path, ".json")
    for taken in (path, path.with_suffix(".html")):
        if taken.exists():
            raise OutputError(f"{taken} exists: choose another name")
    return path


def page_place(output: str | Path | None, first: Path) -> Path:
    """Where the page of some reports will go, by default beside the first; one there is replaced.

    Raises:
        OutputError: if it is no ``.html``.
    """
    path = Path(output or first.with_suffix(".html")).expanduser().absolute()
    _check_end(path, ".html")
    return path


def write_file(text: str, path: Path) -> None:
    """Write a file whole, or not at all; one of that name is replaced.

    Raises:
        OutputError: if it can't be written.
    """
    with files.translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, text.encode())


def save(report: dict, path: Path) -> None:
    """Write a report as JSON.

    Raises:
        OutputError: if it can't be written.
    """
    write_file(json.dumps(report, indent=1, ensure_ascii=False), path)


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


def _check_end(path: Path, end: str) -> None:
    if path.suffix.lower() != end:
        raise OutputError(f"output {path.name!r} must end in {end}")


def newest() -> Path:
    """The benchmark made last.

    Raises:
        ResultError: if there is none.
    """
    found = sorted(folder().glob("[!.]*.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ResultError(f"{folder()} holds no benchmark: make one with 'cogvx bench'")
    return found[-1]


MEMORY = 0.02
"""A difference that counts, as a part: what the allocator reserves varies a little."""

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
    attention = "" if used["attention"] == "stock" else used["attention"]
    parts = [used["quantized"], "reuse" * used["reuse"], attention]
    return ", ".join([*done, *filter(None, parts)])


def kinds(report: dict) -> str:
    """What was measured, a line each: all that is the same whenever it is measured again."""
    return "\n".join(
        f"{row['model']}, {row['frames']} frames × {row['steps']} steps: {manner(row)}"
        for row in report["rows"]
    )


def changes_between(before: dict, after: dict) -> list[str]:
    """What changed from one report to another by more than the repeats of both lie apart."""
    old = {_kind(row): row for row in before["rows"]}
    new = {_kind(row): row for row in after["rows"]}
    changes = []
    if before["fingerprint"] != after["fingerprint"]:
        changes.append("the machines or their versions differ")
    for kind in dict.fromkeys([*old, *new]):
        changes += [f"{_name(kind)}: {change}" for change in _changes(old.get(kind), new.get(kind))]
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
    if manner(old) != manner(row):
        yield f"made as {manner(row)}, was {manner(old)}"
    yield from _slower(old, row)
    before, after = old["reserved_bytes"], row["reserved_bytes"]
    if before and after and abs(after / before - 1) > MEMORY:
        yield f"memory {before / 2**30:.1f} → {after / 2**30:.1f} GiB"


def _slower(old: dict, row: dict) -> Iterator[str]:
    pairs = {name: (old["seconds"][name], row["seconds"][name]) for name in STAGES}
    pairs["a step"] = (old["step_seconds"], row["step_seconds"])
    for name, (a, b) in pairs.items():
        apart = a["spread"] * a["median"] + b["spread"] * b["median"]
        if a["median"] and abs(b["median"] - a["median"]) > apart:
            ratio = b["median"] / a["median"]
            yield f"{name} {a['median']:.3f} → {b['median']:.3f} s ({ratio:.2f} ×)"


def _more_seconds(row: dict) -> float:
    return (FULL_STEPS - row["steps"]) * row["step_seconds"]["median"]


def _kind(row: dict) -> tuple:
    names = ("model", "frames", "steps", "height", "width", "speed", "placement")
    return tuple(row[name] for name in names)


def _name(kind: tuple) -> str:
    model, frames, steps, _, _, speed, placement = kind
    return f"{model}, {frames} frames × {steps} steps, {speed}, {placement}"


def _size(row: dict) -> tuple:
    return tuple(row[name] for name in ("model", "frames", "height", "width"))


def _step(row: dict) -> float:
    return row["step_seconds"]["median"]


def _decode(row: dict, name: str) -> float | None:
    found = (row["vae"] or {}).get(name)
    return found["median"] if found else None


def _over(a: float | None, b: float | None) -> float | None:
    return a / b if a and b else None
