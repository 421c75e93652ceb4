"""Sweeps by several workers, each a real Ray actor."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import signal
import socket
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
from cogvx_nb.sweep import cluster, driver, ray_workers
from cogvx_nb.sweep.worker import RunTask

WHO = """
import os, time
from pathlib import Path
Path('x.json').write_text(f'[{x}, {os.getpid()}, {os.environ["OMP_NUM_THREADS"]}]')
time.sleep(0.3)
"""
BEGUN = """
import os, time
with open(log, 'a') as file:
    print(os.getppid(), file=file)
third = open(log).read().split()[2:3] == [str(os.getppid())]  # the one whose worker is killed
time.sleep(600 if third else 1)
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Ray writes a token to the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # so that workers share the cores


def leftovers() -> list[str]:
    """Names of Ray's processes and kernels that this process started and that still run."""
    deadline = time.monotonic() + 60
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
def test_a_worker_that_is_killed_loses_nothing(outputs, book, tmp_path, monkeypatch):
    """In a cluster of its own, where others are announced."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("RAY_RUNTIME_ENV_HOOK", "no.such.module")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{")
    log = tmp_path / "begun"
    spec = {"notebook": book(BEGUN, WHO), "grid": {"x": [*range(6)]}}
    spec["parameters"] = {"log": str(log)}

    def kill() -> None:
        while not (log.exists() and log.read_text().count("\n") > 2):
            time.sleep(0.05)
        os.kill(int(log.read_text().split()[2]), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with ray_workers.ray_workers(6, 2) as workers:
        import ray

        address = ray.get_runtime_context().gcs_address
        assert len(workers) == 2
        assert cluster.find_cluster(address) == address
        ended = driver.run_sweep(spec, workers=lambda runs: contextlib.nullcontext(workers))
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


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "127.0.0.1:1",
            r"Ray can't be had \(127.0.0.1:1: Connection refused\): see that its cluster",
        ),
        ("ray://[::1]:1", r"Ray can't be had \(ray://\[::1\]:1: .*\): see that its cluster runs"),
        ("no.such.host.invalid:6379", r"Ray can't be had \(no.such.host.invalid:6379: "),
        ("127.0.0.1", "ray-address = '127.0.0.1': must be HOST:PORT, ray://HOST:PORT or auto"),
        ("http://127.0.0.1:8265", "must be HOST:PORT"),
        ("127.0.0.1:99999", "must be HOST:PORT"),
        ("local", "must be HOST:PORT"),
        ("auto", r"RAY_ADDRESS = '127.0.0.1': must be HOST:PORT"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(address, message, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1")
    with pytest.raises(SpecError, match=message):
        cluster.find_cluster(address)


def test_something_else_at_the_address_is_said():
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer_as_a_web_server, args=[server], daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(SpecError, match="something else answers there"):
            cluster.find_cluster(address)


def answer_as_a_web_server(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(100)
        connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize(
    ("nodes", "count", "expected"),
    [
        ([{"CPU": 2}], None, (1, 2, 0)),
        ([{"CPU": 2}], 2, (2, 1, 0)),
        ([{"CPU": 64, "GPU": 4}], None, (4, 16, 1)),
        ([{"CPU": 64, "GPU": 8}], 1, (1, 64, 8)),
        ([{"CPU": 64, "GPU": 8}], 3, (3, 21, 2)),
        ([{"CPU": 64}, {"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 1}], None, (2, 8, 1)),
        ([{"CPU": 64, "GPU": 1}, {"CPU": 8, "GPU": 4}], None, (5, 2, 1)),
        ([{"memory": 1}, {"CPU": 4}, {"CPU": 8}], None, (2, 4, 0)),
        ([{"CPU": 1}, {"CPU": 1}, {"CPU": 1}], 3, (3, 1, 0)),
        ([{"CPU": 1}], 4, (4, 1, 0)),
    ],
)
def test_workers_ask_for_what_a_node_has(nodes, count, expected):
    assert ray_workers.worker_placements(nodes, count, 100) == expected


def test_few_videos_are_each_made_on_several_gpus():
    nodes = [{"CPU": 64, "GPU": 4}]
    assert ray_workers.worker_placements(nodes, None, 1) == (1, 64, 4)
    assert ray_workers.worker_placements(nodes, None, 2) == (2, 32, 2)
    assert ray_workers.worker_placements(nodes, None, 3) == (3, 21, 1)
    assert ray_workers.worker_placements([{"CPU": 8, "GPU": 4}] * 2, None, 4)[2] == 2
    uneven = [{"CPU": 8, "GPU": 8}, {"CPU": 8, "GPU": 1}]
    assert ray_workers.worker_placements(uneven, None, 2)[2] == 4
    assert ray_workers.worker_placements(nodes, None, 4) == (4, 16, 1)


def test_there_are_no_more_workers_than_gpus():
    with pytest.raises(SpecError, match="workers = 3: Ray has 2 GPUs"):
        ray_workers.worker_placements([{"CPU": 8, "GPU": 2}], 3, 9)


@pytest.mark.ray
def test_a_node_without_room_leaves_its_runs_to_others(small_disk, tmp_path, monkeypatch, book):
    disk = small_disk(16)
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    fill = nbformat.reads(Path(book("open('big', 'wb').write(b'1' * 100_000)")).read_text(), 4)
    task = RunTask(tmp_path / "a.ipynb", tmp_path / "out" / "notebook.ipynb", {})
    executor = ray_workers.RayExecutor("9", {})
    outcome, files = executor.execute(task, nbformat.writes(fill).encode(), {})
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
