"""``cogvx run``, ``bench`` and ``sweep``."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from .. import settings
from ..errors import ResultError, SpecError

ASKED = ("status", "cancel", "report")


def add_sweep(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx sweep``."""
    command.add_argument("sweep", help="a YAML file; or 'status', 'cancel' or 'report' and a name")
    command.add_argument("name", nargs="?", help="of a sweep that was started")
    command.add_argument(
        "--dry-run", action="store_true", help="list the runs, with time, memory and disk"
    )
    command.add_argument("--again", action="store_true", help="also the runs that are done")
    command.add_argument("--fail-fast", action="store_true", help="end at the first that failed")
    command.add_argument(
        "--workers", type=int, metavar="N", help="at once, by Ray; default: one for each GPU"
    )
    command.add_argument("--ray-address", metavar="ADDRESS", default="", help="of a Ray cluster")
    command.add_argument("--shard", metavar="I/N", default="1/1", help="a share of the runs")
    command.add_argument("--output", help="of a report: page to write (default: in its folder)")
    command.add_argument("--rows", default="", metavar="NAME", help="of a report: what goes down")
    command.add_argument(
        "--columns", default="", metavar="NAME", help="of a report: what goes across"
    )


def run_sweep_command(options: argparse.Namespace) -> int:
    """Run a notebook many times with many values, resumed where it was left."""
    if options.sweep in ASKED:
        if options.name is None:
            raise SpecError(f"cogvx sweep {options.sweep} needs the name of a sweep")
        return {"status": _print_status, "cancel": _cancel_sweep, "report": _write_sweep_report}[
            options.sweep
        ](options)
    if options.name is not None:
        raise SpecError(f"{options.name!r} is one argument too many; before a name: {ASKED}")
    return (_print_dry_run if options.dry_run else _run_sweep)(options)


def _run_sweep(options: argparse.Namespace) -> int:
    from ..sweep import driver, lock, ray_workers
    from ..sweep.progress import ProgressTable, progress_summary

    asked = (options.workers, options.ray_address)
    by_ray = ray_workers.is_wanted(*asked)
    with ProgressTable() as table:
        ended = driver.run_sweep(
            options.sweep,
            again=options.again,
            fail_fast=options.fail_fast,
            part=lock.parse_share(options.shard),
            view=table,
            workers=ray_workers.ray_workers(*asked) if by_ray else None,
        )
    for run_id, error in ended.failed.items():
        print(f"failed: {run_id}: {error}", file=sys.stderr)
    print(progress_summary(ended))
    return int(bool(ended.failed))


def _print_dry_run(options: argparse.Namespace) -> int:
    from ..sweep import driver, lock
    from ..sweep.folder import SweepFolder
    from ..sweep.progress import describe_varied
    from ..text import format_duration

    part = lock.parse_share(options.shard)
    spec, book, runs = driver.prepare_sweep(options.sweep)
    folder = SweepFolder(spec.name)
    todo, lines = [], []
    for run in runs:
        if run.id not in part:
            continue
        done = not options.again and folder.is_done(run.id, run.expected)
        if not done:
            todo.append(run)
        takes = f"{_format_memory(run.peak_bytes)}  {run.disk_bytes / 1e6:6.1f} MB"
        time_said = "done" if done else format_duration(run.seconds)
        lines.append(f"{run.number:6}  {run.id}  {time_said:>7}  {takes}  {describe_varied(run)}")
    known = [run.seconds for run in todo if run.seconds is not None]
    seconds = format_duration(sum(known)) if len(known) == len(todo) else "?"
    disk, free = sum(run.disk_bytes for run in todo), _free_bytes()
    peak = _format_memory(max((run.peak_bytes or 0 for run in todo), default=0)).strip()
    head = f"{'row':>6}  {'run':16}  {'time':>7}  {'memory':>8}  {'disk':>9}  what varies"
    print("\n".join([head, *lines]))
    print(
        f"{spec.name}: {book.path.name}, {len(lines)} runs, {len(lines) - len(todo)} of them done; "
        f"the others take about {seconds}, {peak} and {disk / 1e6:.1f} MB of {free / 1e9:.1f} GB"
    )
    return 0


