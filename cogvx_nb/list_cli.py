"""``cogvx list``: results in a table, newest first, or all that match in a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .checkpoints import registry
from .errors import RequestError
from .text import cut, padded, places, plain

PROMPT_PLACES = 40
"""Of a terminal's line for a prompt. The file's name is last, and whole, to be copied."""

HEAD = ("made", "model", "frames", "size", "steps", "seed", "prompt", "file")


def add(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx list``."""
    command.add_argument("--search", default="", metavar="WORDS", help="that the prompts hold")
    command.add_argument("--model", default="", help="only those of a model")
    command.add_argument("--frames", type=int, default=0, help="only those of so many frames")
    command.add_argument("--seed", type=int, help="only those of a seed")
    command.add_argument("--limit", type=int, default=20, help="lines at most (default: 20)")
    command.add_argument(
        "--export", metavar="FILE", help="write all that match, as .csv or .parquet, instead"
    )


def main(options: argparse.Namespace) -> int:
    """List results, newest first; filter them, or write them to a file."""
    from .results import export
    from .results.catalogue import Catalogue

    if options.limit < 1:
        raise RequestError("limit", options.limit, "1 or more")
    if options.export is not None:
        export.place(options.export)
    found = Catalogue()
    found.refresh()
    known = registry.by_name(options.model)
    model = known.name if known else options.model
    wanted = {"model": model, "frames": options.frames, "seed": options.seed}
    total = found.count(options.search, **wanted)
    if options.export is not None:
        path = export.save(found.pages(options.search, **wanted), options.export)
        print(f"results: {total:,}", file=sys.stderr)
        print(path)
        return 0
    entries = found.find(options.search, **wanted, limit=min(options.limit, total))
    if entries:
        print("\n".join(table([row(entry) for entry in entries])))
    more = "; more by --limit, all by --export" if len(entries) < total else ""
    print(f"results: {len(entries):,} of {total:,}{more}", file=sys.stderr)
    return 0


def row(entry) -> tuple[str, ...]:
    """The cells of a result, in the order of ``HEAD``."""
    here, path = Path.cwd(), entry.path
    return (
        entry.made.replace("T", " ")[:16],
        entry.model,
        str(entry.frames),
        f"{entry.height}×{entry.width}",
        str(entry.steps),
        str(entry.seed),
        cut(plain(entry.prompt), PROMPT_PLACES),
        str(path.relative_to(here) if path.is_relative_to(here) else path),
    )


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines with the cells below each other, and nothing in them that a terminal would obey."""
    cells = [HEAD, *(tuple(map(plain, row)) for row in rows)]
    widths = [max(map(places, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(padded, row, widths)).rstrip() for row in cells]
