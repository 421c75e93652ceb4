"""A benchmark as a JSON file, and the words that its rows are made of."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from . import files, settings
from .errors import OutputError, RequestError, ResultError

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


def write(text: str, path: Path) -> None:
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
    write(json.dumps(report, indent=1, ensure_ascii=False), path)


def read(path: str | Path) -> dict:
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
