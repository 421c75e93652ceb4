"""Workers for a sweep in processes of Ray's: one for each GPU, or each with its share of the cores.

Runs travel as bytes, both ways, so nodes need no common disk; they need this package, and the
checkpoints.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from .. import settings
from ..errors import SpecError
from ..files import DISK_FULL_ERRNOS, rename_in_notebook
from .worker import RunOutcome, RunTask, SweepWorker

STORE_BYTES = 256 * 2**20
"""For results on their way, on a machine of one's own; a video has some megabytes."""

CONNECT_SECONDS = 10
"""For a cluster to answer at all; Ray would try for minutes."""

PLACE_SECONDS = 60
"""For a new process to start, and for its node to be found."""

CLOSE_SECONDS = 20
"""For a worker to end by itself, before it is ended."""


def is_wanted(count: int | None, address: str) -> bool:
    """Whether Ray is to do it: where it was asked for, or there is more than one GPU and Ray.

    Raises:
        SpecError: if the number of workers is none, or it was asked for and isn't installed.
    """
    if count is not None and count < 1:
        raise SpecError(f"workers = {count}: must be 1 or more")
    asked = bool(address) or (count or 1) > 1
    if asked and not _is_installed():
        remedy = "pip install -e '.[ray]', or leave out --workers and --ray-address"
        raise SpecError(f"more than one worker needs Ray: {remedy}")
    return asked or (count is None and _is_installed() and gpu_count() > 1)


