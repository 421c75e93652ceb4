"""Sweeps by several workers, each a real Ray actor."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import run_cogvx
from test_sweep import file, folders, hidden, reports

from cogvx_nb.errors import SpecError
from cogvx_nb.sweep import driver, ray_workers
from cogvx_nb.sweep.worker import RunTask

WHO = """
import os, time
from pathlib import Path
Path('x.json').write_text(f'[{x}, {os.getpid()}, {os.environ["OMP_NUM_THREADS"]}]')
time.sleep(0.3)
"""
BEGUN = "from pathlib import Path; import os, time; print(os.getppid(), file=open(log, 'a'))"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Ray writes a token to the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # so that workers share the cores


def leftovers() -> list[str]:
    """Names of Ray's processes and kernels that this process started and that still run."""
    deadline = time.monotonic() + 15
    while names := [child.name() for child in psutil.Process().children(recursive=True)]:
        if time.monotonic() > deadline:
            return names
        time.sleep(0.3)
    return []


@pytest.mark.ray
@pytest.mark.slow
def test_the_command_shares_the_runs_among_processes(outputs, book, tmp_path):
    spec = file(tmp_path, {"notebook": book(WHO, "1 / x"), "grid": {"x": [*range(6)]}})
    done = run_cogvx("sweep", spec.name, "--workers", "2", cwd=tmp_path)
    assert done.returncode == 1
    assert "mine: 5 of 6 done" in done.stdout
    assert "ZeroDivisionError: division by zero" in done.stderr
    values, kernels, threads = zip(*reports(outputs, "mine"), strict=True)
    assert values == (1, 2, 3, 4, 5)
    kernels = set(kernels)
    assert len(kernels) == 2, "each worker keeps its kernel"
    cores = os.cpu_count() or 1
    assert set(threads) == {max(1, cores // 2)}
    assert not [pid for pid in kernels if psutil.pid_exists(pid)]
    (failed,) = (outputs / "sweeps" / "mine" / "failed").iterdir()
    assert {"notebook.ipynb", "run.json", "traceback.txt"} <= {
        path.name for path in failed.iterdir()
    }
    executed = (folders(outputs, "mine")[0] / "notebook.ipynb").read_text()
    assert "cogvx-" not in executed, "nothing names the folder that it was executed in"
    assert hidden(outputs, "mine") == []


@pytest.mark.ray
@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(outputs, book, tmp_path):
    log = tmp_path / "begun"
    spec = {"notebook": book(BEGUN, "time.sleep(1)", WHO), "grid": {"x": [*range(6)]}}
    spec["parameters"] = {"log": str(log)}

    def kill() -> None:
        while not (log.exists() and len(log.read_text().split()) > 2):
            time.sleep(0.05)
        os.kill(int(log.read_text().split()[-1]), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    ended = driver.run_sweep(spec, workers=ray_workers.ray_workers(2))
    killer.join()
    assert (ended.done, ended.failed, ended.workers) == (6, {}, 2)
    assert len(log.read_text().split()) == 7, "one run was started twice, the others once"
    assert [row[0] for row in reports(outputs)] == [*range(6)]
    assert hidden(outputs) == []
    assert leftovers() == []


@pytest.mark.ray
def test_workers_are_checked_before_ray_starts():
    assert not ray_workers.is_wanted(1, "")
    assert ray_workers.is_wanted(2, "")
    assert ray_workers.is_wanted(None, "auto")
    with pytest.raises(SpecError, match="workers = 0: must be 1 or more"):
        ray_workers.is_wanted(0, "")
    with (
        pytest.raises(SpecError, match=r"Ray can't be had \(.*\): see that its cluster runs"),
        ray_workers.ray_workers(address="127.0.0.1:1"),
    ):
        pass


@pytest.mark.parametrize(
    ("nodes", "count", "expected"),
    [
        ([{"CPU": 2}], None, (1, 2, 0)),
        ([{"CPU": 2}], 2, (2, 1, 0)),
        ([{"CPU": 64, "GPU": 4}], None, (4, 16, 1)),
        ([{"CPU": 64, "GPU": 8}], 1, (1, 64, 1)),
        ([{"CPU": 64}, {"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 1}], None, (2, 8, 1)),
        ([{"CPU": 64, "GPU": 1}, {"CPU": 8, "GPU": 4}], None, (5, 2, 1)),
        ([{"memory": 1}, {"CPU": 4}, {"CPU": 8}], None, (2, 4, 0)),
        ([{"CPU": 1}, {"CPU": 1}, {"CPU": 1}], 3, (3, 1, 0)),
        ([{"CPU": 1}], 4, (4, 1, 0)),
    ],
)
def test_workers_ask_for_what_a_node_has(nodes, count, expected):
    assert ray_workers.worker_placements(nodes, count) == expected


def test_there_are_no_more_workers_than_gpus():
    with pytest.raises(SpecError, match="workers = 3: Ray has 2 GPUs"):
        ray_workers.worker_placements([{"CPU": 8, "GPU": 2}], 3)


@pytest.mark.ray
def test_a_node_without_room_leaves_its_runs_to_others(small_disk, tmp_path, monkeypatch, book):
    disk = small_disk(16)
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    fill = nbformat.reads(Path(book("open('big', 'wb').write(b'1' * 100_000)")).read_text(), 4)
    task = RunTask(tmp_path / "a.ipynb", tmp_path / "out" / "notebook.ipynb", {})
    executor = ray_workers.RayExecutor("9", {})
    outcome, files = executor.execute(task, nbformat.writes(fill).encode())
    executor.close()
    assert outcome.disk_full
    assert files == {}


def test_without_ray_there_is_one_worker(monkeypatch):
    def absent(name: str):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert not ray_workers.is_wanted(None, "")
    with pytest.raises(SpecError, match=r'Ray.*pip install -e "\.\[ray\]".*leave out --workers'):
        ray_workers.is_wanted(2, "")
