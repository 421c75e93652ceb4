"""``cogvx bench``: measure this machine, compare two benchmarks, show some as a page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

MEASURING = {
    "--model": {"default": "auto", "help": "a name, a folder or auto (default: auto)"},
    "--weights": {
        "choices": ["files", "random"],
        "default": "files",
        "help": "random needs no download (default: files)",
    },
    "--frames": {"default": "13,25,49", "help": "default: 13,25,49"},
    "--steps": {"type": int, "default": 50, "help": "default: 50"},
    "--speed": {"default": "exact", "help": "some, with commas (default: exact)"},
    "--placement": {"default": "auto", "help": "some, with commas (default: auto)"},
    "--repeats": {"type": int, "default": 3, "help": "at least 3 (default: 3)"},
    "--baseline": {"default": "", "help": "stock, seed or both, to measure beside"},
    "--output": {"help": "JSON to write (default: a new one in outputs/benchmarks/)"},
}


def add(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx bench``."""
    for flag, options in MEASURING.items():
        command.add_argument(flag, **options)
    does = command.add_subparsers(metavar="run | compare | report")
    measuring = _add(does, "run", main)
    for flag, options in MEASURING.items():
        # Without a default of its own, for the same reason.
        measuring.add_argument(flag, **options | {"default": argparse.SUPPRESS})
    comparing = _add(does, "compare", compare)
    comparing.add_argument("before", metavar="A", help="JSON of a benchmark")
    comparing.add_argument("after", metavar="B", help="JSON of a later one")
    reporting = _add(does, "report", report)
    reporting.add_argument("files", nargs="*", help="JSON of benchmarks (default: the newest)")
    reporting.add_argument("--output", help="page to write (default: beside the first file)")


def main(options: argparse.Namespace) -> int:
    """Time videos by frames, speed and placement; compare or show what was measured."""
    from .benchmark import record, runner

    model = runner.find_model(options.model, options.weights)
    path = record.place(options.output)
    found = runner.run_benchmark(
        model,
        record.numbers(options.frames),
        options.steps,
        options.repeats,
        record.names(options.speed),
        record.names(options.placement),
        record.names(options.baseline),
        path,
        _say,
    )
    _write_page([found], path.with_suffix(".html"))
    print(path)
    return int(record.failed(found))


def compare(options: argparse.Namespace) -> int:
    """Say what changed from one benchmark to another by more than the repeats lie apart."""
    from .benchmark import record

    before, after = map(record.read_report, (options.before, options.after))
    changes = record.changes_between(before, after)
    print("\n".join(changes) or "nothing changed by more than the repeats lie apart")
    return 0


def report(options: argparse.Namespace) -> int:
    """Write one HTML page of some benchmarks, with all in it."""
    from .benchmark import record

    paths = [Path(file) for file in options.files] or [record.newest()]
    output = record.page_place(options.output, paths[0])
    _write_page([record.read_report(path) for path in paths], output)
    print(output)
    return 0


def _write_page(reports: list[dict], path: Path) -> None:
    from .benchmark import record
    from .reports import bench_page

    record.write_file(bench_page.page(*reports), path)


def _add(does, name: str, function) -> argparse.ArgumentParser:
    parser = does.add_parser(name, help=function.__doc__, description=function.__doc__)
    kept = {"default": argparse.SUPPRESS}  # what stands before the word is kept
    parser.add_argument("--debug", action="store_true", help="show tracebacks", **kept)
    parser.set_defaults(command=function)
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
