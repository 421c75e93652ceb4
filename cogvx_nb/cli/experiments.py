"""``cogvx run`` and ``cogvx sweep``."""

from __future__ import annotations

import argparse
import shutil

from .. import settings
from ..errors import CogvxError, ResultError, SpecError
from ..files import nearest_existing_folder
from ..text import GIB, print_error
from .parser import add_subcommand
from .streams import fit_line

SWEEP_EPILOG = "'cogvx sweep FILE' is 'cogvx sweep run FILE'; a file named status is ./status."


def add_sweep(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx sweep``: subcommands, and a file where none is named."""
    command.epilog = SWEEP_EPILOG
    actions = command.add_subparsers(metavar="FILE | status | cancel | report", required=True)
    command.subcommands, command.default_subcommand = actions.choices, "run"
    command.help_if_bare = True
    running = add_subcommand(actions, "run", run_sweep_command, "guidance.yaml --dry-run")
    running.add_argument("sweep", metavar="FILE", help="a YAML file")
    flag = running.add_argument
    flag("--dry-run", action="store_true", help="list the runs, with time, memory and disk")
    flag("--again", action="store_true", help="also repeat runs that are done")
    flag("--fail-fast", action="store_true", help="stop at the first failed run")
    flag("--workers", type=int, metavar="N", help="parallel workers, by Ray (default: one a GPU)")
    flag("--ray-address", metavar="ADDRESS", default="", help="address of a Ray cluster")
    flag("--shard", metavar="I/N", default="1/1", help="only the I-th of N shares of the runs")
    for name, function in (("status", print_sweep_status), ("cancel", cancel_sweep)):
        _add_sweep_name(add_subcommand(actions, name, function, "guidance"))
    reporting = add_subcommand(actions, "report", write_sweep_report, "guidance --columns seed")
    _add_sweep_name(reporting)
    flag = reporting.add_argument
    flag("--output", help="page to write (default: report.html in the sweep's folder)")
    flag("--rows", default="", metavar="NAME", help="the parameter that goes down")
    flag("--columns", default="", metavar="NAME", help="the parameter that goes across")


def add_run(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx run``."""
    command.add_argument("notebook", help="03_generate, or the path of a notebook")
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    command.add_argument("-p", help="a parameter, parsed as its type in the notebook", **pair)
    command.add_argument("-r", help="a parameter that is text", **pair)
    command.add_argument("--output-notebook", metavar="F", help="where the executed copy goes")


def _add_sweep_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="name of a sweep that was started")


def _named_sweep(options: argparse.Namespace) -> str:
    """The name that was given.

    Raises:
        SpecError: if none was, with the sweeps that there are.
    """
    from ..sweep.folder import sweep_names

    if options.name is None:
        raise SpecError(f"name a sweep; there are: {', '.join(sweep_names()) or 'none yet'}")
    return options.name


def run_sweep_command(options: argparse.Namespace) -> int:
    """Run a notebook with many sets of parameters; a sweep that was stopped is resumed."""
    return (_print_dry_run if options.dry_run else _run_sweep)(options)


def _run_sweep(options: argparse.Namespace) -> int:
    from ..sweep import driver, lock, ray_workers
    from ..sweep.folder import SweepFolder
    from ..sweep.progress import ProgressTable, progress_summary

    cluster = (options.workers, options.ray_address)
    by_ray = ray_workers.is_wanted(*cluster)
    with ProgressTable() as table:
        progress = driver.run_sweep(
            options.sweep,
            again=options.again,
            fail_fast=options.fail_fast,
            part=lock.parse_share(options.shard),
            view=table,
            workers=(lambda runs: ray_workers.ray_workers(runs, *cluster)) if by_ray else None,
        )
    for run_id, error in progress.failed.items():
        print_error(f"failed: {run_id}: {error}")
    print(progress_summary(progress))
    print_error(f"in {SweepFolder(progress.name).root}; next: cogvx sweep report {progress.name}")
    return int(bool(progress.failed))


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
        space = f"{_format_memory(run.peak_bytes)}  {run.disk_bytes / 1e6:6.1f} MB"
        duration = "done" if done else format_duration(run.seconds)
        line = f"{run.number:6}  {run.id}  {duration:>7}  {space}  {describe_varied(run)}"
        lines.append(fit_line(line))
    known = [run.seconds for run in todo if run.seconds is not None]
    seconds = format_duration(sum(known)) if len(known) == len(todo) else "?"
    disk, free = sum(run.disk_bytes for run in todo), _free_bytes()
    peak = _format_memory(max((run.peak_bytes or 0 for run in todo), default=0)).strip()
    head = f"{'row':>6}  {'run':16}  {'time':>7}  {'memory':>8}  {'disk':>9}  what varies"
    print("\n".join([head, *lines]))
    print(
        f"{spec.name}: {book.path.name}, {len(lines)} runs, {len(lines) - len(todo)} of them done; "
        f"the others take about {seconds}, {peak} and {disk / 1e6:.1f} MB of {free / 1e9:.1f} GB; "
        f"{book.kind}"
    )
    return 0