def gpu_count() -> int:
    """GPUs that the driver lists; 0 without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60)
    return len(done.stdout.splitlines()) if done.returncode == 0 else 0


@contextlib.contextmanager
def ray_workers(count: int | None = None, address: str = "") -> Iterator[list[RayWorker]]:
    """Workers of a cluster, which ends with this if it was started for it.

    Args:
        count: how many; by default one for each GPU, or else for each node.
        address: of a cluster that runs, ``auto`` for the one of this machine; empty for one that is
            started here.

    Raises:
        SpecError: if the cluster can't be reached, or hasn't GPUs for so many.
    """
    import ray

    with _quiet_start(ray, count, address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        count, cores, gpus = worker_placements(nodes, count)
        options = {
            "num_cpus": cores,
            "num_gpus": gpus,
            "max_restarts": 0,
            "max_task_retries": 0,  # the driver decides what is tried again
            "scheduling_strategy": "SPREAD",
        }
        folders = {} if address else settings.folders()  # other nodes have their own
        made = [RayWorker(str(number), options, folders) for number in range(1, count + 1)]
        try:
            yield made
        finally:
            for worker in made:
                worker.stop()


def worker_placements(nodes: Sequence[dict[str, float]], count: int | None) -> tuple[int, int, int]:
    """(workers, cores of each, GPUs of each) for nodes with so much of ``CPU`` and ``GPU``.

    One for each GPU, or for each node where there is none. They take the same cores everywhere,
    as many as the node has for each that has fewest.

    Raises:
        SpecError: if there aren't GPUs for so many.
    """
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    used = with_gpus or [node for node in nodes if node.get("CPU", 0) >= 1] or nodes
    gpus = sum(int(node["GPU"]) for node in with_gpus)
    count = count or gpus or len(used)
    if gpus and count > gpus:
        raise SpecError(f"workers = {count}: Ray has {gpus} GPUs, and each worker takes one")
    even = -(-count // len(used))
    there = [min(count, int(node["GPU"])) if gpus else even for node in used]
    cores = [int(node.get("CPU", 0)) // each for node, each in zip(used, there, strict=True)]
    return count, max(1, min(cores)), int(gpus > 0)


class RayWorker:
    """Executes tasks one after another in a kernel that it keeps, wherever Ray puts it.

    When its process or node is lost, the task under way fails and the next one gets a new process.
    See ``worker.SweepWorker`` for what each method is for.
    """

    def __init__(self, slot: str, options: dict, environment: dict[str, str]) -> None:
        self._slot, self._options, self._environment = slot, options, environment
        self._actor = None

    def run(self, task: RunTask) -> RunOutcome:
        """Execute a task. Failures are told, not raised."""
        import ray

        start = time.perf_counter()
        try:
            if not self._has_place():
                why = f"worker {self._slot} found no place within {PLACE_SECONDS} s"
                return RunOutcome(time.perf_counter() - start, why, no_place=True)
            outcome, files = ray.get(self._actor.run.remote(task, task.notebook.read_bytes()))
        except (ray.exceptions.RayError, OSError) as error:
            self.stop()
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            seconds = time.perf_counter() - start
            return RunOutcome(
                seconds, f"the worker was lost: {reason}", str(error), kernel_died=True
            )
        if outcome.disk_full:  # of the node, not of the results: another node may have room
            why = f"the node of worker {self._slot} has no room for it ({outcome.error})"
            outcome = replace(outcome, error=why, disk_full=False, kernel_died=True)
        return _unpacked(files, task.output.parent, outcome)

    def _has_place(self) -> bool:
        """Whether it has a process, or could get one: a node that is lost leaves fewer places."""
        import ray

        if self._actor is None:
            kind = ray.remote(RayExecutor).options(**self._options)
            self._actor = kind.remote(self._slot, self._environment)
            try:
                ray.get(self._actor.is_there.remote(), timeout=PLACE_SECONDS)
            except ray.exceptions.GetTimeoutError:
                self.stop()
                return False
        return True

    def stop(self) -> None:
        """End its process now; a task that is running fails."""
        import ray

        actor, self._actor = self._actor, None
        if actor is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor)

    def close(self) -> None:
        """End its kernel, and then its process."""
        import ray

        if self._actor is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(self._actor.close.remote(), timeout=CLOSE_SECONDS)
        self.stop()


class RayExecutor:
    """What Ray runs on a node: a worker with a kernel of its own."""

    def __init__(self, slot: str, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        self._worker = SweepWorker(slot)

    def is_there(self) -> bool:
        """That it was started."""
        return True

    def run(self, task: RunTask, notebook: bytes) -> tuple[RunOutcome, dict[str, bytes]]:
        """Execute a task in a folder of this node's; with the files that it left, by their path."""
        try:
            return self._run(task, notebook)
        except OSError as error:  # of the node's disk, or of a file that may not be read
            told = f"{type(error).__name__}: {error}"
            return RunOutcome(0.0, told, told, disk_full=error.errno in DISK_FULL_ERRNOS), {}

    def _run(self, task: RunTask, notebook: bytes) -> tuple[RunOutcome, dict[str, bytes]]:
        with tempfile.TemporaryDirectory(prefix="cogvx-") as folder:
            work = Path(folder) / "work"
            work.mkdir()
            book = Path(folder) / task.notebook.name
            book.write_bytes(notebook)
            here = replace(task, notebook=book, output=work / task.output.name)
            outcome = self._worker.run(here)
            if here.output.exists():
                rename_in_notebook(here.output, work, task.output.parent)
                rename_in_notebook(here.output, book, task.notebook)
            left = [path for path in work.rglob("*") if path.is_file()]
            return outcome, {path.relative_to(work).as_posix(): path.read_bytes() for path in left}

    def close(self) -> None:
        """End the kernel."""
        self._worker.close()


def _unpacked(files: dict[str, bytes], folder: Path, outcome: RunOutcome) -> RunOutcome:
    """The outcome of a task whose files are in its folder now."""
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    except OSError as error:
        line = f"{folder}: {error.strerror}"
        return replace(outcome, error=line, disk_full=error.errno in DISK_FULL_ERRNOS)
    return outcome


@contextlib.contextmanager
def _quiet_start(ray, count: int | None, address: str) -> Iterator[None]:
    """Ray, told to be silent; it takes no signal from this process, and ends with it."""
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        options = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    else:
        options |= {"_node_ip_address": "127.0.0.1", "object_store_memory": STORE_BYTES}
        options["num_cpus"] = max(os.cpu_count() or 1, count or 1)
    main = threading.current_thread() is threading.main_thread()
    handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    settings.prepare_ray()
    try:
        if address and "://" not in address and address != "auto":
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(**options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SpecError(f"Ray can't be had ({reason}): see that its cluster runs") from error
    finally:
        for one, handler in handlers.items() if main else ():
            signal.signal(one, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _is_installed() -> bool:
    try:
        importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
