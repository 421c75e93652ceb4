"""``cogvx bench``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RequestError
from ..paths import user_path
from .parser import add_subcommand
from .table import format_lines

if TYPE_CHECKING:
    from ..benchmark.report import Report
    from ..checkpoints.registry import Model

BENCH_FLAGS = {
    "--model": {"default": "auto", "help": "a name, a folder or auto (default: auto)"},
    "--weights": {
        "choices": ["files", "random"],
        "default": "files",
        "help": "random: true shapes without a download (default: files)",
    },
    "--task": {
        "default": "",
        "help": "text, image, frames or clip, with commas (default: the model's first)",
    },
    "--frames": {
        "default": "",
        "help": "frame counts, with commas (default: those that the model offers)",
    },
    "--steps": {"type": int, "default": 50, "help": "denoising steps (default: 50)"},
    "--speed": {
        "help": "one or more, with commas (default: exact; with --fidelity: fast,turbo)",
    },
    "--placement": {"default": "auto", "help": "one or more, with commas (default: auto)"},
    "--lora": {
        "action": "append",
        "default": [],
        "metavar": "NAME[:WEIGHT]",
        "help": "a LoRA to merge, as for generate; can be given more than once",
    },
    "--repeats": {
        "type": int,
        "default": 3,
        "help": "videos of each kind, at least 3 (default: 3)",
    },
    "--baseline": {"default": "", "help": "stock (diffusers), seed or both, to compare with"},
    "--fidelity": {
        "action": "store_true",
        "help": "instead of times, how far videos of each speed and placement lie from exact",
    },
    "--prompts": {
        "default": "",
        "metavar": "FILE",
        "help": "for --fidelity, as for a sweep (default: four that ship)",
    },
    "--seeds": {"default": "", "help": "for --fidelity, with commas (default: 42)"},
    "--output": {"help": "JSON to write (default: a new one in outputs/benchmarks/)"},
}


def add_bench(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx bench``: subcommands, and ``run`` where none is named."""
    actions = command.add_subparsers(metavar="run | compare | report", required=True)
    command.subcommands, command.default_subcommand = actions.choices, "run"
    measuring = add_subcommand(actions, "run", run_bench, "--frames 13,25 --steps 20")
    for flag, options in BENCH_FLAGS.items():
        measuring.add_argument(flag, **options)
    comparing = add_subcommand(actions, "compare", compare_benchmarks, "before.json after.json")
    comparing.add_argument("before", metavar="A", help="JSON of a benchmark")
    comparing.add_argument("after", metavar="B", help="JSON of a later one")
    reporting = add_subcommand(actions, "report", report_benchmarks, "--output bench.html")
    reporting.add_argument("files", nargs="*", help="JSON of benchmarks (default: the newest)")
    reporting.add_argument("--output", help="page to write (default: next to the first file)")


def run_bench(options: argparse.Namespace) -> int:
    """Time videos by frames, speed and placement; compare or show what was measured."""
    from ..benchmark import runner, storage
    from ..loras.entries import join_loras

    tasks, lora = runner.parse_names(options.task), join_loras(options.lora)
    model = runner.find_benchmark_model(options.model, options.weights, tasks, lora)
    path = storage.resolve_output_path(options.output)
    shared = {"path": path, "lora": lora}
    measure = _measure_fidelity if options.fidelity else _measure_times
    report = measure(options, model, tasks, shared)
    _write_page([report], path.with_suffix(".html"))
    print(path)
    return int(report.failed)


def _measure_times(options: argparse.Namespace, model: Model, tasks: list, shared: dict) -> Report:
    from ..benchmark import runner

    for name in ("prompts", "seeds"):
        if value := getattr(options, name):
            raise RequestError(name, value, "is for --fidelity: times don't depend on it")
    speed = "exact" if options.speed is None else options.speed
    return runner.run_benchmark(
        model,
        runner.parse_numbers(options.frames),
        options.steps,
        options.repeats,
        runner.parse_names(speed),
        runner.parse_names(options.placement),
        runner.parse_names(options.baseline),
        tasks=tasks,
        **shared,
    )


def _measure_fidelity(
    options: argparse.Namespace, model: Model, tasks: list, shared: dict
) -> Report:
    from ..benchmark import fidelity, runner
    from ..reports.fidelity import fidelity_table

    if options.baseline:
        raise RequestError("baseline", options.baseline, "has no fidelity to exact: leave it out")
    if len(tasks) > 1:
        raise RequestError("task", options.task, "name one with --fidelity")
    speeds = runner.parse_names(options.speed or "") or fidelity.COMPARED
    report = fidelity.measure_fidelity(
        model,
        fidelity.read_prompts(options.prompts),
        runner.parse_numbers(options.seeds, "seeds"),
        runner.parse_numbers(options.frames),
        options.steps,
        speeds,
        runner.parse_names(options.placement),
        task="".join(tasks),
        **shared,
    )
    table = fidelity_table(report.fidelity)
    print("\n".join(format_lines(table.head, table.rows)))
    return report


def compare_benchmarks(options: argparse.Namespace) -> int:
    """Print what changed from one benchmark to another by more than the repeats vary."""
    from ..benchmark.comparison import compare_reports
    from ..benchmark.storage import read_report

    changes = compare_reports(read_report(options.before), read_report(options.after))
    print("\n".join(changes) or "no changes beyond the spread of the repeats")
    return 0


def report_benchmarks(options: argparse.Namespace) -> int:
    """Write one HTML page of some benchmarks, with everything embedded."""
    from ..benchmark import storage

    paths = [user_path(file, "benchmark") for file in options.files] or [storage.newest_report()]
    output = storage.resolve_page_path(options.output, paths[0])
    _write_page([storage.read_report(path) for path in paths], output)
    print(output)
    return 0


def _write_page(reports: list, path: Path) -> None:
    from ..benchmark import storage
    from ..reports import bench_page

    storage.write_page(bench_page.bench_page(*reports), path)