def _print_status(options: argparse.Namespace) -> int:
    from ..sweep import lock
    from ..sweep.folder import SweepFolder
    from ..text import format_duration, format_rate

    name = options.name
    folder = SweepFolder(name)
    stand = folder.stand()
    drivers = lock.lock_holders(folder.root)
    running = stand.running if drivers else ()  # else what a killed driver left
    waiting = stand.total - len(stand.done | {*running} | stand.failed.keys())
    print(
        f"{name}: {len(stand.done)} of {stand.total} done, {len(running)} running, "
        f"{len(stand.failed)} failed, {waiting} waiting"
    )
    if running and stand.seconds:
        each = stand.seconds / len(running)
        print(
            f"{format_rate(each)}, about {format_duration(each * (waiting + len(running) / 2))} left"
        )
    for driver in drivers:
        print(f"run by {driver}")
    if not drivers:
        print("nobody is at work on it")
    for run_id in running:
        print(f"running: {run_id}")
    for run_id, error in stand.failed.items():
        print(f"failed: {run_id}: {error}")
    return 0


def _cancel_sweep(options: argparse.Namespace) -> int:
    from ..sweep import lock
    from ..sweep.folder import SweepFolder

    name = options.name
    folder = SweepFolder(name)
    folder.stand()
    drivers = lock.lock_holders(folder.root)
    if not drivers:
        raise ResultError(f"nobody is at work on sweep {name}")
    for driver in drivers:
        lock.ask_to_stop(folder.root, driver)
        print(f"asked to end: {driver}")
    return 0


def _write_sweep_report(options: argparse.Namespace) -> int:
    from ..reports import experiment, sweep_page
    from ..sweep.folder import SweepFolder

    sweep_page.resolve_output_path(options.output, SweepFolder(options.name).root)
    found = experiment.read_sweep(options.name)
    print(sweep_page.write_sweep_page(found, options.output, options.rows, options.columns))
    return 0


def _format_memory(count: int | None) -> str:
    return f"{count / 2**30:4.1f} GiB" if count else "       ?"


def _free_bytes() -> int:
    folder = settings.outputs_dir()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free


def run_notebook_command(options: argparse.Namespace) -> int:
    """Execute a notebook with parameters."""
    from ..notebooks import notebook

    print(
        notebook.run_notebook(
            options.notebook, dict(options.p), dict(options.r), options.output_notebook
        )
    )
    return 0


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


def add_bench(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx bench``."""
    for flag, options in MEASURING.items():
        command.add_argument(flag, **options)
    does = command.add_subparsers(metavar="run | compare | report")
    measuring = _add_bench_command(does, "run", run_bench)
    for flag, options in MEASURING.items():
        # Without a default of its own, for the same reason.
        measuring.add_argument(flag, **options | {"default": argparse.SUPPRESS})
    comparing = _add_bench_command(does, "compare", compare_benchmarks)
    comparing.add_argument("before", metavar="A", help="JSON of a benchmark")
    comparing.add_argument("after", metavar="B", help="JSON of a later one")
    reporting = _add_bench_command(does, "report", report_benchmarks)
    reporting.add_argument("files", nargs="*", help="JSON of benchmarks (default: the newest)")
    reporting.add_argument("--output", help="page to write (default: beside the first file)")


def run_bench(options: argparse.Namespace) -> int:
    """Time videos by frames, speed and placement; compare or show what was measured."""
    from ..benchmark import record, runner

    model = runner.find_benchmark_model(options.model, options.weights)
    path = record.resolve_output_path(options.output)
    found = runner.run_benchmark(
        model,
        record.parse_numbers(options.frames),
        options.steps,
        options.repeats,
        record.parse_names(options.speed),
        record.parse_names(options.placement),
        record.parse_names(options.baseline),
        path,
        _say,
    )
    _write_page([found], path.with_suffix(".html"))
    print(path)
    return int(record.any_failed(found))


def compare_benchmarks(options: argparse.Namespace) -> int:
    """Say what changed from one benchmark to another by more than the repeats lie apart."""
    from ..benchmark import record

    before, after = map(record.read_report, (options.before, options.after))
    changes = record.compare_reports(before, after)
    print("\n".join(changes) or "nothing changed by more than the repeats lie apart")
    return 0


def report_benchmarks(options: argparse.Namespace) -> int:
    """Write one HTML page of some benchmarks, with all in it."""
    from ..benchmark import record

    paths = [Path(file) for file in options.files] or [record.newest_report()]
    output = record.resolve_page_path(options.output, paths[0])
    _write_page([record.read_report(path) for path in paths], output)
    print(output)
    return 0


def _write_page(reports: list[dict], path: Path) -> None:
    from ..benchmark import record
    from ..reports import bench_page

    record.write_page(bench_page.bench_page(*reports), path)


def _add_bench_command(does, name: str, function) -> argparse.ArgumentParser:
    parser = does.add_parser(name, help=function.__doc__, description=function.__doc__)
    kept = {"default": argparse.SUPPRESS}  # what stands before the word is kept
    parser.add_argument("--debug", action="store_true", help="show tracebacks", **kept)
    parser.set_defaults(command=function)
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