def print_sweep_status(options: argparse.Namespace) -> int:
    """Print how many runs of a sweep are done, running, failed and waiting, and who runs them;
    without a name, the sweeps that there are."""
    from ..sweep import lock
    from ..sweep.folder import SweepFolder
    from ..text import format_duration, format_rate

    if options.name is None:
        return _list_sweeps()
    name = options.name
    folder = SweepFolder(name)
    status = folder.status()
    drivers = lock.lock_holders(folder.root)
    running = status.running if drivers else ()  # else a killed driver left them
    waiting = status.total - len(status.done | {*running} | status.failed.keys())
    print(
        f"{name}: {len(status.done)} of {status.total} done, {len(running)} running, "
        f"{len(status.failed)} failed, {waiting} waiting"
    )
    if running and status.seconds:
        each = status.seconds / len(running)
        seconds_left = each * (waiting + len(running) / 2)
        print(f"{format_rate(each)}, about {format_duration(seconds_left)} left")
    for driver in drivers:
        print(f"run by {driver}")
    if not drivers and waiting:
        print("nobody is at work on it: start it again to go on")
    for run_id in running:
        print(f"running: {run_id}")
    for run_id, error in status.failed.items():
        print(fit_line(f"failed: {run_id}: {error}"))
    return 0


def _list_sweeps() -> int:
    from ..sweep.folder import SweepFolder, sweep_names

    names = sweep_names()
    for name in names:
        try:
            status = SweepFolder(name).status()
        except CogvxError as error:  # damaged, or a folder of another program
            print(fit_line(f"{name}: {error}"))
        else:
            print(f"{name}: {len(status.done)} of {status.total} done")
    print_error(f"sweeps: {len(names)} in {settings.outputs_dir() / 'sweeps'}")
    return 0


def cancel_sweep(options: argparse.Namespace) -> int:
    """End a sweep that is running; runs in progress are dropped."""
    from ..sweep import lock
    from ..sweep.folder import SweepFolder

    name = _named_sweep(options)
    folder = SweepFolder(name)
    folder.listed_runs()  # raises for a sweep that was never started
    drivers = lock.lock_holders(folder.root)
    if not drivers:
        raise ResultError(f"nobody is at work on sweep {name}")
    for driver in drivers:
        lock.ask_to_stop(folder.root, driver)
        print(f"asked to end: {driver}")
    return 0


def write_sweep_report(options: argparse.Namespace) -> int:
    """Write one HTML page of a sweep: contact sheet, plots, table and failures."""
    from ..reports import experiment, sweep_page
    from ..sweep.folder import SweepFolder

    name = _named_sweep(options)
    sweep_page.resolve_output_path(options.output, SweepFolder(name).root)
    sweep = experiment.read_sweep(name)
    print(sweep_page.write_sweep_page(sweep, options.output, options.rows, options.columns))
    return 0


def _format_memory(count: int | None) -> str:
    return f"{count / GIB:4.1f} GiB" if count else "       ?"


def _free_bytes() -> int:
    return shutil.disk_usage(nearest_existing_folder(settings.outputs_dir())).free


def run_notebook_command(options: argparse.Namespace) -> int:
    """Run a notebook with parameters."""
    from ..notebooks import notebook

    print(
        notebook.run_notebook(
            options.notebook, dict(options.p), dict(options.r), options.output_notebook
        )
    )
    return 0
