"""Workers of a sweep as Ray actors: one per GPU, or each with its share of the CPU cores.

Notebooks, the pictures, clips and LoRAs that they start from, and results are sent as bytes, so
nodes need no shared disk; they need this package and the checkpoints.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from .. import settings
from ..errors import DiskFull, OutputError, RequestError, ResultError, SpecError, missing_package
from ..files import is_disk_full, rename_in_notebook, temporary_folder
from ..loras import library
from ..media import kept
from ..planning.inputs import split_name
from ..planning.probe import run_nvidia_smi
from ..text import first_line
from . import cluster
from .given_loras import is_lora, is_missing, split_kept
from .worker import RunOutcome, RunTask, SweepWorker

PLACE_SECONDS = 60
"""Seconds for Ray to place and start an actor."""

CLOSE_SECONDS = 20
"""Seconds for a worker to close its kernel, before it is killed."""


def is_wanted(count: int | None, address: str) -> bool:
    """Whether to use Ray: where it was asked for, or is installed on a machine of several GPUs.

    Args:
        count: of workers; None where the user named none.
        address: of a Ray cluster; empty for none.

    Raises:
        SpecError: if ``count`` is below 1, or Ray was asked for and isn't installed.
    """
    if count is not None and count < 1:
        raise SpecError(f"workers = {count}: must be 1 or more")
    asked = bool(address) or (count or 1) > 1
    if asked and not _is_installed():
        missing = missing_package("Ray", "ray", "more than one worker")
        raise SpecError(f"{missing}, or leave out --workers and --ray-address")
    return asked or (count is None and _is_installed() and gpu_count() > 1)


def gpu_count() -> int:
    """Number of GPUs that the NVIDIA driver lists; 0 without one."""
    done = run_nvidia_smi("-L")
    return len(done.stdout.splitlines()) if done is not None and done.returncode == 0 else 0


@contextlib.contextmanager
def ray_workers(
    waiting: int, count: int | None = None, address: str = ""
) -> Iterator[list[RayWorker]]:
    """Workers on a Ray cluster; one that was started for them is shut down at the end.

    Args:
        waiting: runs.
        count: of workers; by default one per GPU, or without GPUs one per node.
        address: of a running cluster, ``auto`` for the one of this machine; empty to start one.

    Raises:
        SpecError: if the cluster can't be reached, or has too few GPUs.
    """
    import ray

    with cluster.join_or_start(count, address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        count, cores, gpus = worker_placements(nodes, count, waiting)
        options = {
            "num_cpus": cores,
            "num_gpus": gpus,
            "max_restarts": 0,
            "max_task_retries": 0,  # the driver decides what is tried again
            "scheduling_strategy": "SPREAD",
        }
        folders = {} if address else settings.folders()  # other nodes have their own
        workers = [RayWorker(str(number), options, folders) for number in range(1, count + 1)]
        try:
            yield workers
        finally:
            for worker in workers:
                worker.stop()


def worker_placements(
    nodes: Sequence[dict[str, float]], count: int | None, waiting: int
) -> tuple[int, int, int]:
    """(workers, CPU cores per worker, GPUs per worker) for some nodes.

    By default one worker per GPU, which makes most videos an hour, or per node without GPUs. Where
    fewer runs wait than there are GPUs, or fewer workers were asked for, each video is made on
    several. All workers take the same numbers: what the most crowded node has for each of its own.

    Args:
        nodes: Ray's resources of each node, ``CPU`` and ``GPU``.

    Raises:
        SpecError: if there are fewer GPUs than workers.
    """
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    usable = with_gpus or [node for node in nodes if node.get("CPU", 0) >= 1] or nodes
    gpus = sum(int(node["GPU"]) for node in with_gpus)
    count = count or min(gpus, waiting) or len(usable)
    if gpus and count > gpus:
        raise SpecError(f"workers = {count}: Ray has {gpus} GPUs, and each worker takes one")
    even = -(-count // len(usable))
    workers = [min(count, int(node["GPU"])) if gpus else even for node in usable]
    cores = [int(node.get("CPU", 0)) // each for node, each in zip(usable, workers, strict=True)]
    each = gpus // count  # at most: workers of this size must find places on the nodes
    while each > 1 and sum(int(node["GPU"]) // each for node in with_gpus) < count:
        each -= 1
    return count, max(1, min(cores)), each


class RayWorker:
    """A ``worker.SweepWorker`` in a Ray actor; has the same methods.

    When its process or node is lost, its current task fails and the next one gets a new actor.
    """

    status = ""  # an actor at work can't be asked

    def __init__(self, slot: str, options: dict, environment: dict[str, str]) -> None:
        self._slot, self._options, self._environment = slot, options, environment
        self._actor = None

    def execute(self, task: RunTask) -> RunOutcome:
        """Execute a task. Failures are returned, not raised."""
        import ray

        start = time.perf_counter()
        try:
            if not self._has_actor():
                error = f"worker {self._slot} found no place within {PLACE_SECONDS} s"
                return RunOutcome(time.perf_counter() - start, error, no_place=True)
            lacking = ray.get(self._actor.missing_inputs.remote(task.inputs))
            inputs = {value: _content_of(value) for value in lacking}
            notebook = task.notebook.read_bytes()
            outcome, files = ray.get(self._actor.execute.remote(task, notebook, inputs))
        except (
            ResultError,
            RequestError,
        ) as error:  # an input was deleted since the sweep was started
            return RunOutcome(time.perf_counter() - start, str(error))
        except (ray.exceptions.RayError, OSError) as error:
            self.stop()
            lost = f"the worker was lost: {first_line(error)}"
            seconds = time.perf_counter() - start
            return RunOutcome(seconds, lost, str(error), kernel_died=True)
        if outcome.disk_full:  # the node's disk, not that of the results: other nodes may have room
            full = f"the node of worker {self._slot} has no room for it ({outcome.error})"
            outcome = replace(outcome, error=full, disk_full=False, kernel_died=True)
        return _write_files(files, task.output.parent, outcome)

    def _has_actor(self) -> bool:
        """Whether there is an actor, or one could be placed: after a lost node fewer fit."""
        import ray

        if self._actor is None:
            executor = ray.remote(RayExecutor).options(**self._options)
            self._actor = executor.remote(self._slot, self._environment)
            try:
                ray.get(self._actor.is_started.remote(), timeout=PLACE_SECONDS)
            except ray.exceptions.GetTimeoutError:
                self.stop()
                return False
        return True

    def stop(self) -> None:
        """Kill the actor now; a task that is running fails."""
        import ray

        actor, self._actor = self._actor, None
        if actor is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor)

    def close(self) -> None:
        """End its kernel, then the actor."""
        import ray

        if self._actor is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(self._actor.close.remote(), timeout=CLOSE_SECONDS)
        self.stop()


class RayExecutor:
    """The actor's class: a ``SweepWorker`` on a node."""

    def __init__(self, slot: str, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        self._worker = SweepWorker(slot)

    def is_started(self) -> bool:
        return True

    def missing_inputs(self, values: Sequence[str]) -> list[str]:
        """What this node doesn't have: kept names of pictures and clips, and LoRAs."""
        names = [split_name(value)[0] for value in values if not is_lora(value)]
        lacking = [name for name in names if not (settings.outputs_dir() / name).is_file()]
        return lacking + [value for value in values if is_lora(value) and is_missing(value)]

    def execute(
        self, task: RunTask, notebook: bytes, inputs: dict[str, bytes]
    ) -> tuple[RunOutcome, dict[str, bytes]]:
        """Execute a task in a folder of this node; returns also the files it left, by path.

        Args:
            inputs: content of what ``missing_inputs`` named; the node keeps it.
        """
        try:
            for name, data in inputs.items():
                if is_lora(name):
                    library.keep_lora(data, split_kept(name)[0])
                else:
                    kept.keep_bytes(data, name)
            return self._execute_in_folder(task, notebook)
        except (OSError, OutputError) as error:  # the node's disk is full, or a file can't be read
            line = f"{type(error).__name__}: {error}"
            full = isinstance(error, DiskFull) or is_disk_full(error)
            return RunOutcome(0.0, line, line, disk_full=full), {}

    def _execute_in_folder(
        self, task: RunTask, notebook: bytes
    ) -> tuple[RunOutcome, dict[str, bytes]]:
        with temporary_folder() as folder:
            work = folder / "work"
            work.mkdir()
            book = folder / task.notebook.name
            book.write_bytes(notebook)
            local = replace(task, notebook=book, output=work / task.output.name)
            outcome = self._worker.execute(local)
            if local.output.exists():
                rename_in_notebook(local.output, work, task.output.parent)
                rename_in_notebook(local.output, book, task.notebook)
            files = [path for path in work.rglob("*") if path.is_file()]
            return outcome, {path.relative_to(work).as_posix(): path.read_bytes() for path in files}

    def close(self) -> None:
        """End the kernel."""
        self._worker.close()


def _content_of(value: str) -> bytes:
    """What a node lacks, from this machine's files."""
    if is_lora(value):
        return library.find_lora(*split_kept(value)).read_bytes()
    return kept.kept_path(value).read_bytes()


def _write_files(files: dict[str, bytes], folder: Path, outcome: RunOutcome) -> RunOutcome:
    """Write a task's files into its folder; returns the outcome, which that may change."""
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    except OSError as error:
        line = f"{folder}: {error.strerror}"
        return replace(outcome, error=line, disk_full=is_disk_full(error))
    return outcome


def _is_installed() -> bool:
    try:
        importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
